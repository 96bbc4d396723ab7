"""The fields of a form, found by the lines that are printed: rows of cells, boxes, base lines with or without ticks.

Sizes are shares of the longer side of the page, 297 mm of A4, since nothing is known of its resolution.
"""

from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np

from digits.cli import progress
from digits.reading.form_lines import find_form, find_ticks
from digits.reading.straight_lines import Line, runs, values_around
from extras.forms.align import reduced, without_shadows
from extras.forms.description import MOST, Field

PIXELS = 2_500_000  # larger pictures are reduced to about this
LEVELS = 128, 180, 205, 220, 235  # grey levels below which a pixel is printed; paper is 250
MIN_LINE = 0.010  # length of a line
MAX_DASH, MAX_GAP = 0.008, 0.0045  # length of the dashes of a line, and the gap between them
MAX_THICKNESS = 0.004
MIN_CELL_WIDTH, MIN_HEIGHT, MAX_HEIGHT = 0.009, 0.0165, 0.07  # of cells and boxes
MIN_BOX = 0.018  # width and height of a box that is alone; smaller ones are to be ticked
CELL_GAP = 0.5  # between cells of a row, as a share of their height
MIN_BASE_LINE = 0.045  # length
MAX_BASE_LINE = 0.85  # as a share of the width of all that is printed; longer ones separate parts of the form
MIN_PITCH, MAX_PITCH = 0.017, 0.05  # of ticks
MIN_ABOVE, MAX_ABOVE = 0.016, 0.036  # height of the field above a base line


class Box(NamedTuple):
    """A field that was found, in pixels of the reduced page."""

    x: float
    y: float
    width: float
    height: float
    cells: int = 0  # 0 of a box or base line without cells

    @property
    def right(self):
        return self.x + self.width

    @property
    def bottom(self):
        return self.y + self.height


class Print(NamedTuple):
    """What is printed on a page, at one of the LEVELS."""

    level: np.ndarray  # uint8 h×w, grey levels without shadows
    ink: np.ndarray  # uint8 h×w, 1 where it is printed
    unit: int  # longer side, pixels


def find_fields(picture):
    """The Fields of a form, uint8 H×W×3, from the top and from the left."""
    level, matrix = _straightened(picture)
    boxes, lines = [], []
    for least in progress(LEVELS, "Finding fields"):
        page = Print(level, (level < least).astype(np.uint8), max(level.shape))
        for mask in (page.ink, _dashed(page)):
            segments = _segments(page, mask)
            lines = [one for one in lines if not any(_is_part(one, other) for other in segments)]
            lines += [one for one in segments if not any(_is_part(one, other) for other in lines)]
            for region in _side_by_side(_regions(segments, page.unit)):
                boxes += _boxes_in(region, page)
    boxes = _without_repeats(boxes)
    page = page._replace(ink=(level < LEVELS[2]).astype(np.uint8))
    lines = [line for line in lines if not any(_is_side_of(line, box, page.unit) for box in boxes)]
    boxes += _fields_on_lines(page, lines, boxes)
    return [_as_field(box, matrix, picture.shape) for box in _in_reading_order(boxes)]


def _straightened(picture):
    """Return (uint8 h×w, the grey levels of a picture, reduced and turned so that lines across are level; the 2×3
    matrix from its pixels to those of the picture)."""
    small, scale = reduced(without_shadows(picture), PIXELS)
    level = small.min(-1)
    page = Print(level, (level < LEVELS[2]).astype(np.uint8), max(level.shape))
    longest = sorted(_segments(page, page.ink), key=lambda line: line.length)[-10:]
    slope = float(np.median([line.slope for line in longest])) if longest else 0.0
    matrix = cv2.getRotationMatrix2D((level.shape[1] / 2, level.shape[0] / 2), np.rad2deg(slope), 1)
    if abs(slope) > 0.002:
        level = cv2.warpAffine(level, matrix, level.shape[::-1], flags=cv2.INTER_LINEAR, borderValue=255)
    return level, cv2.invertAffineTransform(matrix) / scale


def _dashed(page):
    """The lines of evenly spaced dashes or dots of a Print, without gaps, and nothing else: uint8 h×w."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats(page.ink, connectivity=8)
    sides = stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]]
    small = (sides.min(1) <= max(3, MAX_THICKNESS * page.unit)) & (sides.max(1) <= MAX_DASH * page.unit)
    small[0] = False
    dashes, gap = small[parts].astype(np.uint8), 1 + max(4, round(MAX_GAP * page.unit))
    closed = cv2.morphologyEx(dashes, cv2.MORPH_CLOSE, np.ones((1, gap), np.uint8))
    _, rows, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    for number, (x, y, width, height, _) in enumerate(stats[1:], 1):
        window = slice(y, y + height), slice(x, x + width)
        _, starts, _ = runs((dashes[window] & (rows[window] == number)).any(0, keepdims=True))
        pitch = np.diff(starts)
        if len(starts) < 4 or np.mean(np.abs(pitch - np.median(pitch)) <= 1 + 0.2 * np.median(pitch)) < 0.7:
            closed[window][rows[window] == number] = 0
    return closed


def _segments(page, mask):
    """The thin, straight lines across in a mask, uint8 h×w."""
    length, thick = max(8, round(MIN_LINE * page.unit)), max(4, round(MAX_THICKNESS * page.unit))
    thin = cv2.subtract(mask, cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((2 * thick, 2 * thick), np.uint8)))
    across = cv2.morphologyEx(thin, cv2.MORPH_OPEN, np.ones((1, length), np.uint8))
    across = cv2.morphologyEx(across, cv2.MORPH_CLOSE, np.ones((1, length), np.uint8))  # where a stroke crosses
    _, parts, stats, _ = cv2.connectedComponentsWithStats(across, connectivity=8)
    found = []
    for number, (left, top, width, height, area) in enumerate(stats[1:], 1):
        if area <= thick * width and height < thick + 0.1 * width:
            part = parts[top : top + height, left : left + width] == number
            count = part.sum(0)
            y = (part * np.arange(height)[:, None]).sum(0) / np.maximum(count, 1)
            slope, offset = np.polyfit(np.arange(width), y, 1) if width > 2 * length else (0.0, float(np.median(y)))
            if np.mean(np.abs(y - offset - slope * np.arange(width)) < 1.5) > 0.8:
                thickness = float(np.median(count))
                found.append(Line(int(left), int(left + width), top + offset - slope * left, slope, thickness))
    return found


def _is_part(one, other):
    """Whether a line lies on another, or is as long."""
    shared = min(one.stop, other.stop) - max(one.start, other.start)
    return abs(one.middle - other.at((one.start + one.stop) / 2)) < 3 and shared > 0.7 * one.length


def _regions(segments, unit):
    """The Boxes between two lines, one above the other, that begin and end at the same places."""
    found = []
    for upper in segments:
        for lower in segments:
            height = lower.middle - upper.middle
            ends = max(abs(upper.start - lower.start), abs(upper.stop - lower.stop))
            if MIN_HEIGHT * unit <= height <= MAX_HEIGHT * unit and ends < 0.2 * height + 2:
                left, right = min(upper.start, lower.start), max(upper.stop, lower.stop)
                found.append(Box(left, upper.middle, right - left, height))
    return found


def _side_by_side(regions):
    """Regions, of which those of one height that are near to each other are one."""
    joined = []
    for region in sorted(regions):
        for index, other in enumerate(joined):
            near = 0 <= region.x - other.right <= CELL_GAP * region.height
            off = max(abs(region.y - other.y), abs(region.bottom - other.bottom))
            if near and off < 0.1 * region.height + 1:
                top, bottom = min(other.y, region.y), max(other.bottom, region.bottom)
                joined[index] = Box(other.x, top, region.right - other.x, bottom - top)
                break
        else:
            joined.append(region)
    return joined


def _boxes_in(region, page):
    """The row of cells for digits in a region; without one, the boxes in it."""
    margin = max(3, round(0.15 * region.height))
    top, left = max(0, int(region.y) - margin), max(0, int(region.x) - margin)
    window = slice(top, int(region.bottom) + margin), slice(left, int(region.right) + margin)
    rows = find_form(page.ink[window] > 0, (255 - page.level[window]) / np.float32(255)).rows
    if rows:
        row = max(rows, key=lambda row: len(row.sides))
        x, right = (float(side.at(row.lower.middle)) for side in (row.sides[0][0], row.sides[-1][1]))
        box = Box(left + x, top + row.upper.middle, right - x, row.height, len(row.sides))
        lines = [one._replace(start=int(x), stop=int(right)) for one in (row.upper, row.lower)]
        lines = [_moved(one, left, top) for one in lines]
        is_row = box.height >= MIN_HEIGHT * page.unit and box.width > 0.8 * region.width and box.cells <= MOST
        if is_row and all(_is_printed(page, line) for line in lines) and not _is_in_text(page, box):
            return [box]
    sides = _sides(page.ink, region)
    if len(sides) > 2 and np.ptp(sides) < 1.2 * region.height:
        sides = sides[[0, -1]]  # one box with a letter in it
    boxes = [Box(a, region.y, b - a, region.height) for a, b in pairwise(sides)]
    return [box for box in boxes if min(box.width, box.height) >= MIN_BOX * page.unit and _is_empty(page, box)]


def _moved(line, right, down):
    """A Line, moved by whole pixels."""
    offset = line.offset + down - line.slope * right
    return line._replace(start=line.start + right, stop=line.stop + right, offset=offset)


def _sides(ink, region):
    """The places of the lines down from the upper to the lower line of a region."""
    left = max(0, int(region.x) - 3)
    part = ink[int(region.y) : int(region.bottom), left : int(region.right) + 4]
    part = cv2.dilate(part, np.ones((1, 3), np.uint8))  # lines may lean a little
    _, starts, stops = runs(part.mean(0, keepdims=True) > 0.9)
    return left + (starts + stops) / 2


def _is_printed(page, line):
    """Whether a line is of one darkness all along, as no line of text or writing is."""
    darkness = values_around(255 - page.level, line, np.arange(line.start, line.stop), 1)[0].max(0)
    gap = 1 + 2 * round(MAX_GAP * page.unit)
    low, usual = np.percentile(cv2.dilate(darkness[None], np.ones((1, gap))), (10, 50))
    return low > 0.6 * usual


def _is_empty(page, box):
    """Whether a Box has straight sides across, and there is mostly paper along them, as beside no letter."""
    inside = round(2 + 0.0015 * page.unit)
    left, right = int(box.x) + inside, int(box.right) - inside
    rows = int(box.y) + inside, int(box.bottom) - inside
    lines = [Line(left, right, y, 0.0, 1.0) for y in (box.y, box.bottom)]
    return min(page.ink[y, left:right].mean() for y in rows) < 0.5 and all(_is_printed(page, line) for line in lines)


def _is_in_text(page, box):
    """Whether something is printed close to a Box on both sides, as in a line of text."""
    rows = slice(int(box.y + 0.2 * box.height), int(box.bottom - 0.2 * box.height))
    near, far = 3, max(5, round(0.35 * box.height))
    sides = (
        page.ink[rows, max(0, int(box.x) - far) : max(0, int(box.x) - near)],
        page.ink[rows, int(box.right) + near : int(box.right) + far],
    )
    return all((side.any(0) & ~side.all(0)).any() for side in sides)  # a line down is no letter


def _without_repeats(boxes):
    """Boxes, of which none covers another: rows of more cells first, then smaller boxes."""
    kept = []
    for box in sorted(boxes, key=lambda box: (-box.cells, box.width * box.height)):
        if not any(_covers(box, other) or _covers(other, box) for other in kept):
            kept.append(box)
    return kept


def _covers(one, other):
    """Whether one Box covers much of another."""
    across = min(one.right, other.right) - max(one.x, other.x)
    along = min(one.bottom, other.bottom) - max(one.y, other.y)
    return max(across, 0) * max(along, 0) > 0.3 * other.width * other.height


def _is_side_of(line, box, unit):
    """Whether a line is the upper or lower side of a Box, or inside of it."""
    shared = min(line.stop, box.right) - max(line.start, box.x)
    near = 0.005 * unit
    return box.y - near < line.middle < box.bottom + near and shared > 0.5 * min(line.length, box.width)


def _fields_on_lines(page, lines, boxes):
    """The Boxes above base lines, with the number of cells between their ticks."""
    used = np.flatnonzero(page.ink.any(0))
    longest = MAX_BASE_LINE * np.ptp(used) if len(used) else 0
    lines = [one for one in lines if one.length >= MIN_BASE_LINE * page.unit and _is_printed(page, one)]
    lines = [one for one in lines if _is_free_below(page, one)]
    found = []
    for line in lines:
        cells, height = _ticks(page, line)
        if not cells and (line.length > longest or _ends_at_sides(page, line) or _is_underline(page, line)):
            continue
        limits = [other.middle for other in lines if _is_above(other.start, other.stop, other.middle, line)]
        limits += [box.bottom for box in boxes if _is_above(box.x, box.right, box.bottom, line)]
        room = line.middle - max(limits, default=0) - 3
        free = height if cells else _free_above(page, line)
        height = min(room, free if free >= MIN_ABOVE * page.unit else MAX_ABOVE * page.unit)
        if height >= 0.7 * MIN_ABOVE * page.unit:
            found.append(Box(line.start, line.middle - height, line.length, height + line.thickness, cells))
    return found


def _is_above(left, right, bottom, line):
    return bottom < line.middle - 3 and min(right, line.stop) - max(left, line.start) > 0.2 * line.length


def _ticks(page, line):
    """Return (number of cells between the evenly spaced ticks on a line, height of the cells); 0, 0 without ticks."""
    ends = line.at(np.array([line.start, line.stop]))
    top, left = max(0, int(ends.min() - MAX_HEIGHT * page.unit)), max(0, line.start - 5)
    mask = page.ink[top : int(ends.max() + line.thickness + 3), left : line.stop + 5] > 0
    inside = _moved(line, -left, -top)
    row = find_ticks(mask, inside, [inside], [], line.thickness)
    pitch = line.length / len(row.sides) if row else 0
    return (len(row.sides), row.height) if MIN_PITCH * page.unit <= pitch <= MAX_PITCH * page.unit else (0, 0)


def _ends_at_sides(page, line):
    """Whether lines down go from both ends of a line: it is the side of a large frame."""
    reach, near = round(0.012 * page.unit), round(0.004 * page.unit)
    ends = [(slice(max(0, x - near), x + near), int(line.at(x))) for x in (line.start, line.stop)]
    for first, last in ((-reach, -2), (2, reach)):
        parts = [page.ink[max(0, y + first) : max(0, y + last), x] for x, y in ends]
        if all(part.size and part.any(1).mean() > 0.95 for part in parts):
            return True
    return False


def _is_underline(page, line):
    """Whether there is print right above all of a line."""
    above = _strip(page, line, -MIN_ABOVE * page.unit, -2).any(0)[None].astype(np.uint8)
    return cv2.dilate(above, np.ones((1, max(3, round(0.012 * page.unit))))).mean() > 0.85


def _is_free_below(page, line):
    return _strip(page, line, 2, 2 + 0.004 * page.unit).any(0).mean() < 0.3


def _free_above(page, line):
    """How much paper is free above a line, pixels, at most MAX_ABOVE."""
    printed = np.flatnonzero(_strip(page, line, -MAX_ABOVE * page.unit, -3).any(1))
    height = round(MAX_ABOVE * page.unit) - 3
    return height - 1 - printed[-1] if len(printed) else height


def _strip(page, line, first, last):
    """The ink from `first` to `last` pixels below the edge of a line: uint8 h×w, without its ends."""
    x = np.arange(line.start + 2, max(line.start + 3, line.stop - 2))
    edge = np.sign(first + last) * line.thickness / 2
    rows = np.rint(line.at(x) + edge).astype(int) + np.arange(round(first), round(last))[:, None]
    return page.ink[rows.clip(0, len(page.ink) - 1), x.clip(0, page.ink.shape[1] - 1)]


def _in_reading_order(boxes):
    rows = []
    for box in sorted(boxes, key=lambda box: box.y + box.height / 2):
        middle = box.y + box.height / 2
        if rows and abs(middle - rows[-1][0]) < 0.5 * box.height:
            rows[-1][1].append(box)
        else:
            rows.append((middle, [box]))
    return [box for _, row in rows for box in sorted(row)]


def _as_field(box, matrix, shape):
    """The Field around a Box, with its printed lines; matrix: from pixels of the Box to those of a picture, H×W×3."""
    corners = np.array([(x, y, 1) for x in (box.x - 2, box.right + 2) for y in (box.y - 2, box.bottom + 2)]) @ matrix.T
    (left, top), (right, bottom) = np.rint([corners.min(0), corners.max(0)]).astype(int).clip(0, shape[1::-1]).tolist()
    return Field((left, top, right - left, bottom - top), box.cells if box.cells > 1 else None)
