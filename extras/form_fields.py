"""Draw fields of forms that people have filled in: digits by writers who are not trained on, one in each cell.

Ink is float32 height×width, 0-1.
"""

import itertools

import numpy as np
from PIL import Image, ImageDraw

from digits.data import handwriting
from extras.drawing import BLACK, WHITE, on_paper, rasterize

CELL_WIDTH, CELL_HEIGHT, MARGIN = 48, 60, 24  # pixels
DIGIT = 0.7  # size of a digit, as a share of the width of its cell
INK = np.array([30, 40, 110], float)  # RGB, of a ballpoint pen
FINE = 3  # lines are drawn at this many times the resolution, so that their edges are soft
STYLES = ("comb", "boxes", "round boxes", "dashed", "dotted", "double", "ticks", "base line", "frame", "neighbours")


def field(number, rng, style, darkness=1.0, writer=None):
    """Return (ink of the digits, ink of the printed lines) of a field with a cell for each character of a number.

    A blank leaves its cell empty. darkness: of the lines, 0-1. writer: see handwriting.random_writer(); None: each
    digit is by another one.
    """
    gap = 10 if style in ("boxes", "round boxes", "dashed") else 0
    lefts = MARGIN + (CELL_WIDTH + gap) * np.arange(len(number))
    shape = CELL_HEIGHT + 2 * MARGIN, int(lefts[-1]) + CELL_WIDTH + MARGIN
    digits = np.zeros(shape, np.float32)
    for left, character in zip(lefts, number, strict=True):
        if character != " ":
            side = int(DIGIT * CELL_WIDTH * rng.uniform(0.9, 1.1))
            strokes = handwriting.random_trajectory(character, rng, writer)
            ink = rasterize(strokes, rng, side, rng.uniform(2.5, 4))
            top = MARGIN + (CELL_HEIGHT - side) // 2 + rng.integers(-4, 5)
            x = left + (CELL_WIDTH - side) // 2 + rng.integers(-5, 6)
            part = digits[top : top + side, x : x + side]
            np.maximum(part, ink, out=part)
    page = Image.new("L", (shape[1] * FINE, shape[0] * FINE))
    _print(ImageDraw.Draw(page), lefts * FINE, style)
    lines = np.asarray(page.resize(shape[::-1], Image.Resampling.BOX), np.float32) / 255
    return digits, darkness * lines


def filled(number, rng, style, darkness=1.0, paper=WHITE, printed=BLACK):
    """The picture, uint8 height×width×3, of a field(); paper, printed: RGB colours of the paper and the lines."""
    digits, lines = field(number, rng, style, darkness)
    picture = on_paper(lines, paper, printed, rng)
    return np.rint(picture + digits[..., None] * (INK - picture)).astype(np.uint8)


def _print(page, lefts, style):
    """Draw the lines of a field; lefts: of its cells."""
    top, bottom, width = MARGIN * FINE, (MARGIN + CELL_HEIGHT) * FINE, CELL_WIDTH * FINE
    ends = [*lefts, lefts[-1] + width]

    def line(*ends, dash=0, space=0):
        (x0, y0), (x1, y1) = ends
        length = max(abs(x1 - x0), abs(y1 - y0))
        for start in np.arange(0, length, dash + space) if dash else [0]:
            shares = start / length, min(1, (start + dash) / length) if dash else 1
            page.line([(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for share in shares], 255, 2 * FINE)

    def box(left, right, top=top, bottom=bottom, **dashes):
        corners = (left, top), (right, top), (right, bottom), (left, bottom), (left, top)
        for one, other in itertools.pairwise(corners):
            line(one, other, **dashes)

    if style == "base line":
        line((ends[0], bottom - 8 * FINE), (ends[-1], bottom - 8 * FINE))
    elif style == "ticks":
        line((ends[0], bottom), (ends[-1], bottom))
        for x in ends:
            line((x, bottom), (x, bottom - 14 * FINE))
    elif style == "round boxes":
        for left in lefts:
            page.rounded_rectangle([left, top, left + width, bottom], 8 * FINE, outline=255, width=2 * FINE)
    elif style in ("boxes", "dashed"):
        for left in lefts:
            box(left, left + width, **({"dash": 6 * FINE, "space": 4 * FINE} if style == "dashed" else {}))
    elif style == "frame":
        box(ends[0], ends[-1])
    else:
        dashes = {"dash": 2 * FINE, "space": 3 * FINE} if style == "dotted" else {}
        heights = [(top, bottom)]
        if style == "neighbours":  # the rows above and below, which the picture cuts
            heights += [(top - 2 * MARGIN * FINE, top), (bottom, bottom + 2 * MARGIN * FINE)]
        for upper, lower in heights:
            box(ends[0], ends[-1], upper, lower, **dashes)
            for x in ends[1:-1]:
                line((x, upper), (x, lower), **dashes)
        if style == "double":
            box(ends[0] - 5 * FINE, ends[-1] + 5 * FINE, top - 5 * FINE, bottom + 5 * FINE)
