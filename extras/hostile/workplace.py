"""Where programs are tried: folders with a model and some images, and how a script is started there."""

import contextlib
import io
import os
import shutil
import sys
from pathlib import Path

import numpy as np

from digits import PROJECT
from digits.data.folders import write_dataset
from digits.data.handwriting import held_out_digits


@contextlib.contextmanager
def working_in(folder):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def make_template(folder):
    """A folder with the model that comes with the project, 160 images and a picture."""
    folder.mkdir()
    for name in ("mnist_cnn.keras", "mnist_cnn.json", "samples/5.png"):
        shutil.copy(PROJECT / name, folder)
    images = held_out_digits("test")
    index = np.concatenate([np.flatnonzero(images.labels == digit)[:16] for digit in range(10)])
    parts = {"train": index[np.arange(160) % 16 < 12], "test": index[np.arange(160) % 16 >= 12]}
    splits = {name: (images.pixels[part, ..., 0], images.labels[part]) for name, part in parts.items()}
    with contextlib.redirect_stderr(io.StringIO()):
        write_dataset(folder / "small", splits)


def command_of(script, arguments):
    start = [sys.executable, str(PROJECT / script)] if script.endswith(".py") else [sys.executable, "-m", script]
    return [*start, *map(str, arguments)]


def environment():
    return os.environ | {"PYTHONPATH": str(PROJECT), "MNIST_DIR": "/nowhere", "MPLBACKEND": "agg"}
