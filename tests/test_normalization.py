import numpy as np
import pytest
from PIL import Image

from digits.data.handwriting import random_trajectory
from digits.reading.normalization import centre, pen_width, to_mnist, trimmed
from extras.drawing import rasterize


@pytest.mark.parametrize(("pen", "expected"), [(1.6, 2.2), (18, 2.3), (40, 4.2)])
def test_the_pen_is_brought_to_the_usual_width(pen, expected):
    rng = np.random.default_rng(0)
    ink = trimmed(rasterize(random_trajectory("0", rng), rng, 200, pen, box=150))
    enlarged = Image.fromarray(to_mnist(ink)[..., 0]).resize((112, 112), Image.Resampling.BILINEAR)
    assert abs(pen_width(np.asarray(enlarged) > 127) / 4 - expected) < 0.6


def test_centre_keeps_the_aspect():
    image = centre(np.ones((40, 10), np.float32))[..., 0]
    assert (image.any(1).sum(), image.any(0).sum()) == (20, 5)


def test_a_pixel_that_is_lost_in_the_resizing_leaves_a_blank_image():
    dot = np.zeros((21, 21), np.float32)
    dot[10, 10] = 1
    assert not centre(dot).any()
