"""Which pixels of a picture are ink: under any light, on paper of any colour, dark on light or light on dark."""

from functools import reduce

import numpy as np
from PIL import Image

FAINTEST = 0.1  # ink is at least this far from the paper, as a share of black on white
DARKEST_PAPER = 0.3  # on which dark ink can be seen, 0-1
SMALL_SIDE = 120  # pixels; the paper is looked for in a picture whose shorter side is reduced to about this
FLAT_SIDE = 40  # pixels; the paper of smaller pictures has one colour
LIGHT_SIDE = 80  # pixels; that of smaller pictures is darker towards one side at most, larger ones may have shadows


def ink_of(picture):
    """How far each pixel is from the paper, float32 H×W, 0-1: either polarity, any colour, any light."""
    height, width = picture.shape[:2]
    if all(np.array_equal(picture[..., 0], picture[..., channel]) for channel in (1, 2)):
        picture = picture[..., :1]  # of a grey picture, one channel tells it all
    if min(height, width) < LIGHT_SIDE:
        return _ink_of_small(picture / np.float32(255))
    small = Image.fromarray(picture.squeeze()).reduce(max(1, min(height, width) // SMALL_SIDE))
    small = np.atleast_3d(np.asarray(small, np.float32)) / 255
    page = page_of(small)
    if page is not None:
        small = np.where(page[..., None], small, np.median(small[page], axis=0))
    paper, sign = _lit_paper(small, page)

    def enlarged(values):
        if (values == values[0, 0]).all():
            return values[0, 0]
        return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))

    ink = np.zeros((height, width), np.float32)
    for channel in np.flatnonzero(sign):
        ground = enlarged(paper[..., channel])
        difference = sign[channel] * (picture[..., channel] / np.float32(255) - ground)
        if sign[channel] < 0:  # what share of the light it swallows, which is the same in light and shadow
            difference /= np.maximum(ground, DARKEST_PAPER)
        np.maximum(ink, difference, out=ink)
    return ink if page is None else ink * enlarged(page.astype(np.float32))


def _ink_of_small(picture):
    """The ink, float32 H×W, of a drawing or a crop, 0-1, in a light that is even or rises evenly."""
    _, ink, threshold = _paper_colour(picture)
    if min(ink.shape) < FLAT_SIDE:
        return ink
    for _ in range(3):  # the better the light is known, the better paper is told from ink
        ink = _distance(picture, _plane(picture, ink <= threshold))
        threshold = otsu(ink)
    return ink


def _distance(picture, paper):
    """How far each pixel, H×W×channels, is from the paper's colour in the channel in which it is farthest, H×W."""
    return reduce(np.maximum, np.moveaxis(np.abs(picture - paper), -1, 0))  # far faster than a maximum along the axis


def _plane(picture, mask):
    """The light, float H×W×3, that rises evenly over a picture and fits it best where the mask is true."""
    y, x = np.indices(mask.shape, np.float32)
    terms = np.stack([np.ones_like(x), x, y], -1)
    return terms @ np.linalg.lstsq(terms[mask], picture[mask], rcond=None)[0]


def _paper_colour(picture):
    """Return (the paper's colour, 3 values 0-1; how far each pixel is from it, H×W; where another colour starts).

    Paper is what the edge and the whole picture have most of.
    """
    height, width = picture.shape[:2]
    margin = max(1, min(height, width) // 50)
    paper = np.median(along_the_edge(picture, margin), axis=0)
    distance = _distance(picture, paper)
    threshold = otsu(distance)
    far = distance > threshold
    if along_the_edge(far, margin).mean() + far.mean() > 1:
        paper = np.median(picture[far], axis=0)
        distance = _distance(picture, paper)
    return paper, distance, threshold


def page_of(small):
    """Mask of a sheet of paper that lies on a table, bool h×w, or None where there is none.

    It is a rectangle with a sharp edge, and something is on it.
    """
    from scipy import ndimage

    _, distance, threshold = _paper_colour(small)
    far = distance > threshold
    if far.mean() < 0.15:
        return None
    parts, _ = ndimage.label(far)
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    rows, columns = ndimage.find_objects(largest.astype(np.uint8))[0]
    filled = ndimage.binary_fill_holes(largest)
    area = filled.sum()
    solid = area > 0.82 * (rows.stop - rows.start) * (columns.stop - columns.start)
    if not solid or not 0.15 * far.size < area < 1.4 * largest.sum():
        return None
    inner, outer = ndimage.minimum_filter(filled, 7, mode="constant"), ndimage.maximum_filter(filled, 3)
    boundary = (outer & ~filled)[1:-1, 1:-1]
    if not inner.any() or not boundary.any():
        return None
    step = (ndimage.maximum_filter(small, (5, 5, 1)) - ndimage.minimum_filter(small, (5, 5, 1))).max(-1)[1:-1, 1:-1]
    sharp = np.percentile(step[boundary], 20) > 0.5 * threshold
    written_on = np.abs(small[inner] - np.median(small[inner], axis=0)).max() > 2 * FAINTEST
    return inner if written_on and sharp else None


def _lit_paper(small, page):
    """Return (the paper under whatever light, shadows too, float32 h×w×3; for each channel 1 where ink is lighter than
    the paper, -1 where it is darker, 0 where it cannot be seen).

    Paper is what stays when all that is narrow, as strokes are, is closed. Whether the ink is dark or light is told by
    which of the two is more like strokes.
    """
    from scipy import ndimage

    small = ndimage.gaussian_filter(small, (0.7, 0.7, 0))
    colour, distance, threshold = _paper_colour(small)
    far = distance > threshold
    usual = np.sign((small - colour)[far].sum())
    padded = np.pad(far, 1, mode="edge")
    deepest = ndimage.distance_transform_edt(padded[window_of(padded)]).max()
    near = distance[page] if page is not None else distance
    one_light = (near < 0.015).mean() > 0.5 or (distance[~far] < 0.04).mean() > 0.85
    if one_light and deepest < 0.2 * min(small.shape[:2]):
        step = np.median(small[far], axis=0) - colour if far.any() else np.zeros(3)
        return np.broadcast_to(colour, small.shape).astype(np.float32), _signs(step)
    channel = small[..., np.ptp(np.percentile(small, (1, 99), (0, 1)), 0).argmax()]
    found = {sign: _narrow(sign * channel) for sign in (-1, 1)}
    likeness = {sign: one[2] / one[0] ** 0.5 * (1.5 if sign == usual else 1) for sign, one in found.items()}
    side, ink, _ = found[max(likeness, key=likeness.get)]
    around = ndimage.uniform_filter(small, (2 * side + 1, 2 * side + 1, 1))
    step = (small - around)[ink].mean(0) if ink.any() else np.zeros(3)
    signs = _signs(step)
    side = int(1.5 * side) | 1  # where strokes meet they are wider
    return signs * _opened(signs * small, side, spread=4), signs  # spread: else the edge of a shadow leaves a line


def _signs(step):
    return np.where(np.abs(step) > 0.15 * np.abs(step).max(), np.sign(step), 0)


def _narrow(values):
    """Return (side, mask, likeness to strokes) of what is lighter and narrower than side.

    Side is the smallest of which the double hardly adds. What touches the edge, borders and shadows, is not asked
    unless there is nothing else.
    """
    from scipy import ndimage

    clear = max(0.15 * np.ptp(np.percentile(values, (1, 99))), FAINTEST / 2)
    found = []
    for share in (0.05, 0.1, 0.2, 0.4):
        side = int(share * min(values.shape)) | 1
        left = values - _opened(values, side)
        mask = left > clear
        parts, _ = ndimage.label(mask, np.ones((3, 3)))
        inside = mask & ~np.isin(parts, along_the_edge(parts))
        found.append((side, mask, inside.sum() if inside.sum() > 0.01 * mask.sum() else mask.sum()))
    wider = found[1:] + found[-1:]
    side, mask, _ = next(one for one, two in zip(found, wider, strict=True) if one[2] >= 0.7 * two[2])
    return side, mask, _likeness_to_strokes(mask)


def _likeness_to_strokes(mask):
    """How many times longer than wide the parts are, together; those at the edge, borders and shadows, count less."""
    from scipy import ndimage

    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if not count:
        return 0.0
    index = np.arange(1, count + 1)
    area = np.bincount(parts.ravel())[1:]
    depth = ndimage.mean(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1], parts, index)
    width = np.maximum(1, 4 * depth - 2)
    at_edge = np.isin(index, along_the_edge(parts))
    return float((np.maximum(area / width**2 - 1, 0) * np.where(at_edge, 0.5, 1)).sum())


def along_the_edge(values, margin=1):
    """The values, H×W or H×W×channels, along the four sides of a picture: n or n×channels."""
    inner = values[margin:-margin]
    sides = values[:margin], values[-margin:], inner[:, :margin], inner[:, -margin:]
    return np.concatenate([side.reshape(-1, *values.shape[2:]) for side in sides])


def window_of(mask, margin=1):
    """The slices that hold all that is true in a mask, H×W, and a margin of pixels on each side."""
    slices = []
    for side in (mask.any(1), mask.any(0)):
        places = np.flatnonzero(side)
        slices.append(
            slice(max(0, places[0] - margin), places[-1] + 1 + margin) if len(places) else slice(0, len(side))
        )
    return tuple(slices)


def _opened(values, side, spread=0):
    """Without what is lighter and narrower than side."""
    from scipy import ndimage

    size, wider = (side, side, 1)[: values.ndim], (side + spread, side + spread, 1)[: values.ndim]
    return ndimage.maximum_filter(ndimage.minimum_filter(values, size), wider)


def otsu(values):
    """The threshold that splits values, 0-1, into two groups with the least variance inside (N. Otsu, 1979)."""
    counts = np.bincount(np.minimum(64 * values, 63).astype(int).ravel(), minlength=64)  # as np.histogram, but faster
    below, sums = counts.cumsum(), (counts * (np.arange(64) + 0.5) / 64).cumsum()
    above = below[-1] - below
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * above, 1)
    return (1 + np.where((below > 0) & (above > 0), between, -1).argmax()) / 64
