"""Non-digits, for the training: what must be refused, so that the network is not sure of the wrong thing.

Letters and signs, written by people or printed in Matplotlib's fonts, scribbles, patches of light and dark, and digits
that run into each other or are cut through. The network learns to give each class the same probability there (outlier
exposure: D. Hendrycks, M. Mazeika, T. Dietterich, "Deep Anomaly Detection with Outlier Exposure", 2019).
"""

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from digits.data import handwriting, pen
from digits.data.restyle import SIDE, restyle
from digits.reading.normalization import centre

NON_DIGIT = -1  # the label of a non-digit
WRITTEN = 0.6  # share of the non-digits that are letters and signs written by people
FONTS = ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSerif-Italic", "DejaVuSansMono", "STIXGeneral", "STIXGeneralBolIta")
LETTERS = "AEFHKMNPRTUVWXYacefhkmnprtuvwxy#%&*+=?@<ΓΔΛΞΠΣΨΩαγεηκλμνξπχψωБГДЖИЙЛФЦЮЯджийлфцюя"


def non_digits(images, count, validation_split, seed):
    """Return uint8 count×28×28×1 non-digits, three in five of them written letters and signs, the others made.

    images: uint8 N×28×28×1 digits, of which some are made. validation_split: as in handwriting.training_digits().
    """
    rng = np.random.default_rng([seed, 1])
    written = round(WRITTEN * count)
    shares = {printed_letters: 0.2, scribbles: 0.2, merged_digits: 0.4, patches: 0.2}
    made = np.concatenate([make(images, round(share * (count - written)) + 1, rng) for make, share in shares.items()])
    made = restyle(made[: count - written], rng)
    return np.concatenate([handwriting.letters_and_signs(written, validation_split, rng), made])


def printed_letters(images, count, rng):
    """Letters and signs printed in Matplotlib's fonts."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", 40) for name in FONTS]
    result = np.zeros((count, 28, 28, 1), np.uint8)
    for index in range(count):
        page = Image.new("L", (SIDE, SIDE))
        letter, font = LETTERS[rng.integers(len(LETTERS))], fonts[rng.integers(len(fonts))]
        ImageDraw.Draw(page).text((SIDE / 2, SIDE / 2), letter, 255, font, anchor="mm")
        result[index] = centre(np.asarray(page.crop(page.getbbox()), np.float32) / 255)
    return result


def scribbles(images, count, rng):
    """One to three curves that turn at random."""
    trajectories = []
    for _ in range(count):
        trajectories.append([])
        for _ in range(rng.integers(1, 4)):
            direction = rng.uniform(0, 2 * np.pi) + rng.normal(0, rng.uniform(0.1, 0.9), rng.integers(5, 60)).cumsum()
            walk = rng.uniform(0, 1, 2) + 0.08 * np.stack([np.cos(direction), np.sin(direction)], axis=1).cumsum(0)
            trajectories[-1].append(np.abs((walk + 1) % 2 - 1))  # turned back at the edges
    return pen.draw(trajectories, rng)


def merged_digits(images, count, rng):
    """Two digits that touch, or what is left of them when the cut goes through the middle of both."""
    left, right = images[rng.integers(len(images), size=(2, count)), ..., 0]
    result = np.zeros((count, 28, 28, 1), np.uint8)
    for index in range(count):
        one, two = (image[:, image.any(0)] for image in (left[index], right[index]))
        widths = one.shape[1], two.shape[1]
        overlap = min(rng.integers(0, 3), widths[0])
        wide = np.pad(one, ((0, 0), (0, widths[1])))
        second = wide[:, widths[0] - overlap :][:, : widths[1]]
        np.maximum(second, two, out=second)
        if rng.random() < 0.5:
            start, stop = (rng.uniform(0.25, 0.7, 2) * widths).astype(int)
            wide = wide[:, start : widths[0] + stop]
        result[index] = centre(wide / 255)
    return result


def patches(images, count, rng):
    """Light and dark without strokes: smooth noise, cut off at some level."""
    result = np.zeros((count, 28, 28, 1), np.uint8)
    for part in np.array_split(np.arange(count), 24):
        noise = rng.normal(size=(len(part), 28, 28))
        noise = ndimage.gaussian_filter(noise, (0, *rng.uniform(0.8, 5, 2)))
        noise = noise / noise.std((1, 2), keepdims=True) + rng.uniform(-1.2, 0.6, (len(part), 1, 1))
        result[part, 4:24, 4:24, 0] = 255 * np.clip(noise * rng.uniform(0.5, 4) + 0.5, 0, 1)[:, 4:24, 4:24]
    return result
