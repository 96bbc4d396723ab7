"""A picture -> its pieces of writing: foreground -> strokes -> pieces -> lines of writing and the marks in them.

A piece is a connected component of ink with strokes that broke off it. In the cells of a form it is simpler: what is
written in a cell is one piece.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from digits.reading.foreground import (
    CONNECTED,
    MIN_CONTRAST,
    bounding_window,
    edge_pixels,
    foreground,
    is_clean,
    otsu_threshold,
)
from digits.reading.form_lines import cell_of, erase, find_form, unprinted_row
from digits.reading.normalization import pen_width
from digits.reading.signs import find_marks, is_beside

MIN_CONTRAST_CLEAN = 0.03  # as MIN_CONTRAST, in a small picture without noise
MAX_PIECES = 150  # the largest are kept; more is a text or a photo
MAX_SPECKS = 50  # the largest; some may be points
CUT_OFF = 0.6  # height, as a share of the highest piece, of a line that is read though the picture cuts it off
STACKED_GAP = 0.15  # largest gap between halves of a digit, one above the other, as a share of their height together
MAX_OVERHANG = 0.25  # share of connected ink in a second cell; more is the digit of that cell, and is cut off
MIN_IN_CELLS = 0.55  # share of ink in cells, not between them, nor over several rows, if cells are for digits
MOSTLY = 0.7  # share of connected ink that is printed
MIN_PART, MIN_DIGIT = 0.15, 0.25  # extent of connected ink and of all of a digit, as a share of the height of its cell


class Steps(NamedTuple):
    """The steps from a picture to its pieces; arrays are H×W."""

    foreground: np.ndarray  # float32, distance from the paper, 0-1; in clean pictures with_even_pressure()
    strokes: np.ndarray  # bool
    printed: np.ndarray  # bool, the lines that were taken away
    rows: list  # of form_lines.Row: the cells that say where the digits are; [] without
    pieces: np.ndarray  # int32, number of the piece from 1, 0 for background
    boxes: np.ndarray  # int n×4: top, left, bottom, right of each piece
    lines: list  # lines of writing from the top: lists of indices of boxes, from the left
    marks: list  # of signs.Mark: what is in the lines and no digit


class FormField(NamedTuple):
    """What is known of a picture that is a field of a form."""

    cells: int | None = (
        None  # how many cells of one width, for a digit each, it has side by side; None: none, or unknown
    )
    printed: np.ndarray | None = None  # bool H×W, where the blank form has ink; None: not known


def preprocess(picture, field=FormField()):
    """Return the Steps from a picture, uint8 H×W×3, to its pieces; field: a FormField."""
    ink = foreground(picture)
    smooth = _without_noise(ink)
    levels = find_levels(smooth)
    inked = smooth > levels.inked
    form = find_form(smooth > levels.faint, smooth)
    unprinted = erase(inked, form, smooth)
    strokes = connected_strokes(unprinted, smooth, levels)
    rows = form.rows
    if field.printed is not None:
        strokes = without_print(strokes, field.printed)
    if field.cells and sum(len(row.sides) for row in rows) != field.cells:
        rows = [unprinted_row(field.cells, ink.shape)]
    found = find_pieces_in_cells(strokes, rows, known=bool(field.cells)) if rows else None
    rows = rows if found else []
    if not found:
        pieces, boxes, specks = find_pieces(strokes)
        found = pieces, boxes, *find_lines_and_marks(pieces, boxes, specks, inked & ~unprinted)
    return Steps(with_even_pressure(ink) if is_clean(ink) else ink, strokes, inked & ~unprinted, rows, *found)


def with_even_pressure(ink):
    """A foreground, float32 H×W, in which faint strokes are as dark as those of a pen that is pressed hard."""
    return ink / np.maximum(ndimage.maximum_filter(ink, 3), 1e-6)


def _without_noise(ink):
    """A foreground, float32 H×W, without the noise of a camera."""
    smooth, window = np.zeros_like(ink), bounding_window(ink > 0)
    smooth[window] = ndimage.uniform_filter(ink[window], min(3, max(1, min(ink.shape) // 100)))
    return smooth


class Levels(NamedTuple):
    """Shares of black on white, 0-1, above which a pixel of a foreground is what the name says."""

    soft_edge: float  # of a stroke
    faint: float  # ink, or a printed line
    inked: float  # ink
    clear: float  # so dark that it must be ink


def find_levels(smooth):
    """Return the Levels of a foreground, float32 H×W: those of ink are for hysteresis (J. Canny, 1986)."""
    clean = is_clean(smooth)
    values, step = smooth[smooth >= (MIN_CONTRAST_CLEAN if clean else MIN_CONTRAST)], max(1, min(smooth.shape) // 100)
    min_pixels = min(9, smooth.size)  # fewer are no stroke
    if values.size < min_pixels:
        return Levels(1, 1, 1, 1)
    darkest = np.partition(values, -min_pixels)[-min_pixels]
    noise = np.clip(6 * np.median(smooth[::step, ::step]), 0.1 * darkest, 0.3 * darkest)
    inked = smooth > noise
    if edge_pixels(inked).any():  # the border of a page may be far darker than the pencil on it
        parts, _ = ndimage.label(inked, CONNECTED)
        inked &= ~np.isin(parts, edge_pixels(parts))
    apart = inked.sum() > 0.002 * smooth.size
    values = smooth[inked] if apart else smooth
    clear = otsu_threshold(values[values > 0.2 * values.max()])
    if not apart:  # a border that the digit touches may be darker than the digit
        clear = min(clear, 0.6 * values.max())
    share, soft_edge = (0.2, 0.02) if clean else (0.4, 0.1)
    return Levels(soft_edge * darkest, max(noise, 0.2 * clear), max(noise, share * clear), clear)


def connected_strokes(inked, smooth, levels):
    """Mask of the ink that is connected to clear ink, with its soft edges; inked: bool H×W."""
    strokes, window = np.zeros_like(inked), bounding_window(inked)
    parts, _ = ndimage.label(inked[window], CONNECTED)
    kept = np.pad(np.isin(parts, parts[smooth[window] >= levels.clear]) & (parts > 0), 1)
    kept = kept[:-2] | kept[1:-1] | kept[2:]  # grown by a pixel, far faster than by ndimage.binary_dilation
    strokes[window] = (kept[:, :-2] | kept[:, 1:-1] | kept[:, 2:]) & (smooth[window] > levels.soft_edge)
    return strokes


def without_print(strokes, printed):
    """Strokes, bool H×W, without connected ink most of which is printed on the blank form, such as parts of lines."""
    labels, count = ndimage.label(strokes, CONNECTED)
    share = ndimage.mean(printed, labels, np.arange(count + 1))
    return strokes & (share < MOSTLY)[labels]


def find_pieces(mask):
    """Return (Steps.pieces, Steps.boxes, how many of the last are specks) of a mask, bool H×W.

    Picture borders and frames are left out. Specks are too small for digits.
    """
    window, labels = bounding_window(mask), np.zeros(mask.shape, np.int32)
    labels[window], count = ndimage.label(mask[window], CONNECTED)
    if not count:
        return labels, np.zeros((0, 4), int), 0
    area = np.bincount(labels[mask])[1:].astype(float)
    boxes = _bounding_boxes(labels, window)
    keep = ~_borders_and_frames(labels, boxes, area)
    keep |= not keep.any()
    extent = (boxes[:, 2:] - boxes[:, :2]).max(1)
    specks = keep & (extent > 0.02 * extent[keep].max())
    keep &= (area > 0.02 * area[keep].max()) & (extent > 0.08 * extent[keep].max())
    keep[np.argsort(np.where(keep, -area, 0), kind="stable")[MAX_PIECES:]] = False
    keep &= ~_points_beside_stems(labels, boxes, keep)
    specks &= ~keep
    specks[np.argsort(np.where(specks, -area, 0), kind="stable")[MAX_SPECKS:]] = False
    owner = _join_strokes(boxes, keep)
    owner[specks] = owner.max() + 1 + np.arange(specks.sum())
    labels[window] = np.take(np.append(0, owner).astype(np.int32), labels[window])
    return labels, _bounding_boxes(labels, window), specks.sum()


def _bounding_boxes(labels, window):
    """Top, left, bottom, right of each label, int n×4; window: slices outside of which labels are 0."""
    boxes = np.array([(r.start, c.start, r.stop, c.stop) for r, c in ndimage.find_objects(labels[window])])
    return boxes + 2 * [one.start for one in window]


def _borders_and_frames(labels, boxes, area):
    """Which components, bool n, are a border of the picture or a frame drawn by hand around others."""
    size = boxes[:, 2:] - boxes[:, :2]
    in_corner = np.isin(np.arange(1, len(boxes) + 1), labels[[0, 0, -1, -1], [0, -1, 0, -1]])
    found = np.zeros(len(boxes), bool)
    for axis, edge in ((0, labels[0]), (0, labels[-1]), (1, labels[:, 0]), (1, labels[:, -1])):
        contact = np.bincount(edge, minlength=len(boxes) + 1)[1:] / len(edge)
        thin = size[:, axis] / labels.shape[axis] < 0.15
        found |= (contact > 0.5) & ((contact > 0.9) | in_corner) | (contact > 0.1) & thin & in_corner
    for index in np.flatnonzero((area < 0.3 * size.prod(1)) & (size.min(1) > 10)):
        top, left, bottom, right = boxes[index]
        inside = ((boxes[:, :2] > boxes[index, :2]) & (boxes[:, 2:] < boxes[index, 2:])).all(1)
        part = labels[top:bottom, left:right] == index + 1
        h, w = size[index] // 6
        sides = part[:h].any(0), part[-h:].any(0), part[:, :w].any(1), part[:, -w:].any(1)
        hollow = part[h:-h, w:-w].sum() < 0.05 * area[index] and min(side.mean() for side in sides) > 0.9
        found[index] |= hollow and area[inside].sum() > 0.05 * area[index]
    return found


def _points_beside_stems(labels, boxes, keep):
    """Which components, bool n, are dots to the right of the foot of another, such as the point in 7.5."""
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    found = np.zeros(len(boxes), bool)
    for dot in np.flatnonzero(keep & (np.maximum(height, width) < 0.2 * height[keep].max(initial=0))):
        top, left, bottom, _ = boxes[dot]
        over = (boxes[:, 1] < left) & (boxes[:, 3] > left) & (boxes[:, 0] < top) & (height > 4 * height[dot])
        for other in np.flatnonzero(keep & over & (abs(boxes[:, 2] - bottom) < 0.12 * height)):
            ink = np.flatnonzero((labels[top:bottom] == other + 1).any(0))
            found[dot] |= ink.size > 0 and ink.max() < left - 0.03 * height[other]
    return found


def _join_strokes(boxes, keep):
    """The number of the piece, from 1, that each component belongs to, int n; 0 for those that are not kept."""
    owner = np.where(keep, np.arange(1, len(boxes) + 1), 0)
    boxes = boxes.astype(float)
    while True:
        alive = np.unique(owner[owner > 0]) - 1
        fits, gap = _fit_together(*boxes[alive].T)
        if not fits.any():
            return np.searchsorted(alive, owner - 1, side="right")
        one, two = alive[list(np.unravel_index(np.where(fits, gap, np.inf).argmin(), gap.shape))]
        owner[owner == two + 1] = one + 1
        boxes[one] = *np.minimum(boxes[one, :2], boxes[two, :2]), *np.maximum(boxes[one, 2:], boxes[two, 2:])


def group_into_lines(boxes, picture_height):
    """The lines of writing from the top: lists of indices of boxes, int n×4, from the left.

    Lines that are far lower than others are left out, and what the upper or lower edge of the picture cuts off.
    """
    lines = []
    height = boxes[:, 2] - boxes[:, 0]
    for piece in np.argsort(-height, kind="stable"):
        top, left, bottom, right = boxes[piece]
        for line in lines:
            near = min(line, key=lambda other: max(boxes[other, 1] - right, left - boxes[other, 3]))
            if min(bottom, boxes[near, 2]) - max(top, boxes[near, 0]) > 0.5 * (bottom - top):
                line.append(piece)
                break
        else:
            lines.append([piece])
    cut_off = (boxes[:, 0] == 0) | (boxes[:, 2] == picture_height)
    share = [CUT_OFF if cut_off[line].all() else 0.2 for line in lines]
    lines = [line for line, least in zip(lines, share, strict=True) if height[line].max() > least * height.max()]
    lines = [[p for p in line if height[p] > 0.35 * np.percentile(height[line], 75)] for line in lines]
    lines = [sorted(line, key=lambda p: boxes[p, 1] + boxes[p, 3]) for line in lines]
    return sorted(lines, key=lambda line: np.mean(boxes[line][:, [0, 2]]))


def _fit_together(top, left, bottom, right):
    """For n boxes: (which two are strokes of one digit by their places, bool n×n; gap between them, float n×n)."""
    height, width = bottom - top, right - left
    across = np.minimum.outer(right, right) - np.maximum.outer(left, left)  # overlap; a gap where it is negative
    along = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
    low, tall = np.minimum.outer(height, height), np.maximum.outer(height, height)
    lower = height[:, None] < height

    def of_lower(values):  # the value of the lower one of two
        return np.where(lower, values[:, None], values)

    upper_end = np.where(lower, top, top[:, None])  # of the higher one
    bar = (low <= 0.6 * tall) & of_lower(width > 1.5 * height)
    within = (across >= 0.5 * np.minimum.outer(width, width)) & (along >= 0.5 * low)
    above = (across >= 0.4 * np.minimum.outer(width, width)) & (-along <= np.where(bar, 0.25, 0.08) * tall)
    dot = (low <= 0.25 * tall) & (of_lower(width) <= 0.25 * tall)
    middle = (of_lower(top + bottom) / 2 - upper_end) / tall
    dash = bar & (middle > 0.25) & (middle < 0.78) & (of_lower(left + right) < 2 * np.where(lower, left, left[:, None]))
    near = np.where(dot | dash, 0.025, 0.06) * tall  # dots, and dashes before a digit, are rather signs
    beside = (along >= 0.8 * low) & (-across <= near) & (low <= 0.6 * tall)
    below_top = (of_lower(bottom) - upper_end) / tall
    at_top = (below_top >= -0.25) & (below_top <= 0.3)
    hovering = bar & ~dot & at_top & (-across <= 0.2 * tall)  # as the bar of a 5 does
    fits = (within | above | beside | hovering) & ~np.eye(len(top), dtype=bool)
    return fits, np.maximum(-along, 0) / tall


def find_lines_and_marks(pieces, boxes, specks, printed):
    """Return Steps.lines and Steps.marks for Steps.pieces and Steps.boxes; specks: how many of the last are such."""
    lines, height = group_into_lines(boxes[: len(boxes) - specks], len(pieces)), boxes[:, 2] - boxes[:, 0]
    lines = [line for line in lines if len(line) > 1 or not any(is_beside(boxes, line[0], other) for other in lines)]
    lines = join_stacked(lines, boxes)
    if len(boxes) < 2 or not lines:
        return lines, []
    tallest = max((piece for line in lines for piece in line), key=height.__getitem__)
    top, left, bottom, right = boxes[tallest]
    marks = find_marks(pieces, boxes, lines, pen_width(pieces[top:bottom, left:right] == tallest + 1), printed)
    colons = {piece for mark in marks if len(mark.pieces) > 1 for piece in mark.pieces}
    return [[piece for piece in line if piece not in colons] for line in lines], marks


def join_stacked(lines, boxes):
    """Lines of writing in which two that may be the halves of one digit, such as the loops of an 8, are one line."""
    joined = []
    for line in lines:
        if joined and len(line) == len(joined[-1]) == 1:
            upper, lower = boxes[joined[-1][0]], boxes[line[0]]
            if is_stacked(upper, lower) and lower[0] - upper[2] < STACKED_GAP * (lower[2] - upper[0]):
                joined[-1] = joined[-1] + line
                continue
        joined.append(line)
    return joined


def find_pieces_in_cells(mask, rows, known=False):
    """Return Steps.pieces, Steps.boxes and Steps.lines of a mask, bool H×W, by the cells of Rows: a piece in each.

    known: whether the cells are sure to be for digits. If not, None where the writing does not keep to the cells, as on
    paper with small squares, or all is written elsewhere.
    """
    y, x = np.nonzero(mask)
    labels, _ = ndimage.label(mask, CONNECTED)
    cell, part = cell_of(rows, y, x), labels[y, x]
    area = np.zeros((part.max(initial=0) + 1, sum(len(row.sides) for row in rows) + 1), int)
    np.add.at(area, (part, cell), 1)
    inside, total = area[:, 1:], area.sum(1)
    second, largest = np.sort(inside, axis=1)[:, -2:].T
    in_row = np.add.reduceat(inside, np.cumsum([0, *(len(row.sides) for row in rows[:-1])]), axis=1).max(1)
    in_one_row = in_row[in_row > 0.6 * inside.sum(1)].sum()
    between = sum(np.count_nonzero((y > row.upper.at(x)) & (y < row.lower.at(x))) for row in rows)
    if not known and (in_one_row < MIN_IN_CELLS * inside.sum() or inside.sum() < MIN_IN_CELLS * between):
        return None
    whole = second <= MAX_OVERHANG * (largest + second)
    owner = np.where(whole[part], 1 + inside.argmax(1)[part], cell)
    owner[(inside.sum(1) < 0.4 * total)[part]] = 0  # written elsewhere
    cells = np.zeros(mask.shape, np.int32)
    cells[y, x] = owner
    tall = 0.5 * np.median([row.height for row in rows])
    if not (known or owner.any()) and any(down.stop - down.start > tall for down, _ in ndimage.find_objects(labels)):
        return None
    return _pieces_of_cells(cells, rows)


def _pieces_of_cells(cells, rows):
    """Number the pieces where the number of a cell, int H×W, is also that of the ink written in it; without specks."""
    pieces, boxes, lines = np.zeros_like(cells), [], []
    windows = enumerate(ndimage.find_objects(cells, max_label=sum(len(row.sides) for row in rows)), 1)
    for row in rows:
        line = []
        for number, window in islice(windows, len(row.sides)):
            if window is None:
                continue
            parts, _ = ndimage.label(cells[window] == number, CONNECTED)
            extent = np.array([max(side.stop - side.start for side in part) for part in ndimage.find_objects(parts)])
            area = np.bincount(parts.ravel())[1:]
            kept = np.append(False, (extent > MIN_PART * row.height) & (area > 0.05 * area.max()))[parts]
            if extent.max() > MIN_DIGIT * row.height:
                line.append(len(boxes))
                y, x = np.nonzero(kept)
                pieces[window][kept] = len(boxes) + 1
                top, left = window[0].start, window[1].start
                boxes.append((top + y.min(), left + x.min(), top + y.max() + 1, left + x.max() + 1))
        lines += [line] if line else []
    return pieces, np.array(boxes, int).reshape(-1, 4), lines, []


def is_stacked(one, other):
    """Whether of two boxes, top, left, bottom, right, one lies above the other."""
    across = min(one[3], other[3]) - max(one[1], other[1])
    along = min(one[2], other[2]) - max(one[0], other[0])
    narrow, low = min(one[3] - one[1], other[3] - other[1]), min(one[2] - one[0], other[2] - other[0])
    return across > 0.4 * narrow and along < 0.2 * low
