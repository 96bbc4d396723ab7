"""What a form is: the picture of one page and its fields, in a JSON file that a person can edit.

    {"form": "blank_form.png", "fields": {"Order": {"box": [420, 340, 348, 70], "cells": 6, "digits": 6}}}

A file may list several forms, the pages of one sheet: [{"form": …}, {"form": …}].
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from digits.cli import UsageError, in_one_line
from digits.files import atomic_write, read_json
from extras.forms.table import OTHER_COLUMNS, confidence_of

FORM_KEYS, FIELD_KEYS = ("form", "page", "fields"), ("box", "cells", "digits", "required")
MOST = 100  # cells or digits of a field


class Field(NamedTuple):
    """Where a number is written."""

    box: tuple  # x, y, width, height in pixels of the form
    cells: int | None = None  # how many cells it has side by side; None: no cells
    digits: int | None = None  # how many digits it always has; None: not known
    required: bool = False  # whether it must not be left empty


class Form(NamedTuple):
    """One page, and the fields on it."""

    picture: Path  # of the page: an image or a PDF
    page: int  # of a PDF or TIFF, from 0
    fields: dict  # name -> Field


def load(path):
    """Return the Forms that a JSON file describes. Raises UsageError, with the file and the place in it."""
    if not os.path.exists(path):
        raise UsageError(f"{path}: no such file; make one with: python -m extras.forms find FORM")
    try:
        return _forms(read_json(path, object_pairs_hook=_without_repeats), path.parent)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except ValueError as error:
        raise UsageError(f"{path}: not a JSON file ({in_one_line(error)})") from None


def save(forms, path):
    """Write Forms as a JSON file, a line for each field; pictures are named relative to its folder."""
    blocks = []
    for form in forms:
        lines = [
            f"    {json.dumps(name, ensure_ascii=False)}: {json.dumps(_as_json(field))}"
            for name, field in form.fields.items()
        ]
        page = f'"page": {form.page + 1}, ' if form.page else ""
        head = f'{{"form": {json.dumps(form.picture.name, ensure_ascii=False)}, {page}"fields": {{\n'
        blocks.append(head + ",\n".join(lines) + "\n}}")
    text = blocks[0] if len(blocks) == 1 else "[" + ",\n".join(blocks) + "]"
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def check_boxes(fields, width, height):
    """Raise UsageError if one of (name, Field) pairs is not inside of a page; width, height: of the page in pixels."""
    for name, field in fields:
        x, y, w, h = field.box
        if x + w > width or y + h > height:
            raise UsageError(f"the box {list(field.box)} of field {name!r} is not inside its {width}×{height} pixels")


def _as_json(field):
    return {key: value for key, value in field._asdict().items() if value}


def _without_repeats(pairs):
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"{key!r} is there twice; rename one")
    return dict(pairs)


def _forms(content, folder):
    several = content if isinstance(content, list) else [content]
    where = [f"form {number}: " * (len(several) > 1) for number in range(1, len(several) + 1)]
    forms = [_form(one, folder, place) for one, place in zip(several, where, strict=True)]
    if not forms:
        raise UsageError('there is no form; it begins with {"form": "blank_form.png", "fields": …')
    names = [name for form in forms for name in form.fields]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two forms have a field {name!r}; rename one")
        if confidence_of(name) in names:
            taken = f"field '{confidence_of(name)}': this is the column of the confidence of {name!r}; rename one"
            raise UsageError(taken)
    return forms


def _form(content, folder, where):
    _check_keys(content, FORM_KEYS, ("form", "fields"), where)
    picture, page, fields = content["form"], content.get("page", 1), content["fields"]
    if not isinstance(picture, str) or not picture:
        raise UsageError(f'{where}"form" is {json.dumps(picture)}, not the name of a picture')
    if not _is_number(page, least=1):
        raise UsageError(f'{where}"page" is {json.dumps(page)}, not a number from 1')
    if not isinstance(fields, dict) or not fields:
        raise UsageError(
            f'{where}"fields" must list at least one field, such as "Order": {{"box": [420, 340, 348, 70]}}'
        )
    return Form(folder / picture, page - 1, {name: _field(name, one, where) for name, one in fields.items()})


def _field(name, content, where):
    where = f"{where}field {name!r}: "
    if not name.strip() or not name.isprintable() or name in OTHER_COLUMNS:
        taken = (
            f"{', '.join(OTHER_COLUMNS)} are columns of the table" if name in OTHER_COLUMNS else "it cannot be printed"
        )
        raise UsageError(f"{where}this cannot be a name, {taken}; choose another")
    _check_keys(content, FIELD_KEYS, ("box",), where)
    box, required = content["box"], content.get("required", False)
    is_box = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) > 0
    if not is_box:
        raise UsageError(f'{where}"box" is {json.dumps(box)}, not [x, y, width, height] in pixels from 0')
    for key in ("cells", "digits"):
        if content.get(key) is not None and not _is_number(content[key], least=1, most=MOST):
            raise UsageError(f'{where}"{key}" is {json.dumps(content[key])}, not a number from 1 to {MOST}')
    cells, digits = content.get("cells"), content.get("digits")
    if cells and digits and digits > cells:
        raise UsageError(f'{where}has {digits} "digits" but only {cells} "cells"')
    if not isinstance(required, bool):
        raise UsageError(f'{where}"required" is {json.dumps(required)}, not true or false')
    return Field(tuple(box), cells, digits, required)


def _check_keys(content, known, needed, where):
    if not isinstance(content, dict):
        raise UsageError(f"{where}{json.dumps(content)[:40]} is not an object with {', '.join(known)}")
    for key in content:
        if key not in known:
            raise UsageError(f"{where}unknown key {key!r}; known are {', '.join(known)}")
    for key in needed:
        if key not in content:
            raise UsageError(f'{where}"{key}" is missing')


def _is_number(value, least=0, most=10**6):
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
