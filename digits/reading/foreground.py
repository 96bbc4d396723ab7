"""Which pixels of a picture are ink: dark on light or light on dark, on paper of any colour, under any light."""

from functools import reduce

import numpy as np
from PIL import Image
from scipy import ndimage

MIN_CONTRAST = 0.1  # between ink and paper, as a share of black on white
MIN_PAPER_BRIGHTNESS = 0.3  # 0-1; dark ink cannot be seen on darker paper
THUMBNAIL_SIDE = 120  # pixels; the background is estimated on a copy with about this shorter side
UNIFORM_LIGHT_SIDE = 40  # pixels; smaller pictures are taken to have paper of one colour
SCREENS = (1, 0.02), (2, 0.08), (3, 0.08)  # side of the dots, pixels, and the least share of them in a screen
DOT_CONTRAST = 96  # grey levels
LINEAR_LIGHT_SIDE = 80  # pixels; the light of smaller pictures may rise towards one side, larger ones may have shadows
CONNECTED = np.ones((3, 3))  # structure for ndimage.label: diagonal neighbours are connected too


def foreground(picture):
    """Return how far each pixel of a picture, uint8 H×W×3, is from the paper: float32 H×W, 0-1."""
    height, width = picture.shape[:2]
    picture = without_screen(picture)
    if all(np.array_equal(picture[..., 0], picture[..., channel]) for channel in (1, 2)):
        picture = picture[..., :1]  # grey: the other channels repeat the first
    if min(height, width) < LINEAR_LIGHT_SIDE:
        return _foreground_of_small(picture / np.float32(255))
    small = Image.fromarray(picture.squeeze()).reduce(max(1, min(height, width) // THUMBNAIL_SIDE))
    small = np.atleast_3d(np.asarray(small, np.float32)) / 255
    sheet = find_sheet(small)
    if sheet is not None:
        small = np.where(sheet[..., None], small, np.median(small[sheet], axis=0))
    background, polarity = estimate_background(small, sheet)

    def enlarge(values):
        if (values == values[0, 0]).all():
            return values[0, 0]
        return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))

    ink = np.zeros((height, width), np.float32)
    for channel in np.flatnonzero(polarity):
        paper = enlarge(background[..., channel])
        difference = polarity[channel] * (picture[..., channel] / np.float32(255) - paper)
        if polarity[channel] < 0:  # the share of light that ink absorbs is the same in light and in shadow
            difference /= np.maximum(paper, MIN_PAPER_BRIGHTNESS)
        np.maximum(ink, difference, out=ink)
    return ink if sheet is None else ink * enlarge(sheet.astype(np.float32))


def without_screen(picture):
    """A picture, uint8 H×W×3, in the greys that it shows as a screen of dots (a dithered scan); others unchanged.

    It is blurred by half the mean distance of the dots.
    """
    if min(picture.shape[:2]) < UNIFORM_LIGHT_SIDE:
        return picture
    for side, least in SCREENS:
        share = _share_of_dots(picture[..., 1], side)
        if np.mean(share > least) > 0.8:
            sigma = max(1.5, 0.5 * side / np.median(share) ** 0.5)
            return ndimage.gaussian_filter(picture, (sigma, sigma, 0))
    return picture


def _share_of_dots(level, side):
    """The share of pixels that are unlike those at a distance of side pixels above, below, left and right.

    level: uint8 H×W. Returns one for each of 4×4 parts of the picture, measured in some 60 rows, to be fast.
    """
    height, width = level.shape
    rows = np.arange(side, height - side, (height // 60) | 1)  # an odd step: the period of many screens is 4 or 8
    above, level_rows, below = (level[rows + move].astype(np.int16) for move in (-side, 0, side))
    left, centre, right = (level_rows[:, start : start + width - 2 * side] for start in (0, side, 2 * side))
    steps = [one - centre for one in (above[:, side:-side], below[:, side:-side], left, right)]
    dots = (reduce(np.minimum, steps) > DOT_CONTRAST) | (reduce(np.maximum, steps) < -DOT_CONTRAST)
    return np.array([part.mean() for row in np.array_split(dots, 4) for part in np.array_split(row, 4, axis=1)])


def _foreground_of_small(picture):
    """foreground() of a drawing or crop, float32 H×W×channels, 0-1, with uniform or linearly rising light."""
    _, ink, threshold = _paper_colour(picture)
    if min(ink.shape) < UNIFORM_LIGHT_SIDE or is_clean(ink):
        return ink
    y, x = np.indices(ink.shape, np.float32)
    terms = np.stack([np.ones_like(x), x, y], -1)
    for _ in range(3):  # a better estimate of the light separates paper from ink better, and the reverse
        paper = ink <= threshold
        ink = _distance(picture, terms @ np.linalg.lstsq(terms[paper], picture[paper], rcond=None)[0])
        threshold = otsu_threshold(ink)
    return ink


def is_clean(ink):
    """Whether the paper of a small picture has no noise, so that its faintest strokes can be seen; ink: foreground."""
    return min(ink.shape) < LINEAR_LIGHT_SIDE and np.count_nonzero(ink) < 0.35 * ink.size


def _distance(picture, paper):
    """Distance of each pixel, H×W×channels, from the paper in the channel where it is largest, H×W."""
    return reduce(np.maximum, np.moveaxis(np.abs(picture - paper), -1, 0))  # far faster than a maximum along the axis


def _paper_colour(picture):
    """Return (colour most frequent along the edge and overall, 0-1; distance of each pixel from it, H×W; threshold)."""
    height, width = picture.shape[:2]
    margin = max(1, min(height, width) // 50)
    paper = np.median(edge_pixels(picture, margin), axis=0)
    distance = _distance(picture, paper)
    threshold = otsu_threshold(distance)
    far = distance > threshold
    if edge_pixels(far, margin).mean() + far.mean() > 1:
        paper = np.median(picture[far], axis=0)
        distance = _distance(picture, paper)
    return paper, distance, threshold


def find_sheet(small):
    """Return the mask, bool h×w, of a sheet of paper on a table in float32 h×w×channels, 0-1; None without one.

    A sheet is a filled rectangle with a sharp edge and something written on it.
    """
    _, distance, threshold = _paper_colour(small)
    far = distance > threshold
    if far.mean() < 0.15:
        return None
    largest = _largest_part(far)
    filled = ndimage.binary_fill_holes(largest)
    area = filled.sum()
    rectangular = area > 0.82 * largest[bounding_window(largest, margin=0)].size
    inner = ndimage.binary_erosion(filled, np.ones((7, 7)))
    boundary = (ndimage.binary_dilation(filled, np.ones((3, 3))) & ~filled)[1:-1, 1:-1]
    if not rectangular or not 0.15 * far.size < area < 1.4 * largest.sum() or not inner.any() or not boundary.any():
        return None
    step = ndimage.morphological_gradient(small, (5, 5, 1)).max(-1)[1:-1, 1:-1]
    sharp = np.percentile(step[boundary], 20) > 0.5 * threshold
    written_on = np.abs(small[inner] - np.median(small[inner], axis=0)).max() > 2 * MIN_CONTRAST
    return inner if written_on and sharp else None


def _largest_part(mask):
    """The largest connected part of a mask, bool h×w, in which something is true."""
    parts, _ = ndimage.label(mask)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax()


def estimate_background(small, sheet=None):
    """Estimate the paper, with its light and shadows, behind the ink of float32 h×w×channels, 0-1.

    Returns (float32 h×w×channels; for each channel 1 where ink is lighter than paper, -1 darker, 0 invisible).
    Under uniform light the paper has one colour. Otherwise a morphological opening or closing wider than the strokes
    removes them; of light and dark, the ink is what looks more like strokes. sheet: mask from find_sheet().
    """
    small = ndimage.gaussian_filter(small, (0.7, 0.7, 0))
    colour, distance, threshold = _paper_colour(small)
    far = distance > threshold
    likely_sign = np.sign((small - colour)[far].sum())
    padded = np.pad(far, 1, mode="edge")
    half_width = ndimage.distance_transform_edt(padded[bounding_window(padded)]).max()
    near = distance[sheet] if sheet is not None else distance
    uniform = (near < 0.015).mean() > 0.5 or (distance[~far] < 0.04).mean() > 0.85
    if uniform and half_width < 0.2 * min(small.shape[:2]) and not _is_patch(far):
        polarity = _polarity(np.median(small[far], axis=0) - colour if far.any() else np.zeros(3))
        return np.broadcast_to(colour, small.shape).astype(np.float32), polarity
    channel = small[..., np.ptp(np.percentile(small, (1, 99), (0, 1)), 0).argmax()]
    found = {sign: detect_strokes(sign * channel) for sign in (-1, 1)}
    scores = {sign: score / side**0.5 for sign, (side, _, score) in found.items()}
    if likely_sign:  # far more likely where what stands out from all the paper is as thin as strokes
        scores[likely_sign] *= 3 if half_width < 0.08 * min(small.shape[:2]) else 1.5
    side, ink, _ = found[max(scores, key=scores.get)]
    around = ndimage.uniform_filter(small, (2 * side + 1, 2 * side + 1, 1))
    polarity = _polarity((small - around)[ink].mean(0) if ink.any() else np.zeros(3))
    side = int(1.5 * side) | 1  # strokes are wider where they meet
    lowest = ndimage.grey_erosion(polarity * small, (side, side, 1))
    return polarity * ndimage.grey_dilation(lowest, (side + 4, side + 4, 1)), polarity  # + 4: no line along a shadow


def _is_patch(far):
    """Whether the largest part of a mask, bool h×w, is a filled rectangle, such as the white cell of a tinted form."""
    if not far.any():
        return False
    largest = _largest_part(far)
    box = ndimage.binary_fill_holes(largest)[bounding_window(largest, margin=0)]
    return box.mean() > 0.85 and min(box.shape) > 0.45 * max(box.shape)


def _polarity(step):
    """The sign of the step from paper to ink in each channel, 0 where it is small."""
    return np.where(np.abs(step) > 0.15 * np.abs(step).max(), np.sign(step), 0)


def detect_strokes(values):
    """Return (side, mask, score) of what is lighter than its surroundings, float H×W, and narrower than side.

    Side is the smallest whose double adds hardly anything. Parts at the edge, such as borders and shadows, count only
    where there is nothing else. Score, the sum of contrast × length / width of the parts, says how much they look like
    strokes.
    """
    min_step = max(0.15 * np.ptp(np.percentile(values, (1, 99))), MIN_CONTRAST / 2)
    found, found_area = None, 0
    for share in (0.05, 0.1, 0.2, 0.4):
        side = int(share * min(values.shape)) | 1
        contrast = ndimage.white_tophat(values, (side, side))
        parts, count = ndimage.label(contrast > min_step, CONNECTED)
        index, areas = np.arange(1, count + 1), np.bincount(parts.ravel())[1:]
        at_edge = np.isin(index, edge_pixels(parts))
        inside = areas[~at_edge].sum()
        area = inside if inside > 0.01 * areas.sum() else areas.sum()
        if found and found_area >= 0.7 * area:
            break
        found, found_area = (side, contrast, parts, index, areas, at_edge), area
    side, contrast, parts, index, areas, at_edge = found
    depth = ndimage.mean(ndimage.distance_transform_edt(np.pad(parts, 1))[1:-1, 1:-1], parts, index)
    width = np.maximum(1, 4 * depth - 2)
    length = np.maximum(areas / width**2 - 1, 0) * np.where(at_edge, 0.5, 1)
    return side, parts > 0, float((length * ndimage.mean(contrast, parts, index)).sum())


def edge_pixels(values, margin=1):
    """The values, H×W or H×W×channels, along the four sides of a picture: n or n×channels."""
    inner = values[margin:-margin]
    sides = values[:margin], values[-margin:], inner[:, :margin], inner[:, -margin:]
    return np.concatenate([side.reshape(-1, *values.shape[2:]) for side in sides])


def bounding_window(mask, margin=1):
    """Row and column slices around the true pixels of a mask, H×W, and a margin; all of it where none is true."""
    sides = [np.flatnonzero(used if used.any() else ~used) for used in (mask.any(1), mask.any(0))]
    return tuple(slice(max(0, side[0] - margin), side[-1] + 1 + margin) for side in sides)


def otsu_threshold(values):
    """The threshold that splits values, 0-1, into two groups with the least variance inside (N. Otsu, 1979)."""
    counts = np.bincount(np.minimum(64 * values, 63).astype(int).ravel(), minlength=64)  # as np.histogram, but faster
    below, sums = counts.cumsum(), (counts * (np.arange(64) + 0.5) / 64).cumsum()
    above = below[-1] - below
    between = (sums[-1] * below / below[-1] - sums) ** 2 / np.maximum(below * above, 1)
    return (1 + np.where((below > 0) & (above > 0), between, -1).argmax()) / 64
