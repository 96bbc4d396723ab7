"""python -m extras.forms find: propose the fields of a form, in a JSON file to edit, and draw them into its picture.

    python -m extras.forms find blank_form.png         # writes blank_form.json and blank_form_fields.png beside it

Fields are rows of cells, single boxes, and base lines to write on, with or without ticks. A blank form is best. It may
be a picture or a PDF, of which each page is a form.
"""

import dataclasses
from pathlib import Path

import cv2
from PIL import Image, ImageDraw, ImageFont

from digits.cli import UsageError, in_one_line, option
from digits.files import atomic_write
from extras.forms import description, pages
from extras.forms.layout import find_fields

COLOUR = (200, 30, 30)  # RGB, of the fields in the picture


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    form: list = option((), "picture or PDF of the form", positional=True)
    overwrite: bool = option(False, "replace the JSON file and the picture that are already there")

    def __post_init__(self):
        if len(self.form) != 1:
            raise UsageError("name one form, a picture or a PDF")


def find(settings):
    path = Path(settings.form[0])
    target = path.with_suffix(".json")
    forms, pictures = [], []
    for number in range(pages.count_pages(path)):
        try:
            picture = pages.open_form(pages.Page(path, number))
            found = find_fields(picture)
        except (pages.PictureError, cv2.error) as error:
            raise UsageError(f"{path}: {in_one_line(error)}") from None
        before = sum(len(form.fields) for form in forms)
        fields = {f"Field {before + index}": one for index, one in enumerate(found, 1)}
        if fields:
            forms.append(description.Form(path, number, fields))
            pictures.append((overview_of(path, number), picture))
    if not forms:
        raise UsageError(
            f"{path}: no rows of cells, boxes or base lines found; write the JSON file by hand (docs/forms.md)"
        )
    for output in (target, *(name for name, _ in pictures)):
        if output.exists() and not settings.overwrite:
            raise UsageError(f"{output}: is already there; give --overwrite to replace it")
    for form, (name, picture) in zip(forms, pictures, strict=True):
        with atomic_write(name) as temporary:
            draw_fields(picture, form.fields).save(temporary)
    description.save(forms, target)
    names = ", ".join(str(name) for name, _ in pictures)
    print(f"Fields: {target}   Picture: {names}")
    print(f"Found {sum(len(form.fields) for form in forms)} fields; give them names in {target}")


def overview_of(path, page):
    """The path of the picture in which the fields of a form are drawn in; page: from 0."""
    return path.with_name(f"{path.stem}_fields{f'_{page + 1}' if page else ''}.png")


def draw_fields(picture, fields):
    """The picture of a form, uint8 H×W×3, with its Fields drawn in, as a PIL image."""
    image = Image.fromarray(picture)
    canvas, unit = ImageDraw.Draw(image), max(image.size) / 1000
    font = ImageFont.load_default(max(10, 14 * unit))
    for name, field in fields.items():
        x, y, width, height = field.box
        canvas.rectangle([x, y, x + width, y + height], outline=COLOUR, width=max(1, round(2 * unit)))
        label = f"{name}: {field.cells} cells" if field.cells else name
        left, top, right, bottom = canvas.textbbox((x, y - 2 * unit), label, font, anchor="lb")
        canvas.rectangle([left - 2 * unit, top - unit, right + 2 * unit, bottom + unit], fill=COLOUR)
        canvas.text((x, y - 2 * unit), label, (255, 255, 255), font, anchor="lb")
    return image
