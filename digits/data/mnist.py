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

from digits.cli import UsageError, in_one_line
from digits.data.folders import write_dataset
from digits.files import check_writable

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
    cached = keras_cache() / "mnist.npz"
    sources = [cached.absolute().as_uri()] * cached.is_file() + list(MIRRORS)
    check_writable(Path(folder))
    arrays = find_arrays("MNIST_DIR", SHA256, sources, _load)
    write_dataset(Path(folder), {"train": arrays[:2], "test": arrays[2:]})


def find_arrays(variable, sha256, mirrors, load):
    """The uint8 arrays of IDX files: load(mirror) for the first mirror for which it works.

    If the environment variable names a folder, they must be there: as they are, gzipped, or in EMNIST's gzip.zip.
    sha256: {file name: SHA-256 or None}. Raises UsageError for this folder, Unavailable if no mirror works.
    """
    arrays, failures = [], []
    if os.environ.get(variable):
        folder = Path(os.environ[variable])
        for name, expected in sha256.items():
            places = folder / name, folder / f"{name}.gz", folder / "gzip" / f"{name}.gz", folder / "gzip.zip"
            try:
                arrays.append(read_idx(next(filter(Path.is_file, places), folder / f"{name}.gz"), name, expected))
            except READ_ERRORS as error:
                advice = f"put it there, gzipped or not, or unset {variable}"
                raise UsageError(f"{variable}: {folder} has no intact {name} ({error}); {advice}") from error
        return arrays
    for mirror in mirrors:
        try:
            return load(mirror)
        except READ_ERRORS as error:
            failures.append(f"{mirror}: {in_one_line(error)}")
    raise Unavailable("; ".join(failures))


def _load(source):
    """The four uint8 arrays of MNIST from the URL of a mirror or of an mnist.npz."""
    if sys.stderr.isatty():
        print(f"Looking for MNIST at {source}", file=sys.stderr)
    if not source.endswith(".npz"):
        return [parse_idx(gzip.decompress(download(f"{source}{name}.gz")), SHA256[name]) for name in SHA256]
    arrays = []
    with np.load(io.BytesIO(download(source)), allow_pickle=False) as archive:
        for name, key in NPZ_NAMES.items():  # as IDX bytes, so that one set of checksums serves every source
            array = archive[key].astype(np.uint8)
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            arrays.append(parse_idx(header + array.tobytes(), SHA256[name]))
    return arrays


def keras_cache():
    """The folder in which Keras keeps data sets."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def read_idx(path, name, sha256=None):
    """The array of the IDX file `name` at a path: as it is, gzipped, or in a zip archive. Raises READ_ERRORS."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return parse_idx(gzip.decompress(archive.read(f"gzip/{name}.gz")), sha256)
    data = path.read_bytes()
    return parse_idx(gzip.decompress(data) if path.suffix == ".gz" else data, sha256)


def parse_idx(data, sha256=None):
    """The uint8 array in the bytes of an uncompressed IDX file with this SHA-256, if given. Raises ValueError."""
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError("the wrong checksum")
    # Bytes 0-3: 0, 0, element type (8: uint8), number of dimensions; then a big-endian int32 for each.
    if data[:3] != b"\0\0\x08" or len(data) < 4 or len(data) < 4 * (1 + data[3]):
        raise ValueError("not an IDX file of bytes")
    shape = np.frombuffer(data, ">i4", data[3], offset=4)
    if len(data) != 4 * (1 + data[3]) + np.prod(shape, dtype=np.int64):
        raise ValueError("not as long as its header says")
    return np.frombuffer(data, np.uint8, offset=4 * (1 + data[3])).reshape(shape)


# keras.utils.get_file would do, but it has no time-out, prints to stdout, where evaluate.py --json prints its object,
# and needs TensorFlow to be imported before the files are checked.
def download(url):
    """The content of a URL, a bytearray, with a progress bar. Raises READ_ERRORS."""
    content, start = bytearray(), time.monotonic()
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        size = int(response.headers["Content-Length"] or 0)
        if not size:
            raise ValueError("the answer does not say how long it is")
        with tqdm(total=size, unit="B", unit_scale=True, desc=url.rsplit("/", 1)[1], delay=1, disable=None) as bar:
            while chunk := response.read1(CHUNK):
                content += chunk
                bar.update(len(chunk))
                seconds = time.monotonic() - start
                if seconds > TIMEOUT and len(content) < CHUNK / TIMEOUT * seconds:  # a trickle would take hours
                    raise ValueError(f"only {len(content):,} bytes came in {seconds:.0f} s")
    if len(content) != size:
        raise ValueError(f"{len(content):,} of {size:,} bytes arrived")
    return content
