import json
import re

import numpy as np
import pytest
from PIL import Image

from digits import cli
from extras import accuracy, bench, difficult, handwriting, samples
from tests.conftest import PROJECT, one_line


def test_samples_are_drawn(workplace):
    (workplace / "docs").mkdir()
    samples.main()
    pictures = sorted((workplace / "samples").iterdir())
    assert all(sum(path.name[0] == str(digit) for path in pictures) >= 2 for digit in range(10))
    assert {"number.jpg", "tick.png"} <= {path.name for path in pictures}
    assert len({Image.open(path).size for path in pictures}) >= 4
    assert Image.open(workplace / "docs" / "drawn.png").size == (840, 280)


def test_accuracy_over_seeds(drawn_folder, capsys):
    flags = ["--data", str(drawn_folder), "--epochs", "1", "--network", "dense64"]
    assert accuracy.main(["--repeats", "2", *flags]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"\| `train.py --data .* --network dense64` \| 2 \| \d+\.\d\d ± \d+\.\d\d \| \d+", row)
    with pytest.raises(SystemExit) as error:
        accuracy.main(["--epoch-count", "1"])
    one_line(capsys, error.value.code, "--epoch-count")
    for flag in (["--seed", "5"], ["--model", "a.keras"], ["--resume"], ["--sizes", "--filters", "8"]):
        with pytest.raises(SystemExit) as error:
            accuracy.main(flag)
        one_line(capsys, error.value.code, f"{[word for word in flag if word[:2] == '--'][-1]}: is not for this script")


@pytest.fixture
def small_bench(drawn_folder, workplace, monkeypatch):
    """A benchmark of moments, on drawn digits in place of MNIST's."""
    (workplace / "Mnist_dataset").symlink_to(drawn_folder)
    for name in ("predict.py", "train.py", "draw.py", "digits", "samples", "mnist_cnn.keras", "mnist_cnn.json"):
        (workplace / name).symlink_to(PROJECT / name)
    small = {"STEPS": 2, "EPOCHS_TO": {0.05: 1, 1.1: 2}, "LIMIT": 10, "PICTURES": 5}
    for name, value in (small | {"SCALES": (100, 200), "SECONDS": 2, "CLIENTS": 2}).items():
        monkeypatch.setattr(bench, name, value)


def test_bench_in_one_table(small_bench, capsys):
    assert bench.main(["throughput", "ceiling", "data", "--repeats", "2"]) == 0
    head, _, names, line, *rows = capsys.readouterr().out.splitlines()
    assert "cores" in head and "tensorflow 2." in head
    assert names.startswith("| what | unit | median") and set(line) == set("| -")
    assert all(row.count("|") == 8 for row in rows)
    assert any(re.match(r"\| network alone, float32 \| images/s \| [\d,.]+ \|", row) for row in rows)
    assert "× network alone, float32" in "".join(rows)
    assert any(re.match(r"\| matrix product, float32 \| GFLOP/s \| [\d,.]+ \|", row) for row in rows)


def test_bench_as_json(small_bench, capsys):
    assert bench.main(["accuracy_in_time", "pictures", "--json", "--repeats", "1", "--figure", "figure.png"]) == 0
    assert Image.open("figure.png").width > 500
    table = json.loads(capsys.readouterr().out)
    rows = {row["what"]: row for row in table["rows"]}
    reached, not_reached = (rows[f"Keras example to {target} %, cut at 10 s"] for target in (5, 110))
    assert reached["n"] == 1 and 0 < reached["median"] < 60
    assert not_reached["values"] == [None] and not_reached["median"] is None
    ours = rows["train.py --epochs 1 to 5 %, cut at 10 s"]
    assert ours["against"] == "Keras example to 5 %, cut at 10 s"
    assert rows["predict.py --json, 5 pictures of 28×28"]["memory_mb"] > 100


def test_bench_of_data_on_disk_and_of_the_service(small_bench, capsys):
    assert bench.main(["scale", "draw", "--repeats", "1", "--json"]) == 0
    rows = {row["what"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["train.py, 100 images, --cache auto"]["ratio"] > 0
    assert "train.py, 200 images, --cache disk" in rows
    assert rows["answers that were wrong or refused"]["values"] == [0]


def test_bench_knows_its_parts(capsys):
    with pytest.raises(SystemExit) as error:
        bench.main(["speed"])
    one_line(capsys, error.value.code, "speed", "throughput")
    for flags in (["draw", "--figure", "a.png"], ["--figure", "a.gif"], ["--figure", "nowhere/a.png"]):
        with pytest.raises(SystemExit) as error:
            bench.main(flags)
        one_line(capsys, error.value.code, "--figure")


def test_bench_keeps_what_it_measured_before_a_part_failed(small_bench, monkeypatch, capsys):
    def part(table, args):
        table.add("a", "s", [1.0, 3.0])
        raise cli.RunError("no more")

    monkeypatch.setitem(bench.PARTS, "draw", part)
    assert bench.main(["draw", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"][0]["median"] == 2 and err.strip().endswith("error: no more")


def test_bench_without_a_limit_has_no_ratio_to_what_was_not_reached():
    table = bench.Table(as_json=True)
    table.add("slow", "s", [None, 40.0, 50.0])
    table.add("fast", "s", [10.0, 10.0, 10.0], "slow", limit=100)
    assert table.rows[1]["ratio"] == 0.2 and table.rows[1]["ratio_is_a_bound"]
    table.add("without a limit", "s", [10.0, 10.0, 10.0], "slow")
    assert table.rows[2]["ratio"] is None


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
