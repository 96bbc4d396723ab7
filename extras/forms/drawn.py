"""Draw two forms, and sheets that people have filled in, scanned and photographed, to measure the reading on.

    python -m extras.forms.drawn          # draws samples/form/: a blank form, its fields, and five sheets

A page is uint8 1754×1240×3, A4 at 150 dpi. The digits are by writers who are not trained on.
"""

import io
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from digits.data import handwriting
from extras import form_fields
from extras.drawing import BLACK, WHITE, on_paper
from extras.forms.description import Field, Form, save

SAMPLE = Path("samples/form")
HEIGHT, WIDTH = 1754, 1240  # pixels
MARGIN, CELL_HEIGHT = form_fields.MARGIN, form_fields.CELL_HEIGHT
TABLE = (105, 84, 70)  # RGB, of the table that a sheet is photographed on


class Printed(NamedTuple):
    """A field as it is printed."""

    name: str
    style: str  # one of form_fields.STYLES
    x: int  # of the upper left corner of the first cell
    y: int
    cells: int
    fixed: bool = True  # whether there is a digit in each cell
    darkness: float = 1.0  # of the lines, 0-1


ORDER = [
    Printed("Order", "comb", 420, 340, 6),
    Printed("Date", "boxes", 420, 460, 8),
    Printed("Customer", "comb", 420, 580, 8, darkness=0.35),
    Printed("Postal code", "ticks", 420, 700, 5),
    Printed("Phone", "base line", 420, 820, 9, fixed=False),
    Printed("Quantity", "round boxes", 420, 940, 3, fixed=False),
    Printed("Weight", "frame", 420, 1060, 4, fixed=False),
    Printed("Total", "comb", 420, 1240, 7, fixed=False),
]
ANSWER_STYLES = ("comb", "boxes", "ticks", "base line", "frame", "round boxes", "dashed", "double", "dotted", "comb")
ANSWERS = [
    Printed("Student", "comb", 300, 290, 8),
    Printed("Class", "boxes", 300, 400, 3),
    Printed("Date", "comb", 740, 400, 6, darkness=0.35),
    Printed("Room", "ticks", 740, 510, 3),
    *(
        Printed(f"Answer {index + 1}", style, 240 + 540 * (index % 2), 680 + 160 * (index // 2), 5, fixed=False)
        for index, style in enumerate(ANSWER_STYLES)
    ),
]
FORMS = {"Order form": ORDER, "Answer sheet": ANSWERS}
NOTES = {
    "Order form": "Please write clearly, one digit in each box, and do not fold this sheet.",
    "Answer sheet": "Write your answers with a pen. If you change one, cross it out and ask for a new sheet.",
}


def describe(title, picture):
    """The Form that a person would write for a drawn form; picture: path of the blank one."""
    fields = {}
    for one in FORMS[title]:
        lines = _lines(one) > 0
        x, y, width, height = cv2.boundingRect(lines.astype(np.uint8))
        if one.style in ("base line", "ticks"):  # the digits stand above the line
            y, height = MARGIN, CELL_HEIGHT
        box = one.x - MARGIN + x, one.y - MARGIN + y, width, height
        has_cells = one.style not in ("base line", "frame")
        fields[one.name] = Field(box, one.cells if has_cells else None, one.cells if one.fixed else None)
    return Form(picture, 0, fields)


def blank(title):
    """The page of a form that nobody has filled in."""
    page = Image.new("RGB", (WIDTH, HEIGHT), WHITE)
    canvas, font = ImageDraw.Draw(page), ImageFont.load_default
    canvas.text((100, 90), title, BLACK, font(54))
    canvas.text((100, 170), NOTES[title], BLACK, font(24))
    canvas.line([(100, 225), (1140, 225)], BLACK, 4)
    for one in FORMS[title]:
        canvas.text((one.x - 20, one.y + 15), one.name, BLACK, font(26), anchor="ra")
    canvas.text((100, 1600), f"{title}, version 3. Keep a copy; return the sheet to the office.", BLACK, font(22))
    canvas.rectangle([1060, 80, 1140, 160], outline=BLACK, width=6)
    canvas.ellipse([1080, 100, 1120, 140], fill=BLACK)
    ink = np.zeros((HEIGHT, WIDTH), np.float32)
    for one in FORMS[title]:
        _paste(ink, _lines(one), one)
    return np.minimum(np.asarray(page), on_paper(ink))


def filled(title, values, rng, pen=form_fields.INK):
    """The page of a form that one person has filled in; values: name of a field -> its digits; pen: RGB of the ink."""
    writer = handwriting.random_writer(rng)
    ink = np.zeros((HEIGHT, WIDTH), np.float32)
    for one in FORMS[title]:
        number = values[one.name]
        if number:
            _paste(ink, form_fields.field(number, rng, one.style, writer=writer)[0], one)
    page = blank(title)
    return np.rint(page + ink[..., None] * (pen - page)).astype(np.uint8)


def random_values(title, rng):
    """Digits for each field of a form; fields without a fixed number of digits have two or more."""
    numbers = {}
    for one in FORMS[title]:
        count = one.cells if one.fixed else rng.integers(2, one.cells + 1)
        numbers[one.name] = "".join(map(str, rng.integers(0, 10, count)))
    return numbers


def scanned(page, rng, turn=0, scale=1.0):
    """The JPEG file of a page that was laid askew on a scanner of another resolution; turn: quarters of a circle."""
    angle = rng.uniform(-5, 5)
    height, width = (round(scale * 1.08 * side) for side in (HEIGHT, WIDTH))
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), angle, scale)
    matrix[:, 2] += np.array([width - WIDTH, height - HEIGHT]) / 2 + rng.uniform(-30, 30, 2)
    scan = cv2.warpAffine(page, matrix, (width, height), flags=cv2.INTER_AREA, borderValue=(244, 243, 240))
    return _as_jpeg(np.rot90(scan + rng.normal(0, 3, scan.shape), turn))


def photographed(page, rng, turn=0, height=2000):
    """The JPEG file of a photo of a page on a table, in perspective, with a shadow; turn: quarters of a circle."""
    width = 3 * height // 4
    corners = np.array([(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)], np.float32)
    seen = corners * [0.93 * width / WIDTH, 0.93 * height / HEIGHT] + [0.035 * width, 0.035 * height]
    matrix = cv2.getPerspectiveTransform(corners, np.float32(seen + rng.uniform(-0.035, 0.035, (4, 2)) * width))
    photo = cv2.warpPerspective(page, matrix, (width, height), flags=cv2.INTER_AREA, borderValue=TABLE)
    y, x = np.indices((height, width)) / height
    lean, edge = rng.uniform(-0.7, 0.7), rng.uniform(0.3, 0.9)
    shadow = 1 - rng.uniform(0.2, 0.45) / (1 + np.exp((x + lean * y - edge) / 0.01))
    light = shadow * (1 - rng.uniform(0, 0.3) * y)
    photo = cv2.GaussianBlur(photo, (0, 0), 0.8) * light[..., None] * (1.0, 0.97, 0.9)
    return _as_jpeg(np.rot90(photo + rng.normal(0, 4, photo.shape), turn))


def _lines(one):
    return form_fields.field(" " * one.cells, None, one.style, one.darkness)[1]


def _paste(ink, part, one):
    top, left = one.y - MARGIN, one.x - MARGIN
    view = ink[top : top + part.shape[0], left : left + part.shape[1]]
    np.maximum(view, part, out=view)


def _as_jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(np.rint(pixels.clip(0, 255)).astype(np.uint8)).save(file, "JPEG", quality=75)
    return file.getvalue()


def main():
    SAMPLE.mkdir(parents=True, exist_ok=True)
    (SAMPLE / "sheets").mkdir(exist_ok=True)
    rng, title = np.random.default_rng(15), "Order form"  # digits that most people read alike
    Image.fromarray(blank(title)).convert("L").save(SAMPLE / "order_form.png")
    save([describe(title, SAMPLE / "order_form.png")], SAMPLE / "order_form.json")
    for number in range(1, 6):
        page = filled(title, random_values(title, rng), rng)
        sheet = photographed(page, rng, 0, 1500) if number > 3 else scanned(page, rng, 2 * (number == 3), 0.8)
        (SAMPLE / "sheets" / f"{number}.jpg").write_bytes(sheet)
    print(f"The sample is in {SAMPLE}/")


if __name__ == "__main__":
    sys.exit(main())
