import keras
import numpy as np
import pytest
from PIL import Image

from digits import read
from digits.reading import answers, reader
from digits.reading.candidates import Candidate
from tests.conftest import PROJECT

SAMPLES = PROJECT / "samples"
FIVE = SAMPLES / "5.png"


def test_one_answer_for_every_kind_of_picture_and_model(shipped):
    reading = read(FIVE, shipped)
    assert reading.prediction == "5"
    assert reading.confidence == reading.probabilities["5"] > 0.5
    assert sum(reading.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert (reading.image.shape, reading.image.dtype) == ((28, 28, 1), np.uint8)
    x, y, width, height = reading.box
    assert 0 <= x < x + width <= 240 and 0 <= y < y + height <= 320
    image = Image.open(FIVE)
    for picture in (str(FIVE), FIVE.read_bytes(), image, np.asarray(image)):
        assert read(picture, str(shipped)).probabilities == reading.probabilities
    assert read(FIVE, keras.saving.load_model(shipped)).probabilities == reading.probabilities


def test_a_known_number_of_digits(shipped):
    number = SAMPLES / "number.jpg"
    readings = [read(number, shipped, digits=count) for count in (None, 4, 5, 6)]
    assert {reading.number for reading in readings} == {"40628"}
    assert [answers.needs_review(reading, digits=5) for reading in readings] == [False] * 4
    assert answers.needs_review(readings[0], digits=4) and answers.needs_review(
        readings[0]._replace(digits=[]), digits=5
    )
    for wrong in (0, -1, "5", 2.5):
        with pytest.raises(ValueError, match="digits"):
            read(number, shipped, digits=wrong)


def test_blank(shipped):
    reading = read(np.full((50, 50), 255, np.uint8), shipped)
    assert reading.prediction is None
    assert reading.confidence == 0
    assert reading.probabilities == dict.fromkeys("0123456789", 0.0)
    assert reading.image is reading.box is None


def test_boxes_are_in_pixels_of_the_picture_and_inside_it(shipped):
    large = Image.open(FIVE).resize((2400, 3200))
    assert abs(np.subtract(read(large, shipped).box, np.multiply(10, read(FIVE, shipped).box))).max() <= 40
    rng = np.random.default_rng(0)
    for _ in range(10):
        height, width = rng.integers(1500, 2500, 2)
        picture = np.full((height, width), 255, np.uint8)
        picture[-900:, -100:] = 0
        x, y, w, h = read(picture, shipped).box
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        read(picture, shipped, (x, y, w, h))


def test_the_main_digit_is_the_most_central_complete_digit(shipped):
    """A letter in the middle, a digit near it, one in the corner, one that the edge clips."""
    digit, letter = (read(SAMPLES / name, shipped).image for name in ("5.png", "tick.png"))
    candidates = [
        Candidate(letter, (10, 10, 60, 80), line=0),
        Candidate(digit, (45, 85, 10, 20), line=1),
        Candidate(digit, (80, 90, 10, 20), line=2),
        Candidate(digit, (40, 40, 20, 20), line=3, complete=False),
    ]
    for left, expected in (([0, 1, 2, 3], 1), ([0, 2, 3], 2), ([0, 3], 3), ([0], 0)):
        picture = reader.Segmented([candidates[i] for i in left], (0, 0, 100, 120))
        assert reader.classify([picture], shipped)[0].box == candidates[expected].box
