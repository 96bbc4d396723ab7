import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import predict
from digits import files, reading_plots
from digits.data.handwriting import random_trajectory
from digits.reading import answers, reader
from extras import difficult, drawing
from tests.conftest import PROJECT, digits, one_line, posix

SAMPLES = PROJECT / "samples"


@pytest.fixture
def with_model(shipped, workplace):
    """The shipped model and two samples, as in the project's folder, and a blank picture."""
    Image.new("L", (30, 30), 255).save("blank.png")
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


@pytest.fixture
def predicted(capsys):
    """A function that runs predict.py --json; returns the objects that it prints."""

    def run(*argv, status=0):
        capsys.readouterr()
        assert predict.main(["--json", *argv]) == status
        out, err = capsys.readouterr()
        assert err == ""
        return [json.loads(line) for line in out.splitlines()]

    return run


def last_line(capsys, *argv):
    """The last line that predict.py prints."""
    assert predict.main([*argv]) == 0
    return capsys.readouterr().out.splitlines()[-1]


def test_json(with_model, predicted, monkeypatch):
    monkeypatch.setattr(reading_plots, "predictions", None)  # would be called for a figure
    five, blank = predicted("samples/5.png", "blank.png")
    keys = "path prediction confidence probabilities is_digit digit_score box number text digits refused"
    assert " ".join(five) == " ".join(blank) == keys
    assert (five["path"], five["prediction"]) == ("samples/5.png", "5")
    assert 0.5 < five["confidence"] == five["probabilities"]["5"] <= 1
    assert sum(five["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert (five["is_digit"], five["number"]) == (True, "5") and 0.5 < five["digit_score"] <= 1
    (digit,) = five["digits"]
    assert [digit[key] for key in ("digit", "confidence", "probabilities")] == [
        "5",
        five["confidence"],
        five["probabilities"],
    ]
    x, y, width, height = digit["box"]
    assert 0 <= x < x + width <= 240 and 0 <= y < y + height <= 320
    assert (blank["prediction"], blank["confidence"], blank["digit_score"]) == (None, 0, 0)
    assert (blank["is_digit"], blank["number"], blank["digits"]) == (False, "", [])
    assert not (with_model / "prediction.png").exists()


def test_folders_are_read_through_and_a_bad_file_is_reported(with_model, predicted):
    (with_model / "samples" / "deep").mkdir()
    shutil.copy(SAMPLES / "7.png", "samples/deep/7.PNG")
    (with_model / "samples" / "4.png").write_text("text")
    (with_model / "samples" / "notes.txt").write_text("not a picture, passed over")
    (with_model / "samples" / ".hidden.png").write_text("passed over")
    rows = predicted("samples", "missing.png", status=2)
    names = ["samples/3_photo.jpg", "samples/4.png", "samples/5.png", "samples/deep/7.PNG", "missing.png"]
    assert [row["path"] for row in rows] == names
    assert [row.get("prediction") for row in rows] == ["3", None, "5", "7", None]
    assert [("error" in row) for row in rows] == [False, True, False, False, True]


def test_csv(with_model, capsys):
    assert predict.main(["--csv", "samples/5.png", "blank.png", "missing.png"]) == 2
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["prediction"] for row in rows] == ["5", "", ""]
    assert float(rows[0]["probability_5"]) == float(rows[0]["confidence"]) > 0.5
    assert rows[0]["error"] == "" and "no such file" in rows[2]["error"]


def test_several_and_blank_in_words(with_model, capsys):
    assert predict.main(["samples", "blank.png"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"samples/5\.png +Prediction: 5 with ", out)
    assert re.search(r"blank\.png +No digit found", out)
    assert last_line(capsys, "blank.png") == "No digit found"


def test_random_test_image(with_model, small_folder, capsys):
    model = str(with_model / "mnist_cnn.keras")
    assert predict.main(["--random", "--data", str(small_folder), "--model", model]) == 0
    out = capsys.readouterr().out
    path, label = re.search(r"Picture: (.*)", out)[1], re.search(r"True label: (\d)", out)[1]
    assert f"test/{label}/" in path
    assert re.match(r"Prediction: \d with |Not a digit \(", out.splitlines()[-1])
    assert predict.main(["--random", "--data", "handwriting", "--model", model, "--json"]) == 0


def save(name, picture):
    Image.fromarray(picture).save(name)
    return name


def test_a_number(with_model, capsys, predicted):
    rng = np.random.default_rng(1)
    save("number.png", difficult.KINDS["row"]("90210", rng))
    assert re.fullmatch(r"Number: 90210  \(lowest confidence \d+\.\d%\)", last_line(capsys, "number.png"))
    one, two = predicted("number.png", save("two.png", difficult.KINDS["two lines"]("314159", rng)))
    assert (one["number"], two["number"]) == ("90210", "314_159")
    assert [digit["digit"] for digit in one["digits"]] == list("90210")
    lefts = [digit["box"][0] for digit in one["digits"]]
    assert lefts == sorted(lefts)
    assert one["prediction"] in "021"  # one of the middle


def test_a_box_of_a_form(with_model, capsys, predicted):
    rng = np.random.default_rng(2)
    form = np.full((900, 700, 3), 255, np.uint8)
    form[100:400, 100:500] = drawing.on_paper(drawing.write("38", rng, 300, 400, 150, 10))
    form[500:800, 100:500] = drawing.on_paper(drawing.write("6", rng, 300, 400, 150, 10))
    save("form.png", form)
    (row,) = predicted("--box", "100,500,400,300", "form.png")
    assert row["number"] == "6"
    x, y, width, height = row["digits"][0]["box"]
    assert 100 <= x < x + width <= 500 and 500 <= y < y + height <= 800
    assert predict.main(["--box", "600,800,200,200", "form.png"]) == 2
    assert "not inside 700×900" in capsys.readouterr().err
    for box in ("1,2,3", "a,b,c,d", ""):
        with pytest.raises(SystemExit):
            predict.main(["--box", box, "form.png"])
        assert "--box" in capsys.readouterr().err


def test_a_known_number_of_digits(with_model, capsys, predicted):
    rng = np.random.default_rng(7)
    number = "".join(map(str, rng.integers(0, 10, 4)))
    save("touching.png", drawing.on_paper(drawing.write(number, rng, 200, 500, 110, 8, gap=-0.06)))
    (unknown,) = predicted("touching.png")
    assert unknown["number"] != number and "review" not in unknown
    sure, tick = str(SAMPLES / "number.jpg"), str(SAMPLES / "tick.png")
    rows = predicted("touching.png", sure, tick, "--digits", "4")
    assert [row["number"] for row in rows] == [number, "40628", ""]
    assert [row["review"] for row in rows] == [False, True, True]
    for count in ("1", "7"):
        (row,) = predicted(sure, "--digits", count)
        assert (row["number"], row["review"]) == ("40628", True)
    assert last_line(capsys, sure, "--digits", "6").endswith("%)  (to be reviewed)")
    save("two.png", difficult.KINDS["two lines"]("314159", np.random.default_rng(1)))
    for count, review in (("3", False), ("6", True)):
        (row,) = predicted("two.png", "--digits", count)
        assert (row["number"], row["review"]) == ("314_159", review)
    x, y, width, height = row["digits"][0]["box"]
    (row,) = predicted("two.png", "--digits", "1", "--box", f"{x - 5},{y - 5},{width + 10},{height + 10}")
    assert (row["number"], row["review"]) == ("3", False)
    for count in ("0", "-1", "five", "2.5"):
        with pytest.raises(SystemExit):
            predict.main(["--digits", count, "samples/5.png"])
        assert "--digits" in capsys.readouterr().err


def test_all_pages_of_a_tiff(with_model, capsys, predicted):
    pages = [Image.open(f"samples/{name}").convert("RGB") for name in ("5.png", "3_photo.jpg")]
    pages[0].save("scan.tif", save_all=True, append_images=pages[1:])
    rows = predicted("scan.tif")
    assert [(row["path"], row["page"], row["number"]) for row in rows] == [("scan.tif", 1, "5"), ("scan.tif", 2, "3")]
    assert predict.main(["scan.tif"]) == 0
    assert "scan.tif page 2  Prediction: 3" in capsys.readouterr().out


def test_unsure_readings_are_marked_for_review(with_model, capsys, predicted):
    assert last_line(capsys, str(SAMPLES / "7.png"), "--min-confidence", "1").endswith("confidence  (to be reviewed)")
    rows = predicted("samples/5.png", "blank.png", "--min-confidence", "0.5")
    assert [row["review"] for row in rows] == [False, True]
    reading = reader.read("samples/5.png", "mnist_cnn.keras")
    assert not answers.needs_review(reading, 0.5)
    assert answers.needs_review(reading._replace(refused=reading.digits), 0.5)
    assert answers.needs_review(reading._replace(digits=[]), 0.5) and not answers.needs_review(reading, 0)


def test_non_digits(with_model, capsys, predicted):
    rng = np.random.default_rng(3)
    saved = []
    for letter in "AHEWk":
        ink = drawing.rasterize(random_trajectory(letter, rng), rng, 200, 10, box=120)
        saved.append(save(f"{letter}.png", drawing.on_paper(ink)))
    assert predict.main(saved) == 0
    answers = capsys.readouterr().out
    refused = re.findall(r"Not a digit \(looks most like \d, \d+%\)", answers)
    assert len(refused) >= 3
    rows = predicted(*saved)
    assert sum(not row["is_digit"] and row["number"] == "" and row["prediction"] is not None for row in rows) >= 3


def test_the_steps_are_shown(with_model, capsys):
    assert predict.main(["samples", "--steps"]) == 0
    assert "steps.png" in capsys.readouterr().out
    assert Image.open("steps.png").width > 1000
    with pytest.raises(SystemExit):
        predict.main(["samples", "--steps", "--json"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["US$5_to_$10.png", "$\\frac$.png", "五.png", "bad\udcff\x1b[31m.png"])
def test_names_are_text(with_model, capsys, name):
    shutil.copy("samples/5.png", name)
    assert predict.main(["--steps", name]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("Prediction: 5") and err == ""
    assert "\x1b" not in out and "\udcff" not in out


def test_the_answer_does_not_wait_for_the_figures(with_model, capsys, monkeypatch):
    def draw(rows):
        raise files.WriteError(Path("prediction.png"), OSError(28, "No space left on device"))

    monkeypatch.setattr(reading_plots, "predictions", draw)
    assert predict.main(["samples/5.png"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("Prediction: 5") and "prediction.png: cannot be written" in err


def test_a_picture_is_never_overwritten_by_the_figure(with_model, capsys, predicted):
    (with_model / "prediction.png").write_bytes(before := (SAMPLES / "7.png").read_bytes())
    assert predict.main(["prediction.png"]) == 2
    assert "overwrite it" in capsys.readouterr().err
    assert [row["path"] for row in predicted("prediction.png")] == ["prediction.png"]
    assert (with_model / "prediction.png").read_bytes() == before
    paths = [row["path"] for row in predicted(".")]  # without the figure of the last run
    assert paths == ["blank.png", "samples/3_photo.jpg", "samples/5.png"]


@posix
@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_folder_leaves_no_process_behind(with_model, signal_number):
    big = Image.fromarray(digits(1)[0][0, ..., 0]).resize((600, 600))
    big.save("samples/big.png")
    for index in range(120):
        (with_model / "samples" / f"big{index}.png").symlink_to("big.png")
    command = [sys.executable, str(PROJECT / "predict.py"), "--json", "samples"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the job of a shell in the background ignores it
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    run.stdout.readline()
    run.send_signal(signal_number)
    _, err = run.communicate(timeout=20)
    assert run.returncode == (130 if signal_number == signal.SIGINT else -signal.SIGTERM)
    if signal_number == signal.SIGINT:
        assert err == "predict.py: interrupted\n"
    for _ in range(50):
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a process is still there")


def test_many_small_pictures_are_read_in_batches_on_all_processors(with_model, predicted, monkeypatch):
    calls, real = [], reader.predict
    monkeypatch.setattr(reader, "predict", lambda network, images: calls.append(len(images)) or real(network, images))
    monkeypatch.setattr(reader, "segment", None)  # is called in other processes
    images, labels = digits(130)
    for index, image in enumerate(images):
        save(f"samples/{index:03}.png", image[..., 0])
    (with_model / "samples" / "100.png").write_text("no picture")
    rows = [row for row in predicted("samples", status=2) if re.search(r"/\d{3}\.", row["path"])]
    right = sum(row.get("prediction") == str(label) for row, label in zip(rows, labels, strict=True))
    assert right >= 124 and "error" in rows[100]
    assert len(calls) <= 8


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
        one_line(capsys, predict.main([path]), path, word)
    one_line(capsys, predict.main(["--random"]), "--random")
    for model, word in (("none.keras", "no such model"), (damaged(workplace / "bad.keras", b"PK"), "damaged")):
        one_line(capsys, predict.main(["samples/5.png", "--model", model]), model, word)
    for flags in (["--json", "--csv"], ["--random", "samples/5.png"], ["--network", "x"]):
        with pytest.raises(SystemExit) as error:
            predict.main(flags)
        one_line(capsys, error.value.code)


def test_wrong_pictures_are_known_before_tensorflow_is_imported(with_model):
    code = "import sys, predict; predict.main(['nowhere.png']); sys.exit('tensorflow' in sys.modules)"
    environment = {"PYTHONPATH": str(PROJECT), "PATH": ""}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0


def test_the_figure_shows_what_was_read(with_model, monkeypatch):
    figures = []
    draw = reading_plots.predictions
    monkeypatch.setattr(reading_plots, "predictions", lambda rows: figures.append(draw(rows)) or figures[0])
    assert predict.main(["samples/5.png"]) == 0
    left, middle, right = figures[0].axes
    assert left.images[0].get_array().shape == (320, 240, 3)
    assert middle.images[0].get_array().shape == (32, 32)  # with a margin
    heights = [bar.get_height() for bar in right.patches]
    assert len(heights) == 10 and int(np.argmax(heights)) == 5 and sum(heights) == pytest.approx(100, abs=0.01)
