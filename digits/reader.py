"""The front door for other programs: which digit is in this picture?

>>> from digits.reader import read
>>> reading = read("samples/5.png", "mnist_cnn.keras")
>>> reading.prediction, reading.confidence
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits.console import UserError, import_tensorflow
from digits.image_file import MOST_PIXELS, WORKING_PIXELS, PictureError, open_picture
from digits.picture import find_digits

SMALL_WRITING = 40  # pixels; where ink is no higher, or none is found, a picture that was reduced is reduced less
FINE_PIXELS = 4_000_000  # to this
IN_NUMBER = 0.4  # what the digit score must reach among other digits
BLOCK = 500  # images that the network takes at a time
USUAL_THRESHOLD = 0.5  # of the digit score, for a model that has none of its own


class ReadDigit(NamedTuple):
    """One digit of a picture, and what the network says of it."""

    digit: str  # the most likely class
    confidence: float  # its probability, 0-1
    digit_score: float  # 0-1, how surely this is a digit at all
    box: tuple  # x, y, width, height in the upright picture, in its pixels
    line: int  # line of writing, from the top, 0 for the first
    probabilities: dict  # class name -> probability, 0-1
    image: np.ndarray  # uint8 28×28×1, what the network saw: 0 background, 255 ink


class Reading(NamedTuple):
    """What the network says of a picture; of the main digit where nothing else is said."""

    prediction: str | None  # the most likely class; None where no ink was found
    confidence: float  # its probability, 0-1; 0.0 where no ink was found
    probabilities: dict  # class name -> probability, 0-1; all 0.0 where no ink was found
    is_digit: bool  # whether digit_score reaches the model's threshold
    digit_score: float  # 0-1, how surely this is a digit at all; 0.0 where no ink was found
    number: str  # all digits in the order in which they are read, lines joined by "_"
    digits: list  # of ReadDigit, in the same order
    refused: list  # of ReadDigit: what stands in line with digits and was not taken for one
    image: np.ndarray | None  # uint8 28×28×1, what the network saw: 0 background, 255 ink
    box: tuple | None  # x, y, width, height of the digit in the upright picture, in its pixels


def read(picture, model, box=None):
    """Read the digits in a picture.

    picture: path, bytes, open binary file, PIL image, or uint8 array (H×W or H×W×3); any size, mode and polarity.
    model: path of a model file that train.py wrote (opened once and remembered), or a Keras model.
    box: x, y, width, height of the part to read, in pixels of the upright picture; None: all of it.
    Raises ValueError, with a message of one line, if the picture or the model cannot be used.
    """
    found = find(picture, box)  # first, so that a wrong picture is known before TensorFlow is imported
    return judge([found], model)[0]


def look(picture, box=None, page=0, limit=MOST_PIXELS):
    """The pixels in which digits are looked for, and what is found: (uint8 H×W×3, factor, size before, Candidates)."""
    pixels, factor, size = open_picture(picture, box, page, WORKING_PIXELS, limit)
    candidates = find_digits(pixels)
    if factor > 1 and (not candidates or np.median([c.box[3] for c in candidates]) < SMALL_WRITING):
        pixels, factor, size = open_picture(picture, box, page, FINE_PIXELS, limit)
        candidates = find_digits(pixels)
    return pixels, factor, size, candidates


def find(picture, box=None, page=0, limit=MOST_PIXELS):
    """The first half of read(), without the network: (Candidates, factor, size, corner).

    page: of a TIFF, from 0. limit: pixels; a picture that has more is refused. Raises PictureError.
    """
    try:
        _, factor, size, candidates = look(picture, box, page, limit)
    except MemoryError:
        raise PictureError("there is not enough memory for this picture") from None
    return candidates, factor, size, (box or (0, 0))[:2]


def judge(found, model):
    """The second half of read(): the Reading of each of several pictures; the network sees them together."""
    if isinstance(model, (str, Path)):
        network, classes, threshold = load_model(model)
    else:
        network, classes, threshold = model, [str(index) for index in range(model.output_shape[-1])], USUAL_THRESHOLD
    images = [candidate.image for candidates, *_ in found for candidate in candidates]
    probabilities = predict(network, np.stack(images)) if images else np.zeros((0, len(classes)))
    readings, start = [], 0
    for candidates, factor, size, corner in found:
        mine = probabilities[start : start + len(candidates)]
        start += len(candidates)
        readings.append(_reading(candidates, mine, classes, threshold, factor, size, corner))
    return readings


def digit_score(probabilities):
    """How surely each is a digit, 0-1, from probabilities N×classes.

    Where there is none, the network was taught to give each class the same probability. So what the two likeliest
    (it may be a 4 or a 9, but it is a digit) do not have is that share of "no digit" that fell to the others.
    """
    classes = probabilities.shape[1]
    if classes < 3:
        return probabilities.max(1)
    best = np.sort(probabilities, axis=1)[:, -2:].sum(1)
    return np.clip((best - 2 / classes) / (1 - 2 / classes), 0, 1)


def _reading(candidates, probabilities, classes, threshold, factor, size, corner):
    if not candidates:
        return Reading(None, 0.0, dict.fromkeys(classes, 0.0), False, 0.0, "", [], [], None, None)
    scores = digit_score(probabilities)
    chosen = _cut_best(candidates, probabilities.max(1) * scores)
    is_digit = _accept(candidates, chosen, scores, threshold)
    all_read = {}
    for i in chosen:
        best = int(probabilities[i].argmax())
        all_read[i] = ReadDigit(
            classes[best],
            float(probabilities[i][best]),
            float(scores[i]),
            _enlarged(candidates[i].box, factor, size, corner),
            candidates[i].line,
            dict(zip(classes, map(float, probabilities[i]), strict=True)),
            candidates[i].image,
        )
    main = _main(all_read, is_digit, candidates, size, corner)
    digits = [all_read[i] for i in chosen if is_digit[i]]
    lines = sorted({digit.line for digit in digits})
    refused = [all_read[i] for i in chosen if not is_digit[i] and candidates[i].line in lines]
    number = "_".join("".join(digit.digit for digit in digits if digit.line == line) for line in lines)
    read = all_read[main]
    return Reading(
        read.digit, read.confidence, read.probabilities, bool(is_digit[main]), read.digit_score, number, digits,
        refused, read.image, read.box,
    )  # fmt: skip


def _cut_best(candidates, quality):
    """The places of the candidates that together read each line best, in order.

    A line is a row of pieces, and a candidate covers some. Of all ways to cover the row, the one whose candidates
    have the largest product of qualities and priors is taken (R. Casey, E. Lecolinet, "A Survey of Methods and
    Strategies in Character Segmentation", 1996).
    """
    chosen = []
    for line in sorted({candidate.line for candidate in candidates}):
        best = {0: (0.0, [])}
        mine = [i for i, candidate in enumerate(candidates) if candidate.line == line]
        for i in sorted(mine, key=lambda i: candidates[i].stop):
            start, stop = candidates[i].start, candidates[i].stop
            sum_of_logs = best[start][0] + np.log(max(float(quality[i]), 0.01) * candidates[i].prior)
            if stop not in best or sum_of_logs > best[stop][0]:
                best[stop] = (sum_of_logs, best[start][1] + [i])
        chosen += best[max(best)][1]
    return chosen


def _accept(candidates, chosen, scores, threshold):
    """Which are digits, bool N: those that reach the threshold, and what stands in line with them tells more."""
    is_digit = scores >= threshold
    for line in {candidates[i].line for i in chosen}:
        mine = np.array([i for i in chosen if candidates[i].line == line])
        mean, share = scores[mine].mean(), is_digit[mine].mean()
        if len(mine) > 2 and mean < 0.9 and share < 0.65:  # a word, in which some letters look like digits
            is_digit[mine] = False
        elif len(mine) > 1 and share >= 0.5:  # a number: what is hardly legible is a digit, too
            is_digit[mine] = scores[mine] >= min(threshold, IN_NUMBER)
    return is_digit


def _enlarged(box, factor, size, corner):
    """A box in pixels of the reduced picture, in pixels of the picture before, of that height and width."""
    x, y, width, height = (side * factor for side in box)
    left, top, right, bottom = round(x), round(y), min(round(x + width), size[1]), min(round(y + height), size[0])
    return left + corner[0], top + corner[1], right - left, bottom - top


def _main(all_read, is_digit, candidates, size, corner):
    """The most central whole digit; one that the edge cuts off, or what is no digit, only where nothing else is."""
    height, width = size
    tallest = max(read.box[3] for read in all_read.values())

    def order(i):
        x, y, w, h = all_read[i].box
        away = ((x - corner[0] + w / 2) / width - 0.5) ** 2 + ((y - corner[1] + h / 2) / height - 0.5) ** 2
        return (not is_digit[i], h < 0.4 * tallest, not candidates[i].whole, away)

    return min(all_read, key=order)


def as_json(reading):
    """A Reading as a dict that json can write."""
    keys = ("prediction", "confidence", "probabilities", "is_digit", "digit_score", "number")
    digits = [
        {"digit": d.digit, "confidence": d.confidence, "digit_score": d.digit_score, "box": list(d.box)}
        for d in reading.digits
    ]
    return {key: getattr(reading, key) for key in keys} | {"digits": digits}


def load_model(path):
    """Return (Keras model, class names, threshold) of a model file; read once, and again when it has changed.

    The class names and the threshold of the digit score come from the .json beside it; without one they are 0 … n-1
    and USUAL_THRESHOLD. Raises ValueError.
    """
    path = Path(path)
    description = path.with_suffix(".json")
    times = [file.stat().st_mtime_ns if file.exists() else None for file in (path, description)]
    return _load_model(path, description, *times)


@lru_cache(maxsize=4)
def _load_model(path, description, *times):
    import_tensorflow()
    from digits import model

    network = model.load(path)
    return network, *about(description, network.output_shape[-1])


def about(description, count):
    """The class names and the threshold in a model's .json, or the usual ones without. Raises ValueError."""
    if not description.exists():
        return [str(index) for index in range(count)], USUAL_THRESHOLD
    try:
        content = json.loads(description.read_text(encoding="utf-8"))
        classes, threshold = content["classes"], float(content.get("threshold", USUAL_THRESHOLD))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{description}: damaged ({error}); delete it, or train the model again") from error
    if not isinstance(classes, list) or len(classes) != count or not all(isinstance(name, str) for name in classes):
        raise UserError(f"{description}: does not name the {count} classes of the model beside it; train it again")
    return classes, threshold


def predict(network, images):
    """Probabilities, float32 N×classes, for images, uint8 N×28×28×1."""
    blocks = []
    for start in range(0, len(images), BLOCK):  # so that a page full of writing does not fill the memory
        pixels = images[start : start + BLOCK].astype(np.float32)
        blocks.append(np.asarray(_compiled(network)(np.repeat(pixels, network.input_shape[-1], axis=-1))))
    return np.concatenate(blocks)


@lru_cache(maxsize=4)
def _compiled(network):
    """The network as a graph, which answers for one image in a sixth of the time."""
    import tensorflow as tf

    pixels = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    return tf.function(network, [pixels], autograph=False)  # autograph would only make the first call slower
