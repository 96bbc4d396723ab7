"""Handwritten numbers on sheets of paper, by the virtual pen, for samples, tests and benchmarks.

Ink is float32 height×width, 0-1. A picture is uint8 height×width×3.
"""

import numpy as np

from digits.data import strokes


def write(number, rng, height, width, digit_height, pen_width, glyph=None, gap=0.25, corner=None):
    """Write a string of digits on a sheet; return its ink. The sheet gets wider where the number needs it.

    digit_height, pen_width: pixels. glyph: index in strokes.GLYPHS, None for a random one. gap: between two digits,
    as a share of digit_height; negative ones overlap. corner: top and left of the number, None for a random place.
    """
    digits = []
    for glyphs in (strokes.GLYPHS[int(digit)] for digit in number):
        weights = np.array([weight for weight, _ in glyphs])
        index = rng.choice(len(glyphs), p=weights / weights.sum()) if glyph is None else glyph
        dots = strokes.write(glyphs[index][1], 1, rng, spacing=0.006)
        digits.append(trim(rasterize(dots, rng, digit_height, pen_width)))
    gap = round(gap * digit_height)
    total = sum(ink.shape[1] for ink in digits) + gap * (len(digits) - 1)
    room = max(width, total) - total
    top, left = corner or (rng.integers(0, height - digit_height + 1), rng.integers(0, room + 1))
    sheet = np.zeros((height, max(width, left + total)), np.float32)
    for ink in digits:
        jitter = rng.integers(-digit_height // 12, digit_height // 12 + 1) if len(digits) > 1 else 0
        row = np.clip(top + (digit_height - ink.shape[0]) // 2 + jitter, 0, height - ink.shape[0])
        part = sheet[row : row + ink.shape[0], left : left + ink.shape[1]]
        np.maximum(part, ink, out=part)
        left += ink.shape[1] + gap
    return sheet


def rasterize(dots, rng, size, pen_width, box=None):
    """Draw 1×dots×2 pen positions into the middle box (default: all) of size×size pixels; return the ink."""
    dots, radius = strokes.fit(dots, np.array([pen_width / 2]), rng, box=box or size, size=size)
    return strokes.ink(dots, radius, size)[0] / np.float32(255)


def trim(ink):
    """Cut off empty rows and columns, also between strokes."""
    return ink[:, ink.any(0)][ink.any(1)]


def gradient(shape, low, high, angle):
    """Light that changes evenly from low to high across a sheet, in the direction of angle (radians): H×W."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    along = x / shape[1] * np.cos(angle) + y / shape[0] * np.sin(angle)
    return low + (high - low) * (along - along.min()) / np.ptp(along)


def on_paper(ink, paper=(255, 255, 255), colour=(0, 0, 0), light=1.0, noise=0.0, rng=None):
    """Picture of ink of an RGB colour on paper of another.

    light: factor, a number or H×W. noise: standard deviation of a camera's, in grey levels; needs rng.
    """
    paper, colour = np.array(paper, float), np.array(colour, float)
    picture = (paper + ink[..., None] * (colour - paper)) * np.broadcast_to(light, ink.shape)[..., None]
    if rng is not None:
        picture += noise * rng.normal(size=picture.shape)
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)
