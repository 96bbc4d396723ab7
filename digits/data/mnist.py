"""Brings MNIST into a folder of PNG files.

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
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from digits.cli import progress

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
PIECE = 16 * 1024  # bytes read at a time
PATIENCE = 6  # seconds to wait for a piece; three silent mirrors cost 18 s


class Unavailable(Exception):
    """MNIST can be had from none of its sources; the message says what was tried."""


def make(folder):
    """Write MNIST to folder/{train,test}/{0..9}/<place in the original set>.png, 70,000 files, 8-bit grey.

    Raises ValueError if MNIST_DIR is set but unusable, Unavailable if there is no source of the data.
    """
    arrays = list(_find().values())
    write_data_set(Path(folder), {"train": arrays[:2], "test": arrays[2:]})


def write_data_set(folder, splits, about=None):
    """Write {split: (uint8 N×28×28 images, N labels)} to PNG files, and about, a dict, to dataset.json.

    The folder appears whole or not at all: it is built beside its place and renamed.
    """
    for leftover in folder.parent.glob(folder.name + ".partial-*"):  # of a run that was killed
        if time.time() - leftover.stat().st_mtime > 600:
            shutil.rmtree(leftover, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=folder.name + ".partial-", dir=folder.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes it readable by its owner alone
        for split, (images, labels) in splits.items():
            write_png_folder(partial / split, images, labels)
        if about:
            (partial / "dataset.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another run was faster, with the same files
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_png_folder(folder, images, labels):
    """Write uint8 N×28×28 images to folder/<label>/<index, five digits>.png."""
    for label in np.unique(labels):
        (folder / str(label)).mkdir(parents=True)
    for index in progress(range(len(images)), f"Writing {folder.name} images"):
        Image.fromarray(images[index]).save(folder / str(labels[index]) / f"{index:05}.png", compress_level=1)


def _find():
    """Return {IDX name: uint8 array} from the first source that has MNIST."""
    if os.environ.get("MNIST_DIR"):
        return _from_idx_folder(Path(os.environ["MNIST_DIR"]))
    failures = []
    cached = keras_cache() / "mnist.npz"
    for source in [cached] * cached.is_file() + list(MIRRORS):
        if sys.stderr.isatty():
            print(f"Looking for MNIST at {source}", file=sys.stderr)
        try:
            npz = str(source).endswith(".npz")
            return _from_npz(_bytes_of(source)) if npz else {n: _download_idx(source, n) for n in SHA256}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, http.client.HTTPException) as error:
            failures.append(f"{source}: {error or type(error).__name__}")
    raise Unavailable("; ".join(failures))


def keras_cache():
    """The folder in which Keras keeps data sets."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"


def _from_idx_folder(folder):
    if not folder.is_dir():
        raise ValueError(f"MNIST_DIR: {folder} is not a folder; set it to one with the four IDX files, or unset it")
    arrays = {}
    for name in SHA256:
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
        if path is None:
            raise ValueError(f"MNIST_DIR: {folder} has no {name}.gz (or {name}); put it there, or unset MNIST_DIR")
        try:
            arrays[name] = parse_idx(name, unzipped(path))
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise ValueError(f"MNIST_DIR: {path} is not MNIST's: {error}; replace it, or unset MNIST_DIR") from error
    return arrays


def unzipped(path):
    """The bytes of a file, those inside if it is gzipped."""
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _from_npz(data):
    """Rebuild the IDX bytes from Keras's mnist.npz, so that one set of checksums serves every source."""
    arrays = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for name, key in NPZ_NAMES.items():
            array = archive[key].astype(np.uint8)
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            arrays[name] = parse_idx(name, header + array.tobytes())
    return arrays


def parse_idx(name, data):
    """Check the bytes of an uncompressed IDX file and return its uint8 array (N×28×28 images or N labels)."""
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise ValueError(f"{name} has the wrong checksum")
    return array_of(data)


def array_of(data):
    """The uint8 array in the bytes of an uncompressed IDX file. Raises ValueError."""
    # Bytes 0-3: 0, 0, element type (8: uint8), number of dimensions; then a big-endian int32 for each.
    if data[:3] != b"\0\0\x08" or len(data) < 4 or len(data) < 4 * (1 + data[3]):
        raise ValueError("not an IDX file of bytes")
    shape = np.frombuffer(data, ">i4", data[3], offset=4)
    if len(data) != 4 * (1 + data[3]) + np.prod(shape, dtype=np.int64):
        raise ValueError("not as long as its header says")
    return np.frombuffer(data, np.uint8, offset=4 * (1 + data[3])).reshape(shape)


def _download_idx(mirror, name):
    try:
        return parse_idx(name, gzip.decompress(_bytes_of(f"{mirror}{name}.gz")))
    except zlib.error as error:
        raise ValueError(f"{name}.gz is damaged") from error


def _bytes_of(source):
    """The bytes of a file or of a URL."""
    if isinstance(source, Path):
        return source.read_bytes()
    content = io.BytesIO()
    download(source, content)
    return content.getvalue()


def download(url, file):
    """Write the content of a URL to a binary file, with a progress bar; return its MD5. Raises OSError, ValueError."""
    pieces = queue.Queue()
    # In a thread of its own, since a name look-up cannot be given a time-out.
    threading.Thread(target=_fetch, args=(url, pieces), daemon=True).start()
    size, received, digest = _next(pieces), 0, hashlib.md5(usedforsecurity=False)
    if not size:
        raise ValueError("the answer does not say how long it is")
    for _ in progress(range(-(-size // PIECE)), f"Downloading {url.rsplit('/', 1)[1]}"):
        piece = _next(pieces)
        file.write(piece)
        digest.update(piece)
        received += len(piece)
    if received != size:
        raise ValueError(f"{received:,} of {size:,} bytes arrived")
    return digest.hexdigest()


def _fetch(url, pieces):
    """Put the size of a URL's content into the queue, then the content piece by piece, or the error."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            size = int(response.headers["Content-Length"] or 0)
            pieces.put(size)
            for _ in range(-(-size // PIECE)):
                pieces.put(response.read(PIECE))
    except Exception as error:  # whatever it is, the waiting thread must hear of it
        pieces.put(error)


def _next(pieces):
    try:
        piece = pieces.get(timeout=PATIENCE)
    except queue.Empty:
        raise ValueError(f"nothing came for {PATIENCE} s") from None
    if isinstance(piece, Exception):
        raise ValueError(str(piece)) from piece
    return piece
