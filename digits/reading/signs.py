"""Marks among the digits of a line -> points, commas, colons, dashes and slashes; or unknown; or dust.

They are told by size, shape and place against the digits beside them; the network knows no signs.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np

SMALL = 0.55  # height of a small mark, as a share of that of the digits
SLASH, MARGIN = 1.1, 0.02  # height of a slash, as such a share; of its height, by which it ends above and below them
REACH, BELOW = 1.0, 0.5  # how far from a digit, and below the line, a mark belongs to it, in heights of the digits
DUST, DUST_BETWEEN = 1.2, 0.82  # largest size of dust, in widths of the pen: anywhere, and between two digits
UNKNOWN = ""  # a mark that is too large for dust and no sign


class Mark(NamedTuple):
    """Ink in a line that is no digit."""

    pieces: tuple  # indices; a colon has two
    line: int  # index
    sign: str  # "." "," ":" "-" "/" or UNKNOWN


class Place(NamedTuple):
    """Where a small mark is, and how large, in heights of the digits; y is 0 at their top and 1 at the base line."""

    piece: int
    width: float
    height: float
    x: float  # of its centre
    y: float
    bottom: float
    pens: float  # its size in widths of the pen
    between: bool  # whether it is between two digits


def find_marks(pieces, boxes, lines, pen, printed):
    """Return the Marks in lines of writing.

    pieces: int H×W, number of the piece from 1. boxes: int n×4, their top, left, bottom, right. lines: lists of indices
    of boxes, from the left; what is in none may be a mark, and what is small in one, or a slash. pen: width of the
    strokes, in pixels. printed: bool H×W, the lines that were erased.
    """
    height, centre = boxes[:, 2] - boxes[:, 0], (boxes[:, 1] + boxes[:, 3]) / 2
    cut_off = (boxes[:, :2] == 0).any(1) | (boxes[:, 2:] == pieces.shape).any(1)
    left_out = set(np.flatnonzero(~cut_off)).difference(*lines)
    marks = []
    for number, line in enumerate(lines):
        usual = np.median(height[line])
        slashes = [piece for piece in line if height[piece] > SLASH * usual and _is_slash(pieces, boxes, piece, line)]
        small = [piece for piece in line if height[piece] < SMALL * usual]
        digits = [piece for piece in line if piece not in slashes + small]
        if not digits:
            continue
        places = [place for piece in [*small, *left_out] if (place := _place(boxes, piece, digits, pen))]
        found = [((piece,), "/") for piece in slashes] + _signs_at(places)
        signs = np.array([centre[group[0]] for group, sign in found if sign])
        for group, sign in found:
            if not _is_between_digits(centre[group[0]], sign, centre[digits], signs):
                sign = UNKNOWN
            if sign == "." and _is_near(boxes[group[0]], printed):  # what is left of a base line
                sign = UNKNOWN
            if sign or group[0] not in line:  # what is unknown in a line may be a digit
                marks.append(Mark(group, number, sign))
        left_out -= {piece for mark in marks for piece in mark.pieces}
    return marks


def is_beside(boxes, piece, line):
    """Whether a piece is so small against a line of digits, and so near to it, that it can only be a mark in it."""
    top, _, bottom, _ = boxes[piece]
    upper, lower, height = boxes[line, 0].min(), boxes[line, 2].max(), (boxes[line, 2] - boxes[line, 0]).max()
    gap = _gaps(boxes[piece], boxes[line]).min()
    within = upper < (top + bottom) / 2 < lower + BELOW * height
    return bottom - top < SMALL * height and within and gap < REACH * height


def _place(boxes, piece, digits, pen):
    """The Place of a piece against the digits, indices of boxes; None if it is not beside them."""
    top, left, bottom, right = boxes[piece]
    gap, (upper, base) = _neighbours(boxes[piece], boxes[digits])
    usual = np.median(boxes[digits, 2] - boxes[digits, 0])
    y, lowest = (np.array([(top + bottom) / 2, bottom]) - upper) / (base - upper)
    if gap > REACH * usual or not -0.1 < y < 1 + BELOW:
        return None
    width, height = (right - left) / usual, (bottom - top) / usual
    size, x = (width * height) ** 0.5 * usual / pen, (left + right) / 2
    between = boxes[digits, 1].min() < x < boxes[digits, 3].max() and 0.2 < y < 1.1
    return Place(piece, width, height, x / usual, y, lowest, size, between)


def _neighbours(box, digits):
    """(Gap to the nearest of the boxes of digits, n×4; mean top and bottom of the nearest two)."""
    gaps = _gaps(box, digits)
    return gaps.min(), digits[np.argsort(gaps, kind="stable")[:2]][:, [0, 2]].mean(0)


def _gaps(box, others):
    """The gap to the left or right between a box and others, n×4; 0 where they overlap."""
    return np.maximum(0, np.maximum(others[:, 1] - box[3], box[1] - others[:, 3]))


def _signs_at(places):
    """The indices of pieces and the sign of each mark; dust is left out."""
    places = sorted(places, key=lambda place: place.y)
    found, in_colon = [], set()
    dots = [place for place in places if max(place.width, place.height) < 0.36 and 0.05 < place.y < 1.15]
    dots = [dot for dot in dots if dot.pens > DUST_BETWEEN]
    for upper, lower in combinations(dots, 2):
        stacked = upper.y + upper.height / 2 < lower.y - lower.height / 2 and abs(lower.x - upper.x) < 0.25
        equals_sign = min(one.width / max(one.height, 0.15) for one in (upper, lower)) > 1.6
        if stacked and not equals_sign and not in_colon & {upper.piece, lower.piece}:
            in_colon |= {upper.piece, lower.piece}
            found.append(((upper.piece, lower.piece), ":"))
    for place in places:
        sign = _sign_at(place)
        if place.piece not in in_colon and place.pens > (DUST_BETWEEN if sign or place.between else DUST):
            found.append(((place.piece,), sign))
    return found


def _sign_at(place):
    """The sign that a small mark is, UNKNOWN if none."""
    if place.width > max(0.18, 1.6 * place.height) and place.height < 0.3 and 0.25 < place.y < 0.78:
        return "-"
    high, low = (0.72, 1.28) if place.pens > DUST else (0.85, 1.1)  # what may be dust must be where a point would be
    if _is_dot(place) and place.y > high and place.bottom < low:
        return "."
    length = max(place.width, place.height)
    below = place.bottom > (0.97 if length > 0.24 else 1.05)
    if length > 0.17 and place.width < 2.2 * place.height and place.y > 0.7 and below:
        return ","
    return UNKNOWN


def _is_dot(place):
    """Whether a mark is small and compact."""
    longer, shorter = max(place.width, place.height), min(place.width, place.height)
    return longer < 0.15 or longer < min(0.24, 2.2 * shorter)


def _is_slash(pieces, boxes, piece, line):
    """Whether a piece is a straight stroke, slanted to the right, that is higher and lower than its neighbours."""
    top, left, bottom, right = boxes[piece]
    others = [other for other in line if other != piece]
    if not others:
        return False
    _, (upper, base) = _neighbours(boxes[piece], boxes[others])
    margin = MARGIN * (bottom - top)
    y, x = np.nonzero(pieces[top:bottom, left:right] == piece + 1)
    slanted = 0.2 < (right - left) / (bottom - top) < 1 and right - left > 1
    reaches = top + margin < upper and bottom - margin > base
    return slanted and reaches and np.corrcoef(x, y)[0, 1] < -0.95


def _is_between_digits(x, sign, digits, signs):
    """Whether a sign at x stands where it can: between digits, or before or after them; digits, signs: their x."""
    before, after = digits[digits < x].max(initial=-np.inf), digits[digits > x].min(initial=np.inf)
    alone = np.count_nonzero((before < signs) & (signs < after)) == 1
    return alone and (before > -np.inf or sign == "-") and (after < np.inf or sign in ",.-")


def _is_near(box, printed):
    """Whether a box, top, left, bottom, right, lies at an erased line."""
    top, left, bottom, right = box
    return printed[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2].any()
