"""What --data names: MNIST, the handwriting that comes with the project, or a folder of class sub-folders."""

import sys
from pathlib import Path
from typing import NamedTuple

from digits.cli import UsageError
from digits.data import folders, handwriting, mnist

HELP = (
    "mnist, handwriting, or a folder with train/ and test/ (default: mnist, or handwriting if MNIST is not available)"
)
MNIST_FOLDER = Path("Mnist_dataset")
FETCHED = ("fashion", "kmnist", "emnist-digits", "emnist-letters", "emnist-balanced")  # by extras/fetch.py


def name_of(data):
    """The name of a data set, with which the name of its model file begins."""
    return data if data in ("mnist", "handwriting") else "mnist" if data is None else Path(data).resolve().name


def folder_of(data):
    """The folder of a data set on disk."""
    return MNIST_FOLDER if data in (None, "mnist") else Path(data)


def make_available(data):
    """Return "mnist", made in Mnist_dataset/ if it is missing, "handwriting", or the folder. Raises UsageError.

    data: one of these, or None for MNIST, with handwriting in its place if MNIST is not available.
    """
    if data in FETCHED and not folder_of(data).is_dir():
        raise UsageError(f"--data {data}: no such folder; make it with: python -m extras.fetch {data}")
    if data == "drawn" and not folder_of(data).is_dir():
        raise UsageError("--data drawn: replaced by --data handwriting, digits of real people")
    if data not in (None, "mnist") or MNIST_FOLDER.is_dir():
        return data or "mnist"
    try:
        mnist.make(MNIST_FOLDER)
        return "mnist"
    except mnist.Unavailable as error:
        if data == "mnist":
            raise UsageError(
                f"{MNIST_FOLDER}/ is missing and MNIST is not available ({error}); put its four IDX files into a "
                "folder and set MNIST_DIR to it, or train on the digits that come with the project: --data handwriting"
            ) from error
        print("MNIST is not available (--data mnist says why): using --data handwriting", file=sys.stderr)
        return "handwriting"


class Splits(NamedTuple):
    """The Images of a data set; None where there are none."""

    training: folders.Images
    validation: folders.Images
    writers: folders.Images | None  # digits of people who are not trained on, unless they are the validation already
    test: folders.Images | None


def load_splits(data, validation_split, tested=True):
    """The Splits of what make_available() returned; tested: with the test images. Raises UsageError."""
    training, validation = load_training(data, validation_split)
    test = load_test(data) if tested else None
    if test and test.classes != training.classes:
        raise UsageError(f"{data}/test: its classes differ from train/; make them agree, or use --no-test")
    others = training.classes == handwriting.DIGITS and data != "handwriting"
    writers = handwriting.held_out_digits("validation", validation_split) if others else None
    return Splits(training, validation, writers, test)


def load_training(data, validation_split):
    """Return (training, validation) Images of what make_available() returned. Raises UsageError.

    validation_split: fraction held out, 0-1, of each class, or of the writers where they are known.
    """
    if data == "handwriting":
        print(f"Drawing {handwriting.TRAINING_IMAGES:,} digits of other people", file=sys.stderr, flush=True)
        training = handwriting.training_digits(handwriting.TRAINING_IMAGES, validation_split, seed=0)
        return training, handwriting.held_out_digits("validation", validation_split)
    return folders.train_val_split(folders.load_folder(folder_of(data), "train"), validation_split)


def load_test(data):
    """Return the test Images of what make_available() returned. Raises UsageError."""
    if data == "handwriting":
        return handwriting.held_out_digits("test")
    return folders.load_folder(folder_of(data), "test")
