"""Fetch a data set of 28×28 images like MNIST's: a folder that --data takes.

    python -m extras.fetch fashion          # makes fashion/, then: python train.py --data fashion
    python -m extras.fetch emnist-letters   # makes emnist-letters/, and so on

The four IDX files are taken from the folder that an environment variable names (FASHION_DIR, KMNIST_DIR, EMNIST_DIR),
or downloaded. The folder's dataset.json names the classes, and says whether pictures are searched for writing or
classified whole.

Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, 2017, MIT licence. KMNIST: created by CODH, adapted from the Kuzushiji
Dataset of NIJL and others, T. Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018, CC BY-SA 4.0.
EMNIST: G. Cohen, S. Afshar, J. Tapson, A. van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017,
from the public NIST Special Database 19.
"""

import hashlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits.cli import Parser, RunError, UsageError, run
from digits.data import mnist
from digits.data.folders import write_dataset
from digits.files import atomic_write


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


_TABLE = json.loads(Path(__file__).with_name("datasets.json").read_text(encoding="utf-8"))
DATASETS = {name: Dataset(**about) for name, about in _TABLE.items()}


def fetch(name):
    """Make the folder `name`/{train,test}/<number of the class>/<index in the original set>.png of a data set.

    Raises UsageError, RunError.
    """
    if Path(name).exists():
        print(f"{name}/ is already there; train with: python train.py --data {name}")
        return
    dataset = DATASETS[name]
    try:
        load = partial(_from_mirror, name, dataset)
        arrays = mnist.find_arrays(dataset.variable, dict.fromkeys(dataset.files), dataset.mirrors, load)
    except mnist.Unavailable as error:
        advice = f"put its files into a folder and set {dataset.variable} to it"
        raise RunError(f"{name} is not available ({error}); {advice}") from error
    width = len(str(len(dataset.classes) - 1))
    folders = [f"{label:0{width}}" for label in range(len(dataset.classes))]
    splits = {}
    for split, part in (("train", slice(2)), ("test", slice(2, 4))):
        files, (images, labels) = dataset.files[part], arrays[part]
        labels = labels.astype(int) - dataset.first_label
        if images.shape != (*labels.shape, 28, 28) or not np.isin(labels, range(len(folders))).all():
            raise UsageError(f"{files[0]}, {files[1]}: not images of 28×28 and as many labels of {name}")
        splits[split] = (images.transpose(0, 2, 1) if dataset.transposed else images), np.array(folders)[labels]
    about = {"classes": dict(zip(folders, dataset.classes, strict=True)), "segment": dataset.segment}
    write_dataset(Path(name), splits, about)
    training, test = (len(labels) for _, labels in splits.values())
    counts = f"{training:,} training and {test:,} test images, {len(folders)} classes"
    print(f"Made {name}/: {counts}; train with: python train.py --data {name}")


def _from_mirror(name, dataset, mirror):
    """The four uint8 arrays, from copies of a mirror's files in Keras's cache."""
    if mirror.endswith(".zip"):  # has several data sets, so all share the copy
        archive = _cached(mirror, "emnist-gzip.zip", *dataset.md5)
        return [mnist.read_idx(archive, file) for file in dataset.files]
    return [
        mnist.read_idx(_cached(f"{mirror}{file}.gz", f"{name}-{file}.gz", md5), file)
        for file, md5 in zip(dataset.files, dataset.md5, strict=True)
    ]


def _cached(url, name, md5):
    """The path of a file in Keras's cache; downloaded if it is not there, or is another."""

    def is_right(content):
        return hashlib.md5(content, usedforsecurity=False).hexdigest() == md5

    path = mnist.keras_cache() / name
    if not path.exists() or not is_right(path.read_bytes()):
        content = mnist.download(url)
        if not is_right(content):
            raise ValueError("the wrong checksum")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
    return path


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("name", choices=list(DATASETS), help="which data set")
    return run(fetch, parser.parse_args(argv).name, keep_going=True)


if __name__ == "__main__":
    sys.exit(main())
