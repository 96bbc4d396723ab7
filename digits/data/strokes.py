"""Digits drawn by a virtual pen: a labelled data set that needs no file and no download.

Each digit has several glyphs, and a glyph is a few strokes: smooth curves through control points in a unit square. To
write a digit, the pen picks a glyph, moves its control points, bends, slants and stretches the whole, and draws along
it with a pen of some width, wider here and thinner there. The result is normalized the way MNIST was made: fitted into
20×20 pixels, then moved until its centre of mass is at the centre of 28×28 (LeCun, Cortes, Burges,
http://yann.lecun.com/exdb/mnist/).
"""

import json
from pathlib import Path

import numpy as np

from digits.cli import progress

# A glyph is its strokes, with "; " between them; a stroke its control points x,y in percent of the square, x right, y
# down. Strokes that share a point stay joined.
_TABLE = json.loads(Path(__file__).with_name("glyphs.json").read_text(encoding="utf-8"))
GLYPHS = {int(digit): glyphs for digit, glyphs in _TABLE["digits"].items()}  # digit -> [how often, glyph], ...
SIGNS = _TABLE["signs"]  # letters and signs; those that people write like a digit, such as b, o and z, are left out
SPACING = 0.035  # distance between two dots of the pen, in units of the square
BLOCK = 50  # images drawn at a time: what fits in the processor's cache


def draw(count, seed=0, rare=False):
    """Return (uint8 count×28×28×1 images, int64 count labels), the labels in turn 0, 1 … 9, 0, 1 …

    rare: write rare glyphs more often than common ones instead, whatever their digit. The same arguments give the same
    images.
    """
    rng = np.random.default_rng(seed)
    weights, glyphs = zip(*(pair for pairs in GLYPHS.values() for pair in pairs), strict=True)
    weights, digits = np.array(weights, float), np.repeat(list(GLYPHS), [len(pairs) for pairs in GLYPHS.values()])
    if rare:
        chosen = rng.choice(len(glyphs), count, p=1 / weights / (1 / weights).sum())
        labels = digits[chosen]
    else:
        labels, chosen = np.arange(count) % 10, np.empty(count, int)
        for digit in range(10):
            of_digit, choices = labels == digit, np.flatnonzero(digits == digit)
            chosen[of_digit] = rng.choice(choices, of_digit.sum(), p=weights[choices] / weights[choices].sum())
    images = np.zeros((count, 28, 28), np.uint8)
    indices = [(glyph, np.flatnonzero(chosen == glyph)) for glyph in range(len(glyphs))]
    jobs = [(glyph, index[i : i + BLOCK]) for glyph, index in indices for i in range(0, len(index), BLOCK)]
    for glyph, block in progress(jobs, "Drawing digits"):
        images[block] = pen(glyphs[glyph], len(block), rng)
    return images[..., None], labels


def pen(glyph, count, rng):
    """Write a glyph count times with pens of various widths: uint8 count×28×28, centred."""
    dots = write(glyph, count, rng)
    radius = np.clip(rng.lognormal(np.log(1.25), 0.3, count), 0.6, 2.6)
    return _centre(ink(*fit(dots, radius, rng), 28))


def write(glyph, count, rng, spacing=SPACING):
    """Write a glyph count times: float32 count×dots×2 positions of the pen, about 0-1, y down, `spacing` apart."""
    strokes = [[tuple(map(float, point.split(","))) for point in stroke.split()] for stroke in glyph.split(";")]
    points = sorted({point for stroke in strokes for point in stroke})
    moved = np.array(points) / 100 + rng.normal(0, 0.03, (count, len(points), 2))
    curves = []
    for stroke in strokes:
        control = moved[:, [points.index(point) for point in stroke]]
        curves.append(_curve(np.array(stroke) / 100, spacing) @ control)
    return _bend(np.concatenate(curves, 1), rng).astype(np.float32)


def _curve(stroke, spacing):
    """Matrix that takes a stroke's control points to dots on the Catmull-Rom spline through them."""
    length = np.linalg.norm(np.diff(stroke, axis=0), axis=1).sum()
    t = np.linspace(0, len(stroke) - 1, int(length / spacing) + 2)
    piece = np.minimum(t.astype(int), len(stroke) - 2)
    t = (t - piece)[:, None]
    basis = np.hstack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2
    matrix = np.zeros((len(t), len(stroke)))
    for neighbour in range(4):
        point = np.clip(piece + neighbour - 1, 0, len(stroke) - 1)
        np.add.at(matrix, (np.arange(len(t)), point), basis[:, neighbour])
    return matrix


def _bend(dots, rng):
    """Vary curvature (a random cubic of the position), proportions, slant and rotation."""
    count = len(dots)

    def random(spread, mean=0.0):
        return rng.normal(mean, spread, (count, 1))

    x, y = dots[..., 0] - 0.5, dots[..., 1] - 0.5
    terms = np.stack([x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3])
    x, y = (v + np.einsum("kns,kn->ns", terms, rng.normal(0, 0.2, (7, count))) for v in (x, y))
    x = x * np.exp(random(0.26, np.log(0.76)))
    x = x - random(0.22, 0.18) * y
    angle = random(0.09)
    return np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], -1)


def fit(dots, radius, rng, box=20, size=28):
    """Vary the pressure of the pen, then scale and move the dots so that the ink fills a box in the middle.

    dots n×dots×2, radius n in pixels -> dots n×dots×2 and radius n×dots, both in pixels.
    """
    phase = rng.uniform(0, 2 * np.pi, (len(dots), 1)) + np.linspace(0, 7, dots.shape[1])
    radius = radius[:, None] * (1 + rng.uniform(0, 0.3, (len(dots), 1)) * np.sin(phase))
    low, high = dots.min(1, keepdims=True), dots.max(1, keepdims=True)
    room = box - 1 - 2 * radius.max(1)  # half a pixel on either side is the soft edge
    scale = room / (high - low).max((1, 2))
    return (dots - (low + high) / 2) * scale[:, None, None] + (size - 1) / 2, radius


def ink(dots, radius, size):
    """Draw round dots: positions n×dots×2 and radii n×dots in pixels -> uint8 n×size×size, 255 for ink.

    A pixel's ink is how far it lies inside the edge of the nearest dot, so that edges are smooth.
    """
    y, x = np.mgrid[:size, :size].reshape(2, -1).astype(np.float32)
    mean = radius.mean(1, keepdims=True)
    # |pixel - dot|² - (radius² - mean²), smallest over the dots; the product leaves |pixel|² for later
    terms = np.stack([-2 * dots[..., 0], -2 * dots[..., 1], (dots**2).sum(-1) - radius**2 + mean**2], -1)
    square = (terms.astype(np.float32) @ np.stack([x, y, np.ones_like(x)])).min(1) + x * x + y * y
    inside = mean - np.sqrt(np.maximum(square, 0)) + 0.5
    return (255 * np.clip(inside, 0, 1)).astype(np.uint8).reshape(-1, size, size)


def _centre(images):
    """Move each image by whole pixels until its centre of mass is at pixel (14, 14), as in MNIST."""
    size = images.shape[1]
    mass = images.sum((1, 2), dtype=np.float64)
    index = np.arange(size)
    shifts = (np.rint(size / 2 - (images.sum(axis) * index).sum(1) / mass).astype(int) for axis in (2, 1))
    rows, columns = (index - np.clip(shift, -4, 4)[:, None] for shift in shifts)  # the ink is 4 pixels from the edge
    return images[np.arange(len(images))[:, None, None], rows[:, :, None] % size, columns[:, None, :] % size]
