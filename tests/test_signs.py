"""Points, commas, colons, dashes and slashes among digits; what is left out is listed; dust is neither."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

import predict
from digits.model import load
from digits.reading import answers, reader
from digits.reading.signs import UNKNOWN, find_marks
from extras.drawing import on_paper, write


def on_line(*boxes):
    """The arguments of find_marks() for filled boxes (top, left, bottom, right); those 100 high are digits."""
    pieces = np.zeros((300, 600), int)
    for number, (top, left, bottom, right) in enumerate(boxes, 1):
        pieces[top:bottom, left:right] = number
    line = [index for index, (top, _, bottom, _) in enumerate(boxes) if bottom - top >= 100]
    return pieces, np.array(boxes), [line], 10, np.zeros(pieces.shape, bool)


ONE, TWO, THREE = (100, 100, 200, 150), (100, 200, 200, 250), (100, 300, 200, 350)
POINT, UPPER_DOT, DASH = (186, 169, 200, 183), (130, 169, 144, 183), (145, 158, 157, 192)


@pytest.mark.parametrize(
    ("marks", "signs"),
    [
        ([POINT], ["."]),
        ([(182, 166, 214, 182)], [","]),
        ([UPPER_DOT, POINT], [":"]),
        ([DASH], ["-"]),
        ([(145, 40, 157, 84)], ["-"]),  # before the first digit
        ([(120, 160, 170, 190)], [UNKNOWN]),
        ([UPPER_DOT], [UNKNOWN]),
        ([(186, 153, 200, 167), (186, 178, 200, 192)], [UNKNOWN, UNKNOWN]),  # two signs without a digit between them
        ([(186, 60, 200, 74)], [UNKNOWN]),  # a point before the first digit
        ([(150, 170, 156, 176), (90, 260, 97, 267)], []),  # dust
        ([(186, 569, 200, 583)], []),  # far from the line
        ([(286, 169, 300, 183)], []),  # cut off by the edge of the picture
    ],
)
def test_marks_by_their_place(marks, signs):
    assert [mark.sign for mark in find_marks(*on_line(ONE, TWO, THREE, *marks))] == signs


def test_a_slash_is_higher_and_lower_than_the_digits_beside_it():
    for top, bottom, sign in ((80, 220, "/"), (100, 200, None)):
        pieces, boxes, lines, pen, printed = on_line(ONE, (top, 160, bottom, 210), (100, 220, 200, 270))
        y, x = np.indices(pieces.shape)
        stroke = abs(x - 160 - (bottom - y) * 50 / (bottom - top)) < 5
        pieces[(pieces == 2) & ~stroke] = 0
        assert [mark.sign for mark in find_marks(pieces, boxes, lines, pen, printed)] == [sign] * (sign is not None)


def test_what_is_left_of_a_base_line_is_no_point():
    *others, printed = on_line(ONE, TWO, POINT)
    printed[200:203] = True
    assert [mark.sign for mark in find_marks(*others, printed)] == [UNKNOWN]


def picture(text, seed=3):
    return on_paper(write(text, np.random.default_rng(seed), 240, 800, 110, 7, corner=(50, 60)))


@pytest.mark.parametrize("text", ["43.65", "-42", "12:45", "1,250", "-7", "43.65-1"])
def test_text_has_the_signs_and_number_the_digits(text, shipped):
    reading = reader.read(picture(text), shipped)
    assert (reading.text, reading.number) == (text, "".join(filter(str.isdecimal, text)))
    assert reading.refused == [] and not answers.needs_review(reading, 0.5)


def test_a_point_under_the_arm_of_a_7(shipped):
    sheet = Image.fromarray(picture("7", seed=9))
    pixels = np.array(sheet)
    y, x = np.nonzero(pixels[..., 0] < 128)
    foot = x[y > y.max() - 20].max()
    ImageDraw.Draw(sheet).ellipse([foot + 10, y.max() - 14, foot + 22, y.max() - 2], fill="black")
    assert foot + 22 < x.max()
    sheet.paste(Image.fromarray(picture("5")).crop((50, 40, 200, 180)), (x.max() + 10, 40))
    assert reader.read(sheet, shipped).text == "7.5"


def test_dust_changes_nothing(shipped):
    ink = write("4365", np.random.default_rng(3), 240, 800, 110, 7, corner=(50, 60))
    for y, x in np.random.default_rng(0).integers((20, 20), (220, 500), (30, 2)):
        ink[y : y + 3, x : x + 3] = 1
    reading = reader.read(on_paper(ink), shipped)
    assert (reading.text, reading.refused) == ("4365", [])


def test_what_is_no_sign_is_listed_and_asks_for_review(shipped):
    pixels = picture("43.65")
    pixels[90:140, 20:45] = 0  # a block before the digits
    reading = reader.read(pixels, shipped)
    ((x, y, width, height),) = [mark.box for mark in reading.refused]
    assert abs(np.subtract((x, y, width, height), (20, 90, 25, 50))).max() <= 3
    assert reading.text == "43.65"
    assert answers.needs_review(reading, 0.5)
    assert answers.as_text(reading).endswith("(1 mark not read)")


def test_predict_shows_the_text(workplace, shipped, capsys):
    Image.fromarray(picture("-42")).save("minus.png")
    Image.fromarray(picture("-7")).save("seven.png")
    argv = ["--model", str(shipped), "minus.png", "seven.png"]
    assert predict.main(argv) == 0
    out = capsys.readouterr().out
    assert "minus.png  Number: -42  (lowest confidence" in out and "seven.png  Number: -7  (" in out
    assert predict.main(["--json", *argv]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["text"], row["number"], row["refused"]) for row in rows] == [("-42", "42", []), ("-7", "7", [])]
    assert predict.main(["--csv", *argv]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["text"], row["number"]) for row in rows] == [("-42", "42"), ("-7", "7")]


def test_a_model_with_other_classes_reads_no_signs(shipped, monkeypatch):
    letters = load(shipped)._replace(classes=tuple("abcdefghij"))
    monkeypatch.setattr(reader, "load", lambda path: letters)
    reading = reader.read(picture("43.65"), shipped)
    assert (reading.text, reading.number, len(reading.refused)) == ("edgf", "edgf", 1)


@pytest.mark.filterwarnings("error")
def test_a_line_of_specks_is_no_reason_for_a_warning():
    noise = np.where(np.random.default_rng(2).random((28, 20)) < 0.1, 0, 255).astype(np.uint8)
    upright_speck = noise.copy()
    upright_speck[10:13, 10] = 0
    for picture in (noise, upright_speck):
        reader.segment(picture)
