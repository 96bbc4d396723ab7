"""Any picture -> a 28×28 digit, the way MNIST was made.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while
preserving their aspect ratio. [...] the images were centered in a 28x28 image by computing the center of mass of the
pixels, and translating the image so as to position this point at the center of the 28x28 field." (Y. LeCun,
C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/)
"""

import io
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MOST_PIXELS = 200_000_000  # a phone takes up to 200 megapixels; more is a mistake or an attack
WORKING_SIDE = 1000  # pixels; larger pictures are reduced to this, which still leaves a small digit large enough
FAINTEST = 0.1  # ink is at least this far from the paper, as a share of black on white


class PictureError(ValueError):
    """The picture cannot be read; the message says why, in one line."""


class Digit(NamedTuple):
    """A digit found in a picture."""

    image: np.ndarray  # uint8 28×28×1, 0 background, 255 ink
    box: tuple  # x, y, width, height in pixels of the picture


def open_picture(source):
    """Return a picture as (uint8 H×W×3, factor by which it was reduced).

    source: path, bytes, open binary file, PIL image, or NumPy array (H×W grey, H×W×1, H×W×3 or H×W×4, uint8).
    Turned upright by its EXIF tag; what is transparent becomes paper. Raises PictureError if it cannot be read.
    """
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source)
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit is lower, and damaged tags do no harm
            image = source if isinstance(source, Image.Image) else Image.open(source)
            if image.width * image.height > MOST_PIXELS:
                raise PictureError(f"{image.width:,}×{image.height:,} pixels are too many; make the picture smaller")
            factor = max(1, max(image.size) // WORKING_SIDE)
            original = image.size
            image.draft("RGB", (image.width // factor, image.height // factor))  # JPEG: decodes no more than needed
            image.load()
            image = _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise PictureError("too many pixels; make the picture smaller") from None
    except UnidentifiedImageError:
        raise PictureError(_why_not_a_picture(source)) from None
    except (OSError, SyntaxError, EOFError, MemoryError, OverflowError) as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)):
            raise PictureError(error.strerror.lower()) from None
        raise PictureError(f"the picture is damaged ({error})") from None
    image = image.reduce(max(1, max(image.size) // WORKING_SIDE))
    return np.asarray(image), max(original) / max(image.size)


def _why_not_a_picture(source):
    """Say in one line why Pillow does not know the format."""
    if isinstance(source, (str, Path)):
        start = Path(source).read_bytes()[:12]
    else:
        source.seek(0)
        start = source.read(12)
    if not start:
        return "the file is empty"
    if start[4:8] == b"ftyp":
        return "HEIC and AVIF pictures are not supported; export it as JPEG or PNG"
    return "not a picture in a format that can be read; save it as PNG or JPEG"


def _to_rgb(image):
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more, which convert() would cut off at 255
        levels = np.asarray(image, np.float64)
        top = 65535 if image.mode.startswith("I") and levels.max() > 255 else max(255, levels.max())
        image = Image.fromarray((255 * np.clip(levels / top, 0, 1)).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    grey, alpha = np.asarray(image.convert("RGB").convert("L"), float), np.asarray(image.getchannel("A"), float)
    ink_is_dark = (grey * alpha).sum() < 128 * alpha.sum()
    paper = Image.new("RGBA", image.size, "white" if ink_is_dark else "black")
    return Image.alpha_composite(paper, image).convert("RGB")


def find_digit(picture):
    """Return the Digit in a picture (uint8 H×W×3), or None where there is no ink."""
    ink = _ink(picture)
    mask = _strokes(ink)
    if mask is None:
        return None
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    image = centre(np.where(mask, ink, 0)[top:bottom, left:right])
    return Digit(image, (int(left), int(top), int(right - left), int(bottom - top)))


def _ink(picture):
    """How far each pixel is from the paper, float32 H×W, 0-1: either polarity and any colour of ink.

    The paper is a plane through the pixels along the edges, since light falls off across a photo.
    """
    height, width = picture.shape[:2]
    edge = np.zeros((height, width), bool)
    margin = max(1, min(height, width) // 50)
    edge[:margin] = edge[-margin:] = edge[:, :margin] = edge[:, -margin:] = True
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([np.ones_like(x), x, y], -1)
    distance = np.zeros((height, width), np.float32)
    for channel in range(3):
        values = picture[..., channel].astype(np.float32) / 255
        usual = edge & (np.abs(values - np.median(values[edge])) < 0.25)  # a stroke may touch the edge
        plane = np.linalg.lstsq(terms[usual], values[usual], rcond=None)[0]
        distance = np.maximum(distance, np.abs(values - terms @ plane))
    return distance


def _strokes(ink):
    """Mask of the pixels that belong to strokes, bool H×W, or None where there are none.

    Hysteresis: what is faint counts only where it is connected with what is clearly ink; specks do not count.
    """
    from scipy import ndimage

    smooth = ndimage.uniform_filter(ink, max(1, min(ink.shape) // 100))
    darkest = np.partition(smooth.ravel(), -9)[-9] if smooth.size > 9 else smooth.max()
    if darkest < FAINTEST:
        return None
    edge = np.concatenate([smooth[0], smooth[-1], smooth[:, 0], smooth[:, -1]])
    clear = _otsu(smooth[smooth > 0.2 * darkest])
    faint = np.clip(6 * np.median(edge), 0.1 * darkest, 0.2 * darkest)  # above the noise of the paper
    parts, count = ndimage.label(smooth > faint, np.ones((3, 3)))
    strength = ndimage.maximum(smooth, parts, np.arange(1, count + 1))
    area = ndimage.sum_labels(smooth, parts, np.arange(1, count + 1))
    keep = (strength >= clear) & (area > 0.02 * area.max())
    return np.concatenate([[False], keep])[parts]


def _otsu(values):
    """The threshold that splits values, 0-1, into two groups with the least variance inside (N. Otsu, 1979)."""
    counts, edges = np.histogram(values, 64, (0, 1))
    below = counts.cumsum()
    sums = (counts * (edges[:-1] + edges[1:]) / 2).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (sums[-1] * below / below[-1] - sums) ** 2 / (below * (below[-1] - below))
    return edges[1 + int(np.nanargmax(np.where(np.isfinite(between), between, -1)))]


def centre(ink):
    """Fit ink (float H×W) into 20×20 and put its centre of mass at the centre of an image, uint8 28×28×1."""
    scale = 20 / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape[::-1]]
    filter = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(ink.astype(np.float32)).resize(size, filter))
    small = np.clip(small / max(np.percentile(small, 99), 1e-6), 0, 1)
    mass = small.sum()
    height, width = small.shape
    top = round(14 - float((small.sum(1) * np.arange(height)).sum() / mass))
    left = round(14 - float((small.sum(0) * np.arange(width)).sum() / mass))
    top, left = min(max(top, 0), 28 - height), min(max(left, 0), 28 - width)
    image = np.zeros((28, 28, 1), np.uint8)
    image[top : top + height, left : left + width, 0] = np.rint(255 * small)
    return image
