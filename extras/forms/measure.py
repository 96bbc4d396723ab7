"""Measure how well filled forms are read: sheets are drawn, found, aligned, read and reviewed.

    python -m extras.forms.measure              # 20 sheets of each of two forms, of 8 and 14 fields

Half of the sheets are scans, half photos, some of them turned (drawn.py); each is filled in by one person who is not
trained on.
"""

import csv
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from digits.cli import Parser, number, option, progress, run
from extras.forms import description, drawn, layout, read

SCALES = 0.85, 1.6  # of scans, against 150 dpi


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    count: int = option(20, "sheets of each form to draw and read", number(int, least=1, most=10**4))
    seed: int = option(0, "of all random numbers: the same sheets again", number(int, least=0, most=2**31 - 1))
    model: Path = option(Path("mnist_cnn.keras"), "path of the model file to read with", Path)


def measure(settings):
    rng = np.random.default_rng(settings.seed)
    rows, seconds = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for title in drawn.FORMS:
            place = Path(folder) / title
            values = _draw(title, place, settings.count, rng)
            fields = description.load(place / "form.json")[0].fields
            found = layout.find_fields(drawn.blank(title))
            proposed = sum(any(_same(field, one) for one in found) for field in fields.values())
            start = time.perf_counter()
            read.read(read.Settings([place / "form.json", place / "sheets"], place / "table.csv", settings.model))
            seconds += time.perf_counter() - start
            with (place / "table.csv").open(encoding="utf-8") as file:
                table = list(csv.DictReader(file))
            print(f"{title}: {proposed} of {len(fields)} fields proposed, besides {len(found) - proposed} others")
            print(f"  sheets aligned: {sum(not row['error'] for row in table)} of {len(table)}")
            rows += zip(values, table, strict=True)
    _report(rows, seconds)


def _draw(title, place, count, rng):
    """Draw a form and `count` sheets into a folder; return what is written on each: name of a field -> digits."""
    (place / "sheets").mkdir(parents=True)
    Image.fromarray(drawn.blank(title)).save(place / "form.png")
    description.save([drawn.describe(title, place / "form.png")], place / "form.json")
    values = [drawn.random_values(title, rng) for _ in range(count)]
    for index, one in enumerate(progress(values, f"Drawing {title}")):
        page, turn = drawn.filled(title, one, rng), index // 2 % 4
        photo = index % 2
        sheet = drawn.photographed(page, rng, turn) if photo else drawn.scanned(page, rng, turn, rng.uniform(*SCALES))
        (place / "sheets" / f"{index:03}.jpg").write_bytes(sheet)
    return values


def _same(field, other):
    """Whether two Fields share most of their boxes, and have as many cells."""
    (x, y, width, height), (u, v, w, h) = field.box, other.box
    shared = max(0, min(x + width, u + w) - max(x, u)) * max(0, min(y + height, v + h) - max(y, v))
    return shared > 0.6 * (width * height + w * h - shared) and field.cells == other.cells


def _report(rows, seconds):
    """Print how many fields are right, and how well the review finds the others; rows: (true values, table row)."""
    cells = [
        (true, row[name], name in row["review"].split("; ")) for values, row in rows for name, true in values.items()
    ]
    right, wrong = ([marked for true, text, marked in cells if (text == true) == same] for same in (True, False))
    print(f"Fields read correctly: {100 * len(right) / len(cells):.1f}% ({len(right):,} of {len(cells):,})")
    print(f"  marked for review, of those that are wrong: {sum(wrong)} of {len(wrong)}")
    print(f"  marked for review, of those that are right: {100 * np.mean(right):.1f}%")
    print(f"Time: {seconds / len(rows):.2f} s for each of {len(rows)} sheets")


def main(argv=None):
    return run(measure, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
