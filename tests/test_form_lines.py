import numpy as np
import pytest
from PIL import Image

from digits.reading import reader
from digits.reading.candidates import find_candidates
from digits.reading.form_lines import erase, find_form
from digits.reading.segmentation import FormField
from extras.drawing import on_paper, write
from extras.form_fields import CELL_HEIGHT, CELL_WIDTH, MARGIN, STYLES, field, filled


def erased(ink):
    """What is left of ink, float32 H×W, without printed lines: bool H×W."""
    return erase(ink > 0.3, find_form(ink > 0.3, ink), ink)


@pytest.mark.parametrize("style", STYLES)
def test_a_field_is_read_as_the_same_number_on_blank_paper(style, shipped):
    rng = np.random.default_rng(5)
    for number in ("41752", "93086"):
        digits, lines = field(number, rng, style)
        blank, filled = (on_paper(ink, (245, 245, 240), (40, 40, 45)) for ink in (digits, np.maximum(digits, lines)))
        readings = [reader.read(picture, shipped).number for picture in (blank, filled)]
        assert readings == [number, number]


@pytest.mark.parametrize("style", STYLES)
def test_an_empty_field_has_no_digit(style):
    _, lines = field("12345", np.random.default_rng(0), style)
    assert find_candidates(on_paper(lines)) == []


def test_what_is_known_of_a_field_is_used():
    cut_frame = np.zeros((80, 300), np.float32)
    cut_frame[10:70, [4, 5, 6, 293, 294, 295]] = 1
    assert len(find_candidates(on_paper(cut_frame))) == 2  # its sides look like 1s
    assert find_candidates(on_paper(cut_frame), FormField(printed=cut_frame > 0)) == []
    digits, lines = field("4711 ", np.random.default_rng(0), "comb")
    filled = on_paper(np.maximum(digits, lines))
    for printed in (None, lines > 0):
        segmented = reader.segment(filled, field=FormField(5, printed))
        assert len(segmented.candidates) == segmented.digits == 4
    faint = on_paper(np.maximum(digits, 0.05 * lines))  # cells that cannot be seen
    cells = FormField(5)
    assert [(one.start, one.stop) for one in find_candidates(faint, cells)] == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_an_empty_cell_gives_nothing_and_a_cell_one_digit():
    digits, lines = field("1 7  4", np.random.default_rng(2), "comb")
    candidates = find_candidates(on_paper(np.maximum(digits, lines)))
    cells = [(one.box[0] + one.box[2] / 2 - MARGIN) // CELL_WIDTH for one in candidates]
    assert cells == [0, 2, 5]
    assert [(one.start, one.stop) for one in candidates] == [(0, 1), (1, 2), (2, 3)]


def test_colours_light_and_perspective(shipped):
    rng = np.random.default_rng(3)
    red = filled("40913", rng, "comb", printed=(210, 60, 60))
    assert reader.read(red, shipped).number == "40913"
    height, width = red.shape[:2]
    corners = 0, 0, 4, height, width, height - 6, width - 8, 4
    turned = (
        Image.fromarray(filled("28657", rng, "comb"))
        .resize((3 * width, 3 * height))
        .transform(
            (3 * width, 3 * height), Image.Transform.QUAD, [3 * one for one in corners], Image.Resampling.BICUBIC
        )
    )
    shadow = np.where(np.arange(3 * width) > 1.4 * width, 0.6, 0.95)[:, None]
    assert reader.read((np.asarray(turned) * shadow).astype(np.uint8), shipped).number == "28657"
    digits, _ = field("7301", rng, "boxes")
    tinted = np.full((*digits.shape, 3), (255, 220, 180), np.uint8)
    for left in range(MARGIN, digits.shape[1] - MARGIN, CELL_WIDTH + 10):
        tinted[MARGIN : MARGIN + CELL_HEIGHT, left : left + CELL_WIDTH] = 255
    tinted = (tinted * (1 - digits[..., None])).astype(np.uint8)
    assert reader.read(tinted, shipped).number == "7301"


def test_fields_are_read_from_the_top_and_from_the_left(shipped):
    rng = np.random.default_rng(4)
    fields = [np.maximum(*field(number, rng, "comb")) for number in ("417", "520", "8639")]
    beside = np.hstack([fields[0], np.zeros((len(fields[0]), 200)), np.roll(fields[1], -4, axis=0)])
    below = np.pad(fields[2], ((0, 0), (0, beside.shape[1] - fields[2].shape[1])))
    assert reader.read(on_paper(np.vstack([beside, below])), shipped).number == "417_520_8639"


@pytest.mark.parametrize("darkness", [1, 0.4])
def test_strokes_that_cross_a_line_stay(darkness):
    digits, lines = field("86", np.random.default_rng(1), "comb", darkness)
    for shift in (-20, 20):  # over the upper and the lower line
        crossing = np.roll(digits, shift, axis=0)
        rest, ink = erased(np.maximum(crossing, lines)), crossing > 0.3
        assert (ink & ~rest).sum() < 0.06 * ink.sum()
        assert (rest & ~ink).sum() < 0.08 * ink.sum()


def test_ruled_lines_go_and_strokes_that_cross_them_stay():
    ink = write("5", np.random.default_rng(1), 200, 200, 140, 16, corner=(30, 50))
    lined = ink.copy()
    lined[[50, 51, 100, 101, 150, 151]] = 1
    lined[:, [30, 31, 170, 171]] = 1
    rest, digit = erased(lined), ink > 0.3
    assert (rest & ~digit).sum() < 0.05 * digit.sum()
    assert (digit & ~rest).sum() < 0.15 * digit.sum()


def drawn(*strokes):
    """A picture of straight strokes, (top, left, bottom, right) each, ten pixels wide, as ink float32 200×200."""
    ink = np.zeros((200, 200), np.float32)
    for top, left, bottom, right in strokes:
        ink[top : bottom + 10, left : right + 10] = 1
    return ink


@pytest.mark.parametrize(
    "ink",
    [
        drawn((20, 95, 170, 95)),  # 1
        drawn((0, 95, 199, 95)),  # 1 from edge to edge
        drawn((30, 40, 30, 150), (30, 150, 170, 150)),  # 7
        drawn((20, 50, 100, 50), (100, 50, 100, 150), (20, 120, 180, 120)),  # 4
        drawn((30, 60, 30, 130), (30, 60, 160, 60), (30, 130, 160, 130), (160, 60, 160, 130)),  # 0
        drawn((30, 60, 30, 130), (30, 60, 160, 60), (30, 130, 160, 130), (160, 60, 160, 130), (95, 60, 95, 130)),  # 8
    ],
)
def test_digits_of_straight_strokes_are_not_printed(ink):
    assert (erased(ink) == (ink > 0.3)).all()


def test_a_digit_that_is_underlined_or_boxed_in_is_read(shipped):
    rng = np.random.default_rng(1)
    ink = write("5", rng, 200, 200, 100, 8, corner=(40, 70))
    wave = np.rint(3 * np.sin(np.arange(200) / 15)).astype(int)
    x = np.arange(40, 170)
    for thick in range(6):
        ink[160 + thick + wave[x], x] = 1
    assert reader.read(on_paper(ink), shipped).number == "5"
    y = np.arange(20, 166)
    for thick in range(6):
        ink[20 + thick + wave[x], x] = 1
        for side in (40, 165):
            ink[y, side + thick + wave[y]] = 1
    assert reader.read(on_paper(ink), shipped).number == "5"
