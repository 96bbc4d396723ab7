import numpy as np
import pytest
from PIL import Image

from digits.reading.candidates import find_candidates
from digits.reading.foreground import foreground, without_screen
from extras.drawing import on_paper, write

INK = write("5", np.random.default_rng(1), 200, 200, 140, 16, corner=(30, 50))
TOP_RIGHT, BOTTOM_LEFT = np.pad(INK, ((0, 300), (500, 0))), np.pad(INK, ((290, 10), (20, 480)))
PICTURES = {
    "black on white": (INK, on_paper(INK)),
    "white on black": (INK, on_paper(INK, (0, 0, 0), (255, 255, 255))),
    "blue on yellow": (INK, on_paper(INK, (240, 230, 120), (30, 60, 160))),
    "faint grey": (INK, on_paper(INK, (235, 235, 235), (150, 150, 150))),
    "red on green of the same grey": (INK, on_paper(INK, (60, 140, 60), (210, 40, 40))),
    "top right": (TOP_RIGHT, on_paper(TOP_RIGHT)),
    "bottom left": (BOTTOM_LEFT, on_paper(BOTTOM_LEFT, (0, 0, 0), (200, 255, 200))),
    "light from one side": (INK, on_paper(INK, (230, 220, 210), (60, 60, 70), light=np.linspace(1, 0.6, 200))),
    "camera noise": (INK, on_paper(INK, (230, 220, 210), (60, 60, 70), noise=6, rng=np.random.default_rng(0))),
}


@pytest.mark.parametrize(("ink", "picture"), PICTURES.values(), ids=PICTURES)
def test_ink_of_any_colour_under_any_light(ink, picture):
    assert np.corrcoef(foreground(picture).ravel(), ink.ravel())[0, 1] > 0.95
    found, plain = (
        max(find_candidates(one), key=lambda c: c.box[2] * c.box[3]).image for one in (picture, on_paper(INK))
    )
    assert np.corrcoef(found.ravel(), plain.ravel())[0, 1] > 0.97


def test_a_small_crop_with_light_from_one_side():
    dark = on_paper(INK, (230, 220, 210), (120, 110, 100), light=np.linspace(1, 0.45, 200))
    crop, ink = (np.array(Image.fromarray(one).resize((64, 64), Image.Resampling.BOX)) for one in (dark, INK))
    assert np.corrcoef(foreground(crop).ravel(), ink.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("scale", [1, 2])
def test_a_screen_of_dots_becomes_grey(scale):
    grey = on_paper(INK, (225, 225, 225), (60, 60, 60))
    dots = np.asarray(Image.fromarray(grey).convert("1").convert("RGB")).repeat(scale, 0).repeat(scale, 1)
    assert np.corrcoef(foreground(dots).ravel(), INK.repeat(scale, 0).repeat(scale, 1).ravel())[0, 1] > 0.9


def test_small_dots_of_ink_are_no_screen():
    text = on_paper(np.tile(INK, (3, 3))[::8, ::8] > 0.5)
    assert without_screen(text) is text
