"""What users complain about, a picture of each, through the shipped network."""

import numpy as np
import pytest

from digits.data import strokes
from digits.reading import reader
from extras import difficult, drawing


def wrong(make, shipped, numbers, seed=11):
    rng = np.random.default_rng(seed)
    readings = [(number, reader.read(make(number, rng), shipped)) for number in numbers]
    return [(number, reading.number, reading.prediction) for number, reading in readings], readings


@pytest.mark.parametrize("make", difficult.SINGLE, ids=lambda make: make.__name__)
def test_single_digits(make, shipped):
    answers, readings = wrong(make, shipped, [str(digit) for digit in range(10)])
    misread = [(number, main) for number, _, main in answers if main != number]
    assert len(misread) <= (3 if make is difficult.table_edge else 1), misread
    assert sum(not reading.is_digit for _, reading in readings) <= 2


@pytest.mark.parametrize("name", difficult.RARE_GLYPHS)
def test_rare_glyphs(name, shipped):
    digit, glyph = difficult.RARE_GLYPHS[name]
    rng = np.random.default_rng(0)
    right = 0
    for _ in range(10):
        ink = drawing.write(str(digit), rng, 200, 200, 120, 8, glyph=glyph)
        right += reader.read(drawing.on_paper(ink), shipped).prediction == str(digit)
    assert right >= 8


@pytest.mark.parametrize("make", difficult.NUMBERS, ids=lambda make: make.__name__)
def test_numbers(make, shipped):
    numbers = ["90210", "4711", "386", "2750", "61845"]
    answers, _ = wrong(make, shipped, numbers)
    misread = [(number, read) for number, read, _ in answers if read.replace("_", "") != number]
    assert len(misread) <= (4 if make is difficult.touching else 1), misread


def test_drawn_digits_are_accepted(shipped):
    images, _ = strokes.draw(200, seed=8)
    accepted = [reading.is_digit for reading in reader.classify([reader.segment(image) for image in images], shipped)]
    assert np.mean(accepted) > 0.9
