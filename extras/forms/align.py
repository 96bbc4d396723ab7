"""Where the fields of a form are on a scan or photo of a filled sheet: turned, shifted, scaled, or in perspective.

Features of the form are matched with those of the sheet (D. Lowe, "Distinctive Image Features from Scale-Invariant
Keypoints", 2004) for a first homography. Then corners of the form are tracked to their places on the sheet (B. Lucas,
T. Kanade, 1981) for a precise one, and for how the paper bends.
"""

from typing import NamedTuple

import cv2
import numpy as np

from digits.cli import UsageError

WORKING_PIXELS = 1_000_000, 3_000_000  # pictures are reduced to the first; to the second, if that fails
LIGHT_PIXELS, WIDER_THAN_STROKES = 1_000_000, 15  # of a reduced copy
WHITE = 250
FEATURES, MIN_MATCHES = 3000, 12
RATIO = 0.8  # of the distances of the best and the second best match, at most
CORNERS = 1200  # of the form, that are tracked
NEAR = 2.0  # pixels of the reduced form, between a corner and its place by the homography
DARK = 0.4  # what is printed, as a share of black on white
MIN_FOUND = 0.6  # share of what is printed on the form that must be found on the sheet
BEND = 25.0  # pixels of the reduced form, by which bent paper may move a corner from there
MIN_CORNERS, AGREE = 6, 0.7  # corners of a field, and the share of them that must agree, before it counts as bent
MAX_FIELD = 700_000  # pixels
MAX_ASPECT = 2.0  # of the sides of a pixel of the form on the sheet


class NotAligned(UsageError):
    """The sheet does not show the form; the message says why, in one line."""


class Reference(NamedTuple):
    """A form, and what of it is searched for on sheets."""

    picture: np.ndarray  # uint8 H×W×3, without shadows
    level: np.ndarray  # uint8 h×w, the picture reduced to WORKING_PIXELS
    scale: float  # size of the reduced form / size of the form
    keypoints: np.ndarray  # float32 n×2, x and y in the reduced form
    descriptors: np.ndarray  # float32 n×128
    corners: np.ndarray  # float32 n×1×2, x and y in the reduced form


class Aligned(NamedTuple):
    """Where the points of a form are on a sheet."""

    matrix: np.ndarray  # float64 3×3, homography from pixels of the form to pixels of the sheet
    corners: np.ndarray  # float n×2, corners that were tracked, in pixels of the form
    moves: np.ndarray  # float n×2, how far they are from where the homography has them, in pixels of the form


def reduced(picture, pixels):
    """Return (a picture, uint8 H×W×3, of at most so many pixels; its size / the size before)."""
    scale = min(1.0, (pixels / (picture.shape[0] * picture.shape[1])) ** 0.5)
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), scale


def without_shadows(picture):
    """A picture of paper, uint8 H×W×3, in the light that it would have without shadows: paper becomes white.

    The light is what a morphological closing, wider than strokes, leaves of a reduced copy.
    """
    small, _ = reduced(picture, LIGHT_PIXELS)
    light = cv2.morphologyEx(small, cv2.MORPH_CLOSE, np.ones((WIDER_THAN_STROKES, WIDER_THAN_STROKES)))
    light = cv2.resize(cv2.GaussianBlur(light, (0, 0), 2), picture.shape[1::-1])
    return cv2.divide(picture, light, scale=WHITE)


def reference(form):
    """The Reference of a form, uint8 H×W×3 without_shadows(). Raises UsageError if there is too little on it."""
    small, scale = reduced(form, WORKING_PIXELS[0])
    level = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    keypoints, descriptors = _features(level)
    if len(keypoints) < MIN_MATCHES:
        raise UsageError("has too little printed on it to find it on a sheet; the form needs some text or lines")
    corners = cv2.goodFeaturesToTrack(level, CORNERS, 0.02, 5)
    return Reference(form, level, scale, keypoints, descriptors, corners)


def align(form, sheet):
    """Return where a Reference is on a sheet, uint8 H×W×3 without_shadows(), as Aligned. Raises NotAligned."""
    for pixels in WORKING_PIXELS:
        try:
            small, scale = reduced(sheet, pixels)
            return _align(form, cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), scale)
        except NotAligned as error:
            reason = error
    raise reason


def cut_out(form, sheet, aligned, box, margin=0):
    """Return the box x, y, width, height of a form, and a margin around it, as it is on a sheet and on the form.

    form, sheet: uint8 H×W×3. Both results are uint8 h×w×3, as fine as the sheet, but have MAX_FIELD pixels at most.
    """
    x, y, width, height = box
    scale = _scale_at(aligned.matrix, x + width / 2, y + height / 2)
    scale = min(scale, (MAX_FIELD / ((width + 2 * margin) * (height + 2 * margin))) ** 0.5)
    size = round(scale * (width + 2 * margin)), round(scale * (height + 2 * margin))
    bend = _bend_at(aligned, [x + width / 2, y + height / 2], [width / 2 + 20, height / 2 + 20])
    to_form = np.array([[1 / scale, 0, x - margin], [0, 1 / scale, y - margin], [0, 0, 1]])
    to_sheet = aligned.matrix @ (to_form + np.pad(bend[:, None], ((0, 1), (2, 0))))
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpPerspective(sheet, to_sheet, size, **how), cv2.warpPerspective(form, to_form, size, **how)


def _bend_at(aligned, centre, reach):
    """How far bent paper moves a part of a form, float 2, in its pixels: the median of corners there, if most agree."""
    moves = aligned.moves[(np.abs(aligned.corners - centre) < reach).all(1)]
    if len(moves) < MIN_CORNERS:
        return np.zeros(2)
    median = np.median(moves, axis=0)
    agree = np.abs(moves - median).max(1) < NEAR
    return median if agree.mean() > AGREE else np.zeros(2)


def _align(form, level, scale):
    keypoints, descriptors = _features(level)
    pairs = cv2.BFMatcher().knnMatch(form.descriptors, descriptors, k=2) if len(keypoints) > 1 else []
    matches = [best for best, second in pairs if best.distance < RATIO * second.distance]
    if len(matches) < MIN_MATCHES:
        raise NotAligned("the form is not found on it")
    ends = form.keypoints[[m.queryIdx for m in matches]], keypoints[[m.trainIdx for m in matches]]
    matrix = _homography(*ends, 3.0)
    corners, moves = form.corners.reshape(-1, 2), np.zeros((0, 2))
    for _ in range(2):
        seen = cv2.warpPerspective(level, matrix, form.level.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        tracked, status, _ = cv2.calcOpticalFlowPyrLK(
            form.level, seen, form.corners, None, winSize=(15, 15), maxLevel=2
        )
        places, found = tracked.reshape(-1, 2), status.ravel() > 0
        if found.sum() < MIN_MATCHES:
            raise NotAligned("the form is not found on it")
        correction = _homography(corners[found], places[found], NEAR)
        matrix = matrix @ correction
        moves = places[found] - cv2.perspectiveTransform(corners[found, None], correction)[:, 0]
    near = np.abs(moves).max(1) < BEND
    seen = cv2.warpPerspective(level, matrix, form.level.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    share = _share_found(form.level, seen)
    if share < MIN_FOUND:
        raise NotAligned("it is another form")
    to_form, from_level = np.diag([form.scale, form.scale, 1]), np.diag([1 / scale, 1 / scale, 1])
    return Aligned(from_level @ matrix @ to_form, corners[found][near] / form.scale, moves[near] / form.scale)


def _features(level):
    """Return (float32 n×2 places, float32 n×128 descriptors) of features."""
    keypoints, descriptors = cv2.SIFT_create(FEATURES, contrastThreshold=0.03).detectAndCompute(level, None)
    return np.float32([keypoint.pt for keypoint in keypoints]).reshape(-1, 2), descriptors


def _homography(ends, others, near):
    """The homography from points to others, float32 n×2, that most of them fit. Raises NotAligned."""
    matrix, fits = cv2.findHomography(ends, others, cv2.USAC_MAGSAC, near)
    if matrix is None or fits.sum() < MIN_MATCHES or not _is_possible(matrix, ends[fits.ravel() > 0]):
        raise NotAligned("the form is not found on it")
    return matrix


def _is_possible(matrix, points):
    """Whether a homography shows the area of points as a photo of paper can."""
    middle = points.mean(0)
    corners = np.stack([points.min(0), points.max(0), middle]).astype(float)
    jacobians = [_jacobian(matrix, x, y) for x, y in corners]
    sides = np.array([np.linalg.svd(one, compute_uv=False) for one in jacobians])
    mirrored = any(np.linalg.det(one) <= 0 for one in jacobians)
    return not mirrored and (sides[:, 0] < MAX_ASPECT * sides[:, 1]).all() and np.ptp(np.log(sides[:, 0])) < np.log(3)


def _jacobian(matrix, x, y):
    """How a homography changes small steps from a point."""
    u, v, w = matrix @ [x, y, 1]
    return (matrix[:2, :2] - np.outer([u, v], matrix[2, :2]) / w) / w


def _scale_at(matrix, x, y):
    return float(np.sqrt(abs(np.linalg.det(_jacobian(matrix, x, y)))))


def _share_found(form, seen):
    """The share of what is printed on a form that is also on a sheet, less what is there by chance; uint8 h×w both."""
    printed = form < 255 * (1 - DARK)
    dark = cv2.dilate((seen < 255 * (1 - DARK / 2)).astype(np.uint8), np.ones((3, 3)))
    by_chance = float(dark.mean())
    return (float(dark[printed].mean()) - by_chance) / (1 - by_chance) if printed.any() and by_chance < 1 else 0.0
