"""The model, the samples and the README that come with the project."""

import json
import re
import shutil

import pytest

import evaluate
from digits import read
from extras import handwriting as handwriting_script
from tests.conftest import PROJECT


def test_the_samples_are_read_right(shipped):
    samples = sorted(path for path in (PROJECT / "samples").iterdir() if path.name[0].isdigit())
    assert all(sum(path.name[0] == str(digit) for path in samples) >= 2 for digit in range(10))
    wrong = [path.name for path in samples if read(path, shipped).number != path.name[0]]
    assert wrong == []
    assert read(PROJECT / "samples" / "number.jpg", shipped).number == "40628"
    assert not read(PROJECT / "samples" / "tick.png", shipped).is_digit


def test_accuracy_and_calibration_are_as_stated(shipped, mnist_dir, monkeypatch, capsys, workplace):
    monkeypatch.setenv("MNIST_DIR", str(mnist_dir))
    for suffix in (".keras", ".json"):
        shutil.copy(shipped.with_suffix(suffix), workplace)
    assert evaluate.main([]) == 0
    out = capsys.readouterr().out
    accuracy, total = re.search(r"Test accuracy: ([\d.]+)% \([\d,]+ of ([\d,]+)\)", out).groups()
    about = json.loads(shipped.with_suffix(".json").read_text())
    assert total == "10,000" and float(accuracy) >= 99.5
    assert abs(float(accuracy) / 100 - about["accuracy"]["test"]) <= 0.0002  # another processor may round otherwise
    sizes = {"name": "mnist", "training": 54_999, "validation": 5_001, "writers": 1_686, "test": 10_000}
    assert about["data"] | sizes == about["data"]
    assert float(re.search(r"calibration error: ([\d.]+)%", out)[1]) <= 0.3


@pytest.mark.slow
def test_other_handwriting(shipped, handwriting, capsys):
    assert handwriting_script.main([str(handwriting), "--model", str(shipped)]) == 0
    out = capsys.readouterr().out
    shares = {name: float(value) for name, value in re.findall(r"^ *(.+?): ([\d.]+)%", out, re.MULTILINE)}
    assert shares["Digits read correctly"] >= 98.5
    assert shares["Numbers read without error"] >= 85
    assert shares["accepted as digits"] >= 97
    assert shares["Non-digits accepted as digits"] <= 20
    assert shares["at the threshold that accepts 98% of these digits"] <= 20
    assert float(re.search(r"ROC.*: ([\d.]+)$", out, re.MULTILINE)[1]) >= 0.97


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def test_readme_and_docs():
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    for requirements, command in (("requirements.txt", "train.py"), ("requirements-dev.txt", "-m pytest")):
        install = f"python3 -m venv .venv && .venv/bin/pip install -r {requirements}"
        assert f"{install} && .venv/bin/python {command}\n" in readme
    assert len(readme.splitlines()) <= 200
    about = json.loads((PROJECT / "mnist_cnn.json").read_text())
    assert f"{100 * about['accuracy']['test']:.2f}" in readme
    for page in (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").glob("*.md")):
        for path, anchor in re.findall(r"\]\((?!http)([^)#]*)(#[^)]+)?\)", page.read_text(encoding="utf-8")):
            target = page.parent / path if path else page
            assert target.exists(), f"{page.name}: {path}"
            assert not anchor or anchor[1:] in anchors(target), f"{page.name}: {path}{anchor}"
