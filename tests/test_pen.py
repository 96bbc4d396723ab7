import numpy as np

from digits.data import pen
from digits.data.handwriting import random_trajectory


def trajectories(count):
    rng = np.random.default_rng(0)
    return [random_trajectory(str(index % 10), rng) for index in range(count)]


def test_the_same_each_time_and_other_with_another_seed():
    one, again, other = (pen.draw(trajectories(60), np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert (one.shape, one.dtype) == ((60, 28, 28, 1), np.uint8)
    assert (one == again).all() and (one != other).any((1, 2, 3)).all()


def test_normalised_the_way_mnist_was_made():
    images = pen.draw(trajectories(300), np.random.default_rng(0))[..., 0].astype(float)
    index = np.arange(28)
    for image in images:
        assert abs((image.sum(1) * index).sum() / image.sum() - 14) <= 0.51
        assert abs((image.sum(0) * index).sum() / image.sum() - 14) <= 0.51
        height, width = (np.ptp(np.flatnonzero(image.any(axis))) + 1 for axis in (1, 0))
        assert 18 <= max(height, width) <= 21
    assert 0.08 < images.mean() / 255 < 0.18  # MNIST: 0.13
    assert images.max() == 255


def test_the_ink_lies_where_the_strokes_are():
    """Turned neither upside down nor left to right."""
    flag, stem = np.array([[0.4, 0.3], [0.7, 0.0]]), np.array([[0.7, 0.0], [0.7, 1.0]])
    rows, columns = np.nonzero(pen.draw([[flag, stem]], np.random.default_rng(0))[0, ..., 0] > 127)
    left_half = rows[columns < (columns.min() + columns.max()) / 2 - 1]
    assert left_half.size and left_half.max() < (rows.min() + rows.max()) / 2


def test_a_dot_is_a_stroke_too():
    dot = [np.array([[0.5, 0.5]])]
    assert pen.draw([dot], np.random.default_rng(0)).any() and len(pen.trace(dot)) >= 1
