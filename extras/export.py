"""Write a model for other programs: phones, browsers, servers.

    python -m extras.export --to litert            # mnist_cnn.tflite: phones, small computers
    python -m extras.export --to litert --int8     # mnist_cnn_int8.tflite: little more than a quarter of its size
    python -m extras.export --to onnx              # mnist_cnn.onnx: browsers, and most other programs
    python -m extras.export --to saved_model       # mnist_cnn_saved_model/1/: TensorFlow Serving

An export takes raw pixels as the model does, float32 n×28×28×3, 0-255, and has the class names and the threshold of the
digit score inside. Before it gets its name it is opened with its own runtime, and must give the same answers as the
model on 1,000 images; with --int8, on 990 of them. predict.py --model mnist_cnn.tflite reads with it, and so do
evaluate.py and draw.py.

It needs more packages: pip install -r extras/requirements-export.txt
"""

import dataclasses
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
import time
import warnings
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from digits import model, runtimes
from digits.cli import (
    Parser,
    RunError,
    UsageError,
    atomic_write,
    first_line,
    hold_native_log,
    keep_previous,
    option,
    run,
)
from digits.data import sources
from digits.reading import reader

IMAGES = 1000  # on which the export and the model are compared
MIN_AGREEMENT = {False: 1.0, True: 0.99}  # without and with int8
MAX_DIFFERENCE = 1e-3  # of a probability, without int8
CALIBRATION_IMAGES = 500  # training images from which int8 learns the ranges of its numbers
PACKAGES = {  # module: package, for each --to
    "litert": {"ai_edge_litert": "ai-edge-litert"},
    "onnx": {"onnx": "onnx", "tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"},
    "saved_model": {},
}


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    to: str = option(None, "the runtime to export for", choices=list(PACKAGES))
    model: Path = option(Path("mnist_cnn.keras"), "model file", Path)
    int8: bool = option(False, "with --to litert: compute in whole numbers of 8 bits")
    data: str = option(None, "images to compare on (default: the model's own data set if it is here, else drawn)")

    def __post_init__(self):
        if self.to is None:
            raise UsageError("--to: name one of " + ", ".join(PACKAGES))
        if self.int8 and self.to != "litert":
            raise UsageError("--int8: works only with --to litert")


def check(settings):
    """Raise UsageError for what can be seen to be wrong before TensorFlow is imported."""
    if settings.model.suffix != ".keras":
        raise UsageError(f"--model: {settings.model} is not a .keras file; name one that train.py wrote")
    model.check(settings.model)
    for module, package in PACKAGES[settings.to].items():
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"the package {package} is missing: pip install -r extras/requirements-export.txt")
    if settings.to == "litert" and tuple(map(int, version("keras").split(".")[:2])) < (3, 13):
        raise UsageError("--to litert: needs Keras 3.13 or later, and that Python 3.11 or later")


def own_data(model_path):
    """The data set that a model was trained on if it is here, else "drawn"."""
    try:
        name = json.loads(model_path.with_suffix(".json").read_text(encoding="utf-8"))["data"]["name"]
    except (OSError, ValueError, KeyError, TypeError):  # no .json, or not one that train.py wrote
        return "drawn"
    folder = sources.folder_of(name)
    return name if (folder / "train").is_dir() and (folder / "test").is_dir() else "drawn"


def some_images(images, count):
    """uint8 count×28×28×1 of the images, chosen at random, the same each time."""
    from digits.data import pipeline

    decoded = pipeline.decode(images.select(np.random.default_rng(0).permutation(len(images.labels))[:count]))
    return np.stack([pixels for pixels, _ in decoded.as_numpy_iterator()])


def export(network, target, to, description, calibration=None):
    """Write a Keras model to a file or folder by its own export(), with a description, a str, inside.

    calibration: uint8 n×28×28×1 images, for int8.
    """
    import tensorflow as tf

    options = {}
    if calibration is not None:
        pixels = np.repeat(calibration.astype(np.float32), network.input_shape[-1], axis=-1)
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ([pixels[i : i + 1]] for i in range(len(pixels))),
        }
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # the export to ONNX needs it to have been called
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with hold_native_log(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.export(target, format={"saved_model": "tf_saved_model"}.get(to, to), verbose=False, **options)
    if to == "litert":  # a .tflite file may have files in a zip archive at its end
        with zipfile.ZipFile(target, "a") as archive:
            archive.writestr(runtimes.DESCRIPTION, description)
    elif to == "onnx":
        import onnx

        graph = onnx.load(target)
        onnx.helper.set_model_props(graph, {runtimes.DESCRIPTION: description})
        onnx.save(graph, target)
    else:
        (target / "assets.extra").mkdir()
        (target / "assets.extra" / runtimes.DESCRIPTION).write_text(description, encoding="utf-8")


def open_export(path, to):
    """The export, opened by its own runtime: a function from float32 n×28×28×channels to n×classes."""
    if to != "saved_model":
        return runtimes.Exported(path)
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]

    def call(pixels):
        return next(iter(serve(**{name: tf.constant(pixels)}).values())).numpy()

    call.keep = loaded  # a signature does not keep its model alive
    return call


def compare(network, exported, images, int8):
    """Return how both answer on uint8 n×28×28×1 images, as text; raise RunError if they do not agree."""
    pixels = np.repeat(images.astype(np.float32), network.input_shape[-1], axis=-1)
    expected, found = reader.predict(network, images), exported(pixels)
    same, difference = (expected.argmax(1) == found.argmax(1)).mean(), abs(expected - found).max()
    agreement = f"the same answer on {round(same * len(images)):,} of {len(images):,} images"
    agreement += f", largest difference of a probability {difference:.1g}"
    if same < MIN_AGREEMENT[int8] or (not int8 and difference > MAX_DIFFERENCE):
        raise RunError(f"the export does not answer as the model does ({agreement}), so it was deleted")
    seconds = []
    for image in pixels[:200]:
        start = time.perf_counter()
        exported(image[None])
        seconds.append(time.perf_counter() - start)
    return f"{agreement}; {1000 * statistics.median(seconds):.2f} ms for one"


def write(network, path, to, description, images, calibration):
    """Export, compare, and only then give it its name; return (path, outcome as text). Raises RunError."""

    def export_and_compare(target):
        try:
            export(network, target, to, description, calibration)
            exported = open_export(target, to)
        except Exception as error:  # the converters and runtimes raise nearly any type
            raise RunError(f"this network cannot be written as {to}: {first_line(error)}") from error
        return compare(network, exported, images, calibration is not None)

    if to == "saved_model":
        with tempfile.TemporaryDirectory(prefix=".", dir=path.absolute().parent) as temporary:
            outcome = export_and_compare(Path(temporary) / "new")
            path.mkdir(exist_ok=True)
            versions = [int(entry.name) for entry in path.glob("*") if entry.name.isdecimal()]
            next_version = path / str(max(versions, default=0) + 1)  # as TensorFlow Serving wants them: 1, 2, …
            return (Path(temporary) / "new").rename(next_version), outcome
    with atomic_write(path) as temporary:
        outcome = export_and_compare(temporary)
        keep_previous(path)
    return path, outcome


def size_of(path):
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def work(settings):
    check(settings)
    to, int8 = settings.to, settings.int8
    ending = {"litert": "_int8.tflite" if int8 else ".tflite", "onnx": ".onnx", "saved_model": "_saved_model"}[to]
    path = settings.model.with_name(settings.model.stem + ending)
    if path.exists() and path.is_dir() != (to == "saved_model"):
        raise UsageError(f"{path}: is where the export goes; rename it")
    data = sources.make_available(settings.data or own_data(settings.model))
    test, training = sources.load(data, "test"), sources.load(data, "train") if int8 else None
    network, *description = model.load(settings.model)
    images = some_images(test, IMAGES)
    calibration = some_images(training, CALIBRATION_IMAGES) if int8 else None
    print(f"Model: {settings.model}   To compare: {len(images):,} test images of {sources.name_of(data)}", flush=True)
    about = json.dumps(dict(zip(("classes", "threshold", "segment"), description, strict=True)))
    path, outcome = write(network, path, to, about, images, calibration)
    print(f"{outcome[0].upper()}{outcome[1:]}")
    print(f"Exported {path} ({size_of(path) / 1000:,.0f} kB)", flush=True)


def main(argv=None):
    return run(work, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
