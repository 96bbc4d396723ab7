"""Draw samples/ and docs/handwriting.png from real strokes; the same files each time.

    python -m extras.samples

samples/ has digits in five styles, at least two of each, named by the digit; a number; a postal code in the cells of a
form; and a tick, a non-digit.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from digits.data import handwriting
from extras import drawing, form_fields

FOLDER = Path("samples")
STYLES = {  # end of the file name: (height, width, pen width), (paper, ink), light fall-off, noise
    ".png": ((320, 240, 9), ((250, 249, 244), (25, 45, 140))),  # ballpoint pen
    "_screen.png": ((140, 140, 11), (drawing.BLACK, drawing.WHITE)),  # drawn with a mouse
    "_photo.jpg": ((300, 400, 8), ((215, 205, 190), (70, 68, 70)), 0.3, 2),  # pencil under a lamp
    "_chalk.jpg": ((180, 200, 14), ((40, 80, 60), (235, 235, 225)), 0, 3),
    "_sticker.png": ((160, 128, 12), ((190, 20, 40), (190, 20, 40))),  # felt pen on a transparent ground
}


def draw(name, rng):
    """Draw the digit that a file name starts with, in the style it ends with: uint8 H×W×3, or ×4 if transparent."""
    (height, width, pen_width), *look = STYLES[name[1:]]
    size = round(min(width, height) * rng.uniform(0.55, 0.8))
    digit = drawing.rasterize(handwriting.random_trajectory(name[0], rng), rng, size, pen_width)
    top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
    ink = np.pad(digit, ((top, height - size - top), (left, width - size - left)))
    picture = photo(ink, rng, *look)
    return np.dstack([picture, (255 * ink).astype(np.uint8)]) if "sticker" in name else picture


def photo(ink, rng, colours, fall_off=0.0, noise=0.0):
    """on_paper(), with a share of the light, fall_off, missing at the lower right."""
    y, x = np.linspace(0.5, 1, ink.shape[0])[:, None], np.linspace(0, 1, ink.shape[1])
    return drawing.on_paper(ink, *colours, rng, 1 - fall_off * x * y, noise)


def pictures():
    """Yield the file name and the picture of each sample."""
    for digit in range(10):
        rng = np.random.default_rng(180 + digit)  # digits that everybody reads alike
        for name in (f"{digit}.png", f"{digit}_screen.png", f"{digit}_photo.jpg"):
            yield name, draw(name, rng)
    rng = np.random.default_rng(36)
    for name in [f"{digit}_chalk.jpg" for digit in (2, 3, 5, 7, 9)] + [f"{digit}_sticker.png" for digit in (4, 6, 8)]:
        yield name, draw(name, rng)
    rng = np.random.default_rng(40)
    ink = drawing.write("40628", rng, 320, 760, 130, 7, gap=0.35, corner=(90, 80))
    squared = drawing.rule(ink, 32, darkness=0.35, squared=True)
    yield "number.jpg", photo(squared, rng, ((235, 232, 225), (60, 70, 130)), 0.35, 2)
    field = form_fields.filled("10963", np.random.default_rng(0), "comb", 0.8, (248, 246, 240))
    yield "postal_code.png", field
    tick = [np.array([[0, 0.62], [0.15, 0.8], [0.32, 1], [0.65, 0.5], [1, 0]])]
    yield "tick.png", photo(drawing.rasterize(tick, rng, 200, 12, box=140), rng, (drawing.WHITE, (20, 120, 40)))


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures():
        Image.fromarray(picture).save(FOLDER / name, quality=75 if "chalk" in name else 80)
    images = handwriting.training_digits(1000, 0, seed=0)  # in the order of their sources
    indices = [np.flatnonzero(images.labels == digit) for digit in range(10)]
    rows = [np.hstack(images.pixels[index[:: len(index) // 30][:30], ..., 0]) for index in indices]
    Image.fromarray(255 - np.vstack(rows)).save("docs/handwriting.png")  # one row per digit, black on white
    print(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER}/")


if __name__ == "__main__":
    sys.exit(main())
