"""Exported models, LiteRT's .tflite and ONNX's .onnx, run by their own runtimes without TensorFlow.

extras/export.py writes them, with the class names and the threshold inside.
"""

import io
import threading
import zipfile
from pathlib import Path

import numpy as np

from digits.cli import UsageError, first_line, hold_native_log

DESCRIPTION = "digits.json"  # member of a .tflite file, key of an .onnx file's metadata
SUFFIXES = (".tflite", ".onnx")


class Exported:
    """A network that is called like a Keras model: float32 n×28×28×channels, 0-255 -> float32 n×classes."""

    def __init__(self, path):
        """Raises UsageError for a file that cannot be used, or if its runtime is not installed."""
        path = Path(path)
        runtime, package = (_litert, "ai-edge-litert") if path.suffix == ".tflite" else (_onnx, "onnxruntime")
        try:
            with hold_native_log():  # the runtimes log their start
                self.run, takes, self.description = runtime(path)
                if takes not in ((28, 28, 1), (28, 28, 3)):
                    raise ValueError(f"takes {takes}, not 28×28 pixels")
                answers = self.run(np.zeros((2, *takes), np.float32))
        except ModuleNotFoundError:
            raise UsageError(f"{path}: the package {package} is missing: pip install {package}") from None
        except Exception as error:  # the runtimes raise nearly any type for an unexpected file
            raise UsageError(f"{path}: damaged, or not a digit classifier: {first_line(error)}") from error
        if answers.ndim != 2 or len(answers) != 2 or answers.dtype != np.float32:
            raise UsageError(f"{path}: gives {answers.dtype} {answers.shape} for 2 images, not float32 2×classes")
        self.input_shape, self.output_shape = (None, *takes), (None, answers.shape[1])

    def __call__(self, pixels):
        return self.run(np.asarray(pixels, np.float32))


def _litert(path):
    """(function, shape of an image, description or None) of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()
    network, lock = Interpreter(model_content=content), threading.Lock()
    takes, gives = network.get_input_details()[0], network.get_output_details()[0]
    network.allocate_tensors()

    def run(pixels):
        answers = []
        with lock:  # an interpreter is not thread-safe
            for image in pixels:  # the model takes one at a time
                network.set_tensor(takes["index"], image[None])
                network.invoke()
                answers.append(network.get_tensor(gives["index"])[0])
        return np.stack(answers)

    description = None
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if DESCRIPTION in archive.namelist():
                description = archive.read(DESCRIPTION).decode()
    return run, tuple(map(int, takes["shape"][1:])), description


def _onnx(path):
    """(function, shape of an image, description or None) of an .onnx file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    takes = session.get_inputs()[0]

    def run(pixels):
        return session.run(None, {takes.name: pixels})[0]

    return run, tuple(takes.shape[1:]), session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
