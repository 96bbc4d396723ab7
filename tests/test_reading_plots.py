import itertools

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex
from matplotlib.text import Text

from digits import reading_plots
from digits.reading import image_file, reader
from extras import drawing
from tests.conftest import PROJECT

BLANK = np.full((120, 300, 3), 255, np.uint8)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def row(picture, shipped, name="name.png"):
    pixels, factor, *_ = image_file.open_picture(picture)
    return reading_plots.Row(pixels, factor, (0, 0), reader.read(picture, shipped), name, "the answer")


def test_a_number_is_shown_with_each_digit_and_how_sure_it_is(shipped):
    figure = reading_plots.predictions([row(PROJECT / "samples" / "number.jpg", shipped)])
    picture, seen, bars = figure.axes
    assert [text.get_text() for text in picture.texts] == list("40628") and len(picture.patches) == 5
    assert [text.get_text() for text in seen.texts] == [f"{digit} 100%" for digit in "40628"]
    assert [label.get_text() for label in bars.get_xticklabels()] == list("40628")
    assert [bar.get_height() > 90 for bar in bars.patches] == [True] * 5


def test_what_is_refused_is_marked_but_not_in_the_colour_of_what_is_read(shipped):
    number = row(PROJECT / "samples" / "number.jpg", shipped)
    digits = number.reading.digits
    number = number._replace(reading=number.reading._replace(digits=digits[1:], refused=digits[:1]))
    picture = reading_plots.predictions([number]).axes[0]
    assert [text.get_text() for text in picture.texts] == [*"0628", "?"]
    assert picture.patches[-1].get_edgecolor() != picture.patches[0].get_edgecolor()
    picture, _, bars = reading_plots.predictions([row(PROJECT / "samples" / "tick.png", shipped)]).axes
    assert [text.get_text() for text in picture.texts] == ["?"]
    bars = bars.patches
    assert max(bars, key=lambda bar: bar.get_height()).get_facecolor()[:3] == (0.6, 0.6, 0.6)


def test_more_digits_than_fit_are_counted(shipped):
    number = row(PROJECT / "samples" / "number.jpg", shipped)
    reading = number.reading._replace(digits=number.reading.digits * 4)
    seen = reading_plots.predictions([number._replace(reading=reading)]).axes[1]
    assert len(seen.texts) == 16 and seen.get_xlabel() == "and 4 more"


def test_digits_that_touch_have_different_colours(shipped):
    ink = drawing.write("735", np.random.default_rng(3), 160, 420, 90, 7, gap=-0.12, corner=(40, 60))
    picture = np.repeat(np.uint8(255 * (1 - ink))[..., None], 3, 2)
    touching = row(picture, shipped)
    assert touching.reading.number == "735"
    image = reading_plots.steps([touching]).axes[3].images[0]
    colours = [to_hex(colour) for colour in image.cmap(image.norm(np.unique(image.get_array())))]
    assert colours == ["#ffffff", *reading_plots.COLOURS]


def with_long_names(one):
    """A Row whose classes have names of 60 letters."""
    names = {name: f"{name} {'and so on ' * 6}" for name in one.reading.probabilities}

    def renamed(mark, **more):
        return mark._replace(probabilities={names[key]: share for key, share in mark.probabilities.items()}, **more)

    digits = [renamed(digit, digit=names[digit.digit]) for digit in one.reading.digits]
    reading = renamed(one.reading, prediction=names.get(one.reading.prediction), digits=digits)
    return one._replace(reading=reading, answer=" ".join(digit.digit for digit in digits))


@pytest.mark.parametrize("draw", [reading_plots.predictions, reading_plots.steps])
@pytest.mark.parametrize("name", ["5.png", pytest.param("W" * 120, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("error")
def test_no_text_leaves_the_figure_or_covers_another(shipped, draw, name):
    pictures = [BLANK, BLANK[:, :30], PROJECT / "samples" / "2_chalk.jpg", PROJECT / "samples" / "number.jpg"]
    rows = [row(picture, shipped, name) for picture in pictures]
    figure = draw([*rows, *map(with_long_names, rows[2:])])
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    assert "no ink found" in {text.get_text() for text in texts}
    boxes = [text.get_window_extent() for text in texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    assert all(box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)


def test_the_steps_of_a_picture_stand_in_line(shipped):
    figure = reading_plots.steps([row(PROJECT / "samples" / "2_chalk.jpg", shipped)])
    figure.canvas.draw()
    frames = np.array([axis.get_window_extent().extents for axis in figure.axes])
    assert np.ptp(frames[:, [1, 3]], axis=0).max() < 1 and np.ptp(frames[:, 2] - frames[:, 0]) < 1
