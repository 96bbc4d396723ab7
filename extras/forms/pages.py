"""Pages of scanned sheets: pictures, all pages of TIFF and PDF files, folders of them."""

import re
from contextlib import closing
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits.cli import UsageError, in_one_line
from digits.reading import image_file
from digits.reading.image_file import PictureError

SUFFIXES = image_file.SUFFIXES | {".pdf"}
PDF_DPI = 200  # at which the pages of a PDF are drawn
PIXELS = 8_000_000  # of a sheet; larger pictures are reduced to about this


class Page(NamedTuple):
    path: Path
    number: int = 0  # of the page in a TIFF or PDF, from 0


class Sheet(NamedTuple):
    """What one person filled in: a page for each form."""

    file: str  # the first page's
    pages: list  # of Page


def find_sheets(names, pages_of_sheet, exclude=()):
    """Return (Sheets, paths of files that are no scans) of paths of files and folders; those in folders are sorted.

    A file with several pages has one sheet after the other; so do files of one page that follow each other.
    exclude: resolved paths to leave out of folders. Raises UsageError if there is no scan.
    """
    paths, others = [], []
    for name in map(Path, names):
        if not name.exists():
            raise UsageError(f"{name}: no such file or folder")
        if not name.is_dir():
            paths.append(name)
            continue
        for path in sorted(name.rglob("*"), key=_in_order):
            hidden = any(part[0] == "." for part in path.relative_to(name).parts)
            if path.is_file() and not hidden and path.resolve() not in exclude:
                (paths if path.suffix.lower() in SUFFIXES else others).append(path)
    if not paths:
        raise UsageError(f"{names[0]}: no scans in this folder; it needs pictures or PDF files")
    documents = [[Page(path, number) for number in range(count_pages(path))] for path in dict.fromkeys(paths)]
    sheets = []
    for single, group in groupby(documents, lambda pages: len(pages) == 1):
        for pages in [list(chain.from_iterable(group))] if single else group:
            chunks = [pages[start : start + pages_of_sheet] for start in range(0, len(pages), pages_of_sheet)]
            sheets += [Sheet(_printable(chunk[0].path), chunk) for chunk in chunks]
    return sheets, others


def _printable(path):
    """A path as text that can be written in UTF-8, whatever bytes are in it."""
    return str(path).encode(errors="backslashreplace").decode()


def _in_order(path):
    """A sort key by which scan_2 comes before scan_10."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split("([0-9]+)", str(path)))]


def count_pages(path):
    """Number of pages; 1 of a file that cannot be opened."""
    if path.suffix.lower() != ".pdf":
        return image_file.count_pages(path) if path.suffix.lower() in (".tif", ".tiff") else 1
    try:
        with closing(_open_pdf(path)) as pdf:
            return max(1, len(pdf))
    except PictureError:
        return 1


def open_form(page):
    """The picture of a Page that is a form, uint8 H×W×3: never reduced, as its fields have pixels of the file.

    Raises PictureError.
    """
    pages = count_pages(page.path)
    if page.number >= pages:
        raise PictureError(f"has only {pages} page{'s' * (pages > 1)}, no page {page.number + 1}")
    return open_page(page, image_file.MAX_PIXELS)


def open_page(page, most=PIXELS):
    """The picture of a Page, uint8 H×W×3; most: pixels to which a larger one is reduced. Raises PictureError."""
    if page.path.suffix.lower() != ".pdf":
        return np.ascontiguousarray(image_file.open_picture(page.path, page=page.number, target=most)[0])
    with closing(_open_pdf(page.path)) as pdf:
        try:
            width, height = pdf[page.number].get_size()  # in points, 1/72 inch
            scale = min(PDF_DPI / 72, (most / (width * height)) ** 0.5)
            return np.ascontiguousarray(pdf[page.number].render(scale=scale, rev_byteorder=True).to_numpy()[..., :3])
        except Exception as error:  # PDFium's error, or Python's for sizes that make no sense
            raise PictureError(f"page {page.number + 1} of the PDF is damaged ({in_one_line(error)})") from None


def _open_pdf(path):
    """The open PdfDocument of a file. Raises PictureError."""
    import pypdfium2  # only here, as pictures do without

    try:
        if not path.stat().st_size:
            raise PictureError("the file is empty")
        return pypdfium2.PdfDocument(path)
    except OSError as error:
        raise PictureError(error.strerror.lower()) from None
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise PictureError("the PDF is encrypted; save it without a password") from None
        raise PictureError("not a PDF file, or a damaged one") from None
