"""Handwriting of about 500 people who are not in MNIST: digits, letters and signs, as pen strokes and as scans.

handwriting.npz holds it; NOTICE names its sources, their authors and licences, and describes its arrays. Strokes are
drawn with a pen of any width, so that one digit gives many images. The split is by writer: nothing by a writer who is
tested is trained on.
"""

import zlib
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from digits.data import pen
from digits.data.folders import Images
from digits.data.restyle import restyle

FILE = Path(__file__).with_name("handwriting.npz")
DIGITS = [str(digit) for digit in range(10)]
TRAINING_IMAGES = 60_000  # of --data handwriting, as many as MNIST has

STROKES = 0.6  # share of strokes in the digits to train on; the others are scans:
SCANS = {"bhmsds": 0.16, "hwd1000": 0.04, "optdigits-tra": 0.08, "optdigits-tes": 0.04, "semeion": 0.08}
TEST_SCANS = "optdigits-windep"  # by 13 people whose scans are in no other source
RESTYLED = 0.2  # share of the digits and letters to train on that are restyled
NOT_REFUSED = set("OoDQIil|/\\SsZzBbqgGyYJa'`,.-_!:;\"j()<>[]{}~^")  # written like a digit, or too small to tell


@lru_cache(maxsize=1)
def load():
    """The arrays of handwriting.npz as attributes; NOTICE describes them."""
    with np.load(FILE) as archive:
        return SimpleNamespace(**{name: archive[name] for name in archive.files})


def split_of(writer, validation_split=0.0):
    """The split of a writer, a name: "test" for one in six, else "validation" (that share of them) or "train".

    Scans name no writers: those of TEST_SCANS are tested, and all others are trained on.
    """
    if writer in SCANS:
        return "train"
    number = zlib.crc32(writer.encode())
    if writer == TEST_SCANS or number % 6 == 0:
        return "test"
    return "validation" if number // 6 % 1000 < 1000 * validation_split else "train"


def find(split, characters, validation_split=0.0):
    """The numbers of the samples of a split that show one of these characters: int N."""
    data = load()
    in_split = np.array([split_of(name, validation_split) == split for name in data.writer_names])
    return np.flatnonzero(in_split[data.writers] & np.isin(data.labels, list(characters)))


def training_digits(count, validation_split, seed):
    """Return `count` digits of the writers to train on as Images, a fifth of them restyled.

    Someone who wrote n digits counts as much as √n, so that nobody outweighs the others. validation_split: share of
    these writers that is left out, 0-1. The same arguments give the same images.
    """
    rng = np.random.default_rng([seed, 0])
    data, index = load(), find("train", DIGITS, validation_split)
    writers = data.writers[index]
    is_scan = np.isin(data.writer_names, list(SCANS))[writers]
    written = np.bincount(writers)[writers]
    weights = np.where(is_scan, 0, written**-0.5)
    weights *= STROKES / weights.sum()
    weights[is_scan] = [SCANS[data.writer_names[writer]] for writer in writers[is_scan]] / written[is_scan]
    # Systematic sampling: each sample comes as often as expected, rounded up or down.
    points = (np.arange(count) + rng.random(count)) / count * weights.sum()
    chosen = index[np.searchsorted(weights.cumsum(), points).clip(max=len(index) - 1)]
    return _as_images(chosen, some_restyled(draw(chosen, rng), rng))


def held_out_digits(split, validation_split=0.0):
    """Return the digits of the writers of a split, "validation" or "test", as Images, each once."""
    index = find(split, DIGITS, validation_split)
    return _as_images(index, draw(index, np.random.default_rng(0)))


def _as_images(index, pixels):
    data = load()
    labels = data.labels[index].astype(np.int64)
    return Images(DIGITS, labels, pixels=pixels, writers=data.writer_names[data.writers[index]])


def letters_and_signs(count, validation_split, rng):
    """Return uint8 count×28×28×1 letters and signs of the writers to train on, a fifth of them restyled."""
    characters = set(load().labels.tolist()) - set(DIGITS) - NOT_REFUSED
    index = rng.choice(find("train", characters, validation_split), count)
    return some_restyled(draw(index, rng), rng)


def draw(index, rng):
    """Return uint8 N×28×28×1 images of the samples with these numbers; rng varies the pen of strokes."""
    data = load()
    images = np.zeros((len(index), 28, 28, 1), np.uint8)
    first_scan = len(data.first_stroke) - 1
    is_scan = index >= first_scan
    images[is_scan, ..., 0] = data.scans[index[is_scan] - first_scan]
    images[~is_scan] = pen.draw([trajectory(sample) for sample in index[~is_scan]], rng)
    return images


def some_restyled(images, rng):
    """Images, uint8 N×28×28×1, of which a share, RESTYLED, is restyled in place."""
    chosen = rng.random(len(images)) < RESTYLED
    images[chosen] = restyle(images[chosen], rng)
    return images


def trajectory(sample):
    """The strokes of a sample: a list of float n×2 points, 0-1, x right, y down."""
    data = load()
    first, stop = data.first_stroke[sample : sample + 2]
    ends = data.stroke_ends[first:stop]
    start = data.stroke_ends[first - 1] if first else 0
    return np.split(data.points[start : ends[-1]] / 255, ends[:-1] - start)


def random_writer(rng):
    """The number of a random writer of the test side, of whom there are strokes of all ten digits."""
    data, index = load(), _test_strokes(DIGITS)
    written = np.unique(np.stack([data.writers[index], data.labels[index].astype(int)]), axis=1)
    writers, digits = np.unique(written[0], return_counts=True)
    return rng.choice(writers[digits == 10])


def random_trajectory(character, rng, writer=None):
    """The strokes of a digit, letter or sign by a writer of the test side; writer: see random_writer(), None: any."""
    index = _test_strokes([character])
    return trajectory(rng.choice(index if writer is None else index[load().writers[index] == writer]))


def _test_strokes(characters):
    """The numbers of the samples of the test side that show one of these characters as strokes: int N."""
    index = find("test", characters)
    return index[index < len(load().first_stroke) - 1]
