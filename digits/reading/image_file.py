"""A picture from a file, bytes, an array or another program -> its pixels: any format, size and mode, upright."""

import io
import os
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from digits.cli import UsageError, hold_native_log

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
NOT_READ = {".avif", ".cr2", ".dng", ".eps", ".heic", ".heif", ".jxl", ".nef", ".pdf", ".psd", ".svg"}
FORMATS = "PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "JPEG2000", "ICO", "TGA", "PCX"  # EPS would be executed
MAX_PIXELS = 200_000_000  # a phone takes up to 200 megapixels; more is a mistake or an attack
MAX_PAGES = 10_000  # of a TIFF
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses what has twice as many
WORKING_PIXELS = 750_000  # larger pictures are reduced to about this, which still leaves a small digit large enough


class PictureError(UsageError):
    """The picture cannot be read; the message says why, in one line."""


def search(folder):
    """Return (paths of the pictures in a folder and the folders in it, paths of other files that may be pictures).

    The others are of kinds that are not read, or have no suffix. Both are sorted; hidden files do not count.
    """
    pictures, others = [], []
    for path in sorted(folder.rglob("*")) if os.path.isdir(folder) else ():
        suffix = path.suffix.lower()
        kind = pictures if suffix in SUFFIXES else others if suffix in NOT_READ or not suffix else None
        if kind is not None and path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts):
            kind.append(path)
    return pictures, others


def open_picture(source, box=None, page=0, target=WORKING_PIXELS, limit=MAX_PIXELS):
    """Return a picture as (uint8 H×W×3, factor by which it was reduced, its height and width before).

    source: path, bytes, open binary file, PIL image, or uint8 NumPy array (H×W grey, H×W×1, H×W×3 or H×W×4).
    box: x, y, width, height of the part to return, in pixels of the upright picture; None: all of it.
    page: of a TIFF, from 0. target: pixels to which a larger picture is reduced. limit: pixels; more are refused.
    The picture is turned upright by its EXIF tag; transparent pixels become paper. Raises PictureError.
    """
    image, size = _load(source, page, target if box is None else None, limit)
    if box is not None:
        x, y, width, height = box
        if width < 1 or height < 1 or x < 0 or y < 0 or x + width > image.width or y + height > image.height:
            raise PictureError(f"the box {x},{y},{width},{height} is not inside {image.width}×{image.height} pixels")
        image, size = image.crop((x, y, x + width, y + height)), (width, height)
    factor = _factor(image.size, target)
    return np.asarray(image.reduce(factor)), factor * round(size[0] / image.width), size[::-1]


def count_pages(source):
    """Number of pages of a path or bytes: 1 unless it is a TIFF. An unreadable page counts; those after it do not.

    No more than MAX_PAGES are counted.
    """
    pages, file = 0, io.BytesIO(source) if isinstance(source, bytes) else source
    if file is source and not os.path.isfile(file):  # open_picture() says what is wrong
        return 1
    try:
        with warnings.catch_warnings(), Image.open(file, formats=FORMATS) as image:
            warnings.simplefilter("ignore")
            while image.format == "TIFF" and pages < MAX_PAGES:
                image.seek(pages)
                pages += 1
    except EOFError:
        return pages
    except Exception:  # open_picture() says what is wrong
        return pages + 1
    return pages or 1


def _factor(size, target):
    return max(1, round((size[0] * size[1] / target) ** 0.5))


def _load(source, page, target, limit):
    """Return (upright RGB PIL image, its width and height in the file); a JPEG is decoded no finer than needed."""
    file = io.BytesIO(source) if isinstance(source, (bytes, bytearray)) else source
    if isinstance(file, (str, Path)):
        check_regular(file)
    elif not isinstance(file, (np.ndarray, Image.Image)) and not hasattr(file, "read"):
        raise PictureError(f"a picture is a path, bytes, a file, a PIL image or an array, not {type(file).__name__}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # damaged tags do no harm
            image = _from_array(file) if isinstance(file, np.ndarray) else file
            if not isinstance(image, Image.Image):
                image = Image.open(file, formats=FORMATS)
            if page:
                _turn_to(page, image)
            size = image.size
            if size[0] * size[1] > limit:
                raise PictureError(f"{size[0]:,}×{size[1]:,} pixels are over the limit of {limit:,}; make it smaller")
            if target and image is not source:  # draft() would change the caller's
                image.draft("RGB", tuple(side // _factor(size, target) for side in size))
            with hold_native_log() if image.format == "TIFF" else nullcontext():  # libtiff prints what it objects to
                image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright), size if upright.size == image.size else size[::-1]
    except PictureError:
        raise
    except Exception as error:  # Pillow raises nearly any type for a damaged file
        raise PictureError(_reason(error, file)) from None


def check_regular(path):
    """Raise PictureError for a pipe or device, which may never end."""
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise PictureError("a pipe or device; save the picture to a file")


def _turn_to(page, image):
    try:
        image.seek(page)
    except EOFError:
        raise PictureError(f"there is no page {page + 1} in it") from None


def _reason(error, file):
    """Say in one line why Pillow cannot read a path or binary file."""
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels; make the picture smaller"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if not isinstance(error, UnidentifiedImageError):
        return f"the picture is damaged ({error})"
    with open(file, "rb") if isinstance(file, (str, Path)) else nullcontext(file) as opened:
        opened.seek(0)
        start = opened.read(12)
    if start[4:8] == b"ftyp":
        return "HEIC and AVIF pictures are not supported; export it as JPEG or PNG"
    return "not a picture in a format that can be read; save it as PNG or JPEG" if start else "the file is empty"


def _from_array(array):
    channels = array.shape[2:]
    if array.dtype not in (np.uint8, np.uint16, bool) or array.ndim < 2 or channels not in ((), (1,), (3,), (4,)):
        raise PictureError(f"an array must be uint8 H×W, H×W×3 or H×W×4, not {array.dtype} {array.shape}")
    if not array.size:
        raise PictureError("the array is empty")
    array = array[..., 0] if channels == (1,) else array
    return Image.fromarray(255 * array.astype(np.uint8) if array.dtype == bool else array)


def _to_rgb(image):
    if image.mode.startswith("I") or image.mode == "F":  # 16 bits and more, which convert() would cut off at 255
        levels = np.array(image, np.float32)
        valid = np.isfinite(levels)
        if not valid.all():  # a float TIFF may have pixels without a value
            levels[~valid] = np.median(levels[valid]) if valid.any() else 0
        if image.mode == "F":
            top = 1 if levels.max() <= 1 else max(255, levels.max())
        else:
            top = 65535 if levels.max() > 255 else 255
        levels *= 255 / top
        image = Image.fromarray(np.clip(levels, 0, 255, out=levels).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    rgb, alpha = image.convert("RGB"), np.asarray(image.getchannel("A"))
    if alpha.min() == 255:
        return rgb
    ink_is_dark = np.einsum("yx,yx->", rgb.convert("L"), alpha, dtype=np.int64) < 128 * alpha.sum(dtype=np.int64)
    paper = Image.new("RGBA", image.size, "white" if ink_is_dark else "black")
    return Image.alpha_composite(paper, image).convert("RGB")
