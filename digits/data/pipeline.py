"""Folders of class sub-folders, or drawn digits -> tf.data.

One pixel convention everywhere: uint8, 0 is background, 255 is ink, single channel. Only the last step before the
network makes floats of it, and as many channels as the network takes.
"""

import hashlib
import json
import math
import os
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from digits.cli import UsageError, hold_native_log, import_tensorflow, progress
from digits.data import mnist, relatives, strokes
from digits.machine import free_memory

MNIST_FOLDER = Path("Mnist_dataset")
DRAWN = {"train": (60_000, 1), "test": (10_000, 2)}  # how many, and the seed
IGNORED = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"}  # left by systems
SHUFFLED = 100_000  # images of which the next one is drawn by lot, all of them where there are no more
IMAGE_BYTES = 800  # of memory or disk that a decoded image takes
KEPT_TOGETHER = 500  # decoded images: one by one, each takes 400 bytes more
PNG_28_28_GREY = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 0, 0, 28, 0, 0, 0, 28, 8, 0])  # how it starts


class Images(NamedTuple):
    """One split of a data set: files not yet read, or pixels."""

    classes: list  # names, str
    labels: np.ndarray  # int64 N, indices into classes
    files: np.ndarray  # str N paths, or uint8 N×28×28×1 pixels
    whole: bool = False  # whether pictures of these things are to be seen whole, not searched for writing


def name_and_folder(data):
    """The name of a data set, and the folder in which it is or will be made; None for drawn digits."""
    if data == "drawn":
        return "drawn", None
    if data in (None, "mnist"):
        return "mnist", MNIST_FOLDER
    if data in relatives.RELATIVES:
        return data, relatives.folder_of(data)
    return Path(data).resolve().name, Path(data)


def find(data):
    """Return (name, folder) of a data set; the folder of drawn digits is None.

    data: "mnist" or one of its relatives (made where it is missing), "drawn", a folder with train/ and test/, or None
    for MNIST with drawn digits in its place where it cannot be had. Raises UsageError.
    """
    name, folder = name_and_folder(data)
    if data not in (None, "mnist", *relatives.RELATIVES) or folder.is_dir():
        return name, folder
    try:
        if name == "mnist":
            mnist.make(folder)
        else:
            relatives.make(name)
        return name, folder
    except mnist.Unavailable as error:
        if data is not None:
            variable = "MNIST_DIR" if name == "mnist" else relatives.RELATIVES[name].variable
            raise UsageError(
                f"{folder}/ is missing and {name} cannot be had ({error}); put its four IDX files "
                f"into a folder and set {variable} to it, or train on drawn digits with --data drawn"
            ) from error
        print("MNIST cannot be had here (--data mnist says why): using drawn digits, as --data drawn", file=sys.stderr)
        return "drawn", None
    except ValueError as error:
        raise UsageError(str(error)) from error


def load(folder, split):
    """Return the Images of a split, "train" or "test", of a folder, or of drawn digits for None.

    The classes are called like their folders, or as dataset.json says, which is in the folder of a relative of MNIST:
    {"classes": {folder: name, ...}, "whole": true or false}. Raises UsageError.
    """
    if folder is None:
        pixels, labels = strokes.draw(*DRAWN[split])
        return Images([str(digit) for digit in range(10)], labels, pixels)
    names, whole = _about(folder / "dataset.json")
    folder = folder / split
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; a data set has train/<class>/*.png and test/<class>/*.png")
    paths = {
        name: [f"{folder / name}{os.sep}{file}" for file in _entries(folder / name)]
        for name in _entries(folder)
        if (folder / name).is_dir()
    }
    if len(paths) < 2:
        raise UsageError(f"{folder}: found {len(paths)} class folders; at least 2 are needed, one for each class")
    names = names or {name: name for name in paths}
    for name, found in paths.items():
        if name not in names:
            raise UsageError(f"{folder / name}: dataset.json does not name this class; add it, or delete the folder")
        if not found:
            raise UsageError(f"{folder / name}: no images in it; add some, or delete the folder")
    files = [path for name in names for path in paths.get(name, [])]
    labels = np.repeat(np.arange(len(names)), [len(paths.get(name, [])) for name in names])
    return Images(list(names.values()), labels, np.array(files), whole)


def _about(path):
    """What a dataset.json says, classes and whole; nothing where there is none. Raises UsageError."""
    if not path.exists():
        return {}, False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names, whole = content.get("classes", {}), bool(content.get("whole"))
        if not all(isinstance(name, str) for name in names.values()) or len(set(names.values())) < len(names):
            raise ValueError("two classes have the same name, or one has none")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: damaged ({error}); it must be as digits/dataset.py says, or be deleted") from error
    return names, whole


def _entries(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith(".") and name.lower() not in IGNORED)


def hold_out(images, fraction):
    """Split into (training, validation) Images, the same each time, with `fraction` of each class for validation.

    More training images than are shuffled at a time come in random order, else in that of the classes.
    """
    rng = np.random.default_rng(0)
    held_out = np.zeros(len(images.labels), bool)
    for label in range(len(images.classes)):
        mine = rng.permutation(np.flatnonzero(images.labels == label))
        held_out[mine[: min(round(fraction * len(mine)), len(mine) - 1)]] = True
    training = np.flatnonzero(~held_out)
    if len(training) > SHUFFLED:
        training = rng.permutation(training)
    return _chosen(images, training), _chosen(images, np.flatnonzero(held_out))


def share(images, process, processes):
    """The Images that are the share of a process, equally many for each: up to processes - 1 images are left out."""
    return _chosen(images, slice(process, len(images.labels) // processes * processes, processes))


def _chosen(images, which):
    return images._replace(labels=images.labels[which], files=images.files[which])


@contextmanager
def kept(where, images, folder):
    """Yield what decode() takes as its cache: "" for memory, None for no cache, `folder` for disk, removed at the end.

    where: "memory", "none", "disk", or "auto": memory where the images take little of what is free, else disk, which is
    as fast, if it has room. Raises UsageError if it has none for "disk".
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    count = len(images.labels) if images.files.ndim == 1 else 0  # pixels are there already
    needed, room = count * IMAGE_BYTES, shutil.disk_usage(folder.absolute().parent).free
    if where == "auto" and needed <= free_memory() / 50:
        where = "memory"
    elif where == "auto":
        where = "disk" if needed < room else "none"
    if where != "disk":
        yield "" if where == "memory" else None
        return
    if room < needed:
        raise UsageError(f"--cache disk: no room for {count:,} images beside {folder}; make some, or use --cache none")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def decode(images, cache=""):
    """Return a tf.data.Dataset of (uint8 28×28×1, int64 label), all of them read once and decoded in parallel.

    cache: the file in which the decoded images are kept; "": they are kept in memory; None: they are not kept.
    Raises UsageError for a file that is not a 28×28 8-bit grey PNG.
    """
    import_tensorflow()
    import tensorflow as tf

    def decode_png(path, label):
        data = tf.io.read_file(path)
        right = tf.strings.substr(data, 0, len(PNG_28_28_GREY)) == PNG_28_28_GREY
        return tf.ensure_shape(tf.io.decode_png(tf.where(right, data, "")), (28, 28, 1)), label

    dataset = from_pixels(images.files, images.labels)
    if images.files.ndim > 1:  # pixels already
        return dataset
    batches = dataset.map(decode_png, num_parallel_calls=os.cpu_count()).batch(KEPT_TOGETHER)
    if cache is not None:
        batches = batches.cache(str(cache))
    with hold_native_log():  # an error that is reported here in one line is logged there in ten
        try:
            for _ in progress(batches, "Reading images", total=len(batches)):
                pass
        except tf.errors.OpError as error:
            _name_the_bad_file(images.files)
            raise UsageError(f"reading the images failed: {error.message}") from error
    return batches.unbatch().apply(tf.data.experimental.assert_cardinality(len(images.labels)))


def from_pixels(pixels, labels):
    """A tf.data.Dataset of (uint8 28×28×1, int64 label) from arrays of them (or of paths); not autotuned, see below."""
    import tensorflow as tf

    return without_autotune(tf.data.Dataset.from_tensor_slices((pixels, labels)))  # nor is what is made from it


def _name_the_bad_file(paths):
    for path in paths:
        try:
            header = Path(path).read_bytes()[: len(PNG_28_28_GREY)]
            with Image.open(path) as image:
                image.load()
            found = f"a {image.width}×{image.height} {image.format} of mode {image.mode}"
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            header, found = b"", "not an image, or a damaged one"
        if header != PNG_28_28_GREY:
            raise UsageError(f"{path}: {found}; every file must be a 28×28 8-bit grey PNG (mode L)")


def fingerprint(*datasets):
    """SHA-256 of the pixels and labels of datasets of (image, label), in their order."""
    digest = hashlib.sha256()
    for dataset in datasets:
        for pixels, labels in dataset.batch(1000).as_numpy_iterator():
            digest.update(pixels.tobytes() + labels.tobytes())
    return digest.hexdigest()


def training_batches(dataset, batch_size, channels, augment, seed, first_epoch, epochs):
    """Batches of first_epoch … epochs - 1, as (float32 n×28×28×channels, int64 n): shuffled anew each epoch, augmented.

    The order and the augmentation of an epoch follow from the seed and the epoch alone.
    """
    import tensorflow as tf

    size = len(dataset)
    steps = math.ceil(size / batch_size)

    def prepare(step, batch):
        pixels, labels = tf.cast(batch[0], tf.float32), batch[1]
        if augment:
            pixels = distort(pixels, augment, seed=(seed, step))
        return tf.repeat(pixels, channels, axis=-1), labels

    def shuffled(_):
        return dataset.shuffle(min(size, SHUFFLED), seed=seed).batch(batch_size).repeat(epochs)

    # Made anew for each iterator: else a second one, which Keras on JAX takes, would go on in the order of the first.
    batches = without_autotune(tf.data.Dataset.range(1)).flat_map(shuffled)
    batches = batches.enumerate().skip(first_epoch * steps)
    batches = batches.apply(tf.data.experimental.assert_cardinality((epochs - first_epoch) * steps))
    return batches.map(prepare).prefetch(8)  # one thread: the others are for the network


def evaluation_batches(dataset, channels, batch_size=250):
    """Batches of all images in order, as (float32 n×28×28×channels, int64 n)."""
    import tensorflow as tf

    batches = dataset.batch(batch_size)
    batches = batches.map(lambda pixels, labels: (tf.repeat(tf.cast(pixels, tf.float32), channels, axis=-1), labels))
    return batches.prefetch(2)


def without_autotune(dataset):
    """Closing an iterator waits for the thread that tunes it, which sleeps longer each time: up to 20 s for nothing."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def with_more(dataset, pixels, labels, times=1):
    """Add images, repeated so many times (a float): behind the others, or mixed where they are too many to shuffle."""
    import tensorflow as tf

    sizes = [len(dataset), round(times * len(labels))]
    if sum(sizes) <= SHUFFLED:
        return dataset.concatenate(from_pixels(pixels, labels))
    if sizes[0] <= SHUFFLED:  # in the order of the classes until now
        dataset = dataset.shuffle(sizes[0], seed=0, reshuffle_each_iteration=False)
    rng = np.random.default_rng(0)
    order, choice = rng.permutation(len(labels)), rng.permutation(np.repeat(np.arange(2), sizes))
    parts = dataset, from_pixels(pixels[order], labels[order]).repeat()
    both = tf.data.Dataset.choose_from_datasets(parts, tf.data.Dataset.from_tensor_slices(choice), False)
    return without_autotune(both.apply(tf.data.experimental.assert_cardinality(sum(sizes))))


def distort(pixels, strength, seed):
    """Look at each image from a random side: float32 n×28×28×1 -> the same, by one projective transform an image.

    strength 1: up to ±15° rotation, ±15 % width and height, ±0.2 shear, ±2.5 pixels shift, and a perspective in which
    one edge is up to 30 % larger than the opposite one; each grows with strength.
    """
    import tensorflow as tf

    count = tf.shape(pixels)[0]
    random = strength * tf.random.stateless_uniform((8, count), seed, -1, 1)
    angle, shear = math.radians(15) * random[0], 0.2 * random[1]
    width, height = tf.exp(math.log(1.15) * random[2]), tf.exp(math.log(1.15) * random[3])
    cos, sin = tf.cos(angle), tf.sin(angle)
    # With u, v the place of an output pixel from the centre, it comes from the centre plus
    # (a u + b v + c, d u + e v + f) / (g u + h v + 1).
    a, b, c = width * cos, width * (shear * cos - sin), 2.5 * random[4]
    d, e, f = height * sin, height * (shear * sin + cos), 2.5 * random[5]
    g, h = 0.15 / 14 * random[6], 0.15 / 14 * random[7]
    # The same from the corner, as TensorFlow wants it, divided so that the last number is 1.
    m = 13.5
    one = 1 - m * (g + h)
    rows = [a + m * g, b + m * h, c - m * (a + b) + m * one, d + m * g, e + m * h, f - m * (d + e) + m * one, g, h]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels,
        transforms=tf.stack(rows, axis=1) / one[:, None],
        output_shape=(28, 28),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
