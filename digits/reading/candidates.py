"""A picture -> its candidate digits: the pieces of writing, cut and joined, as images of 28×28.

A wide piece may be several digits that touch, neighbouring pieces may be one digit: each such reading is a candidate,
and the network decides later.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from digits.reading.normalization import to_mnist
from digits.reading.segmentation import FormField, is_stacked, preprocess

MAX_JOINED = 3  # neighbouring pieces in one digit
SPLIT_ASPECT, SPLIT_ASPECT_ALONE = 0.9, 1.2  # width / height above which a piece is split: in a line, alone in it
MAX_CUTS = 12  # through one piece
MAX_CROSSED = 0.4  # ink that a cut may cross, as a share of the piece's height
DIAGONAL_COST = 0.1  # of a diagonal step in a cut, in pixels of crossed ink
CUT_PRIOR = 0.5  # prior probability of a cut through connected ink; half of it counts for each side
JOIN_PRIOR = 0.2  # prior probability that two pieces side by side are one digit; smaller over a wide gap
NARROW_GAP, WIDE_GAP = 0.12, 0.35  # share of the highest piece's height; over wider gaps nothing is joined
STACKED_PRIOR = 0.05  # prior probability that of two pieces, one above the other, each is a digit
LOWER_PRIOR = 0.05  # prior probability that of two pieces, the right one far lower, each is a digit


class Candidate(NamedTuple):
    """Ink that may be a digit. Candidates overlap where ink can be cut or joined in several ways."""

    image: np.ndarray  # uint8 28×28×1, 0 background, 255 ink
    box: tuple  # x, y, width, height in pixels of the picture
    line: int = 0  # line of writing, from the top
    start: int = 0  # index of its first fragment in the line
    stop: int = 1  # index after its last fragment, a piece or a part of a split one; start if it is a mark beside them
    complete: bool = True  # not clipped by the edge of the picture
    prior: float = 1.0  # prior probability, 0-1, of these cuts and joins
    sign: str | None = None  # of ink that is no digit by its size and place: see signs.Mark


def find_candidates(picture, field=FormField()):
    """Return the Candidates in a picture, uint8 H×W×3, line by line, each from the left; [] where there is no ink.

    field: see segmentation.preprocess().
    """
    return candidates_in(preprocess(picture, field))


def candidates_in(steps):
    """Return the Candidates in segmentation.Steps, and give the parts of pieces that were split their own labels."""
    candidates_of = _cell_candidates if steps.rows else _line_candidates
    digits = [candidate for number, line in enumerate(steps.lines) for candidate in candidates_of(steps, line, number)]
    beside = [mark for mark in steps.marks if mark.pieces[0] not in steps.lines[mark.line]]
    return digits + [_mark_candidate(steps, mark) for mark in beside]


def _cell_candidates(steps, line, number):
    """Yield the Candidates of a row of cells: each piece is a digit."""
    for index, piece in enumerate(line):
        top, left, bottom, right = steps.boxes[piece]
        image = _image(steps, steps.pieces[top:bottom, left:right] == piece + 1, top, left)
        yield Candidate(image, _xywh(top, left, bottom, right), number, index, index + 1)


def _mark_candidate(steps, mark):
    """The Candidate of a Mark."""
    boxes = steps.boxes[list(mark.pieces)]
    (top, left), (bottom, right) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    mask = np.isin(steps.pieces[top:bottom, left:right], np.add(mark.pieces, 1))
    return Candidate(_image(steps, mask, top, left), _xywh(top, left, bottom, right), mark.line, stop=0, sign=mark.sign)


def _xywh(top, left, bottom, right):
    return int(left), int(top), int(right - left), int(bottom - top)


def _image(steps, mask, top, left):
    """The ink under a mask, bool h×w, with its corner at top, left: uint8 28×28×1."""
    ink = steps.foreground[top : top + mask.shape[0], left : left + mask.shape[1]]
    return to_mnist(np.where(mask, np.maximum(ink, 0.01), 0))


def _line_candidates(steps, line, number):
    """Yield the Candidates of a line: runs of neighbouring fragments that may be one digit."""
    labels, boxes = steps.pieces, steps.boxes
    (height, width), tall = labels.shape, max(boxes[line, 2] - boxes[line, 0])
    signs = {piece: mark.sign for mark in steps.marks for piece in mark.pieces}
    owner, label, box = map(np.array, zip(*_fragments(labels, boxes, line), strict=True))
    joined, apart = _priors(owner, box, tall, list(signs))
    for start in range(len(box)):
        for stop in range(start + 1, len(box) + 1):
            (top, left), (bottom, right) = box[start:stop, :2].min(0), box[start:stop, 2:].max(0)
            joins = len(set(owner[start:stop])) - 1
            if stop - start > 1:
                same = owner[stop - 1] == owner[stop - 2]
                gap = 0 if same else (box[stop - 1, 1] - box[start : stop - 1, 3].max()) / tall
                if joins >= MAX_JOINED or gap > (WIDE_GAP if right - left < tall else NARROW_GAP):
                    break
                if right - left > 1.5 * tall and (joins or (left, right) != tuple(boxes[owner[start], [1, 3]])):
                    continue
            aspect = max(1, (right - left) / (bottom - top))  # few digits are wider than high
            prior = joined[start : stop - 1].prod() * (apart[start] * apart[stop]) ** 0.5 / aspect**6
            mask = np.isin(labels[top:bottom, left:right], label[start:stop])
            image = _image(steps, mask, top, left)
            central = top < height / 2 < bottom and left < width / 2 < right  # may touch the edge and be complete
            complete = bool(central or (top > 0 and left > 0 and bottom < height and right < width))
            xywh = _xywh(top, left, bottom, right)
            sign = signs.get(owner[start]) if stop == start + 1 else None
            yield Candidate(image, xywh, number, start, stop, complete, prior, sign)


def _fragments(labels, boxes, line):
    """The (piece, label, box) of each fragment of a line, from the left: of a piece, or of a part of a split one."""
    fragments = []
    for piece in line:
        top, left, bottom, right = boxes[piece]
        alone = len(line) == 1 and left > 0 and right < labels.shape[1]
        split = right - left > (SPLIT_ASPECT_ALONE if alone else SPLIT_ASPECT) * (bottom - top)
        fragments += _split(labels, boxes[piece], piece) if split else [(piece, piece + 1, boxes[piece])]
    return fragments


def _priors(owner, box, tall, signs):
    """Prior probabilities that neighbouring fragments are one digit, float n-1, and that they are two, float n+1.

    owner: the piece of each fragment, n. box: int n×4. tall: height of the highest. signs: pieces that may be signs.
    Before the first fragment and after the last one, the second is 1.
    """
    same = owner[1:] == owner[:-1]
    stacked = ~same & np.array([is_stacked(*pair) for pair in pairwise(box)], bool)
    gaps = (box[1:, 1] - np.maximum.accumulate(box[:-1, 3])) / tall
    joined = np.where(same | stacked, 1, JOIN_PRIOR ** np.maximum(1, gaps / NARROW_GAP))
    lower = (np.diff(box[:, [0, 2]], axis=0) > (0.25 * tall, 0.1 * tall)).all(1)  # as the second stroke of an open 4
    lower &= (gaps < WIDE_GAP) & ~np.isin(owner[1:], signs)
    apart = np.select([same, stacked, lower], [CUT_PRIOR, STACKED_PRIOR, LOWER_PRIOR], 1)
    return joined, np.pad(apart, 1, constant_values=1)


def _split(labels, box, piece):
    """Split a piece where digits may touch: yield (piece, new label, box) from the left, after writing the labels."""
    top, left, bottom, right = box
    window = labels[top:bottom, left:right]
    y, x = np.nonzero(window == piece + 1)
    sheared = [x + slant * (y - (bottom - top) / 2) for slant in (0, 0.2, 0.4, 0.6, -0.2)]
    columns = [np.rint(one - one.min()).astype(int) for one in sheared]
    column = max(columns, key=lambda one: np.bincount(one).var())  # upright strokes fill few columns
    upright = np.zeros((bottom - top, column.max() + 1), np.float32)
    upright[y, column] = 1
    side = (column[:, None] > find_seams(upright)[:, y].T).sum(1)
    new_labels = [piece + 1, *range(labels.max() + 1, labels.max() + 1 + side.max())]
    window[y, x] = np.take(new_labels, side)
    for index in np.unique(side):
        ys, xs = top + y[side == index], left + x[side == index]
        yield piece, new_labels[index], (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)


def find_seams(ink):
    """The paths from top to bottom that cross the least ink, float h×w: their column in each row, int n×h.

    Dynamic programming as in seam carving (S. Avidan, A. Shamir, 2007); one path per local minimum in the middle row.
    """
    height = len(ink)
    middle, space = height // 2, max(2, int(0.15 * height))
    from_top, up = _cheapest_paths(ink[: middle + 1])
    from_bottom, down = _cheapest_paths(ink[middle:][::-1])
    crossed = from_top + from_bottom - ink[middle]
    lowest = (crossed == ndimage.minimum_filter1d(crossed, 2 * space + 1)) & (crossed < MAX_CROSSED * height)
    starts = []
    for column in sorted(np.flatnonzero(lowest[space:-space]) + space, key=crossed.__getitem__):
        if all(abs(column - other) >= space for other in starts):
            starts.append(column)
    starts = np.array(sorted(starts[:MAX_CUTS]), int)
    seams = np.zeros((len(starts), height), int)
    for steps, rows in ((up, range(middle, -1, -1)), (down, range(middle, height))):
        columns = starts
        for step, row in zip(steps[::-1], rows, strict=True):
            seams[:, row] = columns
            columns = columns + step[columns]
    return seams


def _cheapest_paths(ink):
    """Return (float w, least cost of a path from the first row to each column of the last; int8 h×w, for each pixel
    the sideways step, -1, 0 or 1, to the row before)."""
    steps = np.zeros(ink.shape, np.int8)
    cost = ink[0]
    for row in range(1, len(ink)):
        diagonal = cost + DIAGONAL_COST
        ways = np.stack([cost, np.append(np.inf, diagonal[:-1]), np.append(diagonal[1:], np.inf)])
        best = ways.argmin(0)
        steps[row] = np.array([0, -1, 1])[best]
        cost = ways[best, np.arange(len(best))] + ink[row]
    return cost, steps
