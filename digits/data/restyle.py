"""Images of digits -> the same digits in another style: bent, written with another pen, seen at another resolution."""

import numpy as np
from PIL import Image
from scipy import ndimage

from digits.data.blocks import in_blocks
from digits.reading.normalization import centre, trimmed

SIDE = 56  # pixels at which images are bent and rewritten, twice MNIST's
BLOCK = 500  # images handled at a time


def restyle(images, rng):
    """Bend and stretch images, uint8 N×28×28×1, write them with another pen, and centre them as pictures are."""
    return in_blocks(_restyle, images, BLOCK, rng, "Changing styles")


def _restyle(images, rng):
    if not len(images):
        return images
    changed = _change_pen(_bend(images[..., 0], rng), rng)
    return np.stack([_rescan(image, rng) for image in changed])


def _bend(images, rng):
    """Elastic change (P. Simard, D. Steinkraus, J. Platt, 2003) of n×28×28 -> float32 n×SIDE×SIDE, 0-1."""
    count = len(images)
    knots, positions = np.linspace(0, 27, 6), np.linspace(0, 27, SIDE)
    spread = np.exp(-(((positions[:, None] - knots) / 4) ** 2))
    spread /= spread.sum(1, keepdims=True)
    knot_shifts = rng.normal(0, 1.6, (2, count, 6, 6)) * rng.uniform(0, 1, (count, 1, 1))
    down, right = spread @ knot_shifts @ spread.T
    image = np.broadcast_to(np.arange(count)[:, None, None], down.shape)
    coordinates = np.stack([image, positions[:, None] + down, positions + right])
    return ndimage.map_coordinates(images.astype(np.float32) / 255, coordinates, order=1)


def _change_pen(images, rng):
    """Make strokes thinner or thicker: the image is blurred, and thresholded at another level."""
    count = len(images)
    for part in np.array_split(rng.permutation(count), 4):
        width = rng.uniform(0.8, 2.2)
        images[part] = ndimage.gaussian_filter(images[part], (0, width, width))
    level = np.exp(rng.uniform(np.log(0.12), np.log(0.55), (count, 1, 1))) * images.max((1, 2), keepdims=True)
    soft = np.minimum(rng.uniform(0.05, 0.3, (count, 1, 1)), 1.9 * level)
    return np.clip((images - level) / np.maximum(soft, 1e-3) + 0.5, 0, 1)


def _rescan(image, rng):
    """One image, float H×W, as other pictures have it: some stretched to a square, some coarse or in two tones."""
    if not (image > 0.3).any():
        return np.zeros((28, 28, 1), np.uint8)
    image = trimmed(image)
    if rng.random() < 0.25:  # people fill the square that they are given
        short, long = sorted(image.shape)
        stretch = min(long / short, 3) ** rng.uniform(0.2, 1)
        image = _resize(image, [side if side == long else round(side * stretch) for side in image.shape])
    if rng.random() < 0.3:
        factor = rng.uniform(14, 24) / max(image.shape)
        image = _resize(image, [max(3, round(side * factor)) for side in image.shape])
        if rng.random() < 0.6:
            image = (image > rng.uniform(0.3, 0.6)).astype(np.float32)
    return centre(image) if image.max() > 0.3 else np.zeros((28, 28, 1), np.uint8)


def _resize(image, shape):
    height, width = shape
    filter = Image.Resampling.BOX if height < image.shape[0] and width < image.shape[1] else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((width, height), filter))
