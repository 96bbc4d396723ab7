"""Bring MNIST into a folder of PNG files.

The data set is looked for in this order:

1. the four IDX files (gzipped or not) in the folder that the environment variable MNIST_DIR names,
2. mnist.npz in Keras's cache (~/.keras/datasets),
3. a download from the public mirrors in turn.

Whatever the source, the four arrays are checked against the SHA-256 of the original, uncompressed IDX files.

MNIST: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", CC BY-SA 3.0.
"""

import gzip
import hashlib
import http.client
import io
import os
import sys
import time
import urllib.request
import zipfile
import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from digits.cli import UsageError
from digits.data.folders import write_dataset

SHA256 = {  # of the uncompressed IDX files
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NPZ_NAMES = dict(zip(SHA256, ("x_train", "y_train", "x_test", "y_test"), strict=True))
MIRRORS = (  # a folder of the four gzipped IDX files, or one mnist.npz
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz",
)
CHUNK = 16 * 1024  # bytes read at a time
TIMEOUT = 6  # seconds to wait for a chunk
READ_ERRORS = (  # what a missing, truncated or damaged file raises
    OSError, EOFError, KeyError, ValueError, zlib.error, zipfile.BadZipFile, http.client.HTTPException,
)  # fmt: skip


class Unavailable(Exception):
    """All sources failed; the message says what was tried."""


def make(folder):
    """Write MNIST to folder/{train,test}/{0..9}/<index in the original set>.png, 70,000 files, 8-bit grey.

    Raises UsageError if MNIST_DIR is set but unusable, Unavailable if there is no source of the data.
    """
    directory = os.environ.get("MNIST_DIR")
    arrays = _from_directory(Path(directory)) if directory else _from_cache_or_mirrors()
    write_dataset(Path(folder), {"train": arrays[:2], "test": arrays[2:]})


def _from_directory(folder):
    """The four uint8 arrays from the IDX files in a folder."""
    arrays = []
    for name in SHA256:
        path = folder / name
        try:
            arrays.append(_checked(name, unzipped(path if path.is_file() else folder / f"{name}.gz")))
        except READ_ERRORS as error:
            advice = "put MNIST's file there, gzipped or not, or unset MNIST_DIR"
            raise UsageError(f"MNIST_DIR: {folder} has no intact {name} ({error}); {advice}") from error
    return arrays


def _from_cache_or_mirrors():
    """The four uint8 arrays from Keras's cache or the first mirror that has them."""
    failures, cached = [], keras_cache() / "mnist.npz"
    for source in [cached] * cached.is_file() + list(MIRRORS):
        if sys.stderr.isatty():
            print(f"Looking for MNIST at {source}", file=sys.stderr)
        try:
            if str(source).endswith(".npz"):
                return _from_npz(cached.read_bytes() if source == cached else _downloaded(source))
            return [_checked(name, gzip.decompress(_downloaded(f"{source}{name}.gz"))) for name in SHA256]
        except READ_ERRORS as error:
            failures.append(f"{source}: {error or type(error).__name__}")
    raise Unavailable("; ".join(failures))


def keras_cache():
    """The folder in which Keras keeps data sets."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def unzipped(path):
    """The bytes of a file, uncompressed if it is gzipped."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _from_npz(data):
    """Rebuild the IDX bytes from Keras's mnist.npz, so that one set of checksums serves every source."""
    arrays = []
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for name, key in NPZ_NAMES.items():
            array = archive[key].astype(np.uint8)
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            arrays.append(_checked(name, header + array.tobytes()))
    return arrays


def _checked(name, data):
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise ValueError(f"{name} has the wrong checksum")
    return parse_idx(data)


def parse_idx(data):
    """The uint8 array in the bytes of an uncompressed IDX file. Raises ValueError."""
    # Bytes 0-3: 0, 0, element type (8: uint8), number of dimensions; then a big-endian int32 for each.
    if data[:3] != b"\0\0\x08" or len(data) < 4 or len(data) < 4 * (1 + data[3]):
        raise ValueError("not an IDX file of bytes")
    shape = np.frombuffer(data, ">i4", data[3], offset=4)
    if len(data) != 4 * (1 + data[3]) + np.prod(shape, dtype=np.int64):
        raise ValueError("not as long as its header says")
    return np.frombuffer(data, np.uint8, offset=4 * (1 + data[3])).reshape(shape)


# keras.utils.get_file would do, but it has no time-out, prints to stdout, where evaluate.py --json prints its object,
# and needs TensorFlow to be imported before the files are checked.
def download(url, file):
    """Write the content of a URL to a binary file, with a progress bar. Raises what READ_ERRORS lists."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        size, received, start = int(response.headers["Content-Length"] or 0), 0, time.monotonic()
        if not size:
            raise ValueError("the answer does not say how long it is")
        with tqdm(total=size, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[1], delay=1, disable=None) as bar:
            while chunk := response.read1(CHUNK):
                received += file.write(chunk)
                bar.update(len(chunk))
                seconds = time.monotonic() - start
                if seconds > TIMEOUT and received < CHUNK / TIMEOUT * seconds:  # a trickle would take hours
                    raise ValueError(f"only {received:,} bytes came in {seconds:.0f} s")
    if received != size:
        raise ValueError(f"{received:,} of {size:,} bytes arrived")


def _downloaded(url):
    content = io.BytesIO()
    download(url, content)
    return content.getvalue()
