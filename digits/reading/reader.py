"""The front door for other programs: which digit is in this picture?

>>> from digits.reading.reader import read
>>> reading = read("samples/5.png", "mnist_cnn.keras")
>>> reading.prediction, reading.confidence
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits.cli import UsageError, check_model_file, import_tensorflow
from digits.reading import runtimes
from digits.reading.image_file import MOST_PIXELS, WORKING_PIXELS, PictureError, open_picture
from digits.reading.segmentation import as_one_image, find_digits

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


class Model(NamedTuple):
    """A network, and what the file beside or in it says."""

    network: object  # called with float32 n×28×28×channels pixels, gives n×classes probabilities
    classes: list  # names, str
    threshold: float  # of the digit score, 0-1
    whole: bool  # whether its pictures are to be seen whole, not searched for writing


def read(picture, model, box=None):
    """Read the digits in a picture.

    picture: path, bytes, open binary file, PIL image, or uint8 array (H×W or H×W×3); any size, mode and polarity.
    model: path of a model file that train.py or extras/export.py wrote (opened once and remembered), or a Keras model.
    box: x, y, width, height of the part to read, in pixels of the upright picture; None: all of it.
    Raises ValueError, with a message of one line, if the picture or the model cannot be used.
    """
    # First, so that a wrong picture is known before TensorFlow is imported.
    found = find(picture, box, whole=sees_whole(model))
    return judge([found], model)[0]


def look(picture, box=None, page=0, limit=MOST_PIXELS, whole=False):
    """The pixels in which digits are looked for, and what is found: (uint8 H×W×3, factor, size before, Candidates)."""
    pixels, factor, size = open_picture(picture, box, page, WORKING_PIXELS, limit)
    if whole:
        return pixels, factor, size, as_one_image(pixels)
    candidates = find_digits(pixels)
    if factor > 1 and (not candidates or np.median([c.box[3] for c in candidates]) < SMALL_WRITING):
        pixels, factor, size = open_picture(picture, box, page, FINE_PIXELS, limit)
        candidates = find_digits(pixels)
    return pixels, factor, size, candidates


def find(picture, box=None, page=0, limit=MOST_PIXELS, whole=False):
    """The first half of read(), without the network: (Candidates, factor, size, corner).

    page: of a TIFF, from 0. limit: pixels; a picture that has more is refused. whole: do not search it for writing.
    Raises PictureError.
    """
    try:
        _, factor, size, candidates = look(picture, box, page, limit, whole)
    except MemoryError:
        raise PictureError("there is not enough memory for this picture") from None
    return candidates, factor, size, (box or (0, 0))[:2]


def judge(found, model):
    """The second half of read(): the Reading of each of several pictures; the network sees them together."""
    if isinstance(model, (str, Path)):
        network, classes, threshold, _ = load_model(model)
    else:
        network, classes, threshold = model, usual_names(model.output_shape[-1]), USUAL_THRESHOLD
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
    between = "" if max(map(len, classes)) == 1 else " "
    number = "_".join(between.join(digit.digit for digit in digits if digit.line == line) for line in lines)
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


def sees_whole(model):
    """Whether a model's pictures are to be seen whole, not searched for writing; known without TensorFlow."""
    if not isinstance(model, (str, Path)):
        return False
    path = Path(model)
    return load_model(path).whole if path.suffix in runtimes.SUFFIXES else _beside(path)[2]


def load_model(path):
    """Return the Model in a file; read once, and again when it has changed. Raises ValueError.

    What it says of itself is in the .json beside a .keras file, and inside a .tflite or .onnx file; without, the
    classes are 0 … n-1 and the threshold is USUAL_THRESHOLD.
    """
    path = Path(path)
    files = (path, path.with_suffix(".json"))
    return _load_model(path, *(file.stat().st_mtime_ns if file.exists() else None for file in files))


@lru_cache(maxsize=4)
def _load_model(path, *times):
    where, again = path.with_suffix(".json"), "train it again"
    if path.suffix in runtimes.SUFFIXES:
        check_model_file(path)
        network = runtimes.Exported(path)
        if network.description:
            where, again = path, "export it again"
            classes, threshold, whole = _about(network.description, where)
        else:
            classes, threshold, whole = _beside(path)
    else:
        import_tensorflow()
        from digits import model

        network = model.load(path)
        classes, threshold, whole = _beside(path)
    count = network.output_shape[-1]
    if classes is None:
        classes = usual_names(count)
    if not isinstance(classes, list) or len(classes) != count or not all(isinstance(name, str) for name in classes):
        raise UsageError(f"{where}: does not name the {count} classes of the model; {again}")
    return Model(network, classes, threshold, whole)


def _beside(path):
    """What the .json beside a model file says: (class names, threshold, whole), or the usual. Raises ValueError."""
    description = path.with_suffix(".json")
    if not description.exists():
        return None, USUAL_THRESHOLD, False
    try:
        return _about(description.read_text(encoding="utf-8"), description)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{description}: damaged ({error}); delete it, or train the model again") from error


def _about(text, where):
    try:
        about = json.loads(text)
        return about["classes"], float(about.get("threshold", USUAL_THRESHOLD)), bool(about.get("whole"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{where}: damaged ({error}); delete it, or make the model again") from error


def usual_names(count):
    """The names of classes that have none."""
    return [str(index) for index in range(count)]


def predict(network, images):
    """Probabilities, float32 N×classes, for images, uint8 N×28×28×1."""
    run = network if isinstance(network, runtimes.Exported) else _compiled(network)
    blocks = []
    for start in range(0, len(images), BLOCK):  # so that a page full of writing does not fill the memory
        pixels = images[start : start + BLOCK].astype(np.float32)
        blocks.append(np.asarray(run(np.repeat(pixels, network.input_shape[-1], axis=-1))))
    return np.concatenate(blocks)


@lru_cache(maxsize=4)
def _compiled(network):
    """The network as a graph, which answers for one image in a sixth of the time."""
    import tensorflow as tf

    pixels = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    return tf.function(network, [pixels], autograph=False)  # autograph would only make the first call slower
