"""The model, the samples and the README that come with the project."""

import json
import re

import evaluate
from digits.reader import read
from tests.conftest import PROJECT


def test_the_samples_are_read_right(shipped):
    samples = sorted((PROJECT / "samples").iterdir())
    assert all(sum(path.name[0] == str(digit) for path in samples) >= 2 for digit in range(10))
    wrong = [path.name for path in samples if read(path, shipped).prediction != path.name[0]]
    assert wrong == []


def test_the_model_has_the_accuracy_that_it_states(shipped, mnist_dir, monkeypatch, capsys):
    monkeypatch.setenv("MNIST_DIR", str(mnist_dir))
    assert evaluate.main(["--model", str(shipped), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    about = json.loads(shipped.with_suffix(".json").read_text())
    assert result["total"] == 10_000
    assert abs(result["accuracy"] - about["accuracy"]["test"]) <= 0.0002  # another processor may round otherwise
    assert result["accuracy"] >= 0.996
    assert about["data"] | {"name": "mnist", "training": 54_999, "validation": 5_001, "test": 10_000} == about["data"]


def test_other_handwriting(shipped, handwriting):
    pictures = [path for path in sorted((handwriting / "digits").rglob("*__*")) if path.is_file()]
    right = sum(read(path, shipped).prediction == path.name[0] for path in pictures)
    assert right / len(pictures) >= 0.9


def test_readme():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for command in (
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && .venv/bin/python train.py",
        "python3 -m venv .venv && .venv/bin/pip install -r requirements-dev.txt && .venv/bin/python -m pytest",
    ):
        assert command in readme
    about = json.loads((PROJECT / "mnist_cnn.json").read_text())
    assert f"{100 * about['accuracy']['test']:.2f}" in readme
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", readme):
        assert (PROJECT / path).exists(), path
