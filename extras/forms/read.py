"""python -m extras.forms read: a table with a row for each sheet, and a page to review what is doubtful.

    python -m extras.forms read form.json scans/                  # writes scans.csv and scans_review.html
    python -m extras.forms read form.json batch.pdf more/ --output march.csv
    python -m extras.forms read form.json scans/ --json > sheets.jsonl

A run that was interrupted is continued by the same command, which also reads scans that were added.
"""

import dataclasses
import json
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from digits import model
from digits.cli import UsageError, fail, number, option, progress
from digits.reading import reader, worker_pool
from digits.reading.batches import named
from extras.forms import description, pages, sheets
from extras.forms.find import overview_of
from extras.forms.table import Row, Table

FEW = 4  # sheets that are read in this process, which is sooner than to start others
BATCH = 10  # sheets that the network reads at a time


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    files: list = option(
        (), "the form's JSON file, then scans: pictures, TIFFs, PDFs, folders of them", positional=True
    )
    output: Path = option(None, "table to write (default: the first scan's name with .csv, in this folder)", Path)
    model: Path = option(None, "path of the model file to read with (default: mnist_cnn.keras)", Path)
    min_confidence: float = option(0.92, "mark fields below it for review, 0-1", number(float, least=0, most=1))
    json: bool = option(False, "also print a JSON object for each sheet")
    overwrite: bool = option(False, "replace a table that is already there")

    def __post_init__(self):
        if len(self.files) < 2:
            raise UsageError("name the form's JSON file and at least one scan or folder of scans")
        self.model = self.model or model.find_default()
        first = Path(self.files[1])
        self.output = self.output or Path(f"{(first.resolve() if first.is_dir() else first.with_suffix('')).name}.csv")
        if self.output.suffix.lower() != ".csv":
            raise UsageError(f"--output: {self.output} does not end in .csv")


class FieldReading(NamedTuple):
    """What was read in a field."""

    number: str  # "" if it is empty
    confidence: float | None  # 0-1, of the least certain digit; None if it is empty
    doubt: str  # why a person should look at it, "" if there is no need
    picture: bytes  # JPEG


def read(settings):
    model.check(settings.model)
    if not model.describe(settings.model).segment:
        raise UsageError(f"--model: {settings.model} classifies pictures whole; name a model of digits")
    path = Path(settings.files[0])
    forms = description.load(path)
    for form in forms:
        try:
            sheets.load_reference(form)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
    exclude = {file.resolve() for form in forms for file in (form.picture, overview_of(form.picture, form.page))}
    all_sheets, left_out = pages.find_sheets(settings.files[1:], len(forms), exclude)
    if left_out:
        print(f"Left out, neither pictures nor PDFs: {named(left_out)}", file=sys.stderr)
    names = [name for form in forms for name in form.fields]
    written = [file.stat().st_mtime_ns for file in (settings.model, *(form.picture for form in forms))]
    about = f"{forms} {settings.min_confidence} {written}"
    with Table(settings.output, names, about, settings.overwrite) as table:
        waiting = [sheet for sheet in all_sheets if key_of(sheet) not in table.done]
        if not waiting:
            advice = "--overwrite reads them again, --output writes another table"
            raise UsageError(f"{settings.output}: has all {len(all_sheets)} sheets already; {advice}")
        try:
            failed, marked = read_sheets(waiting, forms, table, settings)
        except KeyboardInterrupt:
            done = f"interrupted; {len(table.done)} of {len(all_sheets)} sheets are in {settings.output}"
            again = "the same command without --overwrite" if settings.overwrite else "the same command"
            raise KeyboardInterrupt(f"{done}, {again} reads the others") from None
    if not settings.json:
        print(f"Table: {settings.output}   Review page: {table.page}")
        done = f"Read {len(waiting) - failed:,} of {len(waiting):,} sheets"
        print(f"{done}; {marked:,} of {len(names) * (len(waiting) - failed):,} fields to be reviewed")
    return 2 if failed else 0


def key_of(sheet):
    """The file and the page by which a sheet is known in the table."""
    return sheet.file, sheet.pages[0].number + 1


def read_sheets(waiting, forms, table, settings):
    """Read sheets into the Table; return how many were not read in full, and how many fields are to be reviewed."""
    fields = {name: field for form in forms for name, field in form.fields.items()}
    cut_sheets = worker_pool.in_order(partial(sheets.cut, forms=forms), waiting, FEW)
    on_screen = settings.json and sys.stdout.isatty()  # where a progress bar would be in the way
    cut_sheets = iter(cut_sheets if on_screen else progress(cut_sheets, "Reading sheets", len(waiting)))
    failed = marked = 0
    while batch := list(islice(cut_sheets, BATCH if len(waiting) > FEW else 1)):
        segmented = [cut.segmented for sheet in batch for cut in sheet.fields.values()]
        readings = iter(reader.classify(segmented, settings.model) if segmented else ())
        for sheet in batch:
            row = _row(sheet, readings, fields, settings.min_confidence)
            table.add(row)
            if row.error:
                failed += 1
                fail(f"{row.file}{f' page {row.page}' if row.page > 1 else ''}: {row.error}", 2)
            else:
                marked += len(row.doubts)
            if settings.json:
                print(json.dumps(_as_json(row)), flush=True)
    return failed, marked


def _field_reading(field, cut, reading, min_confidence):
    """The FieldReading of a Field, from its CutField and Reading."""
    written = reading.number if field.cells or field.digits else reading.text
    confidence = min((digit.confidence for digit in reading.digits), default=None)
    return FieldReading(written, confidence, find_doubt(field, reading, min_confidence), cut.picture)


def find_doubt(field, reading, min_confidence):
    """Why a person should look at a Field, from its Reading; "" if there is no need."""
    if reading.prediction is None:
        return "empty" if field.required else ""
    if not reading.digits:
        return "not a number"
    doubts, found = [], len(reading.digits)
    if field.digits and found != field.digits:
        doubts.append(f"{found} digit{'s' * (found > 1)}, not {field.digits}")
    elif field.cells and found > field.cells:
        doubts.append(f"{found} digits in {field.cells} cells")
    if reading.refused:
        doubts.append("a mark was not read")
    confidence = min(digit.confidence for digit in reading.digits)
    if confidence < min_confidence:
        doubts.append(f"confidence {100 * confidence:.0f}%")
    return "; ".join(doubts)


def _row(sheet, readings, fields, min_confidence):
    """The Row of a CutSheet; readings: an iterator of the Readings of its fields; fields: all Fields by name."""
    values = dict.fromkeys(fields, FieldReading("", None, "not read", b""))
    for name, cut in sheet.fields.items():
        values[name] = _field_reading(fields[name], cut, next(readings), min_confidence)
    return Row(*key_of(sheet.sheet), values, "; ".join(sheet.errors), sheet.pictures)


def _as_json(row):
    fields = {
        name: {"number": one.number, "confidence": one.confidence, "review": one.doubt or None}
        for name, one in row.fields.items()
    }
    return {"file": row.file, "page": row.page, "fields": fields, "review": row.doubts, "error": row.error or None}
