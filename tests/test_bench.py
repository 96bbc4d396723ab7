import json
from unittest.mock import Mock

import pytest

from digits.cli import RunError
from extras import bench, bench_training
from tests.conftest import PROJECT, one_line


@pytest.fixture
def project(workplace, small_folder, monkeypatch):
    """The project's folder, with few digits in place of MNIST's."""
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr("digits.data.sources.MNIST_FOLDER", small_folder)


def test_the_table():
    rows = {}
    lines = [
        bench.add_row(rows, "slow", "s", [None, 40.0, 50.0]),
        bench.add_row(rows, "middle", "s", [10.0, 20.0, 30.0], "slow", memory=[78.4, 1234]),
        bench.add_row(rows, "fast", "s", [1.0, 4.0, 15.0], "middle"),
        bench.add_row(rows, "against what was not reached", "s", [1.0, 1.0, 1.0], "slow"),
    ]
    assert [row["ratio"] for row in rows.values()] == [None, None, 0.2, None]
    assert lines[0] == ("slow", "s", "not reached in 1 of 3", "40 – 50", 3, "", "")
    assert lines[1] == ("middle", "s", "20", "10 – 30", 3, "", "1,234 MB")
    assert lines[2] == ("fast", "s", "4", "1 – 15", 3, "0.2 × middle", "")


def test_rows_of_all_parts_are_kept_if_the_last_one_fails(project, monkeypatch, capsys):
    monkeypatch.setattr(bench, "run_python", lambda first, *_: (3.0 if first == "-c" else 6.0, 800.0))
    monkeypatch.setattr(bench, "run_service", Mock(side_effect=RunError("no service")))
    monkeypatch.setattr("digits.training.fit", Mock(return_value=[{"seconds": 9.0}, {"seconds": 2.0}]))
    monkeypatch.setattr("keras.Model.fit", Mock())
    monkeypatch.setattr("digits.metrics.predict", Mock())
    monkeypatch.setattr("digits.metrics.evaluate", Mock(return_value={"accuracy": 0.991}))
    monkeypatch.setattr(bench_training, "MAX_EPOCHS", 2)
    monkeypatch.setattr(bench, "PICTURES", 3)
    assert bench.main(["--json", "--repeats", "1"]) == 1
    out, err = capsys.readouterr()
    assert "tensorflow 2." in json.loads(out)["machine"] and err.strip().endswith("error: no service")
    rows = {row["what"]: row for row in json.loads(out)["rows"]}
    assert rows["predict.py --json, one picture"]["ratio"] == 2
    assert rows["read 300 training images"]["median"] > 0
    assert rows["network fed by the pipeline, float32"]["against"] == "network alone, float32"
    assert rows["train.py --epochs 1 to 99 %, cut at 120 s"]["ratio"] > 0
    assert rows["train.py --epochs 12 to 99.5 %, cut at 120 s"]["values"] == [None]
    assert rows["predict.py --json, 3 pictures of 28×28"]["memory_mb"] == 800
    assert "| what | unit | median" in err and "| 2 × import tensorflow | 800 MB |" in err


def test_a_training_ends_when_it_would_exceed_the_limit(monkeypatch):
    monkeypatch.setattr("digits.training.fit", lambda *_, on_epoch, **__: on_epoch([{}], []))
    assert bench_training.train_epochs(Mock(), 1, 0, accuracy_of=None, limit=0) == (None, 0.0)


def test_requests(project, service_port):
    answers = bench.requests(service_port, seconds=60)
    assert all(next(answers)[0] for _ in range(12))


@pytest.mark.slow
def test_all_parts_on_little_data(project, monkeypatch, capsys):
    small = {"STEPS": 2, "EPOCHS_TO": {0.05: 1, 1.1: 2}, "LIMIT": 600, "MAX_EPOCHS": 2}
    for module, values in ((bench, {"PICTURES": 5, "SECONDS": 2, "CLIENTS": 2}), (bench_training, small)):
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)
    assert bench.main(["--json", "--repeats", "1"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert "cores" in table["machine"]
    rows = {row["what"]: row for row in table["rows"]}
    reached, not_reached = (rows[f"Keras example to {target} %, cut at 600 s"] for target in (5, 110))
    assert reached["n"] == 1 and 0 < reached["median"] < 60
    assert not_reached["values"] == [None] and not_reached["median"] is None
    assert rows["train.py --epochs 1 to 5 %, cut at 600 s"]["against"] == "Keras example to 5 %, cut at 600 s"
    assert rows["network alone, float32"]["median"] > 0
    assert rows["predict.py --json, one picture"]["ratio"] > 0
    assert rows["answers that were wrong or refused"]["values"] == [0]


def test_a_part_that_does_not_exist(capsys):
    with pytest.raises(SystemExit) as error:
        bench.main(["speed"])
    one_line(capsys, error.value.code, "speed", "time_to_accuracy")
