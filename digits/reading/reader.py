"""Picture + model -> reading: which digits are in this picture? `from digits import read` is this read()."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits import runtimes
from digits.model import DEFAULT_THRESHOLD, default_classes, describe, digit_score, load
from digits.reading import segmentation
from digits.reading.image_file import MAX_PIXELS, WORKING_PIXELS, PictureError, open_picture
from digits.reading.normalization import resize_whole
from digits.reading.segmentation import Candidate

SMALL_WRITING = 40  # pixels; if digits are no higher, or none is found, a picture that was reduced is reduced less
FINE_PIXELS = 4_000_000  # to this
THRESHOLD_IN_NUMBER = 0.4  # of the digit score, for a digit among others
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


class Reading(NamedTuple):
    """The result of reading a picture. Fields describe the main digit unless they say otherwise."""

    prediction: str | None  # the most likely class; None if no ink was found
    confidence: float  # its probability, 0-1; 0.0 if no ink was found
    probabilities: dict  # class name -> probability, 0-1; all 0.0 if no ink was found
    is_digit: bool  # whether digit_score reaches the model's threshold
    digit_score: float  # 0-1, how surely this is a digit at all; 0.0 if no ink was found
    number: str  # all digits in the order in which they are read, lines joined by "_"
    digits: list  # of ReadDigit, in the same order
    refused: list  # of ReadDigit: marks in line with digits that are non-digits
    image: np.ndarray | None  # uint8 28×28×1, what the network saw: 0 background, 255 ink
    box: tuple | None  # x, y, width, height of the digit in the upright picture, in its pixels


class Segmented(NamedTuple):
    """A picture before the network has seen it."""

    candidates: list  # of segmentation.Candidate
    factor: int  # by which the picture was reduced
    size: tuple  # height and width before, in pixels
    corner: tuple  # x, y of the part that was read, in pixels


def read(picture, model, box=None):
    """Return the Reading of a picture.

    picture: path, bytes, open binary file, PIL image, or uint8 array (H×W or H×W×3); any size, mode and polarity.
    model: path of a model file that train.py or extras/export.py wrote (opened once and remembered), or a Keras model.
    box: x, y, width, height of the part to read, in pixels of the upright picture; None: all of it.
    Raises ValueError, with a message of one line, if the picture or the model cannot be used.
    """
    whole = isinstance(model, (str, Path)) and not describe(model).segment
    segmented = segment(picture, box, whole=whole)  # first, so that a bad picture is known before TensorFlow is loaded
    return classify([segmented], model)[0]


def preprocess(picture, box=None, page=0, limit=MAX_PIXELS, whole=False):
    """Return (uint8 H×W×3 pixels in which digits were searched, factor of reduction, size before, Candidates)."""
    pixels, factor, size = open_picture(picture, box, page, WORKING_PIXELS, limit)
    if whole:
        image_and_box = resize_whole(pixels)
        return pixels, factor, size, [Candidate(*image_and_box)] if image_and_box else []
    candidates = segmentation.segment(pixels)
    if factor > 1 and (not candidates or np.median([c.box[3] for c in candidates]) < SMALL_WRITING):
        pixels, factor, size = open_picture(picture, box, page, FINE_PIXELS, limit)
        candidates = segmentation.segment(pixels)
    return pixels, factor, size, candidates


def segment(picture, box=None, page=0, limit=MAX_PIXELS, whole=False):
    """The first half of read(), without the network: return the Segmented picture.

    page: of a TIFF, from 0. limit: pixels; a larger picture is refused. whole: use it as one image, without searching
    it for writing. Raises PictureError.
    """
    try:
        _, factor, size, candidates = preprocess(picture, box, page, limit, whole)
    except MemoryError:
        raise PictureError("there is not enough memory for this picture") from None
    return Segmented(candidates, factor, size, (box or (0, 0))[:2])


def classify(pictures, model):
    """The second half of read(): return the Reading of each Segmented picture; the network sees them together."""
    if isinstance(model, (str, Path)):
        network, classes, threshold, _ = load(model)
    else:
        network, classes, threshold = model, default_classes(model.output_shape[-1]), DEFAULT_THRESHOLD
    images = [candidate.image for picture in pictures for candidate in picture.candidates]
    probabilities = predict(network, np.stack(images)) if images else np.zeros((0, len(classes)))
    readings, start = [], 0
    for picture in pictures:
        stop = start + len(picture.candidates)
        readings.append(_reading(picture, probabilities[start:stop], classes, threshold))
        start = stop
    return readings


def _reading(picture, probabilities, classes, threshold):
    candidates = picture.candidates
    if not candidates:
        return Reading(None, 0.0, dict.fromkeys(classes, 0.0), False, 0.0, "", [], [], None, None)
    scores = digit_score(probabilities)
    chosen = _best_path(candidates, probabilities.max(1) * scores)
    is_digit = _accept(candidates, chosen, scores, threshold)
    read = {i: _read_digit(picture, i, probabilities[i], scores[i], classes) for i in chosen}
    main = _main(read, is_digit, picture)
    digits = [read[i] for i in chosen if is_digit[i]]
    lines = sorted({digit.line for digit in digits})
    separator = "" if max(map(len, classes)) == 1 else " "
    return Reading(
        prediction=read[main].digit,
        confidence=read[main].confidence,
        probabilities=read[main].probabilities,
        is_digit=bool(is_digit[main]),
        digit_score=read[main].digit_score,
        number="_".join(separator.join(digit.digit for digit in digits if digit.line == line) for line in lines),
        digits=digits,
        refused=[read[i] for i in chosen if not is_digit[i] and candidates[i].line in lines],
        image=read[main].image,
        box=read[main].box,
    )


def _read_digit(picture, index, probabilities, score, classes):
    candidate, best = picture.candidates[index], int(probabilities.argmax())
    return ReadDigit(
        digit=classes[best],
        confidence=float(probabilities[best]),
        digit_score=float(score),
        box=_box_in_picture(candidate.box, picture),
        line=candidate.line,
        probabilities=dict(zip(classes, map(float, probabilities), strict=True)),
        image=candidate.image,
    )


def _best_path(candidates, quality):
    """Indices of the candidates that together read each line best, in order.

    A line is a row of pieces, and a candidate covers some of them. Of all ways to cover the row, the one with the
    largest product of qualities and priors is taken (R. Casey, E. Lecolinet, "A Survey of Methods and Strategies in
    Character Segmentation", 1996).
    """
    chosen = []
    for line in sorted({candidate.line for candidate in candidates}):
        best = {0: (0.0, [])}
        in_line = [i for i, candidate in enumerate(candidates) if candidate.line == line]
        for i in sorted(in_line, key=lambda i: candidates[i].stop):
            start, stop = candidates[i].start, candidates[i].stop
            sum_of_logs = best[start][0] + np.log(max(float(quality[i]), 0.01) * candidates[i].prior)
            if stop not in best or sum_of_logs > best[stop][0]:
                best[stop] = (sum_of_logs, best[start][1] + [i])
        chosen += best[max(best)][1]
    return chosen


def _accept(candidates, chosen, scores, threshold):
    """Which candidates are digits, bool N: those that reach the threshold, corrected by the others in their line."""
    is_digit = scores >= threshold
    for line in {candidates[i].line for i in chosen}:
        in_line = np.array([i for i in chosen if candidates[i].line == line])
        mean, share = scores[in_line].mean(), is_digit[in_line].mean()
        if len(in_line) > 2 and mean < 0.9 and share < 0.65:  # a word, in which some letters look like digits
            is_digit[in_line] = False
        elif len(in_line) > 1 and share >= 0.5:  # a number: what is hardly legible is a digit, too
            is_digit[in_line] = scores[in_line] >= min(threshold, THRESHOLD_IN_NUMBER)
    return is_digit


def _box_in_picture(box, picture):
    """A box in pixels of the reduced picture, in pixels of the picture before."""
    x, y, width, height = (side * picture.factor for side in box)
    left, top = round(x), round(y)
    right, bottom = min(round(x + width), picture.size[1]), min(round(y + height), picture.size[0])
    return left + picture.corner[0], top + picture.corner[1], right - left, bottom - top


def _main(read, is_digit, picture):
    """Index of the most central digit; one that is clipped, small or no digit only if there is nothing else."""
    height, width = picture.size
    tallest = max(digit.box[3] for digit in read.values())

    def order(i):
        x, y, w, h = read[i].box
        right, down = (x - picture.corner[0] + w / 2) / width - 0.5, (y - picture.corner[1] + h / 2) / height - 0.5
        return (not is_digit[i], h < 0.4 * tallest, not picture.candidates[i].complete, right**2 + down**2)

    return min(read, key=order)


def predict(network, images):
    """Probabilities, float32 N×classes, for images, uint8 N×28×28×1."""
    run = network if isinstance(network, runtimes.Exported) else _compiled(network)
    batches = []
    for start in range(0, len(images), BATCH):  # so that a page full of writing does not fill the memory
        pixels = images[start : start + BATCH].astype(np.float32)
        batches.append(np.asarray(run(np.repeat(pixels, network.input_shape[-1], axis=-1))))
    return np.concatenate(batches)


@lru_cache(maxsize=4)
def _compiled(network):
    """The network as a graph, which takes a sixth of the time for one image."""
    import tensorflow as tf

    pixels = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    return tf.function(network, [pixels], autograph=False)  # autograph would only make the first call slower
