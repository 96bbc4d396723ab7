"""Fetch a data set of 28×28 images like MNIST's: a folder that --data takes.

    python -m extras.fetch fashion          # makes fashion/, then: python train.py --data fashion
    python -m extras.fetch emnist-letters   # makes emnist-letters/, and so on

The four IDX files are taken from the folder that an environment variable names (FASHION_DIR, KMNIST_DIR, EMNIST_DIR),
or downloaded. The folder's dataset.json names the classes, and says if pictures are used whole, not as writing.

Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, 2017, MIT licence. KMNIST: created by CODH, adapted from the Kuzushiji
Dataset of NIJL and others, T. Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018, CC BY-SA 4.0.
EMNIST: G. Cohen, S. Afshar, J. Tapson, A. van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017,
from the public NIST Special Database 19.
"""

import gzip
import hashlib
import io
import json
import os
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits.cli import Parser, RunError, UsageError, atomic_write, run
from digits.data import mnist
from digits.data.folders import write_dataset

DESCRIPTIONS = Path(__file__).with_name("datasets.json")


class Dataset(NamedTuple):
    """Where a data set is, and how its files differ from MNIST's; read from datasets.json."""

    comment: str  # where the checksums are from
    variable: str  # environment variable that names a folder with its files
    files: list  # their names: images and labels to train, images and labels to test
    mirrors: list  # folders of the four files, gzipped, or an archive with them
    md5: list  # of the four gzipped files, or of the archive
    classes: list  # names, in the order of the labels
    first_label: int  # label of the first class in the files
    transposed: bool  # rows and columns are exchanged in the files
    segment: bool  # whether pictures are searched for writing


DATASETS = {name: Dataset(**about) for name, about in json.loads(DESCRIPTIONS.read_text(encoding="utf-8")).items()}


def fetch(name):
    """Make the folder `name`/{train,test}/<number of the class>/<index in the original set>.png of a data set.

    Returns (number of training images, of test images, of classes). Raises UsageError, RunError.
    """
    dataset = DATASETS[name]
    directory = os.environ.get(dataset.variable)
    contents = _from_directory(dataset, Path(directory)) if directory else _from_mirrors(name, dataset)
    width = len(str(len(dataset.classes) - 1))
    folders = [f"{label:0{width}}" for label in range(len(dataset.classes))]
    splits, counts = {}, []
    for split, start in (("train", 0), ("test", 2)):
        images, labels = _images_and_labels(dataset, start, contents[start : start + 2])
        splits[split] = images, np.array(folders)[labels]
        counts.append(len(labels))
    about = {"classes": dict(zip(folders, dataset.classes, strict=True)), "segment": dataset.segment}
    write_dataset(Path(name), splits, about)
    return *counts, len(folders)


def _images_and_labels(dataset, start, contents):
    """uint8 N×28×28 and int N, 0 … classes - 1, of the bytes of two IDX files."""
    names, arrays = dataset.files[start : start + 2], []
    for name, content in zip(names, contents, strict=True):
        try:
            arrays.append(mnist.parse_idx(content))
        except ValueError as error:
            raise UsageError(f"{name}: {error}; replace it, or unset {dataset.variable}") from None
    images, labels = arrays[0], arrays[1].astype(int) - dataset.first_label
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or not len(labels):
        raise UsageError(f"{names[0]} has the shape {images.shape}, {names[1]} {labels.shape}; they do not fit")
    if labels.min() < 0 or labels.max() >= len(dataset.classes):
        raise UsageError(f"{names[1]}: has labels from {arrays[1].min()} to {arrays[1].max()}, not of this data set")
    return (images.transpose(0, 2, 1) if dataset.transposed else images), labels


def _from_directory(dataset, folder):
    """The bytes of the four IDX files in a folder: each as it is, gzipped, or in the archive that has them all."""
    if not folder.is_dir():
        raise UsageError(f"{dataset.variable}: {folder} is not a folder; set it to one with the IDX files, or unset it")
    contents = []
    for name in dataset.files:
        places = (folder / name, folder / f"{name}.gz", folder / "gzip" / f"{name}.gz", folder / "gzip.zip")
        path = next((path for path in places if path.is_file()), None)
        advice = f"put it there, or unset {dataset.variable}"
        if path is None:
            raise UsageError(f"{dataset.variable}: {folder} has no {name}.gz (or {name}); {advice}")
        try:
            contents.append(_from_archive(path, name) if path.suffix == ".zip" else mnist.unzipped(path))
        except mnist.READ_ERRORS as error:
            raise UsageError(f"{dataset.variable}: {path} has no intact {name} ({error}); {advice}") from None
    return contents


def _from_archive(path, name):
    with zipfile.ZipFile(path) as archive:
        return gzip.decompress(archive.read(f"gzip/{name}.gz"))


def _from_mirrors(name, dataset):
    """The bytes of the four IDX files, from the first mirror that has them."""
    failures = []
    for mirror in dataset.mirrors:
        try:
            if mirror.endswith(".zip"):
                archive = _cached_archive(mirror, *dataset.md5)
                return [_from_archive(archive, file) for file in dataset.files]
            files = [io.BytesIO() for _ in dataset.files]
            for content, file, md5 in zip(files, dataset.files, dataset.md5, strict=True):
                _download(f"{mirror}{file}.gz", content, md5)
            return [gzip.decompress(content.getvalue()) for content in files]
        except mnist.READ_ERRORS as error:
            failures.append(f"{mirror}: {error or type(error).__name__}")
    advice = f"put its files into a folder and set {dataset.variable} to it"
    raise RunError(f"{name} is not available ({'; '.join(failures)}); {advice}")


def _download(url, file, md5):
    mnist.download(url, file)
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(2**20):
        digest.update(chunk)
    if digest.hexdigest() != md5:
        raise ValueError("the wrong checksum")


def _cached_archive(mirror, md5):
    """The archive in Keras's cache, downloaded once, since several data sets are in it."""
    path = mnist.keras_cache() / "emnist-gzip.zip"
    if not zipfile.is_zipfile(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary, temporary.open("wb+") as file:
            _download(mirror, file, md5)
    return path


def work(args):
    if Path(args.name).exists():
        print(f"{args.name}/ is already there; train with: python train.py --data {args.name}")
        return
    training, test, classes = fetch(args.name)
    counts = f"{training:,} training and {test:,} test images, {classes} classes"
    print(f"Made {args.name}/: {counts}; train with: python train.py --data {args.name}")


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("name", choices=list(DATASETS), help="which data set")
    return run(work, parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
