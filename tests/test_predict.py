import csv
import io
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import predict
from tests.conftest import PROJECT

SAMPLES = PROJECT / "samples"


@pytest.fixture
def with_model(shipped, workplace):
    """The shipped model and two samples, as in the project's folder."""
    for suffix in (".keras", ".json"):
        shutil.copy(shipped.with_suffix(suffix), workplace)
    (workplace / "samples").mkdir()
    for name in ("5.png", "3_photo.jpg"):
        shutil.copy(SAMPLES / name, workplace / "samples")
    return workplace


def test_as_a_process_after_editing_img_path(with_model):
    script = (PROJECT / "predict.py").read_text()
    edited = script.replace('img_path = "samples/5.png"', 'img_path = "samples/3_photo.jpg"')
    assert edited != script
    (with_model / "predict.py").write_text(edited)
    shutil.copytree(PROJECT / "digits", with_model / "digits")
    process = subprocess.run([sys.executable, "predict.py"], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert re.fullmatch(r"Prediction: 3 with \d+\.\d\d% confidence", process.stdout.splitlines()[-1])
    assert "prediction.png" in process.stdout
    assert Image.open(with_model / "prediction.png").width > 600


def lines_of(capsys):
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


def test_json(with_model, capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["matplotlib"], "use", None)  # no figure
    Image.new("L", (30, 30), 255).save("blank.png")
    assert predict.main(["--json", "samples/5.png", "blank.png"]) == 0
    five, blank = lines_of(capsys)
    assert set(five) == {"path", "prediction", "confidence", "probabilities"}
    assert (five["path"], five["prediction"]) == ("samples/5.png", "5")
    assert 0.5 < five["confidence"] == five["probabilities"]["5"] <= 1
    assert sum(five["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (blank["prediction"], blank["confidence"]) == (None, 0)
    assert not (with_model / "prediction.png").exists()


def test_folders_are_read_through_and_a_bad_file_is_reported(with_model, capsys):
    (with_model / "samples" / "deep").mkdir()
    shutil.copy(SAMPLES / "7.png", "samples/deep/7.PNG")
    (with_model / "samples" / "4.png").write_text("text")
    (with_model / "samples" / "notes.txt").write_text("not a picture, passed over")
    (with_model / "samples" / ".hidden.png").write_text("passed over")
    assert predict.main(["--json", "samples", "missing.png"]) == 2
    rows = lines_of(capsys)
    names = ["samples/3_photo.jpg", "samples/4.png", "samples/5.png", "samples/deep/7.PNG", "missing.png"]
    assert [row["path"] for row in rows] == names
    assert [row.get("prediction") for row in rows] == ["3", None, "5", "7", None]
    assert [("error" in row) for row in rows] == [False, True, False, False, True]


def test_csv(with_model, capsys):
    Image.new("L", (30, 30), 255).save("blank.png")
    assert predict.main(["--csv", "samples/5.png", "blank.png", "missing.png"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["prediction"] for row in rows] == ["5", "", ""]
    assert float(rows[0]["probability_5"]) == float(rows[0]["confidence"]) > 0.5
    assert rows[0]["error"] == "" and "no such file" in rows[2]["error"]


def test_several_and_blank_in_words(with_model, capsys):
    Image.new("L", (30, 30), 255).save("blank.png")
    assert predict.main(["samples", "blank.png"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"samples/5\.png +Prediction: 5 with ", out)
    assert re.search(r"blank\.png +No digit found", out)
    assert predict.main(["blank.png"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "No digit found"


def test_random_test_image(with_model, drawn_folder, capsys):
    model = str(with_model / "mnist_cnn.keras")
    assert predict.main(["--random", "--data", str(drawn_folder), "--model", model]) == 0
    out = capsys.readouterr().out
    path, label = re.search(r"Picture: (.*)", out)[1], re.search(r"True label: (\d)", out)[1]
    assert f"test/{label}/" in path
    assert out.splitlines()[-1].startswith("Prediction: ")
    assert predict.main(["--random", "--data", "drawn", "--model", model, "--json"]) == 0


def damaged(path, data):
    path.write_bytes(data)
    return str(path)


def test_errors(with_model, capsys, workplace):
    whole = (SAMPLES / "5.png").read_bytes()
    (workplace / "empty").mkdir()
    cases = {
        "nowhere.png": "no such file",
        "empty": "no pictures",
        damaged(workplace / "text.png", b"only text in here"): "not a picture",
        damaged(workplace / "nothing.png", b""): "empty",
        damaged(workplace / "cut.png", whole[: len(whole) // 2]): "damaged",
        damaged(workplace / "photo.heic", b"\0\0\0\x1cftypheic" + bytes(20)): "HEIC",
    }
    for path, word in cases.items():
        assert predict.main([path]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and path in err and word in err
    assert predict.main(["--random"]) == 2
    assert "--random" in capsys.readouterr().err
    for model, word in (("none.keras", "no such model"), (damaged(workplace / "bad.keras", b"PK"), "damaged")):
        assert predict.main(["samples/5.png", "--model", model]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1 and model in err and word in err
    for flags in (["--json", "--csv"], ["--random", "samples/5.png"], ["--network", "x"]):
        with pytest.raises(SystemExit) as error:
            predict.main(flags)
        assert error.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_wrong_pictures_are_known_before_tensorflow_is_imported(with_model):
    code = "import sys, predict; predict.main(['nowhere.png']); sys.exit('tensorflow' in sys.modules)"
    environment = {"PYTHONPATH": str(PROJECT), "PATH": ""}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0


def test_the_figure_shows_what_was_read(with_model, monkeypatch):
    from digits import report

    figures = []
    draw = report.prediction_figure
    monkeypatch.setattr(report, "prediction_figure", lambda rows: figures.append(draw(rows)) or figures[0])
    assert predict.main(["samples/5.png"]) == 0
    left, middle, right = figures[0].axes
    assert left.images[0].get_array().shape == (320, 240, 3)
    assert middle.images[0].get_array().shape == (28, 28)
    heights = [bar.get_height() for bar in right.patches]
    assert len(heights) == 10 and int(np.argmax(heights)) == 5 and sum(heights) == pytest.approx(100, abs=0.01)
