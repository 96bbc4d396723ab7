"""Exported models, .tflite and .onnx files by extras/export.py, run by LiteRT and ONNX Runtime without TensorFlow."""

import io
import threading
import zipfile

import numpy as np

from digits.cli import UsageError, hold_native_log, in_one_line
from digits.files import MAX_JSON_BYTES

DESCRIPTION = "digits.json"  # member of a .tflite file, key of an .onnx file's metadata
SUFFIXES = (".tflite", ".onnx")


class Exported:
    """A network that is called like a Keras model: float32 n×28×28×channels, 0-255 -> float32 n×classes."""

    def __init__(self, path):
        """path: pathlib.Path. Raises UsageError for a file that cannot be used, or if its runtime is not installed."""
        runtime, package = (_litert, "ai-edge-litert") if path.suffix == ".tflite" else (_onnx, "onnxruntime")
        try:
            with hold_native_log():  # the runtimes log their start
                self.run, takes, self.description = runtime(path)
                if takes not in ((28, 28, 1), (28, 28, 3)):
                    raise ValueError(f"takes {takes}, not (28, 28, 1) or (28, 28, 3)")
                gives = self.run(np.zeros((2, *takes), np.float32))
        except ModuleNotFoundError:
            raise UsageError(f"{path}: the package {package} is missing: pip install {package}") from None
        except Exception as error:  # the runtimes raise nearly any type for an unexpected file
            raise UsageError(f"{path}: damaged, or not a digit classifier: {in_one_line(error)}") from error
        if gives.ndim != 2 or len(gives) != 2 or gives.dtype != np.float32:
            raise UsageError(f"{path}: gives {gives.dtype} {gives.shape} for 2 images, not float32 2×classes")
        self.input_shape, self.output_shape = (None, *takes), (None, gives.shape[1])

    def __call__(self, pixels):
        return self.run(np.asarray(pixels, np.float32))


def _litert(path):
    """Return (function from pixels to probabilities, shape of an image, description or None) of a .tflite file."""
    from ai_edge_litert.interpreter import Interpreter

    content = path.read_bytes()
    network, lock = Interpreter(model_content=content), threading.Lock()
    takes, gives = network.get_input_details()[0], network.get_output_details()[0]
    network.allocate_tensors()

    def run(pixels):
        probabilities = []
        with lock:  # an interpreter is not thread-safe
            for image in pixels:  # the model takes one at a time
                network.set_tensor(takes["index"], image[None])
                network.invoke()
                probabilities.append(network.get_tensor(gives["index"])[0])
        return np.stack(probabilities)

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # at the end of the file
            if archive.getinfo(DESCRIPTION).file_size > MAX_JSON_BYTES:
                raise ValueError(f"{DESCRIPTION} in it is too large")
            description = archive.read(DESCRIPTION).decode()
    except (zipfile.BadZipFile, KeyError):  # no archive, or one of other files
        description = None
    return run, tuple(map(int, takes["shape"][1:])), description


def _onnx(path):
    """The same of an .onnx file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    takes = session.get_inputs()[0]
    description = session.get_modelmeta().custom_metadata_map.get(DESCRIPTION)
    return lambda pixels: session.run(None, {takes.name: pixels})[0], tuple(takes.shape[1:]), description
