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
from digits.picture import find_digit, open_picture


class Reading(NamedTuple):
    """What the network says of a picture."""

    prediction: str | None  # the most likely class; None where no ink was found
    confidence: float  # its probability, 0-1; 0.0 where no ink was found
    probabilities: dict  # class name -> probability, 0-1; all 0.0 where no ink was found
    image: np.ndarray | None  # uint8 28×28×1, what the network saw: 0 background, 255 ink
    box: tuple | None  # x, y, width, height of the digit in the upright picture, in its pixels


def read(picture, model):
    """Read the digit in a picture.

    picture: path, bytes, open binary file, PIL image, or uint8 array (H×W or H×W×3); any size, mode and polarity.
    model: path of a model file that train.py wrote (opened once and remembered), or a Keras model.
    Raises ValueError, with a message of one line, if the picture or the model cannot be used.
    """
    pixels, factor = open_picture(picture)  # first, so that a wrong picture is known before TensorFlow is imported
    if isinstance(model, (str, Path)):
        network, classes = load_model(model)
    else:
        network, classes = model, [str(index) for index in range(model.output_shape[-1])]
    digit = find_digit(pixels)
    if digit is None:
        return Reading(None, 0.0, dict.fromkeys(classes, 0.0), None, None)
    probabilities = predict(network, digit.image[None])[0]
    best = int(probabilities.argmax())
    named = dict(zip(classes, probabilities.tolist(), strict=True))
    box = tuple(round(side * factor) for side in digit.box)
    return Reading(classes[best], named[classes[best]], named, digit.image, box)


def load_model(path):
    """Return (Keras model, class names) of a model file; read once, and again when it has changed.

    The class names come from the .json beside it; without one they are 0 … n-1. Raises ValueError.
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
    return network, class_names(description, network.output_shape[-1])


def class_names(description, count):
    """The class names in a model's .json, or 0 … count-1 where there is none. Raises ValueError."""
    if not description.exists():
        return [str(index) for index in range(count)]
    try:
        classes = json.loads(description.read_text(encoding="utf-8"))["classes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{description}: damaged ({error}); delete it, or train the model again") from error
    if not isinstance(classes, list) or len(classes) != count:
        raise UserError(f"{description}: does not name the {count} classes of the model beside it; train it again")
    return classes


def predict(network, images):
    """Probabilities, float32 N×classes, for images, uint8 N×28×28×1."""
    pixels = np.repeat(images.astype(np.float32), network.input_shape[-1], axis=-1)
    return np.asarray(network(pixels))
