"""Many pictures: all processors segment them, and the network classifies them in batches."""

import os
import sys
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from digits.cli import UsageError, printable, progress
from digits.model import describe
from digits.reading import image_file, reader, worker_pool

BATCH = 20  # pictures that the network classifies at a time
POOL_FROM = 100  # pictures; fewer are segmented in this process, which is sooner than to start others


class Picture(NamedTuple):
    """A picture to read, and how it is called in the output."""

    name: str
    source: object  # path, or uint8 array
    page: int = 0  # of a TIFF, from 0


def find_pictures(names, exclude=()):
    """Return (the Pictures that paths of files and folders name, paths of files in the folders that are left out).

    Those in folders are sorted; each page of a TIFF counts. exclude: resolved paths to leave out of folders without a
    word. Raises UsageError.
    """
    paths, left_out = [], []
    for name in map(Path, names):
        inside, others = image_file.search(name)
        inside = [path for path in inside if path.resolve() not in exclude]
        if len(names) == 1 and not os.path.exists(name):  # one among several is reported in its turn
            raise UsageError(f"{name}: no such file; name another picture, or edit img_path in predict.py")
        if len(names) == 1 and os.path.isdir(name) and not inside:
            found = f"; save {named(others)} as PNG or JPEG" if others else "; name one that has some"
            raise UsageError(f"{name}: no pictures in this folder that can be read{found}")
        paths += inside or [name]
        left_out += others
    pictures = []
    for path in paths:
        pages = image_file.count_pages(path) if path.suffix.lower() in (".tif", ".tiff") else 1
        names_of_pages = [str(path)] if pages == 1 else [f"{path} page {page + 1}" for page in range(pages)]
        pictures += [Picture(name, path, page) for page, name in enumerate(names_of_pages)]
    return pictures, left_out


def named(paths):
    """The names of the first three files, and how many more there are."""
    names = ", ".join(printable(path.name) for path in paths[:3])
    return names + (f" and {len(paths) - 3:,} more" if len(paths) > 3 else "")


def read_pictures(pictures, model_path, box=None, digits=None):
    """Yield (Picture, Reading or None, error message or None) for each; on a terminal, show progress.

    box, digits: as for reader.read(). Raises UsageError if the model cannot be used, RunError if a worker was killed.
    """
    size = 1 if sys.stdout.isatty() and len(pictures) <= BATCH else BATCH
    segment = partial(_segment_one, box=box, digits=digits, whole=not describe(model_path).segment)
    readings = _classify(worker_pool.in_order(segment, pictures, POOL_FROM), model_path, size)
    return readings if sys.stdout.isatty() else progress(readings, "Reading pictures", len(pictures))


def _classify(results, model_path, size):
    while batch := list(islice(results, size)):
        segmented = [found for _, found, error in batch if not error]
        readings = iter(reader.classify(segmented, model_path) if segmented else ())
        for picture, _, error in batch:
            yield picture, None if error else next(readings), error


def _segment_one(picture, box, digits, whole):
    """Return (Picture, Segmented or None, error message or None)."""
    try:
        return picture, reader.segment(picture.source, box, picture.page, whole=whole, digits=digits), None
    except image_file.PictureError as error:
        is_folder = isinstance(picture.source, Path) and picture.source.is_dir()
        return picture, None, "no pictures in this folder" if is_folder else str(error)
