"""A scanned sheet -> its fields, cut out and segmented; this runs in worker processes, without TensorFlow."""

from functools import lru_cache
from itertools import zip_longest
from typing import NamedTuple

import cv2
import numpy as np

from digits.cli import UsageError, in_one_line
from digits.reading import reader
from digits.reading.segmentation import FormField
from extras.forms import align, description, pages

PRINTED = 220  # grey level below which a pixel of the form is printed
MARGIN = 0.06  # around a field, as a share of its height
FIELD_WIDTH, SHEET_WIDTH = 640, 1000  # pixels of the pictures in the review page, at most


class CutField(NamedTuple):
    segmented: reader.Segmented
    picture: bytes  # JPEG


class CutSheet(NamedTuple):
    """The fields of a sheet by name; without those of pages that are missing, or not aligned."""

    sheet: pages.Sheet
    fields: dict  # name -> CutField
    errors: list  # of str, why pages were not read
    pictures: list  # JPEG bytes of these pages, if they could be opened


def load_reference(form):
    """Return (the align.Reference of a Form, the set of its Fields in which something is written on the form itself).

    Raises UsageError if the picture cannot be used, or a field is outside of it.
    """
    return _reference(form.picture, form.page, tuple(form.fields.items()))


@lru_cache
def _reference(path, page, fields):
    """As load_reference(), computed once in each process; fields: (name, Field) pairs."""
    try:
        picture = pages.open_form(pages.Page(path, page))
        description.check_boxes(fields, *picture.shape[1::-1])
        picture = align.without_shadows(picture)
        return align.reference(picture), {field for _, field in fields if _is_filled_in(picture, field)}
    except (UsageError, cv2.error) as error:
        raise UsageError(f"{path}: {in_one_line(error)}") from None


def _is_filled_in(form, field):
    (x, y, width, height), margin = field.box, _margin(field)
    crop = form[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
    return bool(reader.segment(np.ascontiguousarray(crop), field=FormField(field.cells)).candidates)


def cut(sheet, forms):
    """Cut the fields of Forms out of a Sheet, one page for each: return the CutSheet."""
    cv2.setNumThreads(1)  # other sheets keep the other processors busy
    found = CutSheet(sheet, {}, [], [])
    for number, (page, form) in enumerate(zip_longest(sheet.pages, forms), 1):
        where, picture = f"page {number}: " * (len(forms) > 1), None
        try:
            if page is None:
                raise pages.PictureError("missing")
            picture = align.without_shadows(pages.open_page(page))
            known, filled_in = load_reference(form)
            aligned = align.align(known, picture)
            for name, field in form.fields.items():
                found.fields[name] = _cut_field(known, picture, aligned, field, field in filled_in)
        except UsageError as error:
            found.errors.append(f"{where}{error}")
            if picture is not None:
                found.pictures.append(as_jpeg(picture, SHEET_WIDTH))
        except (MemoryError, cv2.error):
            found.errors.append(f"{where}the picture is too large")
    return found


def _cut_field(form, picture, aligned, field, is_filled_in):
    crop, blank = align.cut_out(form.picture, picture, aligned, field.box, _margin(field))
    printed = cv2.dilate((blank.min(-1) < PRINTED).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    known = FormField(field.cells, None if is_filled_in else printed)
    return CutField(reader.segment(crop, digits=field.digits, field=known), as_jpeg(crop, FIELD_WIDTH))


def _margin(field):
    """How many pixels of the form around a Field are read, too, so that its lines are in the picture."""
    return max(4, round(MARGIN * field.box[3]))


def as_jpeg(picture, width):
    """A picture, uint8 H×W×3, of at most this width, as the bytes of a JPEG file."""
    scale = min(1.0, width / picture.shape[1])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1].tobytes()
