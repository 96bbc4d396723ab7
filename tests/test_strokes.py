import numpy as np

from digits.data import strokes


def test_same_seed_same_digits():
    images, labels = strokes.draw(300, seed=5)
    again, _ = strokes.draw(300, seed=5)
    np.testing.assert_array_equal(images, again)
    assert (images.shape, images.dtype) == ((300, 28, 28, 1), np.uint8)
    assert np.bincount(labels).tolist() == [30] * 10
    assert not np.array_equal(images, strokes.draw(300, seed=6)[0])


def test_normalised_the_way_mnist_was_made():
    images = strokes.draw(500)[0][..., 0].astype(float)
    index = np.arange(28)
    for image in images:
        assert abs((image.sum(1) * index).sum() / image.sum() - 14) <= 0.51
        assert abs((image.sum(0) * index).sum() / image.sum() - 14) <= 0.51
        height, width = (np.ptp(np.flatnonzero(image.any(axis))) + 1 for axis in (1, 0))
        assert 18 <= max(height, width) <= 21
    assert 0.08 < images.mean() / 255 < 0.18  # MNIST: 0.13
    assert images.max() == 255


def test_every_glyph_can_be_written():
    rng = np.random.default_rng(0)
    for digit, glyphs in strokes.GLYPHS.items():
        assert len(glyphs) >= 3, digit
        for weight, glyph in glyphs:
            dots = strokes.write(glyph, 4, rng)
            assert weight > 0
            assert dots.shape[0] == 4
            assert np.abs(np.diff(dots, axis=1)).max() < 2.5  # the pen's jumps between strokes stay within the digit
