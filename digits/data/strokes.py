"""Digits drawn by a virtual pen: a labelled data set that needs no file and no download.

Each digit has several written forms, and a form is a few strokes: smooth curves through control points in a unit
square. To write a digit, the pen picks a form, moves its control points, bends, slants and stretches the whole,
and draws along it with a pen of some width, wider here and thinner there. The result is normalised the way MNIST
was made: fitted into 20×20 pixels, then moved until its centre of mass is at the centre of 28×28 (LeCun, Cortes,
Burges, http://yann.lecun.com/exdb/mnist/).
"""

import numpy as np

from digits.cli import progress

# How often each form is written, then its strokes: control points in percent of the square, x right, y down.
# Strokes that share a point stay joined.
FORMS = {
    0: [
        (6, "55,0 20,15 5,50 20,87 50,100 80,85 95,50 80,15 55,0"),
        (2, "70,6 40,2 12,25 5,60 25,95 60,96 90,65 92,30 70,6 45,10"),
        (2, "35,8 10,35 5,70 30,100 70,90 95,50 90,15 65,0 40,10 30,25"),
        (1, "50,0 20,15 5,50 20,87 50,100 80,85 95,50 80,15 50,0; 90,10 50,50 10,90"),
    ],
    1: [
        (9, "50,0 50,33 50,67 50,100"),
        (3, "25,24 40,13 55,0; 55,0 55,33 55,67 55,100"),
        (2, "20,25 35,15 52,0; 52,0 52,50 52,100; 15,100 50,100 88,100"),
        (0.5, "2,45 28,25 60,0; 60,0 60,50 60,100"),
        (0.5, "20,62 42,30 62,0; 62,0 60,50 58,100"),
        (0.5, "28,30 45,16 60,0; 60,0 57,50 52,100"),
        (0.5, "12,32 32,20 52,0; 52,0 52,50 52,100; 22,100 50,99 84,100"),
    ],
    2: [
        (4, "10,25 25,4 60,0 85,20 75,48 40,78 5,100; 5,100 50,98 97,98"),
        (4, "10,20 35,0 75,6 80,35 55,68 25,95 8,92 20,76 50,86 75,98 100,88"),
        (2, "5,20 30,2 70,5 78,30 55,65 20,95; 20,95 5,85 25,75 55,88 95,100"),
        (3, "15,28 30,5 58,4 66,28 50,62 22,95 5,100 0,84 18,74 50,86 75,92 100,86"),
        (1, "12,32 15,10 45,0 75,12 70,42 40,72 5,92; 5,92 30,84 60,95 100,90"),
        (1, "28,45 8,25 30,2 65,2 75,25 55,60 20,95; 20,95 55,94 100,96"),
        (1, "5,10 30,2 60,2 85,6; 85,6 60,40 30,75 5,100; 5,100 50,100 95,98"),
    ],
    3: [
        (6, "10,15 40,0 80,8 82,32 35,48; 35,48 80,55 95,78 60,100 25,98 2,85"),
        (3, "15,12 50,0 85,15 70,40 40,47 72,54 92,75 65,98 30,100 5,90"),
        (1, "8,2 50,2 88,0; 88,0 65,20 40,42; 40,42 80,48 92,75 60,100 5,92"),
    ],
    4: [
        (5, "15,0 10,25 10,45 30,57 60,53 85,50; 85,2 80,35 77,65 75,100"),
        (3, "25,0 15,25 3,60; 3,60 50,58 100,56; 75,8 72,50 70,100"),
        (2, "70,0 35,30 2,65; 2,65 50,65 100,63; 70,0 70,50 68,100"),
        (1, "82,6 50,20 12,48; 12,48 45,52 82,50; 82,6 80,35 78,65 74,100"),
        (1, "78,2 40,16 8,34; 8,34 45,35 80,32; 80,0 79,50 78,100"),
    ],
    5: [
        (5, "90,2 60,3 30,4; 30,4 24,22 18,42; 18,42 50,36 85,50 85,80 50,100 5,92"),
        (3, "32,4 25,22 20,40 50,42 80,60 75,88 40,100 3,90; 32,4 60,4 98,0"),
        (2, "95,0 55,6 35,15 22,38 50,50 72,70 55,95 20,100 2,85"),
        (1, "25,12 20,30 18,45 50,42 82,60 75,90 40,100 5,90; 40,5 65,3 95,2"),
        (1, "95,0 60,6 30,10; 30,10 20,45; 20,45 45,38 70,55 66,82 40,98 10,96 2,80"),
    ],
    6: [
        (5, "75,0 40,20 12,50 10,82 40,100 75,88 80,65 50,52 20,65 12,80"),
        (3, "50,0 25,30 10,65 25,95 60,98 88,80 75,60 40,62 20,80"),
        (2, "35,0 20,35 10,75 30,100 70,95 85,75 65,58 30,65 12,82"),
        (2, "55,0 25,35 5,70 20,98 60,98 95,75 75,55 40,65 18,88"),
        (2, "25,0 8,30 2,65 15,95 50,100 92,92 98,68 65,55 25,68 8,88"),
        (2, "70,0 50,15 30,40 18,68 25,95 52,98 68,80 58,62 35,66 22,84"),
        (1, "90,8 60,0 25,20 8,55 12,88 45,100 80,85 75,60 40,52 12,70"),
    ],
    7: [
        (5, "2,8 40,6 92,3; 92,3 72,35 55,65 42,100"),
        (2, "5,22 6,5 35,10 70,8 95,2; 95,2 75,35 60,65 50,100"),
        (2, "2,12 30,2 70,0 90,12 80,40 60,70 45,100"),
        (1.5, "5,6 50,5 92,2; 92,2 65,40 45,70 35,100; 25,50 55,48 85,46"),
        (1, "5,20 8,4 50,6 94,2; 94,2 70,40 55,70 50,100; 30,55 58,52 85,50"),
    ],
    8: [
        (5, "75,12 45,0 18,15 30,40 65,58 80,80 50,100 18,85 30,60 65,40 80,20 75,12"),
        (2, "90,5 50,2 20,18 35,42 70,62 75,88 40,100 15,85 35,58 70,35 90,5"),
        (2, "50,46 20,35 20,10 50,0 80,10 80,35 50,46; 50,46 15,60 12,88 50,100 88,88 85,60 50,46"),
        (2, "65,42 35,30 30,8 60,0 85,12 70,38 30,62 15,85 35,100 60,90 65,65 40,42 25,20"),
    ],
    9: [
        (5, "82,20 55,2 20,12 10,38 40,52 75,35 82,20; 82,20 78,45 72,75 65,100"),
        (3, "80,12 40,0 10,22 25,48 60,45 82,15; 82,15 80,40 78,70 76,100"),
        (2, "85,18 50,0 15,15 15,42 50,48 85,18; 85,18 85,50 75,85 45,100 10,92"),
        (3, "78,8 45,2 15,25 35,48 70,30 80,8 72,40 60,72 45,100"),
        (3, "75,10 45,0 15,12 5,32 25,42 55,32 75,10; 75,10 66,40 58,70 50,100"),
        (2, "80,14 55,2 15,15 5,45 30,58 62,42 80,14; 80,14 82,45 88,75 90,100"),
        (2, "70,18 48,5 22,14 18,32 38,42 62,36 70,18; 70,12 66,40 52,75 25,98"),
        (2, "92,12 50,2 8,14 5,38 35,46 70,36 90,14; 90,14 78,42 68,70 58,100"),
        (1, "80,15 45,2 12,22 25,48 60,44 82,15; 82,15 84,60 70,95 35,98 18,80"),
        (1, "55,12 70,2 85,8; 60,8 25,12 12,32 30,46 60,38 82,8; 85,5 72,45 62,75 55,100"),
    ],
}
SPACING = 0.035  # distance between two dots of the pen, in units of the square
BLOCK = 50  # images drawn at a time: what fits in the processor's cache


def draw(count, seed=0, rare=False):
    """Return (uint8 count×28×28×1 images, int64 count labels), the labels in turn 0, 1 … 9, 0, 1 …

    rare: instead, write a form the more often the rarer it is, whatever its digit. The same arguments give the same
    images.
    """
    rng = np.random.default_rng(seed)
    forms = [(digit, weight, strokes) for digit in FORMS for weight, strokes in FORMS[digit]]
    digits, weights = np.array([form[0] for form in forms]), np.array([form[1] for form in forms], float)
    if rare:
        chosen = rng.choice(len(forms), count, p=1 / weights / (1 / weights).sum())
        labels = digits[chosen]
    else:
        labels, chosen = np.arange(count) % 10, np.empty(count, int)
        for digit in range(10):
            mine, places = labels == digit, np.flatnonzero(digits == digit)
            chosen[mine] = rng.choice(places, mine.sum(), p=weights[places] / weights[places].sum())
    images = np.zeros((count, 28, 28), np.uint8)
    jobs = [(form, block) for form in range(len(forms)) for block in _blocks(np.flatnonzero(chosen == form))]
    for form, block in progress(jobs, "Drawing digits"):
        images[block] = pen(forms[form][2], len(block), rng)
    return images[..., None], labels


def pen(form, count, rng):
    """Write a form count times with pens of various widths: uint8 count×28×28, centred."""
    dots = write(form, count, rng)
    radius = np.clip(rng.lognormal(np.log(1.25), 0.3, count), 0.6, 2.6)
    return _centre(ink(*fit(dots, radius, rng), 28))


def _blocks(places):
    return [places[i : i + BLOCK] for i in range(0, len(places), BLOCK)]


def write(form, count, rng, spacing=SPACING):
    """Write a form count times: float32 count×dots×2 places of the pen, about 0-1, y down, `spacing` apart."""
    strokes = [[tuple(map(float, point.split(","))) for point in stroke.split()] for stroke in form.split(";")]
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
        place = np.clip(piece + neighbour - 1, 0, len(stroke) - 1)
        np.add.at(matrix, (np.arange(len(t)), place), basis[:, neighbour])
    return matrix


def _bend(dots, rng):
    """Vary curvature (a random cubic of the place), proportions, slant and rotation."""
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
    """Draw round dots: places n×dots×2 and radii n×dots in pixels -> uint8 n×size×size, 255 where there is ink.

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
    places = np.arange(size)
    down = np.rint(size / 2 - (images.sum(2) * places).sum(1) / mass).astype(int)
    right = np.rint(size / 2 - (images.sum(1) * places).sum(1) / mass).astype(int)
    down, right = np.clip(down, -4, 4), np.clip(right, -4, 4)  # the ink is 4 pixels from the edge
    rows, columns = places - down[:, None], places - right[:, None]
    return images[np.arange(len(images))[:, None, None], rows[:, :, None] % size, columns[:, None, :] % size]
