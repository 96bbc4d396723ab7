import re

import numpy as np
from PIL import Image

from extras import bench, difficult, handwriting, samples


def test_samples_are_drawn(workplace):
    (workplace / "docs").mkdir()
    samples.main()
    pictures = sorted((workplace / "samples").iterdir())
    assert all(sum(path.name[0] == str(digit) for path in pictures) >= 2 for digit in range(10))
    assert {"number.jpg", "tick.png"} <= {path.name for path in pictures}
    assert len({Image.open(path).size for path in pictures}) >= 4
    assert Image.open(workplace / "docs" / "drawn.png").size == (840, 280)


def test_bench_accuracy(drawn_folder, capsys):
    flags = ["--data", str(drawn_folder), "--epochs", "1", "--repeats", "2", "--network", "dense64"]
    assert bench.main(["accuracy", *flags]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"\| dense64 \| 1 \| 2 \| \d+\.\d\d ± \d+\.\d\d \| \d+", row)


def test_bench_epoch(drawn_folder, capsys):
    assert bench.main(["epoch", "--data", str(drawn_folder), "--repeats", "1", "--precision", "float32"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| float32 | 1 | ")


def test_handwriting_in_a_folder(workplace, shipped, capsys):
    rng = np.random.default_rng(6)
    for name, make, text in (
        ("digits/me/5__1.png", difficult.scan, "5"),
        ("digits/me/6__1.png", difficult.scan, "6"),
        ("digits/you/7__1.png", difficult.scan, "8"),  # a wrong label
        ("numbers/386__1.png", difficult.row, "386"),
    ):
        (workplace / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(make(text, rng)).save(name)
    (workplace / "not-digits").mkdir()
    Image.new("L", (50, 50), 255).save("not-digits/blank.png")
    assert handwriting.main([".", "--model", str(shipped)]) == 0
    out = capsys.readouterr().out
    assert "Digits read right: 66.7% (2 of 3)" in out and "7__1.png: 8" in out
    assert "Numbers read without any error: 100.0% (1 of 1)" in out
    assert "What is no digit, taken for one: 0.0% (0 of 1)" in out
    assert handwriting.main(["nowhere", "--model", str(shipped)]) == 2
    assert handwriting.main(["not-digits", "--model", str(shipped)]) == 2


def test_difficult_pictures_are_measured_and_drawn(workplace, shipped, capsys):
    assert difficult.main(["--count", "1", "--model", str(shipped)]) == 0
    assert re.match(r"Read right: \d+\.\d% \(\d+ of 31\)", capsys.readouterr().out.splitlines()[-1])
    (workplace / "docs").mkdir()
    assert difficult.main(["--gallery", "--model", str(shipped)]) == 0
    assert Image.open(workplace / "docs" / "difficulties.png").width > 1000
