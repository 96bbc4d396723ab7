"""Images -> tf.data: decode, cache, shuffle, batch, augment, prefetch.

One pixel convention everywhere: uint8, 0 is background, 255 is ink, single channel. Only the last step before the
network makes it float32, with as many channels as the network takes.
"""

import hashlib
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from digits.cli import UsageError, hold_native_log, progress
from digits.data.folders import SHUFFLE_BUFFER

IMAGE_BYTES = 800  # of memory or disk for a decoded image
DECODED_BATCH = 500  # decoded images cached together: one by one, each takes 400 bytes more
PNG_28_28_GREY = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes([0, 0, 0, 28, 0, 0, 0, 28, 8, 0])  # how the file starts


class Cache(NamedTuple):
    """Where decoded images are kept."""

    kind: str  # "memory", "disk" or "none"
    folder: Path | None = None  # of the files, on disk


MEMORY = Cache("memory")


def choose_cache(kind, images, folder):
    """The Cache for decode(); on disk it is in `folder`, which exists.

    kind: "memory", "disk", "none", or "auto": memory if the images take a small part of what is free, else disk, which
    is as fast, if it has room. Raises UsageError if it has none for "disk".
    """
    count = 0 if images.paths is None else len(images.paths)
    fits = count * IMAGE_BYTES < shutil.disk_usage(folder).free
    if kind == "auto":
        small = count * IMAGE_BYTES <= free_memory() / 50
        kind = "memory" if small else "disk" if fits else "none"
    if kind != "disk":
        return Cache(kind)
    if not fits:
        raise UsageError(f"--cache disk: no room for {count:,} images in {folder.parent}; use --cache none")
    return Cache("disk", folder)


def free_memory():
    """Bytes of memory that programs can still have; infinite if the system does not say (it does on Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return math.inf


def decode(images, cache=MEMORY, name="images"):
    """Return a tf.data.Dataset of (uint8 28×28×1, int64 label), all of them read once and decoded in parallel.

    name: of the file on disk, if the cache is there. Raises UsageError for a file that is not a 28×28 8-bit grey PNG.
    """
    if images.pixels is not None:
        return from_arrays(images.pixels, images.labels)

    def decode_png(path, label):
        data = tf.io.read_file(path)
        right = tf.strings.substr(data, 0, len(PNG_28_28_GREY)) == PNG_28_28_GREY
        return tf.ensure_shape(tf.io.decode_png(tf.where(right, data, "")), (28, 28, 1)), label

    paths = np.array([os.fsencode(path) for path in images.paths], np.bytes_)  # a name need not be UTF-8
    dataset = from_arrays(paths, images.labels)
    batches = dataset.map(decode_png, num_parallel_calls=os.cpu_count()).batch(DECODED_BATCH)
    if cache.kind != "none":
        batches = batches.cache(str(cache.folder / name) if cache.kind == "disk" else "")
    with hold_native_log():  # an error that is reported here in one line is logged there in ten
        try:
            for _ in progress(batches, "Reading images", total=len(batches)):
                pass
        except tf.errors.OpError as error:
            _report_bad_file(images.paths)
            raise UsageError(f"reading the images failed: {error.message}") from error
    return batches.unbatch().apply(tf.data.experimental.assert_cardinality(len(images.labels)))


def from_arrays(pixels, labels):
    """A tf.data.Dataset of the pairs of two arrays; neither it nor what is made from it is autotuned."""
    return without_autotune(tf.data.Dataset.from_tensor_slices((pixels, labels)))


def without_autotune(dataset):
    """Closing an iterator waits for the thread that tunes it, which sleeps longer each time: up to 20 s for nothing."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _report_bad_file(paths):
    for path in paths:
        try:
            with Image.open(path) as image:
                image.load()
            right = Path(path).read_bytes().startswith(PNG_28_28_GREY)
            found = f"a {image.width}×{image.height} {image.format} of mode {image.mode}"
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            right, found = False, "not an image, or a damaged one"
        if not right:
            raise UsageError(f"{path}: {found}; every file must be a 28×28 8-bit grey PNG (mode L)")


def fingerprint(*datasets):
    """SHA-256 of the pixels and labels of datasets of (image, label), in their order."""
    digest = hashlib.sha256()
    for dataset in datasets:
        for pixels, labels in dataset.batch(1000).as_numpy_iterator():
            digest.update(pixels.tobytes() + labels.tobytes())
    return digest.hexdigest()


def mix_in(dataset, pixels, labels, times=1):
    """Add images, repeated `times` times (a float): after the others, or mixed if they are too many to shuffle."""
    sizes = [len(dataset), round(times * len(labels))]
    if sum(sizes) <= SHUFFLE_BUFFER:
        return dataset.concatenate(from_arrays(pixels, labels))
    if sizes[0] <= SHUFFLE_BUFFER:  # in the order of the classes until now
        dataset = dataset.shuffle(sizes[0], seed=0, reshuffle_each_iteration=False)
    rng = np.random.default_rng(0)
    order, choice = rng.permutation(len(labels)), rng.permutation(np.repeat(np.arange(2), sizes))
    parts = dataset, from_arrays(pixels[order], labels[order]).repeat()
    both = tf.data.Dataset.choose_from_datasets(parts, tf.data.Dataset.from_tensor_slices(choice), False)
    return without_autotune(both.apply(tf.data.experimental.assert_cardinality(sum(sizes))))


def training_batches(dataset, batch_size, channels, augment_strength, seed, first_epoch, epochs):
    """Batches of first_epoch … epochs - 1, as (float32 n×28×28×channels, int64 n): reshuffled each epoch, augmented.

    The order and the augmentation of an epoch follow from the seed and the epoch alone.
    """
    size = len(dataset)
    steps = math.ceil(size / batch_size)

    def prepare(step, batch):
        pixels, labels = tf.cast(batch[0], tf.float32), batch[1]
        if augment_strength:
            pixels = augment(pixels, augment_strength, seed=(seed, step))
        return tf.repeat(pixels, channels, axis=-1), labels

    def shuffled(_):
        return dataset.shuffle(min(size, SHUFFLE_BUFFER), seed=seed).batch(batch_size).repeat(epochs)

    # A new dataset for each iterator: Keras on JAX takes a second one, which would continue the order of the first.
    batches = without_autotune(tf.data.Dataset.range(1)).flat_map(shuffled)
    batches = batches.enumerate().skip(first_epoch * steps)
    batches = batches.apply(tf.data.experimental.assert_cardinality((epochs - first_epoch) * steps))
    return batches.map(prepare).prefetch(8)  # one thread: the others are for the network


def evaluation_batches(dataset, channels, batch_size=250):
    """Batches of all images in order, as (float32 n×28×28×channels, int64 n)."""
    batches = dataset.batch(batch_size)
    batches = batches.map(lambda pixels, labels: (tf.repeat(tf.cast(pixels, tf.float32), channels, axis=-1), labels))
    return batches.prefetch(2)


def augment(pixels, strength, seed):
    """Random perspective warp of each image: float32 n×28×28×1 -> the same, by one projective transform per image.

    strength 1: up to ±15° rotation, ±15 % width and height, ±0.2 shear, ±2.5 pixels shift, and a perspective in which
    one edge is up to 30 % larger than the opposite one; each grows with strength.
    """
    count = tf.shape(pixels)[0]
    random = strength * tf.random.stateless_uniform((8, count), seed, -1, 1)
    angle, shear = math.radians(15) * random[0], 0.2 * random[1]
    width, height = tf.exp(math.log(1.15) * random[2]), tf.exp(math.log(1.15) * random[3])
    cos, sin = tf.cos(angle), tf.sin(angle)
    # The output pixel at (u, v) from the centre comes from the centre plus
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
