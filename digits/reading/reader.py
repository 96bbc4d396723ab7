"""Picture + model -> reading: which digits are in this picture? `from digits import read` is this read()."""

from functools import lru_cache
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits import runtimes
from digits.cli import UsageError
from digits.model import DEFAULT_THRESHOLD, default_classes, describe, digit_score, find_default, load
from digits.reading.candidates import Candidate, find_candidates
from digits.reading.image_file import MAX_PIXELS, WORKING_PIXELS, PictureError, open_picture
from digits.reading.normalization import resize_whole
from digits.reading.segmentation import FormField

SMALL_WRITING = 40  # pixels; if digits are no higher, or none is found, a picture that was reduced is reduced less
FINE_PIXELS = 4_000_000  # to this
THRESHOLD_IN_NUMBER = 0.4  # of the digit score, for a digit among others
SIGN_QUALITY = 0.2  # of a sign among the digits of a line, such as a comma that may be the second stroke of a 4
MAX_SCORE_LEFT_OUT = 0.9  # where the number of digits is known: digit score of a mark that may be left out,
MAX_LOSS = 1.0  # how much less likely a reading with that number may be, in natural logarithms,
MIN_MEAN_QUALITY = 0.5  # and confidence × digit score of its digits
BATCH = 500  # images that the network takes at a time


class ReadDigit(NamedTuple):
    """One digit of a picture, as the network reads it."""

    digit: str  # the most likely class
    confidence: float  # its probability, 0-1
    digit_score: float  # 0-1, how surely this is a digit at all
    box: tuple  # x, y, width, height in the upright picture, in its pixels
    line: int  # line of writing, from the top, 0 for the first
    probabilities: dict  # class name -> probability, 0-1
    image: np.ndarray  # uint8 28×28×1, what the network saw: 0 background, 255 ink

    def __repr__(self):
        return _in_short(self, "digit", "confidence", "digit_score", "box", "line")


class Reading(NamedTuple):
    """The result of reading a picture. Fields describe the main digit unless they say otherwise."""

    prediction: str | None  # the most likely class; None if no ink was found
    confidence: float  # its probability, 0-1; 0.0 if no ink was found
    probabilities: dict  # class name -> probability, 0-1; all 0.0 if no ink was found
    is_digit: bool  # whether digit_score reaches the model's threshold
    digit_score: float  # 0-1, how surely this is a digit at all; 0.0 if no ink was found
    number: str  # all digits in the order in which they are read, lines joined by "_"
    text: str  # the number with its signs, such as "43.65"
    digits: list  # of ReadDigit, in the same order
    refused: list  # of ReadDigit: marks in line with digits that are neither digits nor signs
    image: np.ndarray | None  # uint8 28×28×1, what the network saw: 0 background, 255 ink
    box: tuple | None  # x, y, width, height of the digit in the upright picture, in its pixels

    def __repr__(self):
        return _in_short(self, "text", "prediction", "confidence", "is_digit", "digit_score", "digits", "refused")


def _in_short(result, *names):
    """The repr of a result with these fields only: the images would fill the screen."""
    return f"{type(result).__name__}({', '.join(f'{name}={getattr(result, name)!r}' for name in names)}, ...)"


class Segmented(NamedTuple):
    """A picture before the network has seen it."""

    candidates: list  # of candidates.Candidate, their boxes in pixels of the upright picture
    part: tuple  # x, y, width, height of the part that was read, in the same pixels
    digits: int | None = None  # how many digits a line has, if that is known


def read(picture, model=None, box=None, digits=None):
    """Return the Reading of a picture.

    picture: path, bytes, open binary file, PIL image, or uint8 array (H×W or H×W×3); any size, mode and polarity.
    model: path of a model file that train.py or extras/export.py wrote (opened once and remembered), or a Keras model;
    None: mnist_cnn.keras of the current folder, else the one that comes with the project.
    box: x, y, width, height of the part to read, in pixels of the upright picture; None: all of it.
    digits: how many digits each line has; the best reading with as many is chosen if one fits. None: not known.
    Raises ValueError, with a message of one line, if the picture or the model cannot be used.
    """
    if digits is not None and not (isinstance(digits, int) and digits > 0):
        raise UsageError(f"digits: {digits!r} is not a number of digits, such as 5; None: not known")
    model = find_default() if model is None else model
    whole = isinstance(model, (str, Path)) and not describe(model).segment
    try:  # segmented first, so that a bad picture is known before TensorFlow is loaded
        segmented = segment(picture, box, whole=whole, digits=digits)
    except PictureError as error:
        name = f"{picture}: " if isinstance(picture, (str, Path)) else ""
        raise PictureError(f"{name}{error}") from None
    return classify([segmented], model)[0]


def preprocess(picture, box=None, page=0, limit=MAX_PIXELS, whole=False, field=FormField()):
    """Return (uint8 H×W×3 pixels in which digits were searched, factor of reduction, size before, Candidates)."""
    pixels, factor, size = open_picture(picture, box, page, WORKING_PIXELS, limit)
    if whole:
        image_and_box = resize_whole(pixels)
        return pixels, factor, size, [Candidate(*image_and_box)] if image_and_box else []
    candidates = find_candidates(pixels, field)
    heights = [candidate.box[3] for candidate in candidates if candidate.sign is None]
    if factor > 1 and (not heights or np.median(heights) < SMALL_WRITING):
        pixels, factor, size = open_picture(picture, box, page, FINE_PIXELS, limit)
        candidates = find_candidates(pixels, field)
    return pixels, factor, size, candidates


def segment(picture, box=None, page=0, limit=MAX_PIXELS, whole=False, digits=None, field=FormField()):
    """The first half of read(), without the network: return the Segmented picture.

    page: of a TIFF, from 0. limit: pixels; a larger picture is refused. whole: use it as one image, without searching
    it for writing. digits: see read(). field: what is known if the picture is a field of a form; what is in one of
    its cells is a digit. Raises PictureError.
    """
    try:
        _, factor, (height, width), candidates = preprocess(picture, box, page, limit, whole, field)
    except MemoryError:
        raise PictureError("there is not enough memory for this picture") from None
    part = box or (0, 0, width, height)
    if field.cells and not digits and all(one.stop == one.start + 1 for one in candidates):
        digits = len(candidates) or None
    return Segmented([one._replace(box=_box_in_picture(one.box, factor, part)) for one in candidates], part, digits)


def _box_in_picture(box, factor, part):
    """A box in pixels of the reduced part of a picture, in pixels of the picture."""
    x, y, width, height = (side * factor for side in box)
    return part[0] + x, part[1] + y, min(width, part[2] - x), min(height, part[3] - y)


def classify(pictures, model):
    """The second half of read(): return the Reading of each Segmented picture; the network sees them together."""
    if isinstance(model, (str, Path)):
        network, classes, threshold, _ = load(model)
    else:
        network, classes, threshold = model, default_classes(model.output_shape[-1]), DEFAULT_THRESHOLD
    images = [candidate.image for picture in pictures for candidate in picture.candidates]
    probabilities = predict(network, np.stack(images)) if images else np.zeros((0, len(classes)))
    parts = np.split(probabilities, np.cumsum([len(picture.candidates) for picture in pictures]))[:-1]
    return [_reading(picture, part, classes, threshold) for picture, part in zip(pictures, parts, strict=True)]


def _reading(picture, probabilities, classes, threshold):
    """The Reading of a Segmented picture; probabilities: N×classes, of its candidates."""
    candidates, (left, top, width, height), count = picture
    if not candidates:
        return Reading(None, 0.0, dict.fromkeys(classes, 0.0), False, 0.0, "", "", [], [], None, None)
    scores = digit_score(probabilities)
    may_be_digit = [candidate.sign is None for candidate in candidates]
    quality = np.where(may_be_digit, probabilities.max(1) * scores, SIGN_QUALITY)
    found = [  # (ReadDigit, whether it is a digit, Candidate)
        (_read_digit(candidates[index], probabilities[index], scores[index], classes), is_digit, candidates[index])
        for index, is_digit in _choose(candidates, quality, scores, threshold, count)
    ]
    marks = [one for one in found if one[2].sign is None]
    digits = [mark for mark, is_digit, _ in marks if is_digit]
    lines = list(dict.fromkeys(digit.line for digit in digits))
    others = [one for one in found if not one[1] and one[0].line in lines]
    knows_signs = all(name.isdecimal() for name in classes)
    signs = [mark._replace(digit=one.sign) for mark, _, one in others if one.sign and knows_signs]
    refused = [mark for mark, _, one in others if not (one.sign and knows_signs)]
    tallest = max(mark.box[3] for mark, _, _ in marks)

    def rank(one):  # the most central digit first; one that is clipped, small or no digit if there is nothing else
        mark, is_digit, candidate = one
        x, y, w, h = mark.box
        right, down = (x - left + w / 2) / width - 0.5, (y - top + h / 2) / height - 0.5
        return not is_digit, h < 0.4 * tallest, not candidate.complete, right**2 + down**2

    main, is_digit, _ = min(marks, key=rank)
    separator = "" if max(map(len, classes)) == 1 else " "
    return Reading(
        prediction=main.digit,
        confidence=main.confidence,
        probabilities=main.probabilities,
        is_digit=is_digit,
        digit_score=main.digit_score,
        number=_text(digits, lines, separator),
        text=_text(_with_signs(digits, signs), lines, separator),
        digits=digits,
        refused=refused,
        image=main.image,
        box=main.box,
    )


def _choose(candidates, quality, scores, threshold, count):
    """(index, whether it is a digit) of the candidates that read all lines best, in order, and of marks beside them."""
    in_line = [index for index, candidate in enumerate(candidates) if candidate.stop > candidate.start]
    writing = [list(line) for _, line in groupby(in_line, lambda index: candidates[index].line)]
    for words in (False, True):
        chosen = [_read_line(candidates, quality, scores, line, threshold, count, words) for line in writing]
        if count is None or any(is_digit for line in chosen for _, is_digit in line):
            break
    beside = [index for index, candidate in enumerate(candidates) if candidate.stop == candidate.start]
    return [*chain(*chosen), *((index, False) for index in beside)]


def _with_signs(digits, signs):
    """The ReadDigits of digits, in their order, with each sign before the first digit to its right."""
    marks = list(digits)
    for sign in sorted(signs, key=_centre):
        behind = (i for i, mark in enumerate(marks) if mark.line == sign.line and _centre(mark) > _centre(sign))
        marks.insert(next(behind, len(marks)), sign)
    return marks


def _centre(mark):
    return mark.box[0] + mark.box[2] / 2


def _text(marks, lines, separator):
    """The digits and signs of ReadDigits, in this order; lines are joined by "_"."""
    return "_".join(separator.join(mark.digit for mark in marks if mark.line == line) for line in lines)


def _read_digit(candidate, probabilities, score, classes):
    best = int(probabilities.argmax())
    return ReadDigit(
        digit=classes[best],
        confidence=float(probabilities[best]),
        digit_score=float(score),
        box=candidate.box,
        line=candidate.line,
        probabilities=dict(zip(classes, map(float, probabilities), strict=True)),
        image=candidate.image,
    )


def _read_line(candidates, quality, scores, line, threshold, count, words):
    """(index, whether it is a digit) of the candidates that read a line best, in order.

    count: how many digits it has, None if that is not known. words: whether what looks like a word may have them.
    """
    sum_of_logs, chosen = _best_path(candidates, quality, line)
    may_be = [index for index in chosen if candidates[index].sign is None]
    accepted = dict(zip(may_be, _accept(scores[may_be], threshold).tolist(), strict=True))
    marks = [(index, accepted.get(index, False)) for index in chosen]
    found = sum(is_digit for _, is_digit in marks)
    if count in (None, found) or not (found or words):
        return marks
    sum_with_count, fitting = _best_path_of(count, candidates, quality, scores, line)
    digits = [quality[index] for index, is_digit in fitting if is_digit]
    fits = sum_with_count >= sum_of_logs - MAX_LOSS and np.mean(digits) >= MIN_MEAN_QUALITY
    return fitting if fits else marks


def _best_path(candidates, quality, line):
    """Return (sum of logarithms, indices) of the candidates that together read a line best, in order.

    line: indices of all that are in it. A line is a row of fragments, and a candidate covers some of them. Of all ways
    to cover the row, the one with the largest product of qualities and priors is taken (R. Casey, E. Lecolinet, "A
    Survey of Methods and Strategies in Character Segmentation", 1996).
    """
    best = {0: (0.0, [])}  # number of fragments covered -> (sum of logarithms, indices)
    for index in sorted(line, key=lambda index: candidates[index].stop):
        start, stop, prior = candidates[index].start, candidates[index].stop, candidates[index].prior
        sum_of_logs = best[start][0] + np.log(max(float(quality[index]), 0.01) * prior)
        if stop not in best or sum_of_logs > best[stop][0]:
            best[stop] = sum_of_logs, [*best[start][1], index]
    return best[max(best)]


def _best_path_of(count, candidates, quality, scores, line):
    """As _best_path() with exactly so many digits: (sum of logarithms, (index, whether it is a digit) in order).

    The other candidates of the path are marks that are no digits, the likelier the lower their digit score. The sum is
    minus infinity if there is no such path.
    """
    best = {(0, 0): (0.0, [])}  # numbers of fragments covered and of digits -> (sum of logarithms, marks)
    for index in sorted(line, key=lambda index: candidates[index].stop):
        start, stop, prior = candidates[index].start, candidates[index].stop, candidates[index].prior
        if candidates[index].sign is None:
            ways = [(True, quality[index])] + [(False, 1 - scores[index])] * bool(scores[index] < MAX_SCORE_LEFT_OUT)
        else:
            ways = [(False, quality[index])]
        for digits in range(count + 1):
            for is_digit, chance in ways if (start, digits) in best else ():
                sum_of_logs, marks = best[start, digits]
                sum_of_logs += np.log(max(float(chance), 0.01) * prior)
                key = stop, digits + is_digit
                if key not in best or sum_of_logs > best[key][0]:
                    best[key] = sum_of_logs, [*marks, (index, is_digit)]
    return best.get((max(best)[0], count), (-np.inf, []))


def _accept(scores, threshold):
    """Which marks of a line are digits, bool N: those that reach the threshold, corrected by the others."""
    is_digit = scores >= threshold
    if len(scores) > 2 and scores.mean() < 0.9 and is_digit.mean() < 0.65:
        return np.zeros_like(is_digit)  # a word, in which some letters look like digits
    if len(scores) > 1 and is_digit.mean() >= 0.5:
        return scores >= min(threshold, THRESHOLD_IN_NUMBER)  # a number: what is hardly legible is a digit, too
    return is_digit


def predict(network, images):
    """Probabilities, float32 N×classes, for images, uint8 N×28×28×1."""
    run = network if isinstance(network, runtimes.Exported) else _compiled(network)
    probabilities = []
    for start in range(0, len(images), BATCH):  # so that a page full of writing does not fill the memory
        pixels = images[start : start + BATCH].astype(np.float32)
        probabilities.append(run(np.repeat(pixels, network.input_shape[-1], axis=-1)))
    return np.concatenate(probabilities)


@lru_cache(maxsize=4)
def _compiled(network):
    """The network as a graph, which takes a sixth of the time for one image."""
    import tensorflow as tf

    pixels = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    return tf.function(network, [pixels], autograph=False)  # autograph would only make the first call slower
