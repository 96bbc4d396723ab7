"""The pictures of extras/: samples/, docs/handwriting.png, the difficult ones, and labelled folders."""

import numpy as np
from PIL import Image

from extras import difficult, handwriting, samples
from tests.conftest import PROJECT, one_line


def test_samples_are_drawn_as_they_are_shipped(workplace):
    (workplace / "docs").mkdir()
    samples.main()
    for path in (workplace / "samples").iterdir():
        if path.suffix == ".png":  # JPEG files depend on the version of the library
            np.testing.assert_array_equal(Image.open(path), Image.open(PROJECT / "samples" / path.name))
    drawn, shipped = (
        sorted(path.name for path in folder.glob("*.*")) for folder in (workplace / "samples", PROJECT / "samples")
    )
    assert drawn == shipped
    np.testing.assert_array_equal(Image.open("docs/handwriting.png"), Image.open(PROJECT / "docs" / "handwriting.png"))


def test_a_labelled_folder(workplace, shipped, capsys):
    rng = np.random.default_rng(6)
    for name, make, text in (
        ("digits/me/5__1.png", difficult.KINDS["scan"], "5"),
        ("digits/me/6__1.png", difficult.KINDS["scan"], "6"),
        ("digits/you/7__1.png", difficult.KINDS["scan"], "8"),  # a wrong label
        ("numbers/386__1.png", difficult.KINDS["row"], "386"),
    ):
        (workplace / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make(text, rng)).save(name)
    (workplace / "not-digits").mkdir()
    Image.new("L", (50, 50), 255).save("not-digits/blank.png")
    assert handwriting.main([".", "--model", str(shipped)]) == 0
    out = capsys.readouterr().out
    assert "Digits read correctly: 66.7% (2 of 3)" in out and "7__1.png: 8" in out
    assert "Numbers read without error: 100.0% (1 of 1)" in out
    assert "Non-digits accepted as digits: 0.0% (0 of 1)" in out
    one_line(capsys, handwriting.main(["nowhere", "--model", str(shipped)]), "nowhere")
    one_line(capsys, handwriting.main(["not-digits", "--model", str(shipped)]), "not-digits")
