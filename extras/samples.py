"""Draw samples/ and docs/drawn.png with the virtual pen; the same files each time.

    python -m extras.samples

samples/ has digits in five styles, at least two of each digit; a number; and a tick, which is a non-digit. A file name
starts with the digit.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from digits.data import strokes
from extras import drawing

FOLDER = Path("samples")
STYLES = {  # end of the file name: (glyph, height, width, pen width), (paper, ink), then of photo(): fall-off, noise
    ".png": ((0, 320, 240, 9), ((250, 249, 244), (25, 45, 140))),  # ballpoint pen
    "_screen.png": ((1, 140, 140, 11), ((0, 0, 0), (255, 255, 255))),  # drawn with a mouse
    "_photo.jpg": ((2, 300, 400, 8), ((215, 205, 190), (70, 68, 70)), 0.3, 2),  # pencil under a lamp
    "_chalk.jpg": ((2, 180, 200, 14), ((40, 80, 60), (235, 235, 225)), 0, 3),
    "_sticker.png": ((1, 160, 128, 12), ((190, 20, 40), (190, 20, 40))),  # felt pen on a transparent ground
}


def write(digit, rng, glyph, height, width, pen_width):
    """Write a digit of random size at a random place of the sheet; return the ink, float32 height×width, 0-1."""
    dots = strokes.write(strokes.GLYPHS[digit][glyph][1], 1, rng, spacing=0.004)
    size = round(min(width, height) * rng.uniform(0.55, 0.8))
    digit_ink = drawing.rasterize(dots, rng, size, pen_width)
    ink = np.zeros((height, width), np.float32)
    top, left = rng.integers(0, height - size + 1), rng.integers(0, width - size + 1)
    ink[top : top + size, left : left + size] = digit_ink
    return ink


def photo(ink, rng, colours, fall_off=0.0, noise=0.0):
    """uint8 H×W×3 picture of ink; fall_off: share of the light that is missing at the lower right."""
    y, x = np.linspace(0.5, 1, ink.shape[0])[:, None], np.linspace(0, 1, ink.shape[1])
    return drawing.on_paper(ink, *colours, 1 - fall_off * x * y, noise, rng)


def save(picture, name, **options):
    Image.fromarray(picture).save(FOLDER / name, **options)


def save_digit(digit, ending, rng, **options):
    writing, *look = STYLES[ending]
    ink = write(digit, rng, *writing)
    picture = photo(ink, rng, *look)
    if ending == "_sticker.png":
        picture = np.dstack([picture, (255 * ink).astype(np.uint8)])
    save(picture, f"{digit}{ending}", **options)


def main():
    FOLDER.mkdir(exist_ok=True)
    for digit in range(10):
        rng = np.random.default_rng(20 + digit)
        for ending in (".png", "_screen.png", "_photo.jpg"):
            save_digit(digit, ending, rng, quality=80)
    rng = np.random.default_rng(30)
    for digit in (2, 3, 5, 7, 9):
        save_digit(digit, "_chalk.jpg", rng)
    for digit in (4, 6, 8):
        save_digit(digit, "_sticker.png", rng)

    rng = np.random.default_rng(40)
    ink = drawing.write("40628", rng, 320, 760, 130, 7, gap=0.35, corner=(90, 80))
    ink[::32] = np.maximum(ink[::32], 0.35)  # squared paper
    ink[:, ::32] = np.maximum(ink[:, ::32], 0.35)
    save(photo(ink, rng, ((235, 232, 225), (60, 70, 130)), 0.35, 2), "number.jpg", quality=80)
    dots = strokes.write("0,62 15,80 32,100; 32,100 65,50 100,0", 1, rng, spacing=0.004)
    save(photo(drawing.rasterize(dots, rng, 200, 12, box=140), rng, ((255, 255, 255), (20, 120, 40))), "tick.png")

    images, labels = strokes.draw(300, seed=1)  # as in training; a row for each digit, black on white
    rows = [np.hstack(images[labels == digit, ..., 0]) for digit in range(10)]
    Image.fromarray(255 - np.vstack(rows)).save("docs/drawn.png")
    print(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER}/")


if __name__ == "__main__":
    sys.exit(main())
