"""How well is other people's handwriting read? For a folder of pictures that one has labelled.

    python -m extras.handwriting my_pictures/

The folder has one or more of: digits/**/<digit>__<anything>, a digit a picture; numbers/<number>__<anything>, where
lines are joined by "_"; not-digits/<anything>, where nothing should be read. Prints what is misread, and the shares.
"""

import sys
from pathlib import Path

import numpy as np

from digits.cli import Parser, UsageError, check_model_file, progress, run
from digits.reading import reader
from digits.reading.image_file import pictures_in


def label(path):
    """The digit or number that a picture's name says. Raises UsageError."""
    number, mark, _ = path.name.partition("__")
    if not mark:
        raise UsageError(f"{path}: the name must begin with the digit or number and __, such as 5__mine.png")
    return number


def read_each(folder, model):
    """The (path, Reading) of each picture in a folder."""
    return [(path, reader.read(path, model)) for path in progress(pictures_in(folder), f"Reading {folder.name}")]


def report_digits(readings):
    wrong = [(path, reading) for path, reading in readings if reading.prediction != label(path)]
    for path, reading in wrong:
        print(f"  {path}: {reading.prediction}, {100 * reading.confidence:.0f}%")
    kept = np.mean([reading.is_digit for _, reading in readings])
    alone = np.mean([reading.number == label(path) for path, reading in readings])
    print(f"Digits read right: {share(len(readings) - len(wrong), len(readings))}")
    print(f"  taken for a digit: {100 * kept:.1f}%; read as this digit and no other: {100 * alone:.1f}%")


def report_numbers(readings):
    wrong = [(path, reading) for path, reading in readings if reading.number != label(path)]
    for path, reading in wrong:
        print(f"  {path}: {reading.number or 'nothing'}")
    print(f"Numbers read without any error: {share(len(readings) - len(wrong), len(readings))}")


def report_non_digits(readings, digits):
    scores = np.array([reading.digit_score for _, reading in readings])
    accepted = sum(reading.is_digit for _, reading in readings)
    print(f"What is no digit, taken for one: {share(accepted, len(readings))}")
    if digits:
        of_digits = np.array([reading.digit_score for _, reading in digits])
        threshold = np.quantile(of_digits, 0.02)
        above = (of_digits[:, None] > scores).mean() + (of_digits[:, None] == scores).mean() / 2
        print(f"  at the threshold that keeps 98% of these digits: {100 * (scores >= threshold).mean():.1f}%")
        print(f"  area under the ROC curve, digit against what is none: {above:.4f}")


def share(count, total):
    return f"{100 * count / total:.1f}% ({count:,} of {total:,})"


def work(args):
    check_model_file(args.model)
    if not args.folder.is_dir():
        raise UsageError(f"{args.folder}: no such folder; name one with digits/, numbers/ or not-digits/ in it")
    found = {name: read_each(args.folder / name, args.model) for name in ("digits", "numbers", "not-digits")}
    if not any(found.values()):
        raise UsageError(
            f"{args.folder}: no pictures in digits/, numbers/ or not-digits/; --help says how to name them"
        )
    if found["digits"]:
        report_digits(found["digits"])
    if found["numbers"]:
        report_numbers(found["numbers"])
    if found["not-digits"]:
        report_non_digits(found["not-digits"], found["digits"])


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, help="folder with digits/, numbers/ and not-digits/")
    parser.add_argument("--model", type=Path, default=Path("mnist_cnn.keras"), help="model file (default: %(default)s)")
    return run(work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
