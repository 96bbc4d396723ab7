import json
import re
import shlex
import subprocess
import sys
import time
import warnings
from pathlib import Path
from unittest.mock import Mock

import pytest
from PIL import Image

import train
from digits import training
from digits.cli import RunError
from extras import tune
from tests.conftest import PROJECT, one_line

optuna = pytest.importorskip("optuna", reason="optuna is not installed: pip install -r extras/requirements-tune.txt")


def study_of(name="small, 4 epochs"):
    return optuna.load_study(study_name=name, storage=tune.Settings.storage)


def states():
    return [trial.state.name for trial in study_of().trials]


@pytest.mark.slow
def test_the_command_at_the_end_repeats_the_best_trial(small_folder, workplace, capsys):
    """Also where the name of the data has a space."""
    (workplace / "my data").mkdir()
    (workplace / "my data" / "small").symlink_to(small_folder)
    assert tune.main(["--data", "my data/small", "--epochs", "1", "--trials", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    best = study_of("small, 1 epochs").best_trial
    assert out.splitlines()[-1].startswith(f"Best val_accuracy: {100 * best.value:.2f}% (")
    assert len([line for line in out.splitlines() if line.startswith("trial ")]) == 1
    (command,) = re.findall(r"^python train\.py (.*)$", out, re.MULTILINE)
    assert train.main([*shlex.split(command), "--no-test"]) == 0
    about = json.loads((workplace / "tuned.json").read_text())
    assert about["history"][-1]["val_accuracy"] == best.value
    assert "--filters " + ",".join(map(str, about["settings"]["filters"])) in best.user_attrs["flags"]
    assert Image.open("tuning.png").width > 1000


@pytest.mark.parametrize(("epochs", "augment"), [(4, 0.01), (1000, 0)])
def test_the_first_trial_is_plain_train_within_the_ranges(epochs, augment):
    first = tune.default_parameters(epochs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a parameter outside its range
        found = tune.suggest_settings(optuna.trial.FixedTrial(first), epochs)
    expected = train.Settings(epochs=epochs).recorded()
    expected["learning_rate"] = pytest.approx(max(expected["learning_rate"], 1e-3), rel=0.01)
    expected["augment"] = pytest.approx(expected["augment"], abs=augment)
    assert train.Settings(**found).recorded() == expected


def test_the_first_trial_has_the_nearest_batch_size(monkeypatch):
    monkeypatch.setitem(tune.RANGES, "batch_size", [96, 512])
    assert tune.default_parameters(30)["batch_size"] == 96


def fake_fit(network, training_set, validation_set, settings, on_epoch, quiet):
    """A training that takes no time: the accuracy follows from dropout and epoch alone."""
    history = []
    for epoch in range(settings.epochs):
        accuracy = 0.9 + 0.01 * epoch - 0.1 * settings.dropout
        history.append({"epoch": epoch + 1, "val_accuracy": accuracy, "seconds": 1.0})
        on_epoch(history, [])
    return history


@pytest.fixture
def search(small_folder, monkeypatch):
    """tune.main() with the flags given, on small_folder, without the time of a training."""
    monkeypatch.setattr(training, "fit", fake_fit)
    monkeypatch.setattr(training, "mix_in_handwriting", lambda training_set, *_: training_set)
    return lambda *flags: tune.main(["--data", str(small_folder), *flags])


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_ended_early(search, monkeypatch, capsys):
    monkeypatch.setattr(tune, "MAX_TOO_LARGE", 1)
    assert search("--most-parameters", "60000") == 2
    out, err = capsys.readouterr()
    assert "too large       94,538 parameters" in out and "--most-parameters: all 1 networks" in err
    study = study_of()
    small = {**tune.default_parameters(4), "first_filters": 8}
    for tenths in (1, 0, 3, 2, 3, 4, 2, 1, 5):  # the last one when there are enough to compare with
        study.enqueue_trial({**small, "dropout": tenths / 10})
    assert search("--most-parameters", "60000", "--trials", "9") == 0
    assert states() == ["PRUNED", *8 * ["COMPLETE"], "PRUNED"]
    assert len(study_of().trials[-1].intermediate_values) == 2
    out = capsys.readouterr().out
    assert "stopped early    6,362 parameters" in out
    table = out.partition("The best of 8 finished trials, of 10 started:\n")[2].splitlines()[:8]
    assert table[0].startswith("93.00%      6,362 parameters      4 s  trial   2  --epochs 4 --filters 8,")
    assert [line.split()[6] for line in table] == ["2", "1", "8", "4", "7", "3", "5", "6"]
    assert search("--minutes", "0") == 0  # shows them again
    assert "The best of 8 finished trials, of 10 started" in capsys.readouterr().out


@pytest.mark.slow
def test_interrupted_and_continued(search, monkeypatch, capsys):
    monkeypatch.setattr(training, "fit", Mock(side_effect=KeyboardInterrupt))
    assert search("--trials", "20") == 130
    out, err = capsys.readouterr()
    assert "No trial of the study" in out and err.endswith("interrupted; rerun the command to continue\n")
    monkeypatch.setattr(training, "fit", fake_fit)
    assert search("--trials", "2") == 0
    trials = study_of().trials
    assert states()[:2] == ["FAIL", "COMPLETE"]
    assert trials[0].params == trials[1].params == tune.default_parameters(4)  # the interrupted one is repeated


def test_a_training_that_diverges_is_a_bad_trial(search, monkeypatch, capsys):
    monkeypatch.setattr(training, "fit", Mock(side_effect=RunError("the training diverged")))
    assert search("--most-parameters", "100000000", "--trials", "2") == 0
    assert states() == ["PRUNED", "PRUNED"]
    out = capsys.readouterr().out
    assert "No trial of the study" in out and out.count("diverged") == 2


ANY_SIZE = ["--most-parameters", "1000000000"]  # else some trials are skipped
HANGING = """
import sys, time
from digits import training
from extras import tune
tune.HEARTBEAT = 2
def hang(*arguments, **options):
    print("training", flush=True)
    time.sleep(120)
training.fit = hang
sys.exit(tune.main())
"""


@pytest.mark.slow
def test_two_processes_share_a_study_and_one_is_killed(search, small_folder, monkeypatch):
    """The trial of the one that lives is left alone, that of the one that was killed is repeated by the other."""
    monkeypatch.setattr(tune, "HEARTBEAT", 2)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    command = [sys.executable, "-c", HANGING, "--data", str(small_folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert any(line == "training\n" for line in other.stdout)
        assert search("--trials", "4", *ANY_SIZE) == 0
        time.sleep(7)
        assert search("--trials", "1", *ANY_SIZE) == 0
        assert states()[0] == "RUNNING" and len(states()) == 6
        other.kill()
    time.sleep(8)
    assert search("--trials", "2", *ANY_SIZE) == 0
    trials = study_of().trials
    assert trials[0].state.name == "FAIL"
    repeated = [trial for trial in trials[1:] if trial.params == trials[0].params]
    assert [trial.state.name for trial in repeated] == ["COMPLETE"]


@pytest.mark.slow
def test_processes_may_begin_a_study_at_the_same_time(workplace, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    command = [
        sys.executable,
        "-c",
        "from extras import tune; tune.open_study(tune.open_storage(tune.Settings.storage), 'shared')",
    ]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == 3 * [("", 0)]
    assert study_of("shared").trials == []


def take_trial_over():
    study = study_of()
    study.tell(study.trials[-1].number, state=optuna.trial.TrialState.FAIL)  # as another process would


def damage_database():
    Path("tuning.db").write_bytes(b"not a database any more")


@pytest.mark.parametrize(("event", "reason"), [(take_trial_over, "suspended"), (damage_database, "--storage")])
def test_a_search_that_cannot_go_on_is_one_line(event, reason, search, monkeypatch, capsys):
    monkeypatch.setattr(training, "fit", lambda *arguments, **options: (event(), fake_fit(*arguments, **options))[1])
    assert search("--trials", "2") == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and reason in err


def test_one_line_for_what_is_wrong(search, workplace, monkeypatch, capsys):
    assert search("--trials", "1") == 0
    capsys.readouterr()
    one_line(capsys, search("--epochs", "3", "--study", "small, 4 epochs"), "--study", "epochs")
    monkeypatch.setitem(tune.RANGES, "augment", [0.0, 0.5])
    one_line(capsys, search(), "--study", "ranges")
    monkeypatch.setattr(tune.time, "sleep", lambda seconds: None)
    (workplace / "text.db").write_text("no database, but a text that is long enough to be told from one")
    for url in ("nonsense", "sqlite:////no/such/folder/a.db", "sqlite:///text.db"):
        one_line(capsys, search("--storage", url), "--storage")
    one_line(capsys, search("--data", "nowhere"), "nowhere")
    monkeypatch.setattr(tune, "optuna", None)
    one_line(capsys, search(), "optuna", "pip install -r extras/requirements-tune.txt")
