"""Measure how well a labelled folder of pictures is read; print the accuracy and every picture that is misread.

    python -m extras.handwriting my_pictures/

The folder has one or more of: digits/**/<digit>__<anything>, one digit per picture; numbers/<number>__<anything>,
with "_" between lines; not-digits/<anything>, in which nothing should be read.
"""

import sys
from pathlib import Path

import numpy as np

from digits import model
from digits.cli import Parser, UsageError, progress, run
from digits.reading import reader
from digits.reading.image_file import search


def label(path):
    """The digit or number at the start of a picture's name. Raises UsageError."""
    number, mark, _ = path.name.partition("__")
    if not mark:
        raise UsageError(f"{path}: the name must begin with the digit or number and __, such as 5__mine.png")
    return number


def report(title, readings, field):
    """Print each picture whose Reading differs from its label in this field, then how many are read correctly."""
    wrong = [(path, reading) for path, reading in readings if getattr(reading, field) != label(path)]
    for path, reading in wrong:
        confidence = f", {100 * reading.confidence:.0f}%" if field == "prediction" else ""
        print(f"  {path}: {getattr(reading, field) or 'nothing'}{confidence}")
    right, total = len(readings) - len(wrong), len(readings)
    print(f"{title}: {100 * right / total:.1f}% ({right:,} of {total:,})")


def measure(args):
    model.check(args.model)
    digits, numbers, non_digits = (
        [(path, reader.read(path, args.model)) for path in progress(search(args.folder / name)[0], f"Reading {name}")]
        for name in ("digits", "numbers", "not-digits")
    )
    if not digits + numbers + non_digits:
        raise UsageError(f"{args.folder}: has no pictures in digits/, numbers/ or not-digits/ (see --help)")
    if digits:
        report("Digits read correctly", digits, "prediction")
        accepted = np.mean([reading.is_digit for _, reading in digits])
        exact = np.mean([reading.number == label(path) for path, reading in digits])
        print(f"  accepted as digits: {100 * accepted:.1f}%; this digit and no other: {100 * exact:.1f}%")
    if numbers:
        report("Numbers read without error", numbers, "number")
    if non_digits:
        accepted, total = sum(reading.is_digit for _, reading in non_digits), len(non_digits)
        print(f"Non-digits accepted as digits: {100 * accepted / total:.1f}% ({accepted:,} of {total:,})")
    if digits and non_digits:
        low, high = (np.array([reading.digit_score for _, reading in group]) for group in (non_digits, digits))
        auc = np.mean(high[:, None] > low) + np.mean(high[:, None] == low) / 2
        accepted = np.mean(low >= np.quantile(high, 0.02))
        print(f"  at the threshold that accepts 98% of these digits: {100 * accepted:.1f}%")
        print(f"  area under the ROC curve, digits against non-digits: {auc:.4f}")


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder with digits/, numbers/ and not-digits/")
    parser.add_argument(
        "--model", type=Path, default=Path("mnist_cnn.keras"), help="model to read with (default: %(default)s)"
    )
    return run(measure, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
