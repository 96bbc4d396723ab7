import json
import re

import pytest

from digits import cli
from extras import bench, contenders
from tests.conftest import PROJECT, one_line


@pytest.fixture
def small_bench(drawn_folder, workplace, monkeypatch):
    """A benchmark of moments, on drawn digits in place of MNIST's."""
    (workplace / "Mnist_dataset").symlink_to(drawn_folder)
    for name in ("predict.py", "draw.py", "digits", "samples", "mnist_cnn.keras", "mnist_cnn.json"):
        (workplace / name).symlink_to(PROJECT / name)
    small = {"STEPS": 2, "EPOCHS_TO": {0.05: 1, 1.1: 2}, "LIMIT": 600, "PICTURES": 5, "SECONDS": 2, "CLIENTS": 2}
    for name, value in small.items():
        monkeypatch.setattr(bench, name, value)
    monkeypatch.setattr(contenders, "MAX_EPOCHS", 2)


def test_the_table(capsys):
    table = bench.Table(as_json=False)
    table.add("slow", "s", [None, 40.0, 50.0])
    table.add("middle", "s", [10.0, 20.0, 30.0])
    table.add("fast", "s", [1.0, 4.0, 15.0], "middle")
    table.add("against what was not reached", "s", [1.0, 1.0, 1.0], "slow")
    assert [row.get("ratio") for row in table.rows] == [None, None, 0.2, None]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| what | unit | median") and set(lines[1]) == set("| -")
    assert lines[2] == "| slow | s | not reached in 1 of 3 | 40 – 50 | 3 |  |"
    assert lines[4] == "| fast | s | 4 | 1 – 15 | 3 | 0.2 × middle |"


@pytest.mark.slow
def test_each_part_on_little_data(small_bench, capsys):
    parts = ["startup", "data", "training", "time_to_accuracy", "reading", "service"]
    assert bench.main([*parts, "--json", "--repeats", "1"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert "cores" in table["machine"] and "tensorflow 2." in table["machine"]
    rows = {row["what"]: row for row in table["rows"]}
    reached, not_reached = (rows[f"Keras example to {target} %, cut at 600 s"] for target in (5, 110))
    assert reached["n"] == 1 and 0 < reached["median"] < 60
    assert not_reached["values"] == [None] and not_reached["median"] is None
    assert rows["train.py --epochs 1 to 5 %, cut at 600 s"]["against"] == "Keras example to 5 %, cut at 600 s"
    assert rows["network alone, float32"]["median"] > 0
    assert rows["network fed by the pipeline, float32"]["against"] == "network alone, float32"
    assert rows["predict.py --json, one picture"]["ratio"] > 0
    assert rows["answers that were wrong or refused"]["values"] == [0]


def test_a_part_that_does_not_exist(capsys):
    with pytest.raises(SystemExit) as error:
        bench.main(["speed"])
    one_line(capsys, error.value.code, "speed", "time_to_accuracy")


def test_what_was_measured_before_a_part_failed_is_kept(monkeypatch, capsys):
    def part(table, args):
        table.add("a", "s", [1.0, 3.0])
        raise cli.RunError("no more")

    monkeypatch.setitem(bench.PARTS, "service", part)
    assert bench.main(["service", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"][0]["median"] == 2 and err.strip().endswith("error: no more")
    assert bench.main(["service"]) == 1
    assert re.search(r"^\| a \| s \| 2 \|", capsys.readouterr().out, re.MULTILINE)
