"""Numbers in real handwriting on sheets of paper, for samples, tests and benchmarks; see digits/data/pen.py.

Ink is float32 height×width, 0-1. A picture is uint8 height×width×3.
"""

import numpy as np

from digits.data import handwriting, pen
from digits.reading.foreground import bounding_window

SIGNS = {".": (0.12, 0.95), ",": (0.32, 1.02), "-": (0.45, 0.52), ":": (0.6, 0.62)}  # size and height of the centre
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def write(text, rng, height, width, digit_height, pen_width, gap=0.25, corner=None):
    """Write digits and signs, each by another writer, on a sheet; return its ink.

    The sheet gets wider where the text needs it. digit_height, pen_width: pixels. gap: between two characters, as a
    share of digit_height; negative ones overlap. corner: top and left of the text, None for a random place.
    """
    characters = []
    for character in text:
        share, centre = SIGNS.get(character, (1, 0.5))
        size = max(round(share * digit_height), int(2 * pen_width))
        ink = rasterize(handwriting.random_trajectory(character, rng), rng, size, pen_width)
        characters.append((ink[bounding_window(ink > 0, margin=0)], centre * digit_height))
    gap = round(gap * digit_height)
    total = sum(ink.shape[1] for ink, _ in characters) + gap * (len(characters) - 1)
    if corner is None:
        corner = rng.integers(0, height - digit_height + 1), rng.integers(0, max(width - total, 0) + 1)
    top, left = corner
    sheet = np.zeros((height, max(width, left + total)), np.float32)
    for ink, centre in characters:
        rows, columns = ink.shape
        jitter = rng.integers(-digit_height // 12, digit_height // 12 + 1) if len(text) > 1 else 0
        start = np.clip(top + int(centre - rows / 2) + jitter, 0, height - rows)
        part = sheet[start : start + rows, left : left + columns]
        np.maximum(part, ink, out=part)
        left += columns + gap
    return sheet


def rasterize(trajectory, rng, size, pen_width, box=None):
    """Draw strokes (see pen.py) into the middle box (default: all) of size×size pixels; return the ink."""
    dots = pen.trace(trajectory, spacing=0.006)[None]
    dots, radius = pen.fit(dots, np.array([pen_width / 2]), rng, box=box or size, size=size)
    return pen.ink(dots, radius, size)[0] / np.float32(255)


def rule(ink, period, start=0, thickness=1, darkness=1.0, squared=False):
    """Add lines of at least this much ink; period, start, thickness: pixels; squared: in both directions."""
    rows, columns = ((np.arange(length) - start) % period < thickness for length in ink.shape)
    return np.maximum(ink, np.float32(darkness) * (rows[:, None] | (columns & squared)))


def on_paper(ink, paper=WHITE, colour=BLACK, rng=None, light=1.0, noise=3.0):
    """Picture of ink of an RGB colour on paper of another.

    light: factor, a number or H×W. noise: standard deviation of a camera's, in grey levels; none without rng.
    """
    paper, colour = np.array(paper, float), np.array(colour, float)
    picture = (paper + ink[..., None] * (colour - paper)) * np.broadcast_to(light, ink.shape)[..., None]
    if rng is not None:
        picture += noise * rng.normal(size=picture.shape)
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)
