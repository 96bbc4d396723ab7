"""What is printed under the writing: lines of forms and ruled paper, and the cells that they make.

A straight, thin line of ink is printed if it goes from edge to edge of the picture, is far longer than the writing is
high, or is part of a row of cells of equal width or of a frame around writing. All others are strokes.
"""

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from digits.reading.foreground import CONNECTED
from digits.reading.straight_lines import (
    MUCH_DARKER,
    Line,
    darkness_along,
    erase_lines,
    find_dashes,
    find_lines,
    from_top,
    inked_along,
    is_straight,
    measured,
    touched_along,
    typical_width,
)

MIN_SIDE = 28  # pixels; smaller pictures hold no form
MIN_RULED_SIDE = 40  # pixels; in smaller pictures a line from edge to edge is part of the digit
LONG = 3  # a longer line without cells is printed, in heights of the writing
MIN_INKED = 0.92  # share of the upper and the lower side of a cell
CORNER = 0.3  # radius of a round corner, as a share of the height or width of a cell
MIN_CELL = 8  # pixels, width and height
MIN_ASPECT, MAX_ASPECT = 0.25, 1.7  # width / height of a cell, of one for a single digit
WIDTH_TOLERANCE = 0.1  # share by which cells of equal width differ, as they do in perspective
MAX_SIDES, MAX_WIDTHS = 80, 20  # in a row of cells: lines down; widths that are tried, the most frequent ones
MAX_STROKES = 4  # in one cell, that look like sides of cells


class Row(NamedTuple):
    """A row of cells."""

    upper: Line
    lower: Line
    sides: list  # (left, right) of each cell, Lines down

    @property
    def height(self):
        return self.lower.middle - self.upper.middle


class Form(NamedTuple):
    """What is printed in a picture."""

    across: list  # of Line
    down: list  # of Line, in the transposed picture
    rows: list  # of Row, from the top: two or more cells side by side, each for one digit


def find_form(mask, darkness):
    """Return the Form that is printed in a picture.

    mask: bool H×W, all that may be ink. darkness: float H×W, how dark it is.
    """
    pen = typical_width(mask)
    if max(mask.shape) < MIN_SIDE or not pen:
        return Form([], [], [])
    across, down = find_lines(mask, pen), find_lines(mask.T, pen)
    cells = find_cells(mask, darkness, across, down, pen)
    if not any(map(_is_row, cells)):
        cells += find_cells(mask, darkness, across, down, pen, corner=CORNER)
    if not any(map(_is_row, cells)):
        dashes, gap = find_dashes(mask, pen)
        if gap:
            across, down = from_top(across + find_lines(dashes, pen, gap)), down + find_lines(dashes.T, pen, gap)
            cells += find_cells(mask, darkness, across, down, pen, gap)
    rows = [row for row in cells if _is_row(row)]
    long = [line for line in across if line.length > 4 * LONG * pen]
    rows += [row for line in long if (row := find_ticks(mask, line, long, rows, pen))]
    form = _form_of(mask, _without_overlap(rows))
    frames = [one for one in cells if _is_frame(one) and not any(one.height < row.height for row in form.rows)]
    for frame in sorted(frames, key=lambda frame: frame.height):  # of two, the outer one later
        more = _form_of(mask, [frame])
        straight = [is_straight(mask, line) for line in more.across] + [is_straight(mask.T, side) for side in more.down]
        if all(straight) and (_is_wide(frame) or holds_writing(erase(mask, form, darkness), frame)):
            form = Form(form.across + more.across, form.down + more.down, form.rows)
    return add_long_lines(mask, darkness, form, across, down, pen)


def unprinted_row(cells, shape):
    """The Row of so many cells, of equal width, that fills a picture of this shape, with no printed line."""
    height, width = shape
    sides = [Line(0, height, width * index / cells, 0.0, 0.0) for index in range(cells + 1)]
    return Row(Line(0, width, -1.0, 0.0, 0.0), Line(0, width, float(height), 0.0, 0.0), list(pairwise(sides)))


def erase(mask, form, darkness):
    """The mask, bool H×W, without the lines of a Form; see erase_lines()."""
    return erase_lines(mask, darkness, form.across, form.down)


def _is_row(row):
    return len(row.sides) > 1


def _is_frame(row):
    """Whether a Row is one cell whose sides are where its Lines across end."""
    (left, right), near = row.sides[0], 4 + max(row.upper.thickness, row.lower.thickness) + CORNER * row.height
    ends = [(line.start - left.at(line.middle), line.stop - right.at(line.middle)) for line in (row.upper, row.lower)]
    return len(row.sides) == 1 and np.abs(ends).max() <= near


def _is_wide(frame):
    """Whether a frame cannot be a 0."""
    left, right = frame.sides[0]
    return right.middle - left.middle > MAX_ASPECT * frame.height


def _form_of(mask, rows):
    """The Form of Rows, with their Lines measured."""
    across = {line: measured(mask, line) for line in {line for row in rows for line in (row.upper, row.lower)}}
    down = {side: measured(mask.T, side) for side in {side for row in rows for pair in row.sides for side in pair}}
    rows = [Row(across[row.upper], across[row.lower], [(down[a], down[b]) for a, b in row.sides]) for row in rows]
    return Form([*across.values()], [*down.values()], [row for row in rows if _is_row(row) and _for_digits(row)])


def _for_digits(row):
    """Whether the cells of a Row are not too wide for one digit each."""
    widths = [right.at(row.lower.middle) - left.at(row.lower.middle) for left, right in row.sides]
    return np.median(widths) < MAX_ASPECT * row.height


def find_cells(mask, darkness, across, down, pen, gap=2, corner=0):
    """The Rows of cells of equal width between two of the Lines across, with sides among the Lines down.

    gap: pixels between the dashes of a line. corner: radius of round corners, as a share of a side.
    """
    longest, rows = max((line.length for line in across), default=0), []
    across = [line for line in across if line.length > 0.2 * longest and down]
    level = cache(lambda line: darkness_along(darkness, line))
    level_down = cache(lambda side: darkness_along(darkness.T, side))
    for index, lower in enumerate(across):
        for upper in reversed(across[:index]):
            common, height = min(upper.stop, lower.stop) - max(upper.start, lower.start), lower.middle - upper.middle
            if height < max(MIN_CELL, 3 * pen) or common < 0.7 * max(upper.length, lower.length):
                continue
            sides = _connecting(down, upper, lower, corner)
            if not 2 <= len(sides) <= MAX_SIDES:
                continue
            sides = [side for side in sides if level_down(side) <= MUCH_DARKER * max(level(upper), level(lower))]
            cells = _cells_between(mask, upper, lower, _alike(sides), gap, corner)
            covered = sum(right.middle - left.middle for left, right in cells)
            if covered < 0.9 * upper.length:
                sides += find_faint_sides(darkness, upper, lower, sides)
                faint = darkness > 0.4 * min(level(upper), level(lower))
                cells = max(cells, _cells_between(faint, upper, lower, _alike(sides), gap, corner), key=len)
            if cells:
                rows.append(Row(upper, lower, cells))
            if len(cells) > 1:
                break
    return rows


def _connecting(down, upper, lower, corner):
    """Of Lines down, those that go from one Line across to another, except in round corners."""
    start, stop, offset, slope, _ = np.array(down).T
    x = offset + slope * (upper.middle + lower.middle) / 2
    near = 1 + max(upper.thickness, lower.thickness) / 2 + (0.05 + corner) * (lower.middle - upper.middle)
    between = (min(upper.start, lower.start) - near < x) & (x < max(upper.stop, lower.stop) + near)
    connects = between & (start <= upper.at(x) + near) & (stop >= lower.at(x) - near)
    return [down[index] for index in np.flatnonzero(connects)]


def find_faint_sides(darkness, upper, lower, known):
    """Lines down between two Lines across, about as dark as they are all along, away from those that are known."""
    x = np.arange(max(0, min(upper.start, lower.start) - 3), min(darkness.shape[1], max(upper.stop, lower.stop) + 3))
    height = lower.middle - upper.middle
    share = np.linspace(0.1, 0.9, min(60, max(8, int(height))))[:, None]
    y = np.rint(upper.at(x) * (1 - share) + lower.at(x) * share).astype(int).clip(0, len(darkness) - 1)
    levels = [darkness_along(darkness, line) for line in (upper, lower)]
    leans = -(upper.slope + lower.slope) / 2 + np.linspace(-0.03, 0.03, 7 if height > 30 else 3)
    faintest = []
    for lean in leans:
        columns = np.rint(x + lean * height * (share - 0.5)).astype(int).clip(0, darkness.shape[1] - 1)
        least, usual = np.percentile(ndimage.maximum_filter1d(darkness[y, columns], 3, axis=1), (10, 50), axis=0)
        faintest.append(np.where(usual <= MUCH_DARKER * max(levels), least, 0))
    faintest, middle = np.array(faintest), (upper.middle + lower.middle) / 2
    parts, _ = ndimage.label(faintest.max(0) >= 0.5 * min(levels))
    found = []
    for (part,) in ndimage.find_objects(parts):
        best = faintest[:, part].max(1).argmax()
        peak = faintest[best, part]
        place = x[part][peak >= 0.9 * peak.max()].mean()
        if all(abs(side.at(middle) - place) > 4 for side in known) and part.stop - part.start < 0.3 * height:
            offset, thickness = place - leans[best] * middle, max(1, part.stop - part.start - 2)
            found.append(Line(int(upper.at(place)), int(lower.at(place)) + 1, offset, leans[best], float(thickness)))
    return found


def _alike(sides):
    """Of Lines down, those about as thick and as upright as most; others are strokes."""
    if len(sides) < 3:
        return sides
    thickness, slope = np.median([(side.thickness, side.slope) for side in sides], axis=0)
    sides = [side for side in sides if side.thickness <= 2 * thickness + 1]
    return [side for side in sides if abs(side.slope - slope) < 0.03 + 2 / side.length]


def _cells_between(mask, upper, lower, sides, gap, corner):
    """The (left, right) of each cell of equal width between two Lines across; sides: Lines down."""
    y, height = (upper.middle + lower.middle) / 2, lower.middle - upper.middle
    sides = sorted(sides, key=lambda side: side.at(y))
    places = np.array([float(side.at(y)) for side in sides])
    pairs = _pairs(places, max(MIN_CELL, MIN_ASPECT * height))
    if not pairs:
        return []
    first, last = min(upper.start, lower.start, int(places[0])) - 9, max(upper.stop, lower.stop, int(places[-1])) + 9
    inked = np.stack([inked_along(mask, line, first, last, gap) for line in (upper, lower)])
    total = np.pad(inked.cumsum(1), ((0, 0), (1, 0)))

    def closed(left, right):
        if not first <= left < right < last:
            return False
        if corner and inked[:, [int(left) - first, int(right) - first]].any():
            return False  # lines that go on to the side have no round corner
        start, stop = (int(end + sign * corner * (right - left)) - first for end, sign in ((left, 1), (right, -1)))
        return (total[:, stop] - total[:, start]).min() >= MIN_INKED * (stop - start)

    cells = equal_cells(places, [(i, j) for i, j in pairs if closed(places[i], places[j])], closed)
    return [tuple(_side_at(mask, place, sides, places, gap) for place in cell) for cell in cells]


def _pairs(places, least):
    """The (i, j) of places at least this far apart, with few others between them."""
    near = [(i, j) for i in range(len(places)) for j in range(i + 1, min(i + MAX_STROKES + 2, len(places)))]
    return [(i, j) for i, j in near if places[j] - places[i] > least]


def equal_cells(places, pairs, closed=None):
    """The (left, right) of cells of one width side by side, as many as can be.

    pairs: (i, j) of the places that may be the sides of a cell. closed: function of left and right that says whether
    there may be a cell where one side was not found; None: there is none.
    """
    widths, found = np.array([places[j] - places[i] for i, j in pairs]), []
    usual, number = np.unique(widths.round(), return_counts=True)
    for width in np.sort(usual[np.argsort(-number, kind="stable")[:MAX_WIDTHS]])[::-1]:
        off = np.abs(widths - width) / (2 + WIDTH_TOLERANCE * width)
        fits = [(*pairs[index], off[index]) for index in np.flatnonzero(off <= 1)]
        score, cells = _side_by_side(len(places), fits)
        found.append((score, [(places[i], places[j]) for i, j in cells]))
    most = max((score for score, _ in found), default=0)
    best = [(score, cells) for score, cells in found if score > 0.5 * most]
    if closed:
        best = [_completed(score, cells, places, closed) for score, cells in best]
    return max(best, key=lambda one: round(one[0], 1), default=(0, []))[1]


def _side_by_side(count, pairs):
    """Return (score, (i, j) of most cells that do not overlap), from pairs (i, j, 0-1 how far the width is off)."""
    table = [(0.0, [])]  # the best of each number of places from the left
    for place in range(count):
        table.append(table[place])
        for start, stop, off in pairs:
            if stop == place:
                score, cells = table[start + 1]
                shared = bool(cells) and cells[-1][1] == start  # one line between two cells
                score += 1.2 - 0.4 * off - 0.1 * shared
                if score > table[-1][0]:
                    table[-1] = score, [*cells, (start, stop)]
    return table[-1]


def _completed(score, cells, places, closed):
    """Return (score, cells), with cells of the same width of which one side was not found among places."""
    if len(cells) < 2:
        return score, cells
    width, found = np.median(np.diff(cells)), len(cells)
    near, waiting = 2 + WIDTH_TOLERANCE * width, sorted({*places, *np.ravel(cells)})
    while waiting:
        side = waiting.pop(0)
        for sign in (-1, 1):
            other = side + sign * width
            left, right = sorted((side, other))
            if any(left < b - near and a + near < right for a, b in cells) or not closed(left, right):
                continue
            ends_here = not closed(*sorted((other, other + sign * (near + 2))))
            further = (places - other) * sign
            further = further[(further > -near) & (further < 4 * width)]
            if ends_here or (np.abs(further - width * np.rint(further / width)) <= near).any():
                cells = sorted([*cells, (left, right)])
                waiting.append(other)
    return score + 0.4 * (len(cells) - found), cells


def _side_at(mask, place, sides, places, gap):
    """The Line down at a place; one of no thickness where no line is printed."""
    nearest = np.abs(places - place).argmin()
    off = place - places[nearest]
    if abs(off) < 3:
        return sides[nearest]
    thickness = float(np.median([side.thickness for side in sides]))
    side = sides[nearest]._replace(offset=sides[nearest].offset + off, thickness=thickness)
    printed = inked_along(mask.T, side, side.start, side.stop, gap).mean() > MIN_INKED
    return side if printed else side._replace(thickness=0.0)


def _without_overlap(rows):
    """Of Rows that overlap, those of more cells, then those of lower cells; from the top, and from the left."""
    kept, boxes = [], []
    for row in sorted(rows, key=lambda row: (-len(row.sides), row.height)):
        box = np.array([row.upper.middle, row.sides[0][0].middle, row.lower.middle, row.sides[-1][1].middle])
        if all((np.minimum(box[2:], one[2:]) - np.maximum(box[:2], one[:2])).min() < 2 for one in boxes):
            kept.append(row)
            boxes.append(box)
    kept.sort(key=lambda row: row.lower.middle)
    steps = [one.lower.middle - other.lower.middle > 0.5 * one.height for other, one in pairwise(kept)]
    order = np.cumsum([0, *steps])  # fields side by side are in one line
    left = [row.sides[0][0].middle for row in kept]
    return [kept[index] for index in sorted(range(len(kept)), key=lambda index: (order[index], left[index]))]


def find_ticks(mask, line, across, rows, pen):
    """The Row of cells between ticks: lines that rise from a base Line to one height, evenly spaced; None without."""
    of_row = any(line in (row.upper, row.lower) for row in rows)
    longest = max(one.length for one in across)
    if of_row or line.length < 0.4 * longest or inked_along(mask, line, line.start, line.stop).mean() < MIN_INKED:
        return None
    line = measured(mask, line)
    x = np.arange(max(0, line.start - 2), min(mask.shape[1], line.stop + 2))
    base = np.floor(line.at(x) - line.thickness / 2 - 0.5).astype(int)
    up = np.arange(max(1, min(int(base.max()) + 1, line.length // 2)))[:, None]
    columns = np.rint(x + line.slope * up).astype(int).clip(0, mask.shape[1] - 1)
    above = (base - up >= 0) & mask[(base - up).clip(0, len(mask) - 1), columns]
    heights = np.where(above.all(0), len(up), above.argmin(0))
    parts, count = ndimage.label(heights >= max(3, pen))
    if count < 3:
        return None
    risen = [part for (part,) in ndimage.find_objects(parts)]
    place = np.array([x[0] + (part.start + part.stop - 1) / 2 for part in risen])
    width, height = np.array([(part.stop - part.start, heights[part].max()) for part in risen], float).T
    best, most = None, 0
    for tall in np.unique(height[height < base.min()]):  # higher ones are sides of cells that the picture cuts
        same = (np.abs(height - tall) <= 1 + 0.06 * tall) & (width <= 1.5 * line.thickness + 2)
        cells = _cells_between_ticks(line, place, same, same | (height > tall), pen)
        if len(cells) > most:
            best, most = (cells, tall, float(np.median(width[same]))), len(cells)
    return _row_of_ticks(line, across, *best) if best else None


def _cells_between_ticks(line, place, same, possible, pen):
    """The (left, right) places of cells between ticks of the `same` height, or under strokes that hide one.

    The ends of the base Line count as ticks.
    """
    ends = [end for end in (line.start, line.stop - 1) if np.abs(place[possible] - end).min(initial=np.inf) > 4 * pen]
    order = np.sort(np.append(place[possible], ends))
    cells = equal_cells(order, _pairs(order, max(MIN_CELL, 4 * pen)))
    used = np.unique(cells)
    side_by_side = len(cells) > 1 and len(used) == len(cells) + 1 and used[-1] - used[0] > 0.6 * line.length
    return cells if side_by_side and np.isin(used, place[same]).sum() >= max(3, 0.5 * len(used)) else []


def _row_of_ticks(lower, across, cells, tall, thickness):
    """The Row above a base Line; cells: (left, right) places; tall: height of the ticks."""
    pitch = np.median(np.diff(cells))
    upper = lower._replace(offset=lower.offset - max(tall, 1.5 * pitch), thickness=0.0)
    for line in across:  # ticks may hang from a line above, too
        alike = min(line.stop, lower.stop) - max(line.start, lower.start) > 0.8 * max(line.length, lower.length)
        if alike and max(tall, 0.5 * pitch) < lower.middle - line.middle < 2.5 * pitch:
            upper, tall = line, lower.middle - line.middle
            break

    def side(place):
        bottom = float(lower.at(place))
        top = max(0, int(bottom - tall - lower.thickness / 2 - 1))
        return Line(top, int(bottom) + 1, place + lower.slope * bottom, -lower.slope, thickness)

    return Row(upper, lower, [(side(left), side(right)) for left, right in cells])


def holds_writing(rest, frame):
    """Whether there is writing inside a frame, a Row of one cell; rest: bool H×W, the ink without other lines."""
    (left, right), (upper, lower) = frame.sides[0], frame[:2]
    margin = 2 + max(line.thickness for line in (left, right, upper, lower)) / 2
    y, x = np.indices((int(frame.height) + 1, int(right.middle - left.middle) + 1))
    y, x = y + max(0, int(upper.middle)), x + max(0, int(left.middle))
    window = rest[y[0, 0] : y[0, 0] + len(y), x[0, 0] : x[0, 0] + y.shape[1]]
    inside = (np.abs(2 * y - upper.at(x) - lower.at(x)) < lower.at(x) - upper.at(x) - 2 * margin) & (
        np.abs(2 * x - left.at(y) - right.at(y)) < right.at(y) - left.at(y) - 2 * margin
    )
    parts, count = ndimage.label(window & inside[: len(window), : window.shape[1]], CONNECTED)
    if not count:
        return False
    sizes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in ndimage.find_objects(parts)]
    tallest, widest = np.max(sizes, axis=0)
    return tallest > 0.2 * len(y) and widest < 0.85 * y.shape[1]  # from side to side goes the bar of an angular 8


def add_long_lines(mask, darkness, form, across, down, pen):
    """A Form with the Lines that go from edge to edge of the picture, or are far longer than the writing is high."""
    across = [line for line in across if not _belongs(line, form.across)]
    down = [line for line in down if not _belongs(line, form.down)]
    edges = [measured(mask, line) for line in across if _edge_to_edge(line, mask.shape)]
    long = [line for line in across if line.length > 4 * LONG * pen and not _edge_to_edge(line, mask.shape)]
    long = [line for line in long if not any(row.upper.middle < line.middle < row.lower.middle for row in form.rows)]
    long = [measured(mask, line) for line in long if _is_base_line(mask, line)]
    sides = [measured(mask.T, line) for line in down if _edge_to_edge(line, mask.T.shape)]
    if not edges + sides + long:
        return form
    if long or not form.across + edges:
        rest = erase_lines(mask, darkness, form.across + edges + long, form.down + sides)
        parts, _ = ndimage.label(rest, CONNECTED)
        height = max((rows.stop - rows.start for rows, _ in ndimage.find_objects(parts)), default=0)
        if height < 3 * pen and not form.across + edges + long:
            return form  # a lone stroke down is a 1
        long = [line for line in long if line.length > LONG * max(height, 4 * pen)]
    printed = form.across + edges + long
    sides += [measured(mask.T, line) for line in down if printed and _closes(line, printed)]
    return Form(printed, form.down + sides, form.rows)


def _belongs(line, lines):
    """Whether a Line is one of others that were measured."""
    if not lines:
        return False
    start, stop, offset, slope, thickness = np.array(lines).T
    x = (line.start + line.stop) / 2
    return bool(((np.abs(offset + slope * x - line.middle) <= 1 + thickness / 2) & (start < x) & (x < stop)).any())


def _edge_to_edge(line, shape):
    height, width = shape
    margin, thin = max(2, width // 30), line.thickness <= max(4, 0.03 * height)
    return min(shape) >= MIN_RULED_SIDE and thin and line.start <= margin and line.stop >= width - margin


def _closes(side, across):
    """Whether a Line down goes from the end of one Line across to the end of another, as the side of a frame does."""
    start, stop, offset, slope, thickness = np.tile(np.array(across).T, 2)
    x = np.where(np.arange(len(start)) < len(across), start, stop)
    near = 4 + thickness
    corners = [(np.abs(side.at(y) - x) <= near) & (np.abs(offset + slope * x - y) <= near) for y in side[:2]]
    return all(corner.any() for corner in corners)


def _is_base_line(mask, line):
    """Whether a Line is inked all along; or has gaps, but few strokes that touch it, other than bars of digits."""
    inked = inked_along(mask, line, line.start, line.stop)
    pieces, count = ndimage.label(inked)
    touched = touched_along(mask, line)
    free = sum(not touched[piece].any() for piece in ndimage.find_objects(pieces))
    return inked.mean() >= MIN_INKED or (count >= 3 and free >= 0.5 * count)


def cell_of(rows, y, x):
    """The number of the cell in which each pixel at y, x lies, int n: from 1, Rows from the top; 0 outside of cells."""
    owner, count = np.zeros(len(y), int), 0
    for row in rows:
        below = 0 if row.upper.thickness else 0.1 * row.height  # writing may cross a line with ticks
        inside = np.flatnonzero((y > row.upper.at(x)) & (y < row.lower.at(x) + below))
        x_inside, y_inside = x[inside], y[inside]
        for left, right in row.sides:
            count += 1
            owner[inside[(x_inside > left.at(y_inside)) & (x_inside < right.at(y_inside))]] = count
    return owner


def outlines(rows):
    """The outline of each cell of Rows: lists of x and of y, from corner to corner and back to the first."""
    found = []
    for row in rows:
        for left, right in row.sides:
            ends = (left, row.upper), (right, row.upper), (right, row.lower), (left, row.lower)
            x = [float(side.at(line.middle)) for side, line in ends]
            y = [float(line.at(place)) for place, (_, line) in zip(x, ends, strict=True)]
            found.append((x + x[:1], y + y[:1]))
    return found
