"""Folders of class sub-folders: <data set>/train|test/<class>/*.png -> Images, and images -> such a folder."""

import json
import os
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image

from digits.cli import UsageError, printable, progress
from digits.files import WriteError, atomic_write, class_names, read_json

DESCRIPTION = "dataset.json"  # optional: {"classes": {folder: class name, ...}, "segment": false for whole pictures}
IGNORED = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}  # operating-system metadata files
SHUFFLE_BUFFER = 100_000  # images from which the pipeline draws the next one at random


class Images(NamedTuple):
    """One split of a data set: either paths of PNG files not yet read, or pixels; the other is None."""

    classes: list  # class names, str
    labels: np.ndarray  # int64 N, indices into classes
    paths: np.ndarray | None = None  # str N
    pixels: np.ndarray | None = None  # uint8 N×28×28×1, 0 background, 255 ink
    writers: np.ndarray | None = None  # str N, "<source>-<writer>" or only the source, where it is known
    segment: bool = True  # whether pictures of these classes are searched for writing, or used whole

    def select(self, index):
        """The Images of an index: a slice, or an array of numbers."""
        arrays = {name: getattr(self, name) for name in ("labels", "paths", "pixels", "writers")}
        return self._replace(**{name: array[index] for name, array in arrays.items() if array is not None})

    def shard(self, rank, world_size):
        """The share of one of several processes, equally large for each: up to world_size - 1 images are left out."""
        return self.select(slice(rank, len(self.labels) // world_size * world_size, world_size))


def load_folder(folder, split):
    """Return the Images of a folder's split, "train" or "test". Raises UsageError.

    The classes are named like their folders, or as dataset.json says.
    """
    described, segment = _read_description(folder / DESCRIPTION)
    folder = folder / split
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; a data set has train/<class>/*.png and test/<class>/*.png")
    files = {entry.name: _images(entry) for entry in _entries(folder) if entry.is_dir()}
    if len(files) < 2:
        raise UsageError(f"{folder}: at least 2 class folders are needed, one for each class; it has {len(files)}")
    names = described or {name: printable(name) for name in files}
    try:
        class_names(list(names.values()))
    except ValueError as error:
        raise UsageError(f"{folder}: {error}; rename the folders") from error
    for name in files:
        if name not in names:
            raise UsageError(f"{folder / name}: {DESCRIPTION} does not name this class; add it, or delete the folder")
        if not files[name]:
            raise UsageError(f"{folder / name}: no images in it; add some, or delete the folder")
    labels = np.repeat(np.arange(len(names)), [len(files.get(name, [])) for name in names])
    paths = np.array([os.path.join(folder, name, file) for name in names for file in files.get(name, [])])
    return Images(list(names.values()), labels, paths, segment=segment)


def _read_description(path):
    """The {folder: class name} and whether to segment, of a dataset.json; defaults if there is none."""
    if not path.exists():
        return {}, True
    try:
        content = read_json(path)
        names = content.get("classes", {})
        names = dict(zip(names, class_names(list(names.values())), strict=True))
        segment = content.get("segment", not content.get("whole"))  # files of earlier versions say "whole"
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: damaged ({error}); docs/data.md shows its form, or delete it") from error
    return names, bool(segment)


def _entries(folder):
    """The os.DirEntry of all in a folder that is not hidden and no metadata, sorted."""
    with os.scandir(folder) as entries:
        seen = [one for one in entries if not one.name.startswith(".") and one.name.lower() not in IGNORED]
    return sorted(seen, key=lambda entry: entry.name)


def _images(folder):
    """The names of the files in a class folder. Raises UsageError for anything else, such as a pipe."""
    for entry in (entries := _entries(folder)):
        if not entry.is_file():
            raise UsageError(f"{entry.path}: not a file; every file must be a 28×28 8-bit grey PNG (mode L)")
    return [entry.name for entry in entries]


def train_val_split(images, fraction):
    """Split into (training, validation) Images, the same each time, with `fraction` of each class for validation.

    More training images than SHUFFLE_BUFFER come in random order, others in the order of the classes.
    """
    rng = np.random.default_rng(0)
    held_out = np.zeros(len(images.labels), bool)
    for label in range(len(images.classes)):
        of_class = rng.permutation(np.flatnonzero(images.labels == label))
        held_out[of_class[: min(round(fraction * len(of_class)), len(of_class) - 1)]] = True
    training = np.flatnonzero(~held_out)
    if len(training) > SHUFFLE_BUFFER:
        training = rng.permutation(training)
    return images.select(training), images.select(np.flatnonzero(held_out))


def write_dataset(folder, splits, about=None):
    """Write {split: (uint8 N×28×28 images, N labels)} to PNG files, and about, a dict, to dataset.json.

    The folder appears complete or not at all: it is built beside its place and renamed.
    """
    count = sum(len(labels) for _, labels in splits.values())
    print(f"Writing {count:,} images to {folder}", file=sys.stderr, flush=True)
    try:
        with atomic_write(folder) as partial:
            for split, (images, labels) in splits.items():
                write_png_folder(partial / split, images, labels)
            if about:
                (partial / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    except WriteError:
        if not folder.is_dir():  # else another run was faster, with the same files
            raise


def write_png_folder(folder, images, labels):
    """Write uint8 N×28×28 images to folder/<label>/<index, five digits>.png."""
    for label in np.unique(labels):
        (folder / str(label)).mkdir(parents=True)
    for index in progress(range(len(images)), f"Writing {folder.name} images"):
        Image.fromarray(images[index]).save(folder / str(labels[index]) / f"{index:05}.png", compress_level=1)
