"""Pictures that recognisers misread: how people really photograph, scan and draw digits, made by the virtual pen.

    python -m extras.difficult                     # read 10 pictures of each kind: which share is read correctly?
    python -m extras.difficult --gallery           # draw docs/difficulties.png: one of each kind, step by step

Each kind is a function of a digit or number, a string, and a random generator; it returns what reader.read() takes.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from digits import plots
from digits.cli import Parser, number, progress, run
from digits.reading import reader
from extras.drawing import gradient, on_paper, trim, write

RARE_GLYPHS = {  # kind: digit and index in strokes.GLYPHS
    "slashed 0": (0, 3),
    "flagged 1 with a foot": (1, 2),
    "looped 2": (2, 3),
    "open 4": (4, 0),
    "crossed 7": (7, 3),
    "9 like a g": (9, 8),
}


def uneven_light(n, rng):
    ink = write(n, rng, 600, 800, 220, 9)
    return on_paper(ink, (225, 215, 200), (60, 60, 70), gradient(ink.shape, 0.35, 1, rng.uniform(0, 6)), 3, rng)


def shadow(n, rng):
    ink = write(n, rng, 600, 800, 220, 9)
    y, x = np.mgrid[:600, : ink.shape[1]]
    edge = (x - 400) * np.cos(1) + (y - 300) * np.sin(1) + rng.uniform(-150, 150)
    return on_paper(ink, (225, 220, 210), (40, 45, 90), 1 - 0.5 / (1 + np.exp(-edge / 6)), 3, rng)


def scan(n, rng):
    return on_paper(write(n, rng, 500, 500, 100, 4), (250, 250, 248), (50, 50, 60), 1, 4, rng)


def pencil(n, rng):
    ink = write(n, rng, 500, 400, 200, 5)
    grain = 0.35 + 0.5 * (ndimage.gaussian_filter(rng.normal(size=ink.shape), 1) > -0.1)
    return on_paper(ink * grain, (200, 198, 195), (90, 90, 95), gradient(ink.shape, 0.8, 1, 1), 4, rng)


def felt_pen_on_colour(n, rng):
    paper, colour = ((250, 220, 60), (200, 30, 30)) if rng.random() < 0.5 else ((60, 140, 200), (20, 30, 80))
    return on_paper(write(n, rng, 300, 300, 180, 22), paper, colour, gradient((300, 300), 0.8, 1, 2), 3, rng)


def ruled(n, rng):
    ink = write(n, rng, 480, 480, 150, 8)
    page = on_paper(ink * 0, (245, 245, 240))
    start = rng.integers(20, 60)
    page[start::60] = page[start + 1 :: 60] = (120, 150, 210)
    return np.minimum(page, on_paper(ink, (255, 255, 255), (30, 30, 120)))


def squared(n, rng):
    ink = write(n, rng, 400, 400, 160, 8)
    page = on_paper(ink * 0, (250, 250, 250))
    page[rng.integers(5, 35) :: 40] = page[:, rng.integers(5, 35) :: 40] = (150, 170, 200)
    return np.minimum(page, on_paper(ink, (255, 255, 255), (40, 40, 40)))


def black_rules(n, rng):
    """Lines as dark as the ink."""
    ink = write(n, rng, 300, 300, 110, 8)
    ink[[40, 41, 170, 171, 172, 280]] = 1
    return on_paper(ink, (230, 225, 210), (40, 35, 30), 1, 4, rng)


def one_pixel(n, rng):
    return on_paper((write(n, rng, 600, 800, 300, 1.6) > 0.4).astype(float))


def blob(n, rng):
    return on_paper(write(n, rng, 120, 120, 116, 22, corner=(2, rng.integers(0, 20))))


def corner(n, rng):
    corner_of_sheet = (2, 2) if rng.random() < 0.5 else (395, 395)
    return on_paper(write(n, rng, 500, 500, 100, 7, corner=corner_of_sheet), (255, 255, 255), (0, 0, 120))


def touching_the_edge(n, rng):
    return on_paper(write(n, rng, 200, 160, 200, 14, corner=(0, 0)))


def light_on_dark(n, rng):
    return on_paper(
        write(n, rng, 300, 300, 180, 12), (40, 80, 60), (235, 235, 225), gradient((300, 300), 0.6, 1, 3), 4, rng
    )


def coloured_ink(n, rng):
    colour = ((220, 40, 40), (40, 160, 60), (240, 140, 0), (150, 60, 200))[rng.integers(4)]
    return on_paper(write(n, rng, 300, 240, 160, 9), (252, 250, 246), colour, 1, 2, rng)


def transparent(n, rng):
    ink = write(n, rng, 200, 200, 150, 10)
    return np.dstack([np.full((*ink.shape, 3), 255 * rng.integers(2)), 255 * ink]).astype(np.uint8)


def as_jpeg(picture, quality, **options):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


def exif_rotated(n, rng):
    upright = Image.fromarray(uneven_light(n, rng))
    exif = Image.Exif()
    exif[0x0112] = 6
    return as_jpeg(np.asarray(upright.rotate(90, expand=True)), 85, exif=exif)


def jpeg_noise(n, rng):
    return as_jpeg(on_paper(write(n, rng, 150, 150, 100, 7), (235, 235, 235), (60, 60, 60), 1, 5, rng), 12)


def table_edge(n, rng):
    picture = Image.fromarray(uneven_light(n, rng)).rotate(rng.uniform(-4, 4), fillcolor=(60, 40, 25))
    wide = ImageOps.expand(picture, (rng.integers(0, 120), rng.integers(0, 90), 0, 0), fill=(60, 40, 25))
    return np.asarray(wide)


def sheet_on_table(n, rng):
    sheet = on_paper(write(n, rng, 400, 400, 180, 9), (240, 238, 230), (40, 40, 60))
    return np.asarray(ImageOps.expand(Image.fromarray(sheet), (90, 60, 130, 80), fill=(70, 50, 35)))


def page_border(n, rng):
    ink = write(n, rng, 300, 300, 150, 9, corner=(70, 70 if len(n) > 1 else 90))
    ink[12:17, 12:-12] = ink[-17:-12, 12:-12] = ink[12:-12, 12:17] = ink[12:-12, -17:-12] = 1
    return on_paper(ink)


def broken_strokes(n, rng):
    ink = write(n, rng, 300, 300, 180, 9)
    rows = np.flatnonzero(ink.any(1))
    for share in (0.15, 0.62):
        cut = rows[int(share * len(rows))]
        ink[cut : cut + 7] = 0
    return on_paper(ink, (255, 255, 255), (20, 20, 20))


def grid28(n, rng):
    small = Image.fromarray(on_paper(write(n, rng, 280, 280, 200, 22))).resize((28, 28), Image.Resampling.BOX)
    return np.asarray(small) if rng.random() < 0.5 else 255 - np.asarray(small)


def grid28_thin(n, rng):
    small = Image.fromarray(on_paper(write(n, rng, 280, 280, 200, 11))).resize((28, 28), Image.Resampling.BOX)
    return np.where(np.asarray(small) < 128, 0, 255).astype(np.uint8)


def stretched16(n, rng):
    ink = trim(write(n, rng, 300, 300, 200, 20))
    small = Image.fromarray(ink).resize((16, 16), Image.Resampling.BOX)
    return on_paper((np.asarray(small) > 0.45).astype(float))


def binary32(n, rng):
    ink = trim(write(n, rng, 300, 300, 200, 22))
    small = Image.fromarray(ink).resize((max(2, round(32 * ink.shape[1] / ink.shape[0])), 32), Image.Resampling.BOX)
    page = np.zeros((32, 32), np.float32)
    small = np.asarray(small)[:, :32] > 0.45
    page[:, (32 - small.shape[1]) // 2 :][:, : small.shape[1]] = small
    return on_paper(page)


def neighbours(n, rng):
    """One digit of an old record: parts of the neighbours and a ruled line in the crop."""
    left, right = (str(digit) for digit in rng.integers(0, 10, 2))
    gap = rng.uniform(0.05, 0.3)
    parts = [write(digit, rng, 100, 10, 100, 9) for digit in (left, n, right)]
    widths = [part.shape[1] for part in parts]
    sheet = np.zeros((120, sum(widths) + 300), np.float32)
    space = round(100 * gap)
    x = 150 + widths[0] + space
    for part, start in zip(parts, (x - space - widths[0], x, x + widths[1] + space), strict=True):
        sheet[10:110, start : start + part.shape[1]] = part
    middle = x + widths[1] // 2
    crop = sheet[:, middle - 60 : middle + 60]
    if rng.random() < 0.5:
        row = rng.integers(5, 115)
        crop[row : row + 3] = np.maximum(crop[row : row + 3], 0.8)
    picture = on_paper(crop, (200, 190, 165), (70, 60, 50), gradient(crop.shape, 0.85, 1, 1), 6, rng)
    return np.asarray(Image.fromarray(picture).resize((64, 64), Image.Resampling.BOX))


SINGLE = [uneven_light, shadow, scan, pencil, felt_pen_on_colour, ruled, squared, black_rules, one_pixel, blob, corner,
          touching_the_edge, light_on_dark, coloured_ink, transparent, exif_rotated, jpeg_noise, table_edge,
          sheet_on_table, page_border, broken_strokes, grid28, grid28_thin, stretched16, binary32,
          neighbours]  # fmt: skip


def row(n, rng):
    ink = write(n, rng, 300, 900, 110, 7, gap=rng.uniform(0.15, 0.5))
    return on_paper(ink, (240, 238, 230), (30, 40, 110), gradient(ink.shape, 0.6, 1, 1), 3, rng)


def close_row(n, rng):
    return on_paper(write(n, rng, 200, 600, 110, 8, gap=0.04), (250, 250, 250), (20, 20, 20))


def touching(n, rng):
    return on_paper(write(n, rng, 200, 600, 110, 8, gap=-0.06), (250, 250, 250), (20, 20, 20))


def two_lines(n, rng):
    half = len(n) // 2
    ink = np.vstack([write(part, rng, 170, 700, 110, 7, gap=0.3, corner=(30, 40)) for part in (n[:half], n[half:])])
    return on_paper(ink, (235, 235, 230), (40, 40, 40), 1, 3, rng)


def with_text(n, rng):
    ink = write(n, rng, 500, 800, 80, 6, corner=(300, 300))
    picture = Image.fromarray(on_paper(ink, (245, 245, 240), (30, 40, 120)))
    pen = ImageDraw.Draw(picture)
    pen.text((40, 40), "Amount payable in words and figures", (20, 20, 20), ImageFont.load_default(28))
    pen.text((40, 120), "Please write clearly.", (20, 20, 20), ImageFont.load_default(20))
    return np.asarray(picture)


NUMBERS = [row, close_row, touching, two_lines, with_text]

GALLERY = [("7", shadow), ("3", table_edge), ("5", pencil), ("8", squared), ("5", broken_strokes), ("6", page_border),
           ("4", light_on_dark), ("2", one_pixel), ("9", neighbours), ("735", touching),
           ("38588", with_text)]  # fmt: skip


def gallery(model):
    rng, rows = np.random.default_rng(4), []
    for written, make in GALLERY:
        picture = make(written, rng)
        reading = reader.read(picture, model)
        answer = reading.number.replace("_", " / ") or "not a digit"
        pixels, factor, *_ = reader.preprocess(picture)
        rows.append(plots.Row(pixels, factor, (0, 0), reading, f"{make.__name__.replace('_', ' ')}: {answer}"))
    plots.save(plots.steps(rows), Path("docs/difficulties.png"))
    print("docs/difficulties.png")


def measure(model, count, seed):
    """Print which share of `count` pictures of each kind is read correctly."""
    rng, lines, correct = np.random.default_rng(seed), [], []
    for make in progress(SINGLE + NUMBERS, "Reading pictures"):
        hits = 0
        for index in range(count):
            if make in NUMBERS:
                written = "".join(str(digit) for digit in rng.integers(0, 10, rng.integers(3, 7)))
            else:
                written = str(index % 10)
            reading = reader.read(make(written, rng), model)
            hits += (reading.number.replace("_", "") if make in NUMBERS else reading.prediction) == written
        lines.append(f"{make.__name__.replace('_', ' '):20} {hits:4} of {count}")
        correct.append(hits)
    total = count * len(correct)
    print("\n".join(lines))
    print(f"Read correctly: {100 * sum(correct) / total:.1f}% ({sum(correct):,} of {total:,})")


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("--model", type=Path, default=Path("mnist_cnn.keras"), help="model file (default: %(default)s)")
    count = number(int, least=1, most=100_000)
    parser.add_argument("--count", type=count, default=10, help="pictures of each kind (default: %(default)s)")
    seed = number(int, least=0, most=2**31 - 1)
    parser.add_argument("--seed", type=seed, default=0, help="(default: %(default)s)")
    parser.add_argument("--gallery", action="store_true", help="draw docs/difficulties.png instead")
    args = parser.parse_args(argv)
    return run(gallery, args.model) if args.gallery else run(measure, args.model, args.count, args.seed)


if __name__ == "__main__":
    sys.exit(main())
