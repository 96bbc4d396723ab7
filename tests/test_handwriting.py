"""The handwriting that comes with the project, and what is made of it for the training."""

import zlib

import numpy as np
import pytest

from digits.data import handwriting, non_digits, restyle
from tests.conftest import PROJECT, digits

SPLITS = ("train", "validation", "test")


def writers_in(split, validation_split=0.1):
    data = handwriting.load()
    return {name for name in data.writer_names if handwriting.split_of(name, validation_split) == split}


def test_the_split_is_by_writer():
    data = handwriting.load()
    train, validation, test = map(writers_in, SPLITS)
    assert len(train) + len(validation) + len(test) == len(data.writer_names)
    assert test == {name for name in data.writer_names if "-" in name and zlib.crc32(name.encode()) % 6 == 0
                    and not name.startswith("optdigits")} | {"optdigits-windep"}  # fmt: skip
    assert writers_in("test", 0.5) == test  # whatever is held out to validate
    assert not writers_in("validation", 0) and len(writers_in("validation", 0.5)) > 100


def test_the_sizes_of_the_splits():
    images = handwriting.held_out_digits("test")
    sources = np.char.partition(images.writers, "-")[:, 0]
    assert dict(zip(*np.unique(sources, return_counts=True), strict=True)) == {
        "unipen": 1676, "pendigits": 2245, "optdigits": 1797,
    }  # fmt: skip
    assert len(set(images.writers)) == 52 + 1  # scans name no writers
    assert len(handwriting.held_out_digits("validation", 1 / 12).labels) == 1686
    assert len(handwriting.find("train", handwriting.DIGITS)) == 22_882 + 13_473


def test_nobody_who_is_held_out_is_trained_on():
    held_out = writers_in("test") | writers_in("validation")
    images = handwriting.training_digits(5_000, 0.1, 0)
    assert not set(images.writers) & held_out and len(set(images.writers)) > 200
    with pytest.MonkeyPatch.context() as patch:  # the same for letters
        patch.setattr(handwriting, "draw", lambda index, rng: index)
        patch.setattr(handwriting, "some_restyled", lambda images, rng: images)
        samples = handwriting.letters_and_signs(5000, 0.1, np.random.default_rng(0))
    data = handwriting.load()
    assert not set(data.writer_names[data.writers[samples]]) & held_out
    characters = set(data.labels[samples].tolist())
    assert {"A", "k", "+", "C"} <= characters and not characters & {"O", "l", "S", "z", "5"}  # written like digits


def test_a_writer_of_thousands_does_not_outweigh_the_others():
    images = handwriting.training_digits(5_000, 0.1, 0)
    names, counts = np.unique(images.writers, return_counts=True)
    is_scan = np.isin(names, list(handwriting.SCANS))
    assert counts[~is_scan].sum() == pytest.approx(3_000, abs=1) and counts[~is_scan].max() < 0.03 * 5_000
    assert dict(zip(names[is_scan], counts[is_scan] / 5_000, strict=True)) == pytest.approx(handwriting.SCANS, abs=1e-3)


def test_the_same_seed_gives_the_same_images():
    one, again, other = (handwriting.training_digits(300, 0.1, seed) for seed in (1, 1, 2))
    assert (one.pixels.shape, one.pixels.dtype) == ((300, 28, 28, 1), np.uint8)
    assert set(one.labels.tolist()) == set(range(10)) and one.classes == list("0123456789")
    assert (one.pixels == again.pixels).all() and (one.pixels != other.pixels).any()
    images = digits(200)[0]
    one, again, other = (non_digits.non_digits(images, 60, 0.1, seed) for seed in (0, 0, 1))
    assert (one.shape, one.dtype) == ((60, 28, 28, 1), np.uint8)
    assert (one == again).all() and (one != other).any()


def test_the_notice_names_every_source():
    notice = (PROJECT / "NOTICE").read_text(encoding="utf-8")
    for source in {name.partition("-")[0] for name in handwriting.load().writer_names}:
        assert f"\n{source} " in notice
    assert "CC BY 4.0" in notice and "MIT License" in notice


def test_restyled_digits_are_as_in_mnist():
    made = restyle.restyle(digits(100)[0], np.random.default_rng(0))
    for image in made[..., 0]:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) <= 20
        mass = image.sum()
        assert abs((image.sum(1) * np.arange(28)).sum() / mass - 14) < 3


@pytest.mark.parametrize("kind", ["printed_letters", "scribbles", "merged_digits", "patches"])
def test_every_kind_of_non_digit_is_made(kind):
    made = getattr(non_digits, kind)(digits(200)[0], 30, np.random.default_rng(0))
    assert made.shape == (30, 28, 28, 1) and made.any((1, 2, 3)).mean() > 0.9


def test_blank_training_images_do_no_harm():
    blank = np.zeros((5, 28, 28, 1), np.uint8)
    assert non_digits.non_digits(blank, 40, 0, 0).shape == (40, 28, 28, 1)
    some = digits(20)[0]
    some[:10] = 0
    assert non_digits.non_digits(some, 200, 0, 0).shape == (200, 28, 28, 1)
    assert non_digits.non_digits(blank, 0, 0, 0).shape == (0, 28, 28, 1)
