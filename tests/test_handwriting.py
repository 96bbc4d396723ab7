import numpy as np
import pytest

from digits.data import handwriting, non_digits, strokes


@pytest.fixture(scope="module")
def images():
    return strokes.draw(200, seed=1)


def test_the_same_each_time_and_other_with_another_seed(images):
    for make in (
        lambda seed: handwriting.digits(*images, 60, seed)[0],
        lambda seed: non_digits.non_digits(images[0], 60, seed),
    ):
        one, again, other = make(0), make(0), make(1)
        assert (one.shape, one.dtype) == ((60, 28, 28, 1), np.uint8)
        assert (one == again).all() and (one != other).any()


def test_digits_are_as_in_mnist(images):
    made, labels = handwriting.digits(*images, 100, 0)
    assert set(labels.tolist()) == set(range(10))
    for image in made[..., 0]:
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        assert max(np.ptp(rows), np.ptp(columns)) <= 20
        mass = image.sum()
        assert abs((image.sum(1) * np.arange(28)).sum() / mass - 14) < 3


def test_every_kind_of_non_digit_is_made(images):
    rng = np.random.default_rng(0)
    kinds = ("drawn_signs", "printed_letters", "scribbles", "merged_digits", "patches")
    for make in (getattr(non_digits, kind) for kind in kinds):
        made = make(images[0], 30, rng)
        assert made.shape == (30, 28, 28, 1) and made.any((1, 2, 3)).mean() > 0.9


def test_blank_training_images_do_no_harm():
    blank = np.zeros((5, 28, 28, 1), np.uint8)
    made = handwriting.digits(blank, np.arange(5), 40, 0)[0]  # the first third is rewritten from the images
    assert made.shape == (40, 28, 28, 1) and not made[:13].any()
    assert non_digits.non_digits(blank, 40, 0).shape == (40, 28, 28, 1)
    assert handwriting.digits(blank, np.arange(5), 0, 0)[0].shape == (0, 28, 28, 1)
    some = strokes.draw(20, seed=1)[0]
    some[:10] = 0
    assert non_digits.non_digits(some, 200, 0).shape == (200, 28, 28, 1)
    assert non_digits.non_digits(blank, 0, 0).shape == (0, 28, 28, 1)
