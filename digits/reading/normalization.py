"""The ink of one digit -> uint8 28×28×1, the way MNIST was made.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while
preserving their aspect ratio. [...] the images were centered in a 28x28 image by computing the center of mass of the
pixels, and translating the image so as to position this point at the center of the 28x28 field." (Y. LeCun,
C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/)
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from digits.reading.foreground import bounding_window

PEN_WIDTH_RANGE = 1.6, 4.8  # pixels of 28×28; 96 % of MNIST's digits lie between
WIDENED, THINNED = 2.2, 4.2  # pixels; the width that thinner and thicker pens are given
MIN_OBJECT_CONTRAST = 16  # grey levels between an object and its background
FINE = 4  # the pen is measured and changed at this many times MNIST's resolution


def to_mnist(ink):
    """The cropped ink of a digit, float H×W, as uint8 28×28×1: full contrast, usual pen width, fitted and centred."""
    ink = np.minimum(ink / max(np.percentile(ink[ink > 0], 75), 1e-6), 1).astype(np.float32)
    return centre(normalize_pen_width(ink))


def normalize_pen_width(ink):
    """Redraw ink, float32 H×W, 0-1, with a usual pen width if its own lies outside PEN_WIDTH_RANGE."""
    shrinks = max(ink.shape) > 20 * FINE
    image = Image.fromarray((ink > 0.25).astype(np.float32) if shrinks else ink)
    mask = _fit(image, 20 * FINE) > (0.1 if shrinks else 0.5)
    width = pen_width(mask) / FINE
    if not mask.any() or PEN_WIDTH_RANGE[0] <= width <= PEN_WIDTH_RANGE[1]:
        return ink
    grow = ((WIDENED if width < PEN_WIDTH_RANGE[0] else THINNED) - width) * FINE / 2
    mask = np.pad(mask, max(0, int(grow) + 3))
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    grow = max(grow, 0.5 - 0.5 * distance.max())  # thinning must not erase the ink
    return trimmed(np.clip((distance + grow) / FINE + 0.5, 0, 1).astype(np.float32))


def pen_width(mask):
    """The mean width of the strokes in a mask, bool H×W, in pixels, from their depth; 0 of an empty mask.

    Across a stroke of width w, the distance to the nearest background pixel has the mean (w + 2) / 4.
    """
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    return max(1.0, 4 * depth[depth > 0].mean() - 2) if mask.any() else 0.0


def trimmed(ink):
    """The part of ink, float H×W, that holds its visible pixels; all of it where none is visible."""
    return ink[bounding_window(ink > 0.3, margin=0)]


def centre(ink):
    """Fit ink, float H×W, into 20×20 and put its centre of mass at the centre of an image, uint8 28×28×1."""
    image = np.zeros((28, 28, 1), np.uint8)
    small = _fit(Image.fromarray(ink.astype(np.float32)), 20)
    if not small.any():  # no ink, or so little that it is lost in the resizing
        return image
    small = np.clip(small / max(np.percentile(small, 99), 1e-6), 0, 1)
    mass = small.sum()
    height, width = small.shape
    # ndimage.center_of_mass rounds otherwise, which moves some symmetric digits by a pixel.
    top = round(14 - float((small.sum(1) * np.arange(height)).sum() / mass))
    left = round(14 - float((small.sum(0) * np.arange(width)).sum() / mass))
    top, left = min(max(top, 0), 28 - height), min(max(left, 0), 28 - width)
    image[top : top + height, left : left + width, 0] = np.rint(255 * small)
    return image


def _fit(image, side):
    """A PIL image resized so that its longer side is `side` pixels long, as an array."""
    scale = side / max(image.size)
    size = [max(1, round(length * scale)) for length in image.size]
    return np.asarray(image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR))


def resize_whole(picture):
    """Return (uint8 28×28×1, box) of an object in a picture, uint8 H×W×3, made the way Fashion-MNIST was; or None.

    The background around the object is cropped, the longer side resized to 28 pixels and the shorter one padded; a
    pixel is the brighter the more it differs from the background (H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST",
    2017, who had white backgrounds). A picture of 28×28 pixels on a dark background is only turned grey.
    box: x, y, width, height of the object in the picture. None where nothing differs from the background.
    """
    grey = np.asarray(Image.fromarray(picture).convert("L"), int)
    background = int(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    difference = abs(grey - background)
    visible = difference >= MIN_OBJECT_CONTRAST
    if not visible.any():
        return None
    rows, columns = bounding_window(visible, margin=0)
    box = int(columns.start), int(rows.start), int(columns.stop - columns.start), int(rows.stop - rows.start)
    bright = (difference * 255 // max(background, 255 - background)).astype(np.uint8)
    if grey.shape == (28, 28):
        return (grey.astype(np.uint8) if background < 128 else bright)[..., None], box
    image = np.zeros((28, 28, 1), np.uint8)
    cut = Image.fromarray(bright[rows, columns])
    width, height = (max(1, round(28 * side / max(cut.size))) for side in cut.size)
    y, x = (28 - height) // 2, (28 - width) // 2
    image[y : y + height, x : x + width, 0] = cut.resize((width, height), Image.Resampling.BOX)
    return image, box
