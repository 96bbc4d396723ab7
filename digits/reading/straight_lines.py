"""Straight lines of ink in a mask: found, measured, and erased without the strokes that cross them."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from digits.reading.foreground import CONNECTED

MAX_LINES = 80  # in one direction; the longest are looked at
MAX_SLOPE = 0.1  # against the picture
MIN_LENGTH = 5  # in widths of the pen
MAX_THICKNESS = 3  # in widths of the pen
MAX_DASH, MIN_DASHES = 6, 8  # length of a dash in widths of the pen; how many there must be
MUCH_DARKER = 1.5  # than the line it crosses is a stroke that needs no tracing across it


class Line(NamedTuple):
    """A line across: y = offset + slope·x for x in start..stop. A line down is a line across the transposed picture."""

    start: int
    stop: int
    offset: float
    slope: float
    thickness: float  # pixels; 0 of the edge of a cell where nothing is printed

    def at(self, x):
        return self.offset + self.slope * np.asarray(x)

    @property
    def length(self):
        return self.stop - self.start

    @property
    def middle(self):
        """The height of a line across at its middle."""
        return float(self.offset + self.slope * (self.start + self.stop) / 2)


def typical_width(mask):
    """About how wide the strokes of a mask, bool H×W, are in pixels; 0 of an empty one."""
    return float(min(np.median(stop - start) for _, start, stop in map(runs, (mask, mask.T)))) if mask.any() else 0.0


def find_lines(mask, pen, gap=2):
    """The straight, thin lines across a mask, bool H×W, from the top; those that continue each other are one.

    pen: typical_width(). gap: pixels between dashes, or in a line that is badly printed.
    """
    rows, starts, stops = runs(mask, gap)
    if not len(rows):
        return []
    length = stops - starts
    usual = min(np.median(length), 3 * pen) if gap == 2 else pen  # width of strokes down
    shortest, found = max(8, MIN_LENGTH * usual), []
    level = length.max() > 0.5 * mask.shape[1]
    for least in (0.5 * length.max(), shortest) if level else (shortest,):  # first what is longer than any stroke
        free = length >= least
        for line in found:
            middle = (starts + stops) / 2
            on_line = np.abs(rows - line.at(middle)) <= line.thickness / 2 + 1.5
            free &= ~(on_line & (line.start <= middle) & (middle <= line.stop))
        lines = _lines_of(rows[free], starts[free], stops[free], mask.shape[1], pen)
        found = _join([line for line in found + lines if line.length >= shortest])
    return from_top(found)


def _lines_of(rows, starts, stops, width, pen):
    """The Lines that runs of ink along rows make."""
    if not len(rows):
        return []
    top = rows.min()
    edges = np.zeros((rows.max() - top + 1, width + 1), np.int8)
    edges[rows - top, starts] = 1
    edges[rows - top, stops] = -1
    parts, _ = ndimage.label(edges.cumsum(1, dtype=np.int8), CONNECTED)
    windows = sorted(enumerate(ndimage.find_objects(parts), 1), key=lambda one: one[1][1].start - one[1][1].stop)
    fits = (_fit(parts[y, x] == number, y.start + top, x.start, pen) for number, (y, x) in windows[:MAX_LINES])
    return [line for line in fits if line]


def from_top(lines):
    return sorted(lines, key=lambda line: line.middle)


def find_dashes(mask, pen):
    """Return (mask of what may be dashes or dots of lines, the widest gap between two in pixels); gap 0 if too few."""
    parts, _ = ndimage.label(mask, CONNECTED)
    size = np.array([(y.stop - y.start, x.stop - x.start) for y, x in ndimage.find_objects(parts)]).reshape(-1, 2)
    small = size.max(1) <= MAX_DASH * pen
    gap = int(4 * np.median(size[small].min(1))) + 3 if small.sum() >= MIN_DASHES else 0
    return np.append(False, small)[parts], gap


def runs(mask, gap=0):
    """Return (row, start, stop), int n each, of the runs of True along rows, over gaps of up to `gap` pixels."""
    width = mask.shape[1] + 2
    flat = np.pad(mask, ((0, 0), (1, 1))).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, stops = edges[::2], edges[1::2]
    if gap and len(starts):
        apart = (starts[1:] - stops[:-1] > gap) | (starts[1:] // width != stops[:-1] // width)
        starts, stops = starts[np.append(True, apart)], stops[np.append(apart, True)]
    rows = starts // width
    return rows, starts - rows * width - 1, stops - rows * width - 1


def _fit(part, top, left, pen):
    """The Line through a part, bool h×w, with its corner at top, left; None where it is not straight and thin."""
    count = part.sum(0)
    x = np.flatnonzero(count)
    count = count[x]
    y = (part * np.arange(len(part))[:, None]).sum(0)[x] / count
    thickness = float(np.median(count))
    if thickness > max(4, MAX_THICKNESS * pen, 0.03 * len(x)):
        return None
    near, narrowest = count <= 1.5 * thickness + 1, max(1.2, 0.35 * thickness)  # elsewhere a stroke runs into it
    for limit in (2 * pen, pen, narrowest):
        if np.ptp(x[near]) < 3 * pen:
            return None
        offset, slope = _straight(x[near], y[near])
        offset += float(np.median((y - offset - slope * x)[near]))
        off = np.abs(y - offset - slope * x)
        near = off <= narrowest
        if near.sum() > 0.9 * len(x):
            break
        near = off <= limit
        if near.sum() < 0.4 * len(x):
            return None
    start, stop = int(left + x[near].min()), int(left + x[near].max() + 1)
    return Line(start, stop, offset + top - slope * left, slope, thickness) if abs(slope) < MAX_SLOPE else None


def _straight(x, y):
    """Return (offset, slope) of the line through points x, y with the least squares."""
    middle = x.mean()
    slope = float(((x - middle) * y).sum() / max(((x - middle) ** 2).sum(), 1e-9))
    return float(y.mean() - slope * middle), slope


def _join(lines):
    """The Lines, of which those that continue each other are one."""
    joined = []
    for line in sorted(lines):
        for index, other in enumerate(joined):
            gap, near = line.start - other.stop, 1 + 0.5 * max(line.thickness, other.thickness)
            close = -0.1 * line.length < gap < 1.2 * min(line.length, other.length)
            if not close or abs(line.at(other.stop) - other.at(other.stop)) > 2 * near:
                continue
            x = np.array([other.start, other.stop, line.start, line.stop])
            y = np.append(other.at(x[:2]), line.at(x[2:]))
            offset, slope = _straight(x, y)
            if np.abs(y - offset - slope * x).max() <= near:
                thickness = np.average([line.thickness, other.thickness], weights=[line.length, other.length])
                joined[index] = Line(other.start, max(line.stop, other.stop), offset, slope, float(thickness))
                break
        else:
            joined.append(line)
    return joined


def inked_along(mask, line, start, stop, gap=2):
    """Which columns in start..stop of a Line are inked, bool; gaps are closed."""
    around = values_around(mask, line, np.arange(start, stop), int(line.thickness / 2) + 1)[0].any(0)
    padded, size = np.pad(around, gap), gap | 1
    return ndimage.minimum_filter1d(ndimage.maximum_filter1d(padded, size), size)[gap : len(around) + gap]


def touched_along(mask, line):
    """Where ink touches a Line from above or below: bool, for each of its columns."""
    half = int(line.thickness / 2) + 2
    return values_around(mask, line, np.arange(line.start, line.stop), half)[0][[0, -1]].any(0)


def darkness_along(darkness, line):
    """How dark most of a Line is; darkness: float H×W."""
    return float(np.median(values_around(darkness, line, np.arange(line.start, line.stop), 1)[0].max(0)))


def values_around(values, line, x, reach):
    """Return (values up to `reach` pixels above and below a Line, (2·reach + 1)×n; its rows, int n) at columns x.

    values: bool or float H×W, taken as 0 outside of the picture.
    """
    y = np.rint(line.at(x)).astype(int)
    rows = y + np.arange(-reach, reach + 1)[:, None]
    inside = (rows >= 0) & (rows < len(values)) & (x >= 0) & (x < values.shape[1])
    return np.where(inside, values[rows.clip(0, len(values) - 1), x.clip(0, values.shape[1] - 1)], False), y


def measured(mask, line):
    """A Line that is roughly known, with the thickness and place that it has in a mask, bool H×W."""
    x, thickness, off = _profile(mask, line)
    if len(x) < 3:
        return line
    usual = min(np.median(thickness), 1.5 * line.thickness + 1)  # more is a stroke along the line
    fits = np.abs(thickness - usual) <= 1 + 0.2 * usual  # no stroke crosses here
    offset, slope = np.median(off), 0.0
    for _ in range(2):
        if fits.sum() >= 8:
            offset, slope = _straight(x[fits], off[fits])
            fits &= np.abs(off - offset - slope * x) <= 1
    return line._replace(offset=float(line.offset + offset), slope=line.slope + slope, thickness=float(usual))


def is_straight(mask, line):
    """Whether a measured Line is as straight as what is printed is."""
    _, thickness, off = _profile(mask, line)
    usual = np.abs(thickness - line.thickness) <= 1 + 0.2 * line.thickness
    return np.mean(usual & (np.abs(off) <= 1 + 0.1 * line.thickness)) > 0.7 if len(off) else False


def _profile(mask, line):
    """Return (columns where a Line is inked, how thick it is there, how far its middle lies below that of the Line)."""
    if not line.thickness:
        return np.zeros((3, 0))
    reach, x = int(2 * line.thickness) + 3, np.arange(line.start, line.stop)
    around, y = values_around(mask, line, x, reach)
    inked = around[reach - 1 : reach + 2].any(0)  # others are gaps
    around, x, y = around[:, inked], x[inked], y[inked]
    steps = np.arange(-reach, reach + 1)[:, None]
    seed = around[reach - 1 : reach + 2].argmax(0) - 1  # an inked pixel of the line
    above = np.where(~around & (steps < seed), steps, -reach - 1).max(0)
    below = np.where(~around & (steps > seed), steps, reach + 1).min(0)
    return x, below - above - 1, y + (below + above) / 2 - line.at(x)


def _path(mask, line):
    """Return (columns of a measured Line, the height of its middle in each), with the bends of paper and lens."""
    columns = np.arange(max(0, line.start - 2), min(mask.shape[1], line.stop + 2))
    x, thickness, off = _profile(mask, line)
    fits = (np.abs(thickness - line.thickness) <= 1 + 0.2 * line.thickness) & (np.abs(off) <= 1 + 0.5 * line.thickness)
    if fits.sum() < 8:
        return columns, line.at(columns)
    return columns, line.at(columns) + ndimage.uniform_filter1d(np.interp(columns, x[fits], off[fits]), 9)


def erase_lines(mask, darkness, across, down):
    """The mask, bool H×W, without Lines across and down; strokes that cross them stay.

    darkness: float H×W, how dark the ink is; on a line, what is much darker than it is a stroke.
    """
    printed = np.zeros_like(mask)
    bands_across = [_band(mask, line) for line in across if line.thickness]
    bands_down = [_band(mask.T, line) for line in down if line.thickness]
    for view, dark, bands in ((printed, darkness, bands_across), (printed.T, darkness.T, bands_down)):
        for band in bands:
            peak = dark[band].max(0)
            view[band] |= dark[band] <= MUCH_DARKER * np.median(peak[peak > 0.3 * np.median(peak)])
    rest = mask & ~printed
    kept = rest.copy()
    for view, out, bands in ((rest, kept, bands_across), (rest.T, kept.T, bands_down)):
        for band in bands:
            _trace_across(view, out, *band)
    return kept & mask


def _band(mask, line):
    """Rows and columns, int depth×length, of the pixels of a Line and of its soft edges."""
    x, y = _path(mask, line)
    half = line.thickness / 2 + 0.5
    low, high = np.ceil(y - half).astype(int), np.floor(y + half).astype(int)
    rows = np.minimum(low + np.arange(int(2 * half) + 1)[:, None], high)
    return rows.clip(0, len(mask) - 1), np.broadcast_to(x, rows.shape)


def _trace_across(rest, kept, rows, columns):
    """Mark in kept the pixels of a band that lie straight between ink of rest, bool H×W, above and below it."""
    depth, width = rows.shape
    above, below = rest[(rows[0] - 1).clip(0), columns[0]], rest[(rows[-1] + 1).clip(0, len(rest) - 1), columns[0]]
    reach = min(depth + 1, width - 1) if above.any() and below.any() else -1
    for shift in range(-reach, reach + 1):  # columns to the right, from above to below
        start, stop = max(0, -shift), min(width, width - shift)
        crossing = np.flatnonzero(above[start:stop] & below[start + shift : stop + shift]) + start
        for index in range(depth if len(crossing) else 0):
            at = crossing + round(shift * (index + 1) / (depth + 1))
            kept[rows[index, at], columns[index, at]] = True
