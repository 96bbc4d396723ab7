"""MNIST's relatives: clothes, Japanese and Latin letters, more digits; all 28×28, in IDX files like MNIST's.

Each is looked for in the folder that an environment variable names (FASHION_DIR, KMNIST_DIR, EMNIST_DIR), then
downloaded, and written to a folder of PNG files as MNIST is. The folder's dataset.json says how the classes are called.

Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, 2017, MIT licence. KMNIST: created by CODH, adapted from the Kuzushiji
Dataset of NIJL and others, T. Clanuwat et al., "Deep Learning for Classical Japanese Literature", 2018, CC BY-SA 4.0.
EMNIST: G. Cohen, S. Afshar, J. Tapson, A. van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017,
from the public NIST Special Database 19.
"""

import gzip
import http.client
import io
import os
import string
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits.cli import atomic_write
from digits.data import mnist

DAMAGES = (OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile)  # what a damaged file raises


class Relative(NamedTuple):
    """A data set: where it is, and how its files differ from MNIST's."""

    variable: str  # environment variable that names a folder with its files
    files: tuple  # their names: images and labels to train, images and labels to test
    mirrors: tuple  # folders of the four files, gzipped, or an archive with them
    md5: tuple  # of the four gzipped files, or of the archive
    classes: list  # names, in the order of the labels
    first_label: int = 0  # what the files call the first class
    transposed: bool = False  # the files have rows and columns exchanged
    whole: bool = False  # its pictures are no writing: each is one image, from edge to edge


def _emnist(part, classes, first_label=0):
    kinds = ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
    files = tuple(f"emnist-{part}-{kind}-ubyte" for kind in kinds)
    mirrors = (
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
    )
    md5 = ("58c8d27c78d21e728a6bc7b3cc06412e",)  # as in torchvision's datasets/mnist.py
    return Relative("EMNIST_DIR", files, mirrors, md5, classes, first_label, transposed=True)


RELATIVES = {
    "fashion": Relative(
        "FASHION_DIR",
        tuple(mnist.SHA256),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        ),
        (  # as in the README of zalandoresearch/fashion-mnist
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
        whole=True,
    ),
    "kmnist": Relative(
        "KMNIST_DIR",
        tuple(mnist.SHA256),
        ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        (  # as in torchvision's datasets/mnist.py
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
    ),
    "emnist-digits": _emnist("digits", list(string.digits)),
    "emnist-letters": _emnist("letters", list(string.ascii_lowercase), first_label=1),
    # The other small letters look like their capitals, and are one class with them.
    "emnist-balanced": _emnist("balanced", [*string.digits, *string.ascii_uppercase, *"abdefghnqrt"]),
}


def folder_of(name):
    """Where a relative is made: Fashion_dataset, Emnist_letters_dataset …"""
    return Path(f"{name.replace('-', '_').capitalize()}_dataset")


def make(name):
    """Write a relative to folder_of(name)/{train,test}/<number of the class>/<place in the original set>.png.

    Raises ValueError if its environment variable is set but unusable, mnist.Unavailable if no mirror has it.
    """
    relative = RELATIVES[name]
    where = os.environ.get(relative.variable)
    contents = _from_folder(relative, Path(where)) if where else _from_mirrors(relative)
    splits = {
        split: _images_and_labels(relative, relative.files[start : start + 2], contents[start : start + 2])
        for split, start in (("train", 0), ("test", 2))
    }
    folders = [f"{label:0{len(str(len(relative.classes) - 1))}}" for label in range(len(relative.classes))]
    about = {"classes": dict(zip(folders, relative.classes, strict=True)), "whole": relative.whole}
    named = {split: (images, np.array(folders)[labels]) for split, (images, labels) in splits.items()}
    mnist.write_data_set(folder_of(name), named, about)


def _images_and_labels(relative, names, contents):
    """uint8 N×28×28 and int N, 0 … classes - 1, of the bytes of two IDX files. Raises ValueError."""
    arrays = []
    for name, content in zip(names, contents, strict=True):
        try:
            arrays.append(mnist.array_of(content))
        except ValueError as error:
            raise ValueError(f"{name}: {error}; replace it, or unset {relative.variable}") from None
    images, labels = arrays[0], arrays[1].astype(int) - relative.first_label
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1] or not len(labels):
        raise ValueError(f"{names[0]} has the shape {images.shape}, {names[1]} {labels.shape}; they do not fit")
    if labels.min() < 0 or labels.max() >= len(relative.classes):
        raise ValueError(f"{names[1]}: has labels from {arrays[1].min()} to {arrays[1].max()}, not of this data set")
    return (images.transpose(0, 2, 1) if relative.transposed else images), labels


def _from_folder(relative, folder):
    """The bytes of the four IDX files in a folder: each as it is, gzipped, or in the archive that has them all."""
    if not folder.is_dir():
        raise ValueError(f"{relative.variable}: {folder} is no folder; set it to one with the IDX files, or unset it")
    contents = []
    for name in relative.files:
        places = (folder / name, folder / f"{name}.gz", folder / "gzip" / f"{name}.gz", folder / "gzip.zip")
        path = next((path for path in places if path.is_file()), None)
        advice = f"put it there, or unset {relative.variable}"
        if path is None:
            raise ValueError(f"{relative.variable}: {folder} has no {name}.gz (or {name}); {advice}")
        try:
            contents.append(_content(path, name))
        except DAMAGES as error:
            raise ValueError(f"{relative.variable}: {path} has no whole {name} ({error}); {advice}") from None
    return contents


def _content(path, name):
    """The bytes of an IDX file: as it is, gzipped, or as a member of an archive."""
    if path.suffix != ".zip":
        return mnist.unzipped(path)
    with zipfile.ZipFile(path) as archive:
        return gzip.decompress(archive.read(f"gzip/{name}.gz"))


def _from_mirrors(relative):
    """The bytes of the four IDX files, from the first mirror that has them. Raises mnist.Unavailable."""
    failures = []
    for mirror in relative.mirrors:
        try:
            if mirror.endswith(".zip"):
                return _from_archive(relative, mirror)
            return [_downloaded(f"{mirror}{n}.gz", md5) for n, md5 in zip(relative.files, relative.md5, strict=True)]
        except (*DAMAGES, http.client.HTTPException) as error:
            failures.append(f"{mirror}: {error or type(error).__name__}")
    raise mnist.Unavailable("; ".join(failures))


def _downloaded(url, md5):
    content = io.BytesIO()
    if mnist.download(url, content) != md5:
        raise ValueError("the wrong checksum")
    return gzip.decompress(content.getvalue())


def _from_archive(relative, mirror):
    """The four of an archive, which is downloaded once and kept, since others of EMNIST are in it as well."""
    kept = mnist.keras_cache() / "emnist-gzip.zip"
    if not zipfile.is_zipfile(kept):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(kept) as temporary, temporary.open("wb") as file:
            if mnist.download(mirror, file) != relative.md5[0]:
                raise ValueError("the wrong checksum")
    return [_content(kept, name) for name in relative.files]
