"""A pen: draws strokes, recorded or invented, with any width, pressure, slant and proportions.

A trajectory is a list of strokes, each float n×2 points: x right, y down, in units of a square of 0-1. Images are made
the way MNIST was: fitted into 20×20 pixels, then moved until the centre of mass is at the centre of 28×28 (Y. LeCun,
C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/).
"""

import numpy as np

from digits.data.blocks import in_blocks

SPACING = 0.035  # distance between two dots of the pen, in units of the square
PEN_WIDTH = 2.5  # median, in pixels where the digit is 20 high
BLOCK = 50  # images drawn at a time: what fits in the processor's cache


def draw(trajectories, rng):
    """Draw each trajectory with a pen of random width, slanted and stretched a little, as uint8 N×28×28×1."""
    dots = [trace(trajectory) for trajectory in trajectories]
    images = np.zeros((len(dots), 28, 28, 1), np.uint8)
    order = np.argsort([len(one) for one in dots], kind="stable")  # those of a block have about as many dots
    images[order] = in_blocks(_draw, [dots[i] for i in order], BLOCK, rng, "Drawing handwriting")
    return images


def _draw(dots, rng):
    if not dots:
        return np.zeros((0, 28, 28, 1), np.uint8)
    longest = max(map(len, dots))
    dots = vary(np.stack([np.pad(one, ((0, longest - len(one)), (0, 0)), mode="edge") for one in dots]), rng)
    radius = np.clip(rng.lognormal(np.log(PEN_WIDTH / 2), 0.3, len(dots)), 0.6, 2.6)
    return _centre(ink(*fit(dots, radius, rng), 28))[..., None]


def trace(trajectory, spacing=SPACING):
    """Positions of the pen along the strokes of a trajectory, float32 dots×2, `spacing` apart."""
    parts = []
    for stroke in trajectory:
        distance = np.append(0, np.hypot(*np.diff(stroke, axis=0).T).cumsum())
        steps = np.linspace(0, distance[-1], int(distance[-1] / spacing) + 2)
        parts.append(np.stack([np.interp(steps, distance, stroke[:, axis]) for axis in (0, 1)], axis=1))
    return np.concatenate(parts).astype(np.float32)


def vary(dots, rng):
    """Vary proportions, slant and rotation of n×dots×2 positions."""

    def random(spread):
        return rng.normal(0, spread, (len(dots), 1))

    x, y = dots[..., 0] - 0.5, dots[..., 1] - 0.5
    x = x * np.exp(random(0.12)) - random(0.1) * y
    angle = random(0.07)
    return np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], -1)


def fit(dots, radius, rng, box=20, size=28):
    """Vary the pressure of the pen, then scale and move the dots so that the ink fills a box in the middle.

    dots n×dots×2, radius n in pixels -> dots n×dots×2 and radius n×dots, both in pixels.
    """
    phase = rng.uniform(0, 2 * np.pi, (len(dots), 1)) + np.linspace(0, 7, dots.shape[1])
    radius = radius[:, None] * (1 + rng.uniform(0, 0.3, (len(dots), 1)) * np.sin(phase))
    low, high = dots.min(1, keepdims=True), dots.max(1, keepdims=True)
    room = box - 1 - 2 * radius.max(1)  # half a pixel on either side is the soft edge
    scale = room / np.maximum((high - low).max((1, 2)), 1e-3)  # a dot has no size
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
