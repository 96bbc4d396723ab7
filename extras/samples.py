"""Draw the pictures in samples/, and docs/drawn.png, with the pen of digits/strokes.py.

    python -m extras.samples

Five styles, at least two pictures of each digit, none of them like another in size: what people photograph, scan and
draw. The file name begins with the digit. And a number, and a tick, which is no digit. The same pictures each time.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from digits.data import strokes
from extras import difficult

FOLDER = Path("samples")


def pen(digit, form, width, height, pen_width, rng):
    """Ink of one digit, float32 height×width, 0-1, somewhere on the sheet; pen_width in pixels."""
    radius = np.array([pen_width / 2])
    dots = strokes.write(strokes.FORMS[digit][form][1], 1, rng, spacing=0.004)
    side = round(min(width, height) * rng.uniform(0.55, 0.8))
    dots, radius = strokes.fit(dots, radius, rng, box=side, size=side)
    ink = np.zeros((height, width), np.float32)
    top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
    ink[top : top + side, left : left + side] = strokes.ink(dots, radius, side)[0] / 255
    return ink


def sheet(ink, paper, colour, rng, light=0.0, noise=0.0):
    """Picture, uint8 H×W×3: ink of a colour on paper of a colour, light falling off to one side, camera noise."""
    height, width = ink.shape
    paper, colour = np.array(paper, float), np.array(colour, float)
    picture = paper + ink[..., None] * (colour - paper)
    picture *= 1 - light * np.linspace(0, 1, width)[None, :, None] * np.linspace(0.5, 1, height)[:, None, None]
    return np.rint(np.clip(picture + noise * rng.normal(size=picture.shape), 0, 255)).astype(np.uint8)


def ballpoint(digit, rng):
    ink = pen(digit, 0, 240, 320, 9, rng)
    return sheet(ink, (250, 249, 244), (25, 45, 140), rng)


def screen(digit, rng):
    """White on black, drawn with the mouse on a small canvas."""
    return sheet(pen(digit, 1, 140, 140, 11, rng), (0, 0, 0), (255, 255, 255), rng)


def photo(digit, rng):
    """Pencil under a lamp, as a phone takes it."""
    ink = pen(digit, 2, 400, 300, 8, rng)
    return sheet(ink, (215, 205, 190), (70, 68, 70), rng, light=0.3, noise=2)


def chalk(digit, rng):
    return sheet(pen(digit, 2, 200, 180, 14, rng), (40, 80, 60), (235, 235, 225), rng, noise=3)


def sticker(digit, rng):
    """Red felt pen on transparent ground: height×width×4."""
    ink = pen(digit, 1, 128, 160, 12, rng)
    picture = sheet(ink, (190, 20, 40), (190, 20, 40), rng)
    return np.dstack([picture, (255 * ink).astype(np.uint8)])


def number(text, rng):
    """A number on squared paper, as a phone takes it."""
    ink = difficult.ink_of(text, rng, 320, 760, 130, 7, gap=0.35, place=(90, 80))
    squares = np.zeros_like(ink)
    squares[::32] = squares[:, ::32] = 0.35
    return sheet(np.maximum(ink, squares), (235, 232, 225), (60, 70, 130), rng, light=0.35, noise=2)


def tick(rng):
    """No digit."""
    form = "0,62 15,80 32,100; 32,100 65,50 100,0"
    dots, radius = strokes.fit(strokes.write(form, 1, rng, 0.004), np.array([6.0]), rng, box=140, size=200)
    return sheet(strokes.ink(dots, radius, 200)[0] / 255, (255, 255, 255), (20, 120, 40), rng)


def overview(columns=30):
    """Drawn digits as training sees them, a row for each, black on white."""
    images, labels = strokes.draw(10 * columns, seed=1)
    return 255 - np.vstack([np.hstack(list(images[labels == digit, ..., 0])) for digit in range(10)])


def main():
    FOLDER.mkdir(exist_ok=True)
    for digit in range(10):
        rng = np.random.default_rng(20 + digit)
        for name, style in (
            (f"{digit}.png", ballpoint),
            (f"{digit}_screen.png", screen),
            (f"{digit}_photo.jpg", photo),
        ):
            Image.fromarray(style(digit, rng)).save(FOLDER / name, quality=80)
    rng = np.random.default_rng(30)
    for digit in (2, 3, 5, 7, 9):
        Image.fromarray(chalk(digit, rng)).save(FOLDER / f"{digit}_chalk.jpg")
    for digit in (4, 6, 8):
        Image.fromarray(sticker(digit, rng)).save(FOLDER / f"{digit}_sticker.png")
    rng = np.random.default_rng(40)
    Image.fromarray(number("40628", rng)).save(FOLDER / "number.jpg", quality=80)
    Image.fromarray(tick(rng)).save(FOLDER / "tick.png")
    Image.fromarray(overview()).save("docs/drawn.png")
    print(f"{len(list(FOLDER.iterdir()))} pictures in {FOLDER}/")


if __name__ == "__main__":
    sys.exit(main())
