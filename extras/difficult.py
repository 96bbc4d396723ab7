"""Draw pictures of the kinds that recognisers misread, and measure how many are read correctly.

    python -m extras.difficult                     # 10 pictures of each kind
    python -m extras.difficult --gallery           # draw docs/difficulties.png: some kinds, step by step

A kind is a function (digits: str, rng) that returns a picture for reader.read(). The digits are by writers who are not
trained on, as people photograph, scan and draw them.
"""

import io
import sys
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from digits import plots, reading_plots
from digits.cli import Parser, number, run
from digits.data import handwriting
from digits.reading import reader
from extras import form_fields
from extras.drawing import BLACK, WHITE, on_paper, rasterize, rule, write

COLOURS = (((250, 220, 60), (200, 30, 30)), ((60, 140, 200), (20, 30, 80)), (WHITE, (240, 140, 0)))  # (paper, ink)
GALLERY = {"shadow": "7", "table edge": "3", "pencil": "5", "squared": "8", "broken strokes": "5", "page border": "6"}
GALLERY |= {"light on dark": "4", "one pixel": "2", "neighbours": "9", "touching": "735", "with text": "38588"}
GALLERY |= {"field: comb": "20816", "field: ticks": "4705"}
GALLERY |= {"dithered": "4", "chalk": "9", "varying pressure": "3", "point": "43.65"}


def uneven_light(n, rng):
    ink = write(n, rng, 600, 800, 220, 9)
    light = np.add.outer(np.linspace(0.2, 0.5, 600), np.linspace(*rng.permutation([0.15, 0.5]), ink.shape[1]))
    return on_paper(ink, (225, 215, 200), (60, 60, 70), rng, light)


def shadow(n, rng):
    ink = write(n, rng, 600, 800, 220, 9)
    from_edge = np.add.outer(np.arange(600), np.arange(ink.shape[1])) - rng.uniform(500, 900)
    return on_paper(ink, (225, 220, 210), (40, 45, 90), rng, 1 - 0.5 / (1 + np.exp(-from_edge / 6)))


def pencil(n, rng):
    ink = write(n, rng, 500, 400, 200, 5)
    grain = ndimage.gaussian_filter(rng.normal(size=ink.shape), 1) > -0.1
    return on_paper(ink * (0.35 + 0.5 * grain), (200, 198, 195), (90, 90, 95), rng)


def dithered(n, rng):
    grey = on_paper(write(n, rng, 220, 200, 110, 8), (225, 225, 225), (60, 60, 60))
    return np.uint8(255) * np.asarray(Image.fromarray(grey).convert("1"))


def chalk(n, rng):
    """On a board with smears and dust."""
    ink = write(n, rng, 320, 420, 170, 10)
    smears = blotches(rng, ink.shape, rows=16, low=0, high=40)
    board = on_paper(ink, (38, 78, 62), (225, 228, 222)) + (1 - ink[..., None]) * smears[..., None]
    return np.rint(np.clip(board + rng.normal(0, 14, ink.shape)[..., None], 0, 255)).astype(np.uint8)


def varying_pressure(n, rng):
    """A thin pen, pressed hard and lightly, on 28×28 pixels."""
    ink = write(n, rng, 280, 280, int(rng.integers(110, 240)), rng.uniform(6, 10))
    pressure = np.clip(blotches(rng, ink.shape, rows=6, low=0.1, high=1), 0.08, 1)
    return shrink(on_paper(ink * pressure * rng.uniform(0.3, 1), BLACK, WHITE), 28)


def blotches(rng, shape, rows, low, high):
    """Smooth random values, float32 H×W, from some low to some high ones; rows: how many of them from top to bottom."""
    values = rng.uniform(low, high, (rows, round(rows * shape[1] / shape[0]))).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize(shape[::-1], Image.Resampling.BICUBIC))


def open_strokes(n, rng):
    """By someone who lifts the pen, with the later strokes far from the first."""
    first, *others = max((handwriting.random_trajectory(n, rng) for _ in range(20)), key=len)
    apart = [first, *(stroke + np.array([0.12, 0]) for stroke in others)]
    return on_paper(np.pad(rasterize(apart, rng, 180, 9), 60))


def gap_in_stroke(n, rng):
    ink = write(n, rng, 300, 300, 180, 9)
    y, x = rng.choice(np.argwhere(ink > 0.5))
    ink[max(0, y - 8) : y + 8, max(0, x - 8) : x + 8] = 0
    return on_paper(ink)


def dust(n, rng):
    """A number on paper with dust, up to half as wide as the pen."""
    ink = write(n, rng, 200, 800, 110, 7, gap=0.25)
    for y, x in rng.integers(0, ink.shape, (rng.integers(3, 12), 2)):
        radius = rng.uniform(0.5, 1.75)
        rows, columns = np.ogrid[: ink.shape[0], : ink.shape[1]]
        np.maximum(ink, np.clip(radius + 0.5 - np.hypot(rows - y, columns - x), 0, 1), out=ink)
    return on_paper(ink, (245, 244, 240), (30, 40, 110), rng)


def with_sign(n, rng):
    return on_paper(write(n, rng, 240, 800, 110, 7, gap=0.18, corner=(50, 60)), (245, 244, 240), (30, 40, 110), rng)


def table_edge(n, rng):
    table = (60, 40, 25)
    turned = Image.fromarray(uneven_light(n, rng)).rotate(rng.uniform(-4, 4), fillcolor=table)
    return np.asarray(ImageOps.expand(turned, (*rng.integers(0, 100, 2), 0, 0), table))


def neighbours(n, rng):
    """One digit cut out of a ruled record, with parts of the digits beside it."""
    beside = rng.integers(10)
    row = write(f"{beside}{n}{beside}", rng, 120, 1, 100, 9, gap=rng.uniform(0.05, 0.3))
    crop = np.pad(row, ((0, 0), (60, 60)))[:, row.shape[1] // 2 :][:, :120]
    return shrink(on_paper(rule(crop, 70, rng.integers(70), 3, 0.8), (200, 190, 165), (70, 60, 50), rng), 64)


def with_text(n, rng):
    ink = write(n, rng, 500, 800, 80, 6, corner=(300, 300))
    picture = Image.fromarray(on_paper(ink, (245, 245, 240), (30, 40, 120)))
    ImageDraw.Draw(picture).text((40, 40), "Amount payable in words and figures", BLACK, ImageFont.load_default(28))
    return np.asarray(picture)


def two_lines(n, rng):
    halves = n[: len(n) // 2], n[len(n) // 2 :]
    ink = np.vstack([write(half, rng, 170, 700, 110, 7, gap=0.3, corner=(30, 40)) for half in halves])
    return on_paper(ink, (235, 235, 230), (40, 40, 40), rng)


def shrink(picture, side):
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))


def as_jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


SINGLE = {
    "uneven light": uneven_light,
    "shadow": shadow,
    "scan": lambda n, rng: on_paper(write(n, rng, 500, 500, 100, 4), (250, 250, 248), (50, 50, 60), rng),
    "pencil": pencil,
    "colours": lambda n, rng: on_paper(write(n, rng, 300, 300, 170, 15), *rng.choice(COLOURS), rng),
    "ruled": lambda n, rng: on_paper(rule(write(n, rng, 480, 480, 150, 8), 60, 30, 2, 0.4)),
    "black rules": lambda n, rng: on_paper(rule(write(n, rng, 300, 300, 110, 8), 130, 40, 3), WHITE, (40, 35, 30), rng),
    "squared": lambda n, rng: on_paper(rule(write(n, rng, 400, 400, 160, 8), 40, 20, 1, 0.4, squared=True)),
    "one pixel": lambda n, rng: on_paper(write(n, rng, 600, 800, 300, 1.6) > 0.4),
    "blob": lambda n, rng: on_paper(write(n, rng, 120, 120, 116, 22)),
    "corner": lambda n, rng: on_paper(write(n, rng, 500, 500, 100, 7, corner=rng.choice([(2, 2), (395, 395)]))),
    "touching the edge": lambda n, rng: on_paper(write(n, rng, 200, 160, 200, 14, corner=(0, 0))),
    "light on dark": lambda n, rng: on_paper(write(n, rng, 300, 300, 180, 12), (40, 80, 60), (235, 235, 225), rng),
    "jpeg noise": lambda n, rng: as_jpeg(on_paper(write(n, rng, 150, 150, 100, 7), WHITE, (60, 60, 60), rng), 12),
    "table edge": table_edge,
    "sheet on table": lambda n, rng: np.pad(on_paper(write(n, rng, 400, 400, 180, 9)), ((60, 80), (90, 130), (0, 0))),
    "page border": lambda n, rng: on_paper(np.pad(np.pad(write(n, rng, 266, 266, 150, 9), 5, constant_values=1), 12)),
    "broken strokes": lambda n, rng: on_paper(write(n, rng, 300, 300, 180, 9) * (np.arange(300)[:, None] % 90 > 6)),
    "grid28": lambda n, rng: shrink(on_paper(write(n, rng, 280, 280, 200, 22), *rng.permutation([WHITE, BLACK])), 28),
    "grid28 thin": lambda n, rng: np.uint8(255) * (shrink(on_paper(write(n, rng, 280, 280, 200, 11)), 28) >= 128),
    "neighbours": neighbours,
}
NUMBERS = {
    "row": lambda n, rng: on_paper(write(n, rng, 300, 900, 110, 7, gap=rng.uniform(0.15, 0.5)), colour=(30, 40, 110)),
    "close row": lambda n, rng: on_paper(write(n, rng, 200, 600, 110, 8, gap=0.04)),
    "touching": lambda n, rng: on_paper(write(n, rng, 200, 600, 110, 8, gap=-0.06)),
    "two lines": two_lines,
    "with text": with_text,
}
for style in form_fields.STYLES:
    NUMBERS[f"field: {style}"] = partial(form_fields.filled, style=style)
NUMBERS["field: light comb"] = partial(form_fields.filled, style="comb", darkness=0.35)
NUMBERS["field: blank paper"] = partial(form_fields.filled, style="comb", darkness=0)  # what can be expected of them
POOR_INK = {
    "dithered": dithered,
    "chalk": chalk,
    "varying pressure": varying_pressure,
    "open strokes": open_strokes,
    "gap in stroke": gap_in_stroke,
}
SIGNS = {"point": "##.##", "minus": "-##", "colon": "##:##", "comma": "#,###"}  # what is written; # is a digit
KINDS = SINGLE | NUMBERS | POOR_INK | dict.fromkeys(SIGNS, with_sign) | {"dust": dust}


def random_text(kind, index, rng):
    """What to write in a picture of this kind; a single digit is the last one of index."""
    if kind in SINGLE | POOR_INK:
        return str(index % 10)
    pattern = SIGNS.get(kind) or "#" * rng.integers(3, 7)
    digits = iter(rng.integers(0, 10, pattern.count("#")))
    return "".join(str(next(digits)) if character == "#" else character for character in pattern)


def answer(kind, reading):
    """What a Reading says of a picture of this kind: its main digit, or all that was read, without breaks of lines."""
    return reading.prediction if kind in SINGLE | POOR_INK else reading.text.replace("_", "")


def gallery(args):
    rng = np.random.default_rng(6)
    rows = []
    for kind, text in GALLERY.items():
        picture = KINDS[kind](text, rng)
        reading = reader.read(picture, args.model)
        pixels, answer = reader.preprocess(picture)[0], reading.text or "not a digit"
        rows.append(reading_plots.Row(pixels, 1, (0, 0), reading, kind, answer))
    plots.save(reading_plots.steps(rows), Path("docs/difficulties.png"))
    print("docs/difficulties.png")


def measure(args):
    """Print how many pictures of each kind are read correctly."""
    rng = np.random.default_rng(args.seed)
    right, total = 0, len(KINDS) * args.count
    for kind, make in KINDS.items():
        hits = 0
        for index in range(args.count):
            text = random_text(kind, index, rng)
            hits += answer(kind, reader.read(make(text, rng), args.model)) == text
        print(f"{kind:20} {hits:4} of {args.count}")
        right += hits
    print(f"Read correctly: {100 * right / total:.1f}% ({right:,} of {total:,})")


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument(
        "--model", type=Path, default=Path("mnist_cnn.keras"), help="model to read with (default: %(default)s)"
    )
    parser.add_argument(
        "--count", type=number(int, least=1, most=10**5), default=10, help="pictures per kind (default: %(default)s)"
    )
    parser.add_argument(
        "--seed",
        type=number(int, least=0, most=2**31 - 1),
        default=0,
        help="of all random numbers (default: %(default)s)",
    )
    parser.add_argument("--gallery", action="store_true", help="draw docs/difficulties.png instead")
    args = parser.parse_args(argv)
    return run(gallery if args.gallery else measure, args)


if __name__ == "__main__":
    sys.exit(main())
