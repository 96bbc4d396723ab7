"""Model files that have left Keras, LiteRT's .tflite and ONNX's .onnx, run by their own runtimes without TensorFlow.

extras/export.py writes them, with the class names and the threshold inside.
"""

import zipfile
from pathlib import Path

import numpy as np

from digits.console import UserError, native_log_held

DESCRIPTION = "digits.json"  # member of a .tflite file, key of an .onnx file's metadata
SUFFIXES = (".tflite", ".onnx")


class Exported:
    """A network that is called like a Keras model: float32 n×28×28×channels, 0-255 -> float32 n×classes."""

    def __init__(self, path):
        """Raises UserError for a file that cannot be used, or if its runtime is not installed."""
        path = Path(path)
        try:
            with native_log_held():  # the runtimes log that they start
                run, takes, gives, self.description = (_litert if path.suffix == ".tflite" else _onnx)(path)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{path}: the package {error.name} is missing: pip install -r extras/requirements-export.txt"
            ) from None
        except Exception as error:  # the runtimes raise nearly any type for a file that is not as they expect
            raise UserError(f"{path}: damaged, or no such model: {str(error).splitlines()[0]}") from error
        if takes not in ((28, 28, 1), (28, 28, 3)) or len(gives) != 1:
            raise UserError(f"{path}: takes {takes} and gives {gives}, not 28×28 pixels to classes")
        self.run = run
        self.input_shape, self.output_shape = (None, *takes), (None, *gives)

    def __call__(self, pixels):
        return self.run(np.asarray(pixels, np.float32))


def _litert(path):
    """(function, shape of an image, shape of an answer, description or None) of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    network = Interpreter(str(path))
    takes, gives = network.get_input_details()[0], network.get_output_details()[0]
    network.allocate_tensors()
    if not takes["dtype"] == gives["dtype"] == np.float32:
        raise ValueError("takes or gives numbers that are not float32")

    def run(pixels):
        answers = np.empty((len(pixels), *gives["shape"][1:]), np.float32)
        for place in range(len(pixels)):  # the file is for one image
            network.set_tensor(takes["index"], pixels[place : place + 1])
            network.invoke()
            answers[place] = network.get_tensor(gives["index"])[0]
        return answers

    description = None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            description = archive.read(DESCRIPTION).decode()
    return run, tuple(map(int, takes["shape"][1:])), tuple(map(int, gives["shape"][1:])), description


def _onnx(path):
    """(function, shape of an image, shape of an answer, description or None) of an .onnx file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    takes, gives = session.get_inputs()[0], session.get_outputs()[0]
    description = session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)

    def run(pixels):
        return session.run(None, {takes.name: pixels})[0]

    return run, tuple(takes.shape[1:]), tuple(gives.shape[1:]), description
