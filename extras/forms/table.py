"""The table of what was read, a CSV file, and beside it the page in which a person reviews what is doubtful.

Both grow by one sheet after the other, so that a run that was interrupted can be continued: the page holds all that
is known of each sheet, on one line.
"""

import base64
import csv
import hashlib
import html
import io
import json
from pathlib import Path
from typing import NamedTuple

from digits.cli import UsageError

COLUMNS_BEFORE, COLUMNS_AFTER = ("file", "page"), ("review", "error")
OTHER_COLUMNS = COLUMNS_BEFORE + COLUMNS_AFTER  # than those of the fields
START, END = b'<script type="application/json" class="sheet">', b"</script>\n"
TEMPLATE = Path(__file__).with_name("review.html")


class Row(NamedTuple):
    """What was read on one sheet."""

    file: str
    page: int  # from 1
    fields: dict  # name -> read.FieldReading
    error: str  # why it, or one of its pages, was not read; "" if it was
    pictures: list  # JPEG bytes of the pages that were not read

    @property
    def doubts(self):
        """The names of the doubtful fields."""
        return [name for name, field in self.fields.items() if field.doubt]

    @property
    def cells(self):
        """The values of the columns."""
        cells = [self.file, self.page]
        for field in self.fields.values():
            cells += [field.number, "" if field.confidence is None else f"{field.confidence:.3f}"]
        return [*cells, "; ".join(self.doubts), self.error]


def columns(names):
    """The header of the table; names: of the fields."""
    return [*COLUMNS_BEFORE, *(text for name in names for text in (name, confidence_of(name))), *COLUMNS_AFTER]


def confidence_of(name):
    """The name of the column for the confidence of a field."""
    return f"{name} confidence"


class Table:
    """The CSV file at a path and the review page beside it; a context that opens and closes them.

    names: of the fields. about: all that the readings depend on. overwrite: whether to start anew. done: (file, page)
    of the sheets that are already there. Raises UsageError if there are files of other settings.
    """

    def __init__(self, path, names, about, overwrite):
        self.path, self.page = path, path.with_name(f"{path.stem}_review.html")
        self.columns, self.done = columns(names), set()
        self.head = _head(path.name, self.columns, about)
        self.overwrite = overwrite

    def __enter__(self):
        if self.overwrite:
            self.path.unlink(missing_ok=True)
            self.page.unlink(missing_ok=True)
        rows = self._rows_of_page()
        written = self._rows_of_table()
        self.done = {(file, page) for file, page, *_ in rows}
        self.html = self.page.open("ab")
        if not self.html.tell():
            self.html.write(self.head)
            self.html.flush()
        self.csv = self.path.open("a", newline="", encoding="utf-8")
        self.writer = csv.writer(self.csv, lineterminator="\n")
        if not written:
            self._write(self.columns)
        for row in rows:
            if (as_cell(row[0]), str(row[1])) not in written:
                self._write(row)
        return self

    def __exit__(self, *_):
        self.html.close()
        self.csv.close()

    def add(self, row):
        """Write a Row; the page first, since the table can be completed from it."""
        data = {"cells": row.cells, "doubts": {}, "pictures": list(map(_data_url, row.pictures))}
        for name in row.doubts:
            field = row.fields[name]
            data["doubts"][name] = {"why": field.doubt, "picture": _data_url(field.picture)}
        self.html.write(START + json.dumps(data).replace("<", "\\u003c").encode() + END)
        self.html.flush()
        self._write(row.cells)
        self.done.add((row.file, row.page))

    def _write(self, cells):
        self.writer.writerow(map(as_cell, cells))
        self.csv.flush()

    def _rows_of_page(self):
        """The cells of the sheets that are in the page; what a crash left of another one is cut off."""
        if not self.page.exists():
            if self.path.exists():
                self._refuse(f"{self.path}: is already there")
            return []
        rows = []
        with self.page.open("r+b") as file:
            if file.read(len(self.head)) != self.head:
                self._refuse(f"{self.page}: was made with another form, model or --min-confidence")
            end = file.tell()
            for line in file:
                if not (line.startswith(START) and line.endswith(END)):
                    break
                rows.append(json.loads(line[len(START) : -len(END)])["cells"])
                end += len(line)
            file.truncate(end)
        return rows

    def _rows_of_table(self):
        """The (file, page), as written, of the rows of the table; empty if there is none."""
        if not self.path.exists():
            return set()
        text = self.path.read_text(encoding="utf-8-sig", errors="replace")
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
        if rows and rows[0] != [as_cell(column) for column in self.columns]:
            self._refuse(f"{self.path}: has other columns than this form")
        if text and not text.endswith("\n"):
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n")
        return {tuple(row[:2]) for row in rows}

    def _refuse(self, reason):
        raise UsageError(f"{reason}; give --overwrite to replace it, or --output to write another table")


def as_cell(value):
    """The text of a cell: never a formula, to whatever program opens the table."""
    text = str(value)
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") else text


def _data_url(jpeg):
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode() if jpeg else None


def _head(name, header, about):
    """All of the page but the sheets; scripts and styles are allowed by their hashes, and nothing from elsewhere."""
    text = TEMPLATE.read_text(encoding="utf-8")
    for tag in ("style", "script"):
        content = text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        text = text.replace("{" + tag + "}", digest)
    data = {"name": name, "columns": header, "reading": hashlib.sha256(about.encode()).hexdigest()}
    return text.replace("{name}", html.escape(name)).replace("{data}", html.escape(json.dumps(data))).encode()
