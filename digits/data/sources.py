"""What --data names: MNIST, drawn digits, or a folder of class sub-folders."""

import sys
from pathlib import Path

from digits.cli import UsageError
from digits.data import folders, mnist, strokes
from digits.data.folders import Images

HELP = "data set: mnist, drawn, or a folder with train/ and test/ (default: mnist, or drawn if MNIST is not available)"
MNIST_FOLDER = Path("Mnist_dataset")
DRAWN = {"train": (60_000, 1), "test": (10_000, 2)}  # number of drawn digits, and their seed
FETCHED = ("fashion", "kmnist", "emnist-digits", "emnist-letters", "emnist-balanced")  # by extras/fetch.py


def name_of(data):
    """The name of a data set, with which the name of its model file begins."""
    return data if data in ("mnist", "drawn") else "mnist" if data is None else Path(data).resolve().name


def folder_of(data):
    """The folder of a data set on disk."""
    return MNIST_FOLDER if data in (None, "mnist") else Path(data)


def make_available(data):
    """Return "mnist", made in Mnist_dataset/ if it is missing, "drawn", or the folder. Raises UsageError.

    data: one of these, or None for MNIST, with drawn digits in its place if MNIST is not available.
    """
    if data in FETCHED and not folder_of(data).is_dir():
        raise UsageError(f"--data {data}: no such folder; make it with: python -m extras.fetch {data}")
    if data not in (None, "mnist") or MNIST_FOLDER.is_dir():
        return data or "mnist"
    try:
        mnist.make(MNIST_FOLDER)
        return "mnist"
    except mnist.Unavailable as error:
        if data == "mnist":
            raise UsageError(
                f"{MNIST_FOLDER}/ is missing and MNIST is not available ({error}); put its four IDX files into a "
                "folder and set MNIST_DIR to it, or train on drawn digits with --data drawn"
            ) from error
        print("MNIST is not available (--data mnist says why): using drawn digits, as --data drawn", file=sys.stderr)
        return "drawn"


def load(data, split):
    """Return the Images of a split, "train" or "test", of what make_available() returned. Raises UsageError."""
    if data == "drawn":
        pixels, labels = strokes.draw(*DRAWN[split])
        return Images([str(digit) for digit in range(10)], labels, pixels=pixels)
    return folders.load_folder(folder_of(data), split)
