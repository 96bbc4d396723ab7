"""A picture from a file, bytes, an array or another program -> its pixels: any format, size and mode, upright."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
MOST_PIXELS = 200_000_000  # a phone takes up to 200 megapixels; more is a mistake or an attack
WORKING_SIDE = 1000  # pixels; larger pictures are reduced to this, which still leaves a small digit large enough


class PictureError(ValueError):
    """The picture cannot be read; the message says why, in one line."""


def open_picture(source, box=None, page=0, side=WORKING_SIDE):
    """Return a picture as (uint8 H×W×3, factor by which it was reduced).

    source: path, bytes, open binary file, PIL image, or NumPy array (H×W grey, H×W×1, H×W×3 or H×W×4, uint8).
    box: x, y, width, height of the part to return, in pixels of the upright picture; None: all of it.
    page: of a TIFF, from 0.
    side: pixels; a picture of which a side is longer is reduced to about this.
    Turned upright by its EXIF tag; what is transparent becomes paper. Raises PictureError if it cannot be read.
    """
    image, original = _load(source, page, side if box is None else None)
    if box is not None:
        x, y, width, height = box
        if width < 1 or height < 1 or x < 0 or y < 0 or x + width > image.width or y + height > image.height:
            raise PictureError(f"the box {x},{y},{width},{height} is not inside {image.width}×{image.height} pixels")
        image = image.crop((x, y, x + width, y + height))
        original = image.size
    image = image.reduce(_factor(image.size, side))
    return np.asarray(image), max(original) / max(image.size)


def count_pages(path):
    """How many pages a file has: 1 unless it is a TIFF, or if it cannot be read."""
    try:
        with Image.open(path) as image:
            return image.n_frames if image.format == "TIFF" else 1
    except Exception:  # open_picture() says what is wrong
        return 1


def _factor(size, side):
    return max(1, round(max(size) / side))


def _load(source, page, side):
    """Return (upright RGB PIL image, its size in the file); a JPEG is decoded no finer than side needs."""
    if isinstance(source, np.ndarray):
        source = Image.fromarray(source[..., 0] if source.ndim == 3 and source.shape[2] == 1 else source)
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    elif hasattr(source, "seek") and not isinstance(source, Image.Image):
        source.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit is lower, and damaged tags do no harm
            image = source if isinstance(source, Image.Image) else Image.open(source)
            if image.width * image.height > MOST_PIXELS:
                raise PictureError(f"{image.width:,}×{image.height:,} pixels are too many; make the picture smaller")
            if page:
                image.seek(page)
            original = image.size
            if side:
                factor = _factor(image.size, side)
                image.draft("RGB", (image.width // factor, image.height // factor))
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image)), original
    except Image.DecompressionBombError:
        raise PictureError("too many pixels; make the picture smaller") from None
    except UnidentifiedImageError:
        raise PictureError(_why_not_a_picture(source)) from None
    except (OSError, SyntaxError, EOFError, MemoryError, OverflowError) as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)):
            raise PictureError(error.strerror.lower()) from None
        raise PictureError(f"the picture is damaged ({error})") from None


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
