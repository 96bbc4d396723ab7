import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import evaluate
import predict
import train
from digits import checkpoint, files, metrics, model, training
from digits.data import handwriting, mnist, pipeline
from tests.conftest import PROJECT, TINY, one_line

EPOCH_SAVER = training.epoch_saver


def weights(path):
    return keras.saving.load_model(path).get_weights()


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def description(path):
    return json.loads(Path(path).with_suffix(".json").read_text())


def run_of(folder, *flags):
    return ["--data", str(folder), "--model", "small_cnn.keras", *TINY, *flags]


@pytest.fixture
def after_epoch(monkeypatch):
    """Call a function with the history after each epoch, once it was saved."""

    def install(action):
        epoch_saver = training.epoch_saver

        def saver(*arguments):
            save = epoch_saver(*arguments)
            return lambda history, variables: (save(history, variables), action(history))

        monkeypatch.setattr(training, "epoch_saver", saver)

    return install


@pytest.fixture
def no_fit(monkeypatch):
    """A training that changes nothing and takes no time."""
    row = {"epoch": 1, "loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "seconds": 0.1}
    monkeypatch.setattr(training, "fit", lambda *arguments, **options: [row])


def interrupt(history):
    raise KeyboardInterrupt


def test_files_of_a_training(trained):
    names = {path.name for path in trained.parent.iterdir()}
    assert names == {"small_cnn.keras", "small_cnn.json", "small_cnn_log.csv", "small_cnn_curves.png"}
    about = description(trained)
    assert about["classes"] == list("0123456789") and about["segment"] is True
    assert about["settings"]["epochs"] == 3 and about["settings"]["seed"] == 0
    assert about["settings"]["learning_rate"] == train.Settings(epochs=3, batch_size=32).learning_rate
    sizes = {"name": "small", "training": 270, "validation": 30, "test": 100, "writers": 1767}
    assert about["data"] == sizes | {key: about["data"][key] for key in ("sha256", "test_sha256")}
    assert len(about["data"]["sha256"]) == len(about["data"]["test_sha256"]) == 64
    assert 0 <= about["accuracy"]["test"] <= 1 and 0 <= about["accuracy"]["validation"] <= 1
    assert 0 < about["threshold"] < 1 and about["settings"]["handwriting"] == 0.1
    assert about["seconds"] > 0 and about["versions"]["keras"] == keras.__version__
    with trained.with_name("small_cnn_log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["val_accuracy"]) == pytest.approx(about["accuracy"]["validation"], abs=0.04)


def test_the_threshold_accepts_the_target_share_of_what_held_out_writers_wrote(trained):
    network, _, threshold, _ = model.load(trained)
    written = handwriting.held_out_digits("validation", 0.1)
    scores = model.digit_score(metrics.predict(network, pipeline.decode(written)))
    assert (scores >= threshold - 1e-6).mean() == pytest.approx(metrics.TARGET_RECALL, abs=1 / len(scores))


def test_a_network_learns(small_folder, capsys):
    flags = ["--data", str(small_folder), "--network", "dense64", "--epochs", "12", "--batch-size", "16"]
    assert train.main(flags) == 0
    out = capsys.readouterr().out
    assert "121,930" in out  # the summary
    assert len([line for line in out.splitlines() if line.startswith("epoch ")]) == 12
    about = description("small_dense64.keras")
    accuracy = about["accuracy"]["test"]
    assert accuracy > 0.6 and about["settings"]["filters"] is None
    assert out.splitlines()[-1].endswith(f"Test accuracy: {100 * accuracy:.2f}% ({round(100 * accuracy)} of 100)")


def test_filters_and_kernel_size(small_folder, no_fit, capsys):
    flags = ["--data", str(small_folder), "--filters", "8,12", "--kernel-size", "5"]
    assert train.main(flags) == 0
    settings = description("small_cnn.keras")["settings"]
    assert (settings["filters"], settings["kernel_size"]) == ([8, 12], 5)
    assert [w.shape for w in weights("small_cnn.keras")][:3:2] == [(5, 5, 3, 8), (5, 5, 8, 12)]
    one_line(capsys, train.main([*flags, "--network", "dense64"]), "--filters", "cnn")


def test_interrupted_and_resumed(trained, small_folder, workplace, after_epoch, monkeypatch, capsys):
    """Ctrl-C in the second epoch: one line, and --resume ends with exactly the weights of the uninterrupted run."""
    after_epoch(lambda history: len(history) == 2 and interrupt(history))
    assert train.main(run_of(small_folder)) == 130
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert not os.path.exists("small_cnn.keras")
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert train.main(run_of(small_folder, "--resume", "--epochs", "30")) == 2  # even if it is the default
    assert train.main(["--data", str(small_folder), "--model", "small_cnn.keras", "--resume"]) == 0
    assert same_weights("small_cnn.keras", trained)
    assert not list(workplace.glob("*.npz"))
    resumed, complete = description("small_cnn.keras"), description(trained)
    assert resumed["settings"] == complete["settings"]
    assert [row["loss"] for row in resumed["history"]] == [row["loss"] for row in complete["history"]]


@pytest.mark.slow
def test_killed_and_resumed(trained, small_folder, workplace):
    """kill -9 of the real process."""
    command = [sys.executable, str(PROJECT / "train.py"), *run_of(small_folder, "--epochs", "400")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   2/400"):
            break
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    assert errors == ""
    model_path = workplace / "small_cnn.keras"
    assert not model_path.exists()
    done = len(checkpoint.read(model_path).history)
    assert done >= 2
    assert train.main(run_of(small_folder, "--resume")) == 2  # 3 epochs are not 400
    assert train.main(run_of(small_folder)) == 0  # start anew: the old checkpoint is kept
    (workplace / "small_cnn.checkpoint.previous.npz").rename(checkpoint.path_for(model_path))
    assert len(checkpoint.read(model_path).history) == done
    assert same_weights(model_path, trained)  # same seed, same machine: same weights


def test_interrupted_in_the_first_epoch(small_folder, monkeypatch, capsys):
    monkeypatch.setattr(training, "fit", lambda *arguments: interrupt([]))
    assert train.main(run_of(small_folder)) == 130
    assert capsys.readouterr().err.endswith(": interrupted\n")  # there is nothing to resume


def test_killed_between_the_two_files(trained, small_folder, workplace, monkeypatch, capsys):
    """A description is not used with the weights of another model; --resume makes both anew, and nothing is lost."""
    for suffix in (".keras", ".json"):
        shutil.copy(trained.with_suffix(suffix), "small_cnn" + suffix)

    def save_half(network, path, about):
        keras.Sequential.save(network, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(model, "save", save_half)
        assert train.main(run_of(small_folder, "--seed", "1", "--epochs", "1")) == 130
    capsys.readouterr()
    for script, flags in ((evaluate, ["--data", str(small_folder)]), (predict, [str(PROJECT / "samples" / "5.png")])):
        one_line(capsys, script.main(["--model", "small_cnn.keras", *flags]), "small_cnn.json", "--resume", "cp small")
    assert train.main(run_of(small_folder, "--seed", "1", "--epochs", "1", "--resume")) == 0
    assert model.load("small_cnn.keras").threshold == description("small_cnn.keras")["threshold"]
    assert same_weights("small_cnn.previous.keras", trained)
    assert description("small_cnn.previous.keras") == description(trained)


@pytest.mark.slow
def test_a_better_model_that_was_replaced_can_be_brought_back(small_folder, workplace, no_fit, capsys):
    """The line names its accuracy only where the test images are the same; the shipped model is kept for good."""
    assert train.main(run_of(small_folder)) == 0
    path = workplace / "small_cnn.json"
    about = description(path)
    path.write_text(json.dumps(about | {"accuracy": about["accuracy"] | {"test": 0.995}, "shipped": True}))
    before = weights("small_cnn.keras")
    capsys.readouterr()
    assert train.main(run_of(small_folder, "--seed", "1")) == 0
    (line,) = re.findall(
        "The model that was here had 99.50% of the same test images right, .*", capsys.readouterr().out
    )
    assert train.main(run_of(small_folder, "--seed", "2")) == 0
    assert "The model that was here is kept as small_cnn.previous.keras" in capsys.readouterr().out
    subprocess.run(line.partition("bring it back: ")[2], shell=True, check=True)
    assert all(map(np.array_equal, before, weights("small_cnn.keras")))
    assert model.load("small_cnn.keras").threshold == about["threshold"]
    assert description("small_cnn.previous.keras")["settings"]["seed"] == 1
    assert not [path for path in workplace.iterdir() if path.name.startswith(".")]


def test_two_trainings_of_one_model_do_not_mix(small_folder, workplace, monkeypatch, capsys):
    with checkpoint.running(workplace / "small_cnn.keras"):
        one_line(capsys, train.main(run_of(small_folder)), "small_cnn.keras", "another process")
    assert not list(workplace.iterdir())


def test_what_cannot_be_written_is_known_before_the_images_are_made(monkeypatch, workplace, capsys):
    monkeypatch.setattr(files, "temporary_folder", read_only)
    monkeypatch.setattr(mnist, "make", None)
    assert train.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "mnist_cnn.keras: cannot be written (read-only file system); run it in a folder of your own" in line
    one_line(capsys, train.main(["--resume"]), "--resume")


def read_only(target):
    raise OSError(30, "Read-only file system")


@pytest.mark.slow
def test_a_training_goes_on_when_nobody_reads_its_output(small_folder, workplace):
    """As in `python train.py 2>&1 | head -3`."""
    command = [sys.executable, str(PROJECT / "train.py"), *run_of(small_folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    assert model.load("small_cnn.keras").classes == list("0123456789")


@pytest.mark.slow
def test_patience_counts_the_epochs_before_resume(small_folder, after_epoch, monkeypatch, workplace):
    flags = run_of(small_folder, "--epochs", "8", "--patience", "1", "--learning-rate", "1e-8")
    assert train.main(flags) == 0
    whole = description("small_cnn.keras")["history"]
    assert len(whole) < 8
    shutil.copy("small_cnn.keras", "whole.keras")
    for epochs in (1, len(whole)):  # interrupted within, and after the last one
        with monkeypatch.context():
            after_epoch(lambda history, epochs=epochs: len(history) == epochs and interrupt(history))
            assert train.main(flags) == 130
        monkeypatch.setattr(training, "epoch_saver", EPOCH_SAVER)
        assert train.main([*flags, "--resume"]) == 0
        assert len(description("small_cnn.keras")["history"]) == len(whole)
        assert same_weights("small_cnn.keras", "whole.keras")


@pytest.mark.parametrize("cache", ["disk", pytest.param("none", marks=pytest.mark.slow)])
def test_the_cache_does_not_change_the_weights(trained, small_folder, workplace, cache):
    assert train.main(run_of(small_folder, "--cache", cache)) == 0
    assert same_weights("small_cnn.keras", trained)
    assert not list(workplace.glob("*.cache*"))


def test_images_that_disappear_during_training(folder, workplace, after_epoch, capsys):
    after_epoch(lambda history: shutil.rmtree(folder / "train" / "3", ignore_errors=True))
    assert train.main(run_of(folder, "--cache", "none")) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "00" in err and "No such file" in err and "--resume" in err
    assert len(checkpoint.read(workplace / "small_cnn.keras").history) == 1


def test_without_test_and_validation(folder):
    shutil.rmtree(folder / "test")
    flags = ["--no-test", "--validation-split", "0", "--augment", "0", "--dropout", "0", "--epochs", "1"]
    assert train.main(run_of(folder, *flags)) == 0  # a Dropout layer of rate 0 has no noise to be set
    about = description("small_cnn.keras")
    assert about["accuracy"] == {"validation": None, "writers": None, "test": None}
    assert about["data"]["training"] == 300


WRONG_FLAGS = """
    --epochs 0 --epochs 2.5 --batch-size -1 --learning-rate 0 --learning-rate nan --dropout 1 --l2 -1 --augment much
    --validation-split 1 --seed -1 --network resnet --epoch-count 3 --filters 32,0 --filters 8;8
    --filters 8,8,8,8,8,8,8,8,8 --kernel-size 8
"""


@pytest.mark.parametrize("flags", re.findall(r"--\S+ \S+", WRONG_FLAGS))
def test_wrong_flags(flags, capsys):
    with pytest.raises(SystemExit) as error:
        train.main(flags.split())
    assert error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and flags.split()[0] in lines[0]


def test_wrong_input(folder, capsys, workplace):
    one_line(capsys, train.main(["--data", "nowhere"]), "nowhere/train")
    one_line(capsys, train.main(["--data", "fashion"]), "python -m extras.fetch fashion")
    one_line(capsys, train.main(["--data", "drawn"]), "--data drawn", "--data handwriting")
    with pytest.raises(SystemExit, match="2"):
        train.main(["--variety", "0.2"])
    one_line(capsys, 2, "--variety: moved to --handwriting")
    one_line(capsys, train.main(["--data", "small", "--model", "a.h5"]), "--model", "a.h5")
    one_line(capsys, train.main(["--data", "small", "--model", "no/a.keras"]), "no/a.keras")
    one_line(capsys, train.main(["--data", "small", "--resume"]), "--resume", "small_cnn.checkpoint.npz")
    (workplace / "small_cnn.checkpoint.npz").write_bytes(b"damaged")
    one_line(capsys, train.main(["--data", "small", "--resume"]), "small_cnn.checkpoint.npz", "damaged")
    one_line(capsys, train.main(["--data", "mnist"]), "MNIST_DIR", "--data handwriting")
    shutil.rmtree(folder / "test" / "3")
    one_line(capsys, train.main(["--data", "small"]), "small/test", "classes")
    shutil.rmtree(folder / "test")
    one_line(capsys, train.main(["--data", "small"]), "small/test")
    (folder / "train" / "7" / "x.png").write_text("text")
    assert train.main(["--data", "small", "--no-test"]) == 2
    assert "small/train/7/x.png" in capsys.readouterr().err
    assert not list(workplace.glob("*.keras"))


def test_a_training_that_diverges(folder, capsys, workplace, monkeypatch):
    monkeypatch.setattr(training, "one_cycle", lambda peak, steps: float("nan"))
    assert train.main(run_of(folder)) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "--learning-rate" in err
    assert not list(workplace.glob("*.keras"))


def test_changed_data_is_not_resumed(folder, after_epoch, capsys):
    after_epoch(interrupt)
    assert train.main(run_of(folder)) == 130
    (folder / "train" / "0" / "00000.png").write_bytes((folder / "train" / "1" / "00001.png").read_bytes())
    assert train.main(run_of(folder, "--resume")) == 2
    assert "have changed" in capsys.readouterr().err


def test_open_settings_follow_from_the_others():
    settings = {epochs: train.Settings(epochs=epochs) for epochs in (1, 3, 4, 30)}
    assert settings[4].learning_rate > settings[30].learning_rate
    assert settings[4].batch_size < settings[30].batch_size == settings[1].batch_size
    assert [one.optimizer for one in settings.values()] == ["muon", "muon", "adam", "adam"]
    assert settings[4].augment < settings[30].augment
    assert settings[1].handwriting == settings[3].handwriting == 0 < settings[4].handwriting
    assert train.Settings(network="dense128").dropout != train.Settings().dropout == 0.05
    assert train.Settings(epochs=4, batch_size=100, augment=0.0).recorded().items() >= {
        ("batch_size", 100), ("augment", 0.0), ("epochs", 4),
    }  # fmt: skip


def test_other_handwriting_without_mnist(monkeypatch, capsys, no_fit):
    monkeypatch.setattr(handwriting, "TRAINING_IMAGES", 200)
    assert train.main(["--epochs", "1"]) == 0
    captured = capsys.readouterr()
    assert [line for line in captured.err.splitlines() if "using --data handwriting" in line]
    assert "handwriting_cnn.keras" in captured.out
    assert description("handwriting_cnn.keras")["data"]["name"] == "handwriting"


@pytest.mark.slow
def test_real_mnist_in_one_epoch(mnist_dir, workplace, monkeypatch):
    """The whole chain on real images: IDX files, PNG folder, training, test."""
    monkeypatch.setenv("MNIST_DIR", str(mnist_dir))
    write, cut = mnist.write_dataset, {"train": slice(4000), "test": slice(1000)}
    part = {}

    def write_part(folder, splits, about=None):
        part.update({name: [array[cut[name]] for array in arrays] for name, arrays in splits.items()})
        write(folder, part, about)

    monkeypatch.setattr(mnist, "write_dataset", write_part)
    assert train.main(["--epochs", "2", "--batch-size", "32"]) == 0
    about = description("mnist_cnn.keras")
    assert about["data"]["test"] == 1000
    assert about["accuracy"]["test"] > 0.9


def test_other_classes_are_trained_without_other_handwriting(folder, capsys):
    for split in ("train", "test"):
        (folder / split / "9").rename(folder / split / "nine")
    assert train.main(run_of(folder, "--epochs", "1", "--handwriting", "0.2")) == 0
    assert "no other handwriting is mixed in" in capsys.readouterr().out
