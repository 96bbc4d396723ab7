"""Any picture -> its digits, each 28×28, the way MNIST was made.

"The original black and white (bilevel) images from NIST were size normalized to fit in a 20x20 pixel box while
preserving their aspect ratio. [...] the images were centered in a 28x28 image by computing the center of mass of the
pixels, and translating the image so as to position this point at the center of the 28x28 field." (Y. LeCun,
C. Cortes, C. J. C. Burges, http://yann.lecun.com/exdb/mnist/)
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from digits.reading.foreground import FAINTEST, along_the_edge, ink_of, otsu, window_of

LINED_SIDE = 40  # pixels; in smaller pictures a long stroke is part of the digit
MOST_PIECES = 150  # the largest; more is a text or a photo
MOST_JOINED = 3  # pieces of a digit that stand side by side
WIDE, WIDE_ALONE = 0.9, 1.2  # times as wide as high; wider pieces may be several digits: in a number, on their own
MOST_CUTS = 12
MOST_CROSSED = 0.4  # of its height, the ink that a cut through a piece may cross
ASIDE = 0.1  # pixels of ink that a cut rather crosses than steps aside by one
CUT_PRIOR = 0.5  # of a cut through connected ink; half for each side
JOIN_PRIOR = 0.2  # of a digit of which two strokes do not touch and stand side by side
FAINTEST_THING = 16  # grey levels from the ground, where a picture is seen whole
PEN_WIDTHS = 1.6, 4.8  # pixels; 96 of 100 of MNIST's digits lie between
THINNER, THICKER = 2.2, 4.2  # pixels; what those outside are given, well inside


class Candidate(NamedTuple):
    """Ink that may be a digit. Where ink may be cut in several ways, there is a candidate for each."""

    image: np.ndarray  # uint8 28×28×1, 0 background, 255 ink
    box: tuple  # x, y, width, height in pixels of the picture
    line: int  # line of writing, from the top
    start: int  # from which piece of the line
    stop: int  # to which, exclusive
    whole: bool  # not cut off by the edge of the picture
    prior: float  # how likely it is, before one looks, that the pieces are to be joined and cut like this, 0-1


class Steps(NamedTuple):
    """How a picture, uint8 H×W×3, is taken apart; all of H×W."""

    ink: np.ndarray  # float32, how far from the paper, 0-1
    strokes: np.ndarray  # bool
    unlined: np.ndarray  # bool, the strokes without ruled lines
    pieces: np.ndarray  # int, the number of the piece, 0 where there is none
    boxes: np.ndarray  # int n×4, top, left, bottom, right of each piece


def find_digits(picture):
    """Return the Candidates in a picture, uint8 H×W×3, line by line from the left; none where there is no ink."""
    steps = take_apart(picture)
    candidates = []
    for number, line in enumerate(lines_of(steps.boxes)):
        candidates += _candidates(steps.ink, steps.pieces, steps.boxes, line, number)
    return candidates


def as_one_image(picture):
    """Return the one Candidate that a picture of a thing is, uint8 H×W×3, made the way Fashion-MNIST was.

    The ground around it is cut off, the longer side made 28 pixels long, the shorter one filled up, and the brighter
    a pixel, the more it differs from the ground (H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", 2017, who had white
    ground). An empty list where there is nothing; a picture of 28×28 pixels on dark ground is left as it is.
    """
    grey = np.asarray(Image.fromarray(picture).convert("L"), int)
    ground = int(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    away = abs(grey - ground)
    if away.max() < FAINTEST_THING:
        return []
    window = rows, columns = window_of(away >= FAINTEST_THING, margin=0)
    image = np.zeros((28, 28), np.uint8)
    bright = away * 255 // max(ground, 255 - ground)
    if grey.shape == image.shape:
        image[:] = grey if ground < 128 else bright
    else:
        cut = Image.fromarray(bright[window].astype(np.uint8))
        height, width = (max(1, round(28 * side / max(cut.size))) for side in cut.size[::-1])
        y, x = (28 - height) // 2, (28 - width) // 2
        image[y : y + height, x : x + width] = cut.resize((width, height), Image.Resampling.BOX)
    box = tuple(map(int, (columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start)))
    return [Candidate(image[..., None], box, 0, 0, 1, True, 1.0)]


def take_apart(picture):
    """Return the Steps from a picture, uint8 H×W×3, to its pieces of ink."""
    ink = ink_of(picture)
    strokes = strokes_of(ink)
    unlined = without_lines(strokes)
    return Steps(ink, strokes, unlined, *pieces_of(unlined))


def strokes_of(ink):
    """Mask of the pixels that belong to strokes, bool H×W.

    Hysteresis: what is faint counts only where it is connected with what is clearly ink.
    """
    from scipy import ndimage

    window, smooth = window_of(ink > 0), np.zeros_like(ink)  # all the rest is paper
    side = min(3, max(1, min(ink.shape) // 100))
    smooth[window] = ndimage.uniform_filter(ink[window], side)  # against the noise of a camera
    values = smooth[smooth >= FAINTEST]
    least = min(9, smooth.size)  # pixels; fewer are no stroke
    if values.size < least:
        return np.zeros(ink.shape, bool)
    darkest = np.partition(values, -least)[-least]
    every = max(1, min(ink.shape) // 100)
    noise = 6 * np.median(smooth[::every, ::every])
    faint = np.clip(noise, 0.1 * darkest, 0.3 * darkest)
    inked = smooth > faint
    if along_the_edge(inked).any():  # the border of a page may be far darker than the pencil on it
        parts, count = ndimage.label(inked, np.ones((3, 3)))
        away_from_edge = np.ones(count + 1, bool)
        away_from_edge[0] = away_from_edge[along_the_edge(parts)] = False
        inked = away_from_edge[parts]
    values = smooth[inked]
    if values.size <= 0.002 * smooth.size:
        values = smooth
    clear = otsu(values[values > 0.2 * values.max()])
    smooth = smooth[window]
    parts, count = ndimage.label(smooth > max(faint, 0.4 * clear), np.ones((3, 3)))
    clear_pixels = np.bincount(parts[smooth >= clear], minlength=count + 1)
    clear_pixels[0] = 0
    strokes = np.zeros(ink.shape, bool)
    strokes[window] = _grown(_grown((clear_pixels > 0)[parts]).T).T & (smooth > 0.1 * darkest)  # with their soft edges
    return strokes


def _grown(mask):
    """The mask and the pixels above and below it."""
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    return grown


# From strokes to pieces and lines of writing


def without_lines(mask):
    """The mask without ruled lines: straight, thin, and from edge to edge. Strokes that cross one stay whole."""
    if min(mask.shape) < LINED_SIDE:
        return mask
    return _without_rows(_without_rows(mask).T).T


def _without_rows(mask):
    from scipy import ndimage

    height, width = mask.shape
    run = max(width // 8, min(40, width // 2)) | 1  # longer than a stroke, short enough for a line that rises
    thick = _grown(mask)  # a line may rise slowly
    rows = thick.sum(1) > run // 2  # others have no run of this length
    middles = np.zeros_like(mask)
    middles[rows] = ndimage.minimum_filter1d(thick[rows], run, axis=1)
    if not ndimage.maximum_filter1d(ndimage.maximum_filter1d(middles.any(0), run), run).all():
        return mask  # joined, they would not reach from edge to edge
    runs = ndimage.maximum_filter1d(middles, run, axis=1)
    joined, _ = ndimage.label(ndimage.maximum_filter1d(runs, run, axis=1), np.ones((3, 3)))
    lines, thickest = np.zeros_like(mask), 0
    for number, (rows, columns) in enumerate(ndimage.find_objects(joined), 1):
        line = mask[rows, columns] & runs[rows, columns] & (joined[rows, columns] == number)
        thickness = np.median(line.sum(0))
        across = line.any(0).mean() * (columns.stop - columns.start) >= 0.8 * width
        ends = line[:, : max(2, width // 30)].any() and line[:, -max(2, width // 30) :].any()
        flat = rows.stop - rows.start < 0.2 * width
        if across and ends and flat and columns.stop - columns.start == width and thickness <= max(4, 0.03 * height):
            lines[rows, columns] |= line
            thickest = max(thickest, thickness)
    if not lines.any():
        return mask
    through = int(1.6 * thickest) + 2  # where there is more ink than this across a line, a stroke crosses it
    crossing = ndimage.maximum_filter1d(ndimage.minimum_filter1d(mask, through, axis=0), through, axis=0)
    rest = mask & ~(lines & ~crossing)
    return rest if pen_width(rest) > 0.5 * thickest else mask  # a long stroke leaves only its ragged edge


def pen_width(mask):
    """The usual width of strokes in a mask, in pixels, from how far its pixels are from the edge; 0 of an empty one."""
    from scipy import ndimage

    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    return max(1.0, 4 * depth[depth > 0].mean() - 2) if mask.any() else 0.0


def pieces_of(mask):
    """Return (int H×W, 0 or the number of the piece; boxes n×4: top, left, bottom, right).

    A piece is connected ink, together with the broken-off strokes that belong to it. Specks, borders and what frames
    the rest do not count.
    """
    from scipy import ndimage

    window, parts = window_of(mask), np.zeros(mask.shape, np.int32)
    parts[window], count = ndimage.label(mask[window], np.ones((3, 3)))
    if not count:
        return parts, np.zeros((0, 4), int)
    area = np.bincount(parts[window].ravel(), minlength=count + 1)[1:].astype(float)
    boxes = _boxes_of(parts, window)
    keep = ~_borders(parts, boxes, area)
    if not keep.any():
        keep[:] = True
    extent = (boxes[:, 2:] - boxes[:, :2]).max(1)
    keep &= (area > 0.02 * area[keep].max()) & (extent > 0.08 * extent[keep].max())
    keep[np.argsort(np.where(keep, -area, 0), kind="stable")[MOST_PIECES:]] = False
    owner = _joined(boxes, keep)
    if (owner == np.arange(1, count + 1)).all():
        return parts, boxes
    parts[window] = np.concatenate([[0], owner])[parts[window]]
    return parts, _boxes_of(parts, window)


def _boxes_of(parts, window):
    """Top, left, bottom, right of each part, int n×4; all of them are in the window, two slices."""
    from scipy import ndimage

    boxes = np.array([(r.start, c.start, r.stop, c.stop) for r, c in ndimage.find_objects(parts[window])])
    return boxes + 2 * [one.start for one in window]


def _borders(parts, boxes, area):
    """Which parts are the border of the picture or a frame round others."""
    height, width = parts.shape
    extent = (boxes[:, 2:] - boxes[:, :2]) / (height, width)
    corners = np.isin(np.arange(1, len(boxes) + 1), parts[[0, 0, -1, -1], [0, -1, 0, -1]])
    border = np.zeros(len(boxes), bool)
    for side, depth in zip((parts[0], parts[-1], parts[:, 0], parts[:, -1]), extent.T[[0, 0, 1, 1]], strict=True):
        contact = np.bincount(side, minlength=len(boxes) + 1)[1:] / len(side)
        border |= (contact > 0.5) & ((contact > 0.9) | corners) | (contact > 0.1) & (depth < 0.15) & corners
    size = (boxes[:, 2:] - boxes[:, :2]).astype(float)
    hollow = (area < 0.3 * size.prod(1)) & (size.min(1) > 10)
    for number in np.flatnonzero(hollow):
        top, left, bottom, right = boxes[number]
        part = parts[top:bottom, left:right] == number + 1
        h, w = part.shape
        inner = part[h // 6 : h - h // 6, w // 6 : w - w // 6]
        across = part[: h // 6].any(0).mean(), part[-(h // 6) :].any(0).mean()
        along = part[:, : w // 6].any(1).mean(), part[:, -(w // 6) :].any(1).mean()
        inside = ((boxes[:, :2] > boxes[number, :2]) & (boxes[:, 2:] < boxes[number, 2:])).all(1)
        hollow[number] = (
            inner.sum() < 0.05 * part.sum() and min(*across, *along) > 0.9 and area[inside].sum() > 0.05 * area[number]
        )
    return border | hollow


def _joined(boxes, keep):
    """For each part, the number of the piece that it belongs to, from 1; 0 for what does not count."""
    owner = np.where(keep, np.arange(1, len(boxes) + 1), 0)
    boxes = boxes.astype(float)
    while True:
        alive = np.unique(owner[owner > 0]) - 1
        top, left, bottom, right = boxes[alive].T
        height, width = bottom - top, right - left
        across = np.minimum.outer(right, right) - np.maximum.outer(left, left)
        along = np.minimum.outer(bottom, bottom) - np.maximum.outer(top, top)
        low, tall = np.minimum.outer(height, height), np.maximum.outer(height, height)
        narrow = np.minimum.outer(width, width)
        bar = np.where(height[:, None] < height, (width > 1.5 * height)[:, None], width > 1.5 * height)
        within = (across >= 0.5 * narrow) & (along >= 0.5 * low)
        above = (across >= 0.4 * narrow) & (-along <= np.where(bar & (low <= 0.6 * tall), 0.25, 0.08) * tall)
        beside = (along >= 0.8 * low) & (-across <= 0.06 * tall) & (low <= 0.6 * tall)
        # The bar of a 5 may hover to the right of the rest.
        below_top = np.where(height[:, None] < height, bottom[:, None] - top, bottom - top[:, None]) / tall
        hovering = bar & (-across <= 0.2 * tall) & (below_top >= -0.25) & (below_top <= 0.3) & (low <= 0.6 * tall)
        fits = (within | above | beside | hovering) & ~np.eye(len(alive), dtype=bool)
        if not fits.any():
            break
        gap = np.where(fits, np.maximum(-along, 0) / tall, np.inf)
        one, two = alive[list(np.unravel_index(gap.argmin(), gap.shape))]
        owner[owner == two + 1] = one + 1
        boxes[one] = *np.minimum(boxes[one, :2], boxes[two, :2]), *np.maximum(boxes[one, 2:], boxes[two, 2:])
    numbers = np.unique(owner[owner > 0])
    return np.where(owner > 0, 1 + np.searchsorted(numbers, owner), 0)


def lines_of(boxes):
    """Lists of pieces: line by line from the top, each from the left, without what is far smaller than its line."""
    if not len(boxes):
        return []
    lines = []
    height = boxes[:, 2] - boxes[:, 0]
    for piece in np.argsort(-height, kind="stable"):
        top, left, bottom, right = boxes[piece]
        for line in lines:
            near = min(line, key=lambda other: max(boxes[other, 1] - right, left - boxes[other, 3]))
            overlap = min(bottom, boxes[near, 2]) - max(top, boxes[near, 0])
            if overlap > 0.5 * (bottom - top):
                line.append(piece)
                break
        else:
            lines.append([piece])
    lines = [[p for p in line if height[p] > 0.35 * np.percentile(height[line], 75)] for line in lines]
    tallest = height.max()
    lines = [line for line in lines if max(height[p] for p in line) > 0.2 * tallest]
    lines = [sorted(line, key=lambda p: boxes[p, 1] + boxes[p, 3]) for line in lines]
    return sorted(lines, key=lambda line: np.mean(boxes[line][:, [0, 2]]))


# From pieces to 28×28


def _candidates(ink, parts, boxes, line, number):
    """The Candidates of a line: its pieces, wide ones also cut, and neighbours that nearly touch also joined."""
    tall = max(boxes[piece, 2] - boxes[piece, 0] for piece in line)
    atoms, box_of = [], {}  # (piece, number in parts), from the left
    for piece in line:
        top, left, bottom, right = boxes[piece]
        alone = len(line) == 1 and left > 0 and right < ink.shape[1]
        wide = right - left > (WIDE_ALONE if alone else WIDE) * (bottom - top)
        for atom, box in _cut(parts, boxes[piece], piece + 1) if wide else [(piece + 1, boxes[piece])]:
            atoms.append((piece, atom))
            box_of[atom] = box
    found = []
    for start in range(len(atoms)):
        for stop in range(start + 1, len(atoms) + 1):
            run = atoms[start:stop]
            inside = np.array([box_of[atom] for _, atom in run])
            top, left, bottom, right = *inside[:, :2].min(0), *inside[:, 2:].max(0)
            if stop - start > 1:
                if run[-1][0] != run[-2][0] and inside[-1, 1] - inside[:-1, 3].max() > 0.12 * tall:
                    break  # too far apart
                if len({piece for piece, _ in run}) > MOST_JOINED:
                    break
                first = run[0][0]
                whole_piece = run[-1][0] == first and (left, right) == (boxes[first, 1], boxes[first, 3])
                if right - left > 1.5 * tall and not whole_piece:
                    continue
            before, after = atoms[start - 1 : start], atoms[stop : stop + 1]
            cuts = sum(piece == run[place][0] for place, side in ((0, before), (-1, after)) for piece, _ in side)
            joins = len({piece for piece, _ in run}) - 1
            mask = np.isin(parts[top:bottom, left:right], [atom for _, atom in run])
            image = to_mnist(np.where(mask, np.maximum(ink[top:bottom, left:right], 0.01), 0))
            whole = _inside((top, left, bottom, right), *ink.shape)
            box = (int(left), int(top), int(right - left), int(bottom - top))
            wide = max(1, (right - left) / (bottom - top))
            prior = CUT_PRIOR ** (cuts / 2) * JOIN_PRIOR**joins / wide**6  # few digits are wider than high
            found.append(Candidate(image, box, number, start, stop, whole, prior))
    return found


def _inside(box, height, width):
    """Whether a piece is not cut off by the edge of the picture; what is over its middle may touch the edge."""
    top, left, bottom, right = box
    over_the_middle = top < height / 2 < bottom and left < width / 2 < right
    return bool(over_the_middle or (top > 0 and left > 0 and bottom < height and right < width))


def _cut(parts, box, number):
    """Cut a piece where digits may touch; return a list of (number in parts, box), from the left.

    The pieces get new numbers in parts.
    """
    top, left, bottom, right = box
    height = bottom - top
    window = parts[top:bottom, left:right]
    y, x = np.nonzero(window == number)
    along = max(
        (x + slant * (y - height / 2) for slant in (0, 0.2, 0.4, 0.6, -0.2)),
        key=lambda along: np.bincount(np.rint(along - along.min()).astype(int)).var(),
    )
    along = np.rint(along - along.min()).astype(int)
    upright = np.zeros((height, along.max() + 1), np.float32)
    upright[y, along] = 1
    side = (along[:, None] > _seams(upright)[:, y].T).sum(1)
    new = [number, *range(parts.max() + 1, parts.max() + 1 + side.max())]
    window[y, x] = np.take(new, side)
    result = []
    for place, atom in enumerate(new):
        rows, columns = y[side == place], x[side == place]
        if len(rows):
            upper_left = top + rows.min(), left + columns.min()
            result.append((atom, (*upper_left, top + rows.max() + 1, left + columns.max() + 1)))
    return result


def _seams(ink):
    """The paths from top to bottom that cross the least ink, float h×w: their column in each row, int n×h.

    One for each place in the middle row where no other near it crosses less.
    """
    from scipy import ndimage

    height = len(ink)
    middle, space = height // 2, max(2, int(0.15 * height))
    from_top, up = _paths(ink[: middle + 1])
    from_bottom, down = _paths(ink[: middle - 1 if middle else None : -1])
    crossed = from_top + from_bottom - ink[middle]
    lowest = crossed == ndimage.minimum_filter1d(crossed, 2 * space + 1)
    columns = []
    for place in sorted(np.flatnonzero(lowest[space:-space]) + space, key=crossed.__getitem__):
        if all(abs(place - other) >= space for other in columns) and crossed[place] < MOST_CROSSED * height:
            columns.append(place)
    columns = np.array(sorted(columns[:MOST_CUTS]), int)
    seams = np.zeros((len(columns), height), int)
    for moves, rows in ((up, range(middle, -1, -1)), (down, range(middle, height))):
        at = columns
        for move, row in zip(moves[::-1], rows, strict=True):
            seams[:, row] = at
            at = at + move[at]
    return seams


def _paths(ink):
    """Return (float w, the least ink on a path from the first row to each place of the last; int8 h×w, for each
    place the step sideways, -1, 0 or 1, to the row before)."""
    moves = np.zeros(ink.shape, np.int8)
    least = ink[0]
    for row in range(1, len(ink)):
        ways = np.stack([least, np.append(np.inf, least[:-1] + ASIDE), np.append(least[1:] + ASIDE, np.inf)])
        best = ways.argmin(0)
        moves[row] = np.array([0, -1, 1])[best]
        least = ways[best, np.arange(len(best))] + ink[row]
    return least, moves


def to_mnist(ink):
    """A digit's ink, float H×W cut out, as MNIST has it: uint8 28×28×1, usual pen, fitted and centred."""
    ink = np.minimum(ink / max(np.percentile(ink[ink > 0], 75), 1e-6), 1).astype(np.float32)
    return centre(with_usual_pen(ink))


def with_usual_pen(ink):
    """Draw strokes that are thinner or thicker than MNIST's anew, with a usual width."""
    from scipy import ndimage

    fine = 4  # pixels for one of MNIST's
    scale = 20 * fine / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape[::-1]]
    if scale < 1:
        mask = np.asarray(Image.fromarray((ink > 0.25).astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0.1
    else:
        mask = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BILINEAR)) > 0.5
    width = pen_width(mask) / fine
    if not mask.any() or PEN_WIDTHS[0] <= width <= PEN_WIDTHS[1]:
        return ink
    grow = ((THINNER if width < PEN_WIDTHS[0] else THICKER) - width) * fine / 2
    margin = max(0, int(grow) + 3)
    mask = np.pad(mask, margin)
    distance = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
    grow = max(grow, 0.5 - 0.5 * distance.max())
    ink = np.clip((distance + grow) / fine + 0.5, 0, 1).astype(np.float32)
    return trimmed(ink)


def trimmed(ink):
    """The part of ink, float H×W, in which there is some that can be seen; it must have some."""
    return ink[window_of(ink > 0.3, margin=0)]


def centre(ink):
    """Fit ink (float H×W) into 20×20 and put its centre of mass at the centre of an image, uint8 28×28×1."""
    if not ink.any():
        return np.zeros((28, 28, 1), np.uint8)
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
