"""What MNIST lacks: other people's habits, pens and scanners, and what is no digit at all.

Mixed into the training images, both keep the network from being sure of the wrong thing. Digits are training images
and drawn digits, bent and stretched, written with another pen and seen at another resolution. What is no digit is
letters and signs drawn by the virtual pen of strokes.py or printed in Matplotlib's fonts, scribbles, patches of light
and dark, and digits that run into each other or are cut through; the network learns to give each class the same
probability there (D. Hendrycks, M. Mazeika, T. Dietterich, "Deep Anomaly Detection with Outlier Exposure", 2019).
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digits.cli import progress
from digits.data import strokes
from digits.reading.segmentation import centre, trimmed

NON_DIGIT = -1  # the label of what is no digit
SIDE = 56  # pixels in which images are bent and rewritten, twice MNIST's
BLOCK = 500  # images handled at a time

# Letters and signs that are no digits, as in strokes.FORMS. What people write like a digit (b, B, D, g, G, i, I, j, l,
# o, O, q, Q, s, S, z, Z) is left out.
SIGNS = """
0,100 25,50 50,0; 50,0 75,50 100,100; 20,62 50,61 80,60
80,30 45,22 10,45 10,80 40,95 75,70 80,30; 80,30 80,70 100,98
75,20 40,10 5,45 15,90 60,95 85,50; 85,10 82,60 100,100
10,0 8,50 5,100; 10,0 50,0 90,0; 8,48 40,47 75,46; 5,100 50,100 90,98
10,0 8,50 5,100; 10,0 50,0 95,2; 8,45 40,45 70,44
80,10 40,10 12,28 45,46; 45,46 8,65 20,95 85,92
10,0 10,50 8,100; 90,0 90,50 90,100; 10,50 50,50 90,48
10,0 10,50 8,100; 8,65 35,45 70,55 75,100
10,0 10,35 12,70 40,90 60,60; 30,0 60,30 90,60 60,95
10,0 10,50 8,100; 85,5 50,30 12,55; 12,55 50,75 90,100
15,0 12,50 10,100; 70,40 40,55 12,65; 12,65 40,80 75,100
10,0 8,50 5,98; 5,98 50,99 90,96
0,100 5,50 12,0; 12,0 30,30 50,65; 50,65 70,30 88,0; 88,0 95,50 100,100
0,30 8,60 6,100; 8,50 30,30 46,50 46,100; 46,50 70,28 90,50 92,100
8,100 8,50 8,0; 8,0 50,50 92,100; 92,100 92,50 92,0
10,30 12,60 10,100; 10,55 40,28 75,40 80,100
10,0 10,50 10,100; 10,0 60,0 90,20 60,50 10,50
10,0 10,50 10,100; 10,0 60,0 88,22 60,48 10,48; 45,50 70,75 95,100
10,20 14,60 12,100; 13,60 40,25 85,25
0,2 50,0 100,2; 50,0 50,50 50,100
50,10 46,55 55,95 85,90; 15,38 50,36 88,34
8,0 6,55 30,100 70,100 95,55 92,0
8,20 6,70 30,98 70,85 85,20; 85,20 85,60 100,98
0,0 25,50 50,100; 50,100 75,50 100,0
0,0 15,50 28,100; 28,100 40,60 50,30; 50,30 60,60 72,100; 72,100 85,50 100,0
0,20 8,80 40,90 50,40; 50,40 55,85 85,90 98,20
0,0 50,50 100,100; 100,0 50,50 0,100
5,15 35,20 60,85 98,80; 95,12 60,25 35,80 2,90
0,0 25,25 50,48; 100,0 75,25 50,48; 50,48 50,75 50,100
90,12 50,0 8,30 8,70 50,100 92,88
85,25 40,20 10,55 40,95 88,85
0,62 15,80 32,100; 32,100 65,50 100,0
0,35 20,75 35,100 60,55 90,5; 90,5 96,15 100,28
0,60 18,100 40,100 70,30 88,5 100,20
50,0 50,50 50,100; 0,50 50,50 100,50
0,50 50,50 100,48
0,30 50,30 100,28; 0,70 50,70 100,68
0,60 30,35 65,62 100,38
0,50 50,50 100,50; 70,20 85,35 100,50; 100,50 85,65 70,80
50,0 25,50 0,100; 0,100 50,100 100,100; 100,100 75,50 50,0
50,30 30,0 0,25 50,100; 50,100 100,25 70,0 50,30
50,0 35,50 20,100; 20,100 60,65 100,35; 100,35 50,36 0,35; 0,35 40,65 80,100; 80,100 65,50 50,0
30,0 25,50 20,100; 75,0 70,50 65,100; 0,35 50,34 100,33; 0,68 50,67 98,66
85,20 50,5 45,25 80,60 40,100 5,75 30,40 60,55 100,90
10,60 50,10 55,40 20,90 40,100 95,50; 55,40 65,80 95,80
70,20 30,15 8,55 35,90 70,60 80,20; 75,0 78,50 74,100
20,10 15,60 25,95 60,85; 55,10 50,60 60,95 95,85
0,20 30,5 45,50 50,100; 100,5 75,40 50,100 30,98
50,0 50,50 50,100; 20,25 0,55 40,75 85,60 85,30 50,22 20,25
5,25 50,8 92,25; 30,20 30,60 22,100; 70,20 68,65 85,98
0,98 30,70 12,30 50,0 88,30 70,70 100,98
""".strip().splitlines()
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSerif-Italic",
    "DejaVuSansMono",
    "STIXGeneral",
    "STIXGeneralBolIta",
)
LETTERS = "AEFHKMNPRTUVWXYacefhkmnprtuvwxy#%&*+=?@<ΓΔΛΞΠΣΨΩαγεηκλμνξπχψωБГДЖИЙЛФЦЮЯджийлфцюя"


def digits(images, labels, count, seed):
    """Return (uint8 count×28×28×1 images, int64 count labels): a third from images, the rest drawn, all rewritten.

    images: uint8 N×28×28×1, labels: int64 N, 0-9.
    """
    rng = np.random.default_rng([seed, 0])
    mine = rng.choice(len(images), count - 2 * count // 3)
    drawn, drawn_labels = strokes.draw(2 * count // 3, int(rng.integers(2**31)), rare=True)
    sources = np.concatenate([images[mine], drawn])
    made = rewrite(sources, rng, "Rewriting digits")
    made[~sources.any((1, 2, 3))] = 0  # a blank image stays blank
    return made, np.concatenate([labels[mine], drawn_labels])


def non_digits(images, count, seed):
    """Return uint8 count×28×28×1 images of what is no digit; some are made of parts of images, uint8 N×28×28×1."""
    rng = np.random.default_rng([seed, 1])
    shares = {_signs: 0.25, _print: 0.15, _scribbles: 0.15, _merged: 0.3, _patches: 0.15}
    sources = [make(images, round(share * count) + 1, rng) for make, share in shares.items()]
    return rewrite(np.concatenate(sources)[:count], rng, "Drawing what is no digit")


def rewrite(images, rng, title):
    """Bend and stretch images, uint8 N×28×28×1, write them with another pen, and centre them as pictures are."""
    result = np.empty_like(images)
    for start in progress(range(0, len(images), BLOCK), title):
        block = slice(start, start + BLOCK)
        changed = _pen(_bend(images[block, :, :, 0], rng), rng)
        result[block] = [_seen(image, rng) for image in changed]
    return result


def _bend(images, rng):
    """Elastic change (P. Simard, D. Steinkraus, J. Platt, 2003) of n×28×28 -> float32 n×SIDE×SIDE, 0-1."""
    from scipy import ndimage

    count = len(images)
    knots, places = np.linspace(0, 27, 6), np.linspace(0, 27, SIDE)
    spread = np.exp(-(((places[:, None] - knots) / 4) ** 2))
    spread /= spread.sum(1, keepdims=True)
    knot_shifts = rng.normal(0, 1.6, (2, count, 6, 6)) * rng.uniform(0, 1, (count, 1, 1))
    down, right = spread @ knot_shifts @ spread.T
    which = np.broadcast_to(np.arange(count)[:, None, None], down.shape)
    coordinates = np.stack([which, places[:, None] + down, places + right])
    return ndimage.map_coordinates(images.astype(np.float32) / 255, coordinates, order=1)


def _pen(images, rng):
    """Make strokes thinner or thicker: the image is blurred, and its edge is where the blur has another value."""
    from scipy import ndimage

    count = len(images)
    for part in np.array_split(rng.permutation(count), 4):
        width = rng.uniform(0.8, 2.2)
        images[part] = ndimage.gaussian_filter(images[part], (0, width, width))
    level = np.exp(rng.uniform(np.log(0.12), np.log(0.55), (count, 1, 1))) * images.max((1, 2), keepdims=True)
    soft = np.minimum(rng.uniform(0.05, 0.3, (count, 1, 1)), 1.9 * level)
    return np.clip((images - level) / np.maximum(soft, 1e-3) + 0.5, 0, 1)


def _seen(image, rng):
    """One image, float H×W, as a picture of it comes out: some stretched to a square, some coarse or in two tones."""
    if not (image > 0.3).any():
        return np.zeros((28, 28, 1), np.uint8)
    image = trimmed(image)
    if rng.random() < 0.25:  # people fill the square that they are given
        image = _resize(image, *_stretched(image.shape, rng))
    if rng.random() < 0.3:
        factor = rng.uniform(14, 24) / max(image.shape)
        image = _resize(image, *(max(3, round(side * factor)) for side in image.shape))
        if rng.random() < 0.6:
            image = (image > rng.uniform(0.3, 0.6)).astype(np.float32)
    return centre(image) if image.max() > 0.3 else np.zeros((28, 28, 1), np.uint8)


def _stretched(shape, rng):
    height, width = shape
    share = rng.uniform(0.2, 1)
    if height > width:
        return height, round(width * (min(height / width, 3) ** share))
    return round(height * (min(width / height, 3) ** share)), width


def _resize(image, height, width):
    filter = Image.Resampling.BOX if height < image.shape[0] and width < image.shape[1] else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), filter))


def _signs(images, count, rng):
    """Letters and signs drawn by the virtual pen."""
    each = -(-count // len(SIGNS))
    drawn = np.concatenate([strokes.pen(form, each, rng) for form in SIGNS])
    return drawn[rng.permutation(len(drawn))[:count], :, :, None]


def _scribbles(images, count, rng):
    """One to three curves through random points."""
    drawn = []
    while sum(map(len, drawn)) < count:
        curves = []
        for _ in range(rng.integers(1, 4)):
            walk = np.cumsum(rng.normal(0, rng.uniform(15, 45), (rng.integers(3, 13), 2)), 0)
            place = 100 * np.abs((walk / 100 + rng.uniform(0.2, 0.8, 2)) % 2 - 1)  # turned back at the edges
            curves.append(" ".join(f"{x:.0f},{y:.0f}" for x, y in place))
        drawn.append(strokes.pen("; ".join(curves), 5, rng))
    return np.concatenate(drawn)[:count, :, :, None]


def _print(images, count, rng):
    """Letters and signs printed in Matplotlib's fonts."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", 40) for name in FONTS]
    result = np.zeros((count, 28, 28, 1), np.uint8)
    for place in range(count):
        page = Image.new("L", (SIDE, SIDE))
        letter, font = LETTERS[rng.integers(len(LETTERS))], fonts[rng.integers(len(fonts))]
        ImageDraw.Draw(page).text((SIDE / 2, SIDE / 2), letter, 255, font, anchor="mm")
        left, top, right, bottom = page.getbbox()
        result[place] = centre(np.asarray(page.crop((left, top, right, bottom)), np.float32) / 255)
    return result


def _merged(images, count, rng):
    """Two digits that touch, or what is left of them when the cut goes through the middle of both."""
    left, right = images[rng.integers(len(images), size=(2, count)), ..., 0]
    result = np.zeros((count, 28, 28, 1), np.uint8)
    for place in range(count):
        one, two = (image[:, image.any(0)] for image in (left[place], right[place]))
        wide = np.zeros((28, one.shape[1] + two.shape[1]), np.uint8)
        overlap = min(rng.integers(0, 3), one.shape[1])
        wide[:, : one.shape[1]] = one
        start = one.shape[1] - overlap
        wide[:, start : start + two.shape[1]] = np.maximum(wide[:, start : start + two.shape[1]], two)
        if rng.random() < 0.5:
            cut = rng.uniform(0.25, 0.7, 2) * [one.shape[1], two.shape[1]]
            wide = wide[:, int(cut[0]) : one.shape[1] + int(cut[1])]
        result[place] = centre(wide / 255)
    return result


def _patches(images, count, rng):
    """Light and dark without strokes: smooth noise, cut off at some level."""
    from scipy import ndimage

    result = np.zeros((count, 28, 28, 1), np.uint8)
    for part in np.array_split(np.arange(count), 24):
        noise = rng.normal(size=(len(part), 28, 28))
        size = rng.uniform(0.8, 5, 2)
        noise = ndimage.gaussian_filter(noise, (0, *size))
        noise = noise / noise.std((1, 2), keepdims=True) + rng.uniform(-1.2, 0.6, (len(part), 1, 1))
        result[part, 4:24, 4:24, 0] = 255 * np.clip(noise * rng.uniform(0.5, 4) + 0.5, 0, 1)[:, 4:24, 4:24]
    return result
