"""Folders of class sub-folders: <data set>/train|test/<class>/*.png -> Images, and images -> such a folder."""

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from digits.cli import UsageError, progress

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
    names, segment = _read_description(folder / DESCRIPTION)
    folder = folder / split
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; a data set has train/<class>/*.png and test/<class>/*.png")
    files = {name: _entries(folder / name) for name in _entries(folder) if (folder / name).is_dir()}
    if len(files) < 2:
        raise UsageError(f"{folder}: at least 2 class folders are needed, one for each class; it has {len(files)}")
    names = names or {name: name for name in files}
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
        content = json.loads(path.read_text(encoding="utf-8"))
        names = content.get("classes", {})
        segment = content.get("segment", not content.get("whole"))  # files of earlier versions say "whole"
        if not all(isinstance(name, str) for name in names.values()) or len(set(names.values())) < len(names):
            raise ValueError("two classes have the same name, or one has none")
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: damaged ({error}); docs/data.md shows its form, or delete it") from error
    return names, bool(segment)


def _entries(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith(".") and name.lower() not in IGNORED)


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
    for leftover in folder.parent.glob(folder.name + ".partial-*"):  # of a run that was killed
        if time.time() - leftover.stat().st_mtime > 600:
            shutil.rmtree(leftover, ignore_errors=True)
    place = {"prefix": f"{folder.name}.partial-", "dir": folder.parent}
    with tempfile.TemporaryDirectory(**place, ignore_cleanup_errors=True) as temporary:
        partial = Path(temporary) / folder.name
        for split, (images, labels) in splits.items():
            write_png_folder(partial / split, images, labels)
        if about:
            (partial / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was faster, with the same files
                raise


def write_png_folder(folder, images, labels):
    """Write uint8 N×28×28 images to folder/<label>/<index, five digits>.png."""
    for label in np.unique(labels):
        (folder / str(label)).mkdir(parents=True)
    for index in progress(range(len(images)), f"Writing {folder.name} images"):
        Image.fromarray(images[index]).save(folder / str(labels[index]) / f"{index:05}.png", compress_level=1)
