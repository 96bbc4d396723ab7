import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import evaluate
from digits import model
from tests.conftest import PROJECT, one_line


def flags(folder, path):
    return ["--data", str(folder), "--model", str(path)]


def independent(folder, path):
    """Labels and probabilities by plain Keras and Pillow, none of the project's code."""
    files = sorted((Path(folder) / "test").glob("*/*.png"))
    labels = np.array([int(file.parent.name) for file in files])
    pixels = np.stack([np.stack([np.asarray(Image.open(file))] * 3, -1) for file in files]).astype("float32")
    return labels, keras.saving.load_model(path).predict(pixels, verbose=0)


def test_as_a_process_its_numbers_are_those_of_independent_code(trained, small_folder, workplace):
    command = [sys.executable, str(PROJECT / "evaluate.py"), *flags(small_folder, trained), "--json"]
    process = subprocess.run(command, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    result = json.loads(process.stdout)
    labels, probabilities = independent(small_folder, trained)
    predicted = probabilities.argmax(1)
    assert result["total"] == 100
    assert result["correct"] == (predicted == labels).sum()
    assert result["accuracy"] == pytest.approx((predicted == labels).mean())
    likelihood = probabilities[np.arange(100), labels]
    assert result["loss"] == pytest.approx(-np.log(likelihood).mean(), abs=1e-5)
    assert result["confusion_matrix"] == np.histogram2d(labels, predicted, bins=range(11))[0].tolist()
    three = result["per_class"]["3"]
    assert three["recall"] == pytest.approx((predicted[labels == 3] == 3).mean())
    if (predicted == 3).any():
        assert three["precision"] == pytest.approx((labels[predicted == 3] == 3).mean())
    assert three["support"] == 10
    assert result["classes"] == list("0123456789")
    assert set(result) == {"model", "data", "classes", "accuracy", "loss", "correct", "total", "per_class", "averages",
                           "confusion_matrix", "sources"}  # fmt: skip
    assert not list(workplace.glob("*.png"))


def test_report_and_figures(trained, small_folder, capsys):
    assert evaluate.main(flags(small_folder, trained)) == 0
    out, err = capsys.readouterr()
    labels, probabilities = independent(small_folder, trained)
    right = (probabilities.argmax(1) == labels).sum()
    assert out.splitlines()[-1] == f"Test accuracy: {right:.2f}% ({right} of 100)"
    assert err == ""
    assert "Confusion matrix" in out and "precision" in out and "Loss: " in out
    for name in ("confusion_matrix", "samples", "mistakes"):
        path = trained.with_name(f"small_cnn_{name}.png")
        assert Image.open(path).width > 400
        assert str(path) in out
        path.unlink()


def test_errors(trained, folder, capsys, workplace):
    one_line(capsys, evaluate.main(["--data", "small"]), "small_cnn.keras", "train.py")
    one_line(capsys, evaluate.main(flags("nowhere", trained)), "nowhere/test")
    (workplace / "bad.keras").write_bytes(b"PK")
    one_line(capsys, evaluate.main(flags("small", "bad.keras")), "bad.keras")
    shutil.copy(trained, "handwriting_cnn.keras")  # would be evaluated where there is no MNIST
    one_line(capsys, evaluate.main(["--model", "bad.keras"]), "bad.keras")
    one_line(capsys, evaluate.main(flags("mnist", trained)), "MNIST_DIR")
    shutil.rmtree(folder / "test" / "9")
    assert evaluate.main(flags("small", trained)) == 2
    assert "its classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, those of the data small are 0" in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        evaluate.main(["--network", "vgg"])
    assert error.value.code == 2


def test_a_model_without_json_has_the_classes_0_to_9(trained, small_folder, workplace, capsys):
    shutil.copy(trained, "bare.keras")
    assert evaluate.main([*flags(small_folder, "bare.keras"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == list("0123456789")


def test_other_handwriting_without_mnist(shipped, capsys, workplace):
    """In a fresh clone without MNIST there is only mnist_cnn.keras; after train.py there is handwriting_cnn.keras."""
    shutil.copy(shipped, "mnist_cnn.keras")
    assert evaluate.main(["--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["model"] == "mnist_cnn.keras" and result["accuracy"] > 0.98
    assert {"unipen", "pendigits", "optdigits"} <= result["sources"].keys()
    assert sum(source["correct"] for source in result["sources"].values()) == result["correct"]
    assert "using --data handwriting" in err and "handwriting_cnn.keras does not exist yet" in err
    model.save(model.build("cnn"), workplace / "handwriting_cnn.keras", {"classes": list("0123456789")})
    assert evaluate.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "handwriting_cnn.keras"
