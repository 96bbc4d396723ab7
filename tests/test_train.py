import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import train
from digits import model, plots
from digits.data import handwriting, pipeline, strokes
from digits.reading import reader
from tests.conftest import PROJECT, TRAINING, one_line


def weights(path):
    return keras.saving.load_model(path).get_weights()


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def described(path):
    return json.loads(Path(path).read_text())


def run_of(folder, *flags):
    return ["--data", str(folder), "--model", "small_cnn.keras", *TRAINING, *flags]


def test_what_a_training_leaves(trained, drawn_folder):
    names = {path.name for path in trained.parent.iterdir()}
    assert names == {"small_cnn.keras", "small_cnn.json", "small_cnn_log.csv", "small_cnn_curves.png"}
    about = described(trained.with_suffix(".json"))
    assert about["classes"] == list("0123456789")
    assert about["settings"]["epochs"] == 3 and about["settings"]["seed"] == 0
    assert about["settings"]["learning_rate"] == pytest.approx(train.peak_rate(3, 32), abs=1e-6)
    assert about["data"] == {"name": "small", "training": 270, "validation": 30, "test": 100} | {
        "sha256": about["data"]["sha256"]
    }
    assert len(about["data"]["sha256"]) == 64
    assert 0 <= about["accuracy"]["test"] <= 1 and 0 <= about["accuracy"]["validation"] <= 1
    assert 0 < about["threshold"] < 1 and about["settings"]["variety"] == 0
    assert about["seconds"] > 0 and about["versions"]["keras"] == keras.__version__
    with trained.with_name("small_cnn_log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[2]["val_accuracy"]) == pytest.approx(about["accuracy"]["validation"], abs=0.04)


def test_a_network_learns(drawn_folder, capsys):
    assert (
        train.main(["--data", str(drawn_folder), "--network", "dense64", "--epochs", "12", "--batch-size", "16"]) == 0
    )
    out = capsys.readouterr().out
    assert "121,930" in out  # the summary
    assert len([line for line in out.splitlines() if line.startswith("epoch ")]) == 12
    accuracy = described("small_dense64.json")["accuracy"]["test"]
    assert accuracy > 0.8
    assert out.splitlines()[-1].endswith(f"Test accuracy: {100 * accuracy:.2f}% ({round(100 * accuracy)} of 100)")


def test_a_network_of_another_size(drawn_folder, workplace, capsys):
    flags = ["--data", str(drawn_folder), "--epochs", "1", "--filters", "8,12", "--kernel-size", "5"]
    assert train.main(flags) == 0
    settings = described("small_cnn.json")["settings"]
    assert (settings["filters"], settings["kernel_size"]) == ([8, 12], 5)
    assert [w.shape for w in weights("small_cnn.keras")][:3:2] == [(5, 5, 3, 8), (5, 5, 8, 12)]
    assert train.main([*flags, "--network", "dense64"]) == 2
    assert "--filters" in capsys.readouterr().err.splitlines()[-1]
    assert train.main(["--data", str(drawn_folder), "--epochs", "1", "--network", "dense64", "--no-test"]) == 0
    assert described("small_dense64.json")["settings"]["filters"] is None


def test_interrupted_and_resumed(trained, drawn_folder, workplace, monkeypatch, capsys):
    """Ctrl-C in the second epoch: one line, and --resume ends with the very weights of the uninterrupted run."""
    write_log = train.write_log

    def interrupt(path, history):
        write_log(path, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "write_log", interrupt)
    assert train.main(run_of(drawn_folder)) == 130
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert not os.path.exists("small_cnn.keras")
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert train.main(["--data", str(drawn_folder), "--model", "small_cnn.keras", "--resume"]) == 0
    assert same_weights("small_cnn.keras", trained)
    assert not list(workplace.glob("*.npz"))
    about, whole = (
        json.loads(path.read_text()) for path in (workplace / "small_cnn.json", trained.with_suffix(".json"))
    )
    assert about["settings"] == whole["settings"]
    assert [row["loss"] for row in about["history"]] == [row["loss"] for row in whole["history"]]


def test_killed_and_resumed(trained, drawn_folder, workplace):
    """kill -9 of the real process."""
    command = [sys.executable, str(PROJECT / "train.py"), *run_of(drawn_folder, "--epochs", "400")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("epoch   2/400"):
            break
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    assert errors == ""
    assert not (workplace / "small_cnn.keras").exists()
    checkpoint = workplace / "small_cnn.checkpoint.npz"
    done = len(train.read_checkpoint(checkpoint)["history"])
    assert done >= 2
    assert train.main(run_of(drawn_folder, "--resume")) == 2  # 3 epochs are not 400
    assert train.main(run_of(drawn_folder)) == 0  # start anew: the old checkpoint is kept
    assert len(train.read_checkpoint(workplace / "small_cnn.checkpoint.previous.npz")["history"]) == done
    assert same_weights("small_cnn.keras", trained)  # same seed, same machine: same weights


def test_killed_while_saving(trained, drawn_folder, workplace, monkeypatch):
    assert train.main(run_of(drawn_folder, "--seed", "1", "--epochs", "1")) == 0
    old = weights("small_cnn.keras")

    def die(network, path):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save", die)
    assert train.main(run_of(drawn_folder)) == 130
    assert all(np.array_equal(a, b) for a, b in zip(weights("small_cnn.keras"), old, strict=True))
    assert described("small_cnn.json")["settings"]["seed"] == 1
    monkeypatch.undo()
    monkeypatch.chdir(workplace)
    assert train.main(run_of(drawn_folder, "--resume")) == 0
    assert same_weights("small_cnn.keras", trained)


def test_the_model_that_is_replaced_is_kept(drawn_folder, workplace):
    for seed in ("1", "2"):
        assert train.main(run_of(drawn_folder, "--seed", seed, "--epochs", "1", "--no-test")) == 0
    assert described("small_cnn.json")["settings"]["seed"] == 2
    assert described("small_cnn.previous.json")["settings"]["seed"] == 1
    assert not same_weights("small_cnn.keras", "small_cnn.previous.keras")
    assert not [path for path in workplace.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("cache", ["disk", "none"])
def test_where_decoded_images_are_kept_changes_nothing(trained, drawn_folder, workplace, cache):
    assert train.main(run_of(drawn_folder, "--cache", cache)) == 0
    assert same_weights("small_cnn.keras", trained)
    assert not list(workplace.glob("*.cache*"))


def test_images_that_go_away_while_it_trains(folder, workplace, monkeypatch, capsys):
    monkeypatch.setattr(train, "write_log", lambda path, rows: shutil.rmtree(folder / "train" / "3", True))
    assert train.main(run_of(folder, "--cache", "none")) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "00" in err and "No such file" in err and "--resume" in err
    assert len(train.read_checkpoint(workplace / "small_cnn.checkpoint.npz")["history"]) == 1


def test_without_test_and_validation(folder):
    shutil.rmtree(folder / "test")
    flags = ["--data", "small", "--epochs", "1", "--no-test", "--validation-split", "0", "--augment", "0"]
    assert train.main([*flags, "--dropout", "0"]) == 0  # a Dropout layer of rate 0 has no noise to be set
    about = described("small_cnn.json")
    assert about["accuracy"] == {"validation": None, "test": None}
    assert about["data"]["training"] == 300


@pytest.mark.parametrize(
    "flags",
    [
        ["--epochs", "0"],
        ["--epochs", "2.5"],
        ["--batch-size", "-1"],
        ["--learning-rate", "0"],
        ["--learning-rate", "nan"],
        ["--dropout", "1"],
        ["--l2", "-1"],
        ["--augment", "much"],
        ["--validation-split", "1"],
        ["--seed", "-1"],
        ["--network", "resnet"],
        ["--epoch-count", "3"],
        ["--filters", "32,0"],
        ["--filters", "8;8"],
        ["--filters", "8,8,8,8,8,8,8,8,8"],
        ["--kernel-size", "8"],
    ],
)
def test_wrong_flags(flags, capsys):
    with pytest.raises(SystemExit) as error:
        train.main(flags)
    assert error.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and flags[0] in lines[0]


def test_wrong_input(folder, capsys, workplace):
    one_line(capsys, train.main(["--data", "nowhere"]), "nowhere/train")
    one_line(capsys, train.main(["--data", "small", "--model", "a.h5"]), "--model", "a.h5")
    one_line(capsys, train.main(["--data", "small", "--model", "no/a.keras"]), "no/a.keras")
    one_line(capsys, train.main(["--data", "small", "--resume"]), "--resume", "small_cnn.checkpoint.npz")
    (workplace / "small_cnn.checkpoint.npz").write_bytes(b"damaged")
    one_line(capsys, train.main(["--data", "small", "--resume"]), "small_cnn.checkpoint.npz", "damaged")
    one_line(capsys, train.main(["--data", "mnist"]), "MNIST_DIR", "--data drawn")
    shutil.rmtree(folder / "test" / "3")
    one_line(capsys, train.main(["--data", "small"]), "small/test", "classes")
    shutil.rmtree(folder / "test")
    one_line(capsys, train.main(["--data", "small"]), "small/test")
    (folder / "train" / "7" / "x.png").write_text("text")
    assert train.main(["--data", "small", "--no-test"]) == 2
    assert "small/train/7/x.png" in capsys.readouterr().err
    assert not list(workplace.glob("*.keras"))


def test_a_training_that_diverges(folder, capsys, workplace, monkeypatch):
    monkeypatch.setattr(train, "one_cycle", lambda peak, steps: float("nan"))
    assert train.main(["--data", "small", "--epochs", "2"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "--learning-rate" in err
    assert not list(workplace.glob("*.keras"))


@pytest.mark.parametrize("steps", [1, 5])
def test_a_training_of_few_steps(folder, steps):
    flags = ["--data", "small", "--epochs", "1", "--batch-size", str(300 // steps), "--validation-split", "0"]
    assert train.main(flags) == 0


def test_changed_data_is_not_resumed(folder, monkeypatch, capsys):
    def die(path, history):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "write_log", die)
    assert train.main(["--data", "small", "--epochs", "2"]) == 130
    (folder / "train" / "0" / "00000.png").write_bytes((folder / "train" / "1" / "00001.png").read_bytes())
    assert train.main(["--data", "small", "--resume"]) == 2
    assert "have changed" in capsys.readouterr().err


def test_batch_size_peak_rate_and_strength_follow_from_the_epochs():
    assert train.peak_rate(4, 64) > train.peak_rate(30, 128)
    assert train.batch_size(4) < train.batch_size(30) == train.batch_size(1)
    assert [train.optimizer_name(epochs) for epochs in (1, 3, 4, 30)] == ["muon", "muon", "adam", "adam"]
    assert train.augment_strength(4) < train.augment_strength(30)
    assert train.variety_share(1) == train.variety_share(3) == 0 < train.variety_share(4)
    schedule = train.one_cycle(0.004, 1000)
    rates = [float(schedule(step)) for step in (0, 50, 100, 550, 1000)]
    assert rates == pytest.approx([0, 0.002, 0.004, 0.002, 0], abs=1e-6)


def test_drawn_digits_where_mnist_cannot_be_had(monkeypatch, capsys):
    from digits.data import pipeline

    monkeypatch.setattr(pipeline, "DRAWN", {"train": (200, 1), "test": (50, 2)})
    assert train.main(["--epochs", "1"]) == 0
    captured = capsys.readouterr()
    assert [line for line in captured.err.splitlines() if "using drawn digits" in line]
    assert "drawn_cnn.keras" in captured.out
    assert described("drawn_cnn.json")["data"]["name"] == "drawn"


def test_real_mnist_in_one_epoch(mnist_dir, workplace, monkeypatch):
    """The whole chain on real images: IDX files, PNG folder, training, test."""
    from digits.data import mnist

    monkeypatch.setenv("MNIST_DIR", str(mnist_dir))
    find = mnist._find
    cut = {name: slice(4000) if name.startswith("train") else slice(1000) for name in mnist.SHA256}
    monkeypatch.setattr(mnist, "_find", lambda: {name: array[cut[name]] for name, array in find().items()})
    assert train.main(["--epochs", "2", "--batch-size", "32"]) == 0
    about = json.loads((workplace / "mnist_cnn.json").read_text())
    assert about["data"]["test"] == 1000
    assert about["accuracy"]["test"] > 0.9


def test_the_confidence_is_calibrated():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(10, 0.2), 4000)
    labels = np.array([rng.choice(10, p=row) for row in truth])
    network = keras.Sequential([keras.Input((10,)), keras.layers.Dense(10, activation="softmax")])
    network.layers[0].set_weights([3 * np.eye(10, dtype=np.float32), np.zeros(10, np.float32)])  # far too sure
    logits = np.log(truth).astype(np.float32)
    before = plots.calibration_error(labels, np.asarray(network(logits)))
    temperature = train.calibrate(network, np.asarray(network(logits)), labels)
    after = plots.calibration_error(labels, np.asarray(network(logits)))
    assert temperature == pytest.approx(2.5, abs=0.6) and after < before / 4


def test_variety_and_the_threshold():
    images = 60
    training = pipeline.from_pixels(*strokes.draw(images, seed=1))
    mixed = train.with_variety(training, list("0123456789"), 0.5, 0)
    assert train.with_variety(training, list("abcdefghij"), 0.5, 0) is training
    labels = [int(label) for _, label in mixed.as_numpy_iterator()]
    assert len(labels) == images + 30 + 15 and labels.count(handwriting.NON_DIGIT) == 15
    pixels, labels = strokes.draw(200, seed=2)
    network = model.build("dense64")
    network.layers[-1].set_weights([5 * weights for weights in network.layers[-1].get_weights()])
    _, threshold = train.validated(network, pipeline.from_pixels(pixels, labels), labels, list("0123456789"))
    scores = reader.digit_score(reader.predict(network, pixels))
    assert (scores >= threshold).mean() == pytest.approx(train.KEPT, abs=0.01)


def test_other_classes_are_trained_without_other_peoples_digits(folder, capsys):
    for split in ("train", "test"):
        (folder / split / "9").rename(folder / split / "nine")
    flags = ["--data", "small", "--epochs", "1", "--network", "dense64", "--variety", "0.2"]
    assert train.main(flags) == 0
    assert "no other handwriting is mixed in" in capsys.readouterr().out
