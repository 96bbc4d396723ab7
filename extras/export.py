"""Write a model for other programs: phones, browsers, servers. First: pip install -r extras/requirements-export.txt

    python -m extras.export --to litert            # mnist_cnn.tflite: phones, small computers
    python -m extras.export --to litert --int8     # mnist_cnn_int8.tflite: just over a quarter of the size
    python -m extras.export --to onnx              # mnist_cnn.onnx: browsers, and most other programs
    python -m extras.export --to saved_model       # mnist_cnn_saved_model/1/: TensorFlow Serving
    python -m extras.export --to html              # mnist_cnn.html: a page that draws and reads without any server

An export takes raw pixels as the model does, float32 n×28×28×3, 0-255, and contains the class names and the threshold
of the digit score. It is kept only if it gives the same answers as the model on 1,000 images (with --int8, on 990).
Use it as predict.py --model mnist_cnn.tflite, and so with evaluate.py and draw.py; the HTML file in any browser.
"""

import dataclasses
import importlib.util
import json
import logging
import statistics
import sys
import timeit
import warnings
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from digits import model, runtimes
from digits.cli import Parser, RunError, UsageError, hold_native_log, in_one_line, option, run
from digits.data import sources
from digits.files import check_writable, keep_previous, temporary_folder
from extras import html

IMAGES = 1000  # on which the export and the model are compared
CALIBRATION_IMAGES = 500  # training images from which int8 learns the ranges of its numbers
MAX_DIFFERENCE = 1e-3  # of a probability, without int8
MIN_AGREEMENT = 0.99  # share of the images with the same answer, with int8
SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "saved_model": "_saved_model", "html": ".html"}  # of the model's name
PACKAGES = {"litert": ["ai-edge-litert"], "onnx": ["onnx", "tf2onnx", "onnxruntime"], "saved_model": [], "html": []}


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    to: str = option(None, "format to write (required)", choices=list(PACKAGES))
    model: Path = option(Path("mnist_cnn.keras"), "path of the model file to convert", Path)
    int8: bool = option(False, "with --to litert: compute in 8-bit integers")
    data: str = option(None, "images to compare on (default: the model's own data set if it is here, else handwriting)")

    def __post_init__(self):
        if self.to is None:
            raise UsageError("--to: name one of " + ", ".join(PACKAGES))
        if self.int8 and self.to != "litert":
            raise UsageError("--int8: works only with --to litert")
        if self.model.suffix != ".keras":
            raise UsageError(f"--model: {self.model} is not a .keras file; name one that train.py wrote")


def find_target(settings):
    """The path of the export; of a SavedModel the next version, 1, 2, …, as TensorFlow Serving expects them."""
    path = settings.model.with_name(settings.model.stem + "_int8" * settings.int8 + SUFFIXES[settings.to])
    if path.exists() and path.is_dir() != (settings.to == "saved_model"):
        raise UsageError(f"{path}: is in the way of the export; rename it")
    if settings.to != "saved_model":
        return path
    return path / str(max((int(entry.name) for entry in path.glob("*") if entry.name.isdecimal()), default=0) + 1)


def default_data(model_path):
    """The data set that a model was trained on if it is here, else "handwriting"."""
    name = model.data_name(model_path)
    is_here = name and all((sources.folder_of(name) / split).is_dir() for split in ("train", "test"))
    return name if is_here else "handwriting"


def load_pixels(images, count, network):
    """Pixels of random Images, the same ones each time, for a Keras model: float32 count×28×28×channels, 0-255."""
    from digits.data import pipeline

    decoded = pipeline.decode(images.select(np.random.default_rng(0).permutation(len(images.labels))[:count]))
    pixels = np.stack([pixels for pixels, _ in decoded.as_numpy_iterator()])
    return np.repeat(pixels.astype(np.float32), network.input_shape[-1], axis=-1)


def convert(network, target, to, description, calibration=None):
    """Write a Keras model with a description, JSON, inside. calibration: float32 pixels, for int8."""
    if to == "html":
        return html.write(network, target, json.loads(description))
    import tensorflow as tf

    options = {}
    if calibration is not None:
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
        options["representative_dataset"] = lambda: ([image[None]] for image in calibration)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with hold_native_log(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.export(target, format="tf_saved_model" if to == "saved_model" else to, verbose=False, **options)
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


def open_export(path):
    """The export, opened by its own runtime: a function from float32 n×28×28×channels to n×classes."""
    if path.suffix in runtimes.SUFFIXES:
        return runtimes.Exported(path)
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda pixels: loaded.serve(pixels).numpy()


def compare(expected, exported, pixels, int8):
    """Compare an export with the expected probabilities; return how both agree. Raises RunError if they do not."""
    found = exported(pixels)
    same, difference = (expected.argmax(1) == found.argmax(1)).sum(), abs(expected - found).max()
    result = f"same answer on {same:,} of {len(pixels):,} images, largest difference of probabilities {difference:.1g}"
    if same < (MIN_AGREEMENT if int8 else 1) * len(pixels) or (not int8 and difference > MAX_DIFFERENCE):
        raise RunError(f"the export does not answer as the model does ({result}), so it was deleted")
    seconds = statistics.median(timeit.repeat(lambda: exported(pixels[:1]), number=1, repeat=200))
    return f"The {result}; {1000 * seconds:.2f} ms per image"


def check(path, settings, expected, pixels):
    """Compare an export with the model; return how they agree. Raises RunError if they do not."""
    if settings.to != "html":
        return compare(expected, open_export(path), pixels, settings.int8)
    with html.open_page(path) as run:
        if run is None:
            return "Not checked: that needs Chromium, its chromedriver, and selenium (pip install selenium)"
        images = html.compare(run, expected, pixels[..., 0])
        return f"{images}\n{html.compare_drawings(run, settings.model)}"


def export(settings):
    model.check(settings.model)
    for package in PACKAGES[settings.to]:
        if importlib.util.find_spec(package.replace("-", "_")) is None:
            raise UsageError(f"the package {package} is missing: pip install -r extras/requirements-export.txt")
    if settings.to == "litert" and tuple(map(int, version("keras").split(".")[:2])) < (3, 13):
        raise UsageError("--to litert: needs Keras 3.13 or later, and that Python 3.11 or later")
    target = find_target(settings)
    data = sources.make_available(settings.data or default_data(settings.model))
    images = sources.load_test(data)
    network, *description = model.load(settings.model)
    pixels, calibration = load_pixels(images, IMAGES, network), None
    if settings.int8:
        calibration = load_pixels(sources.load_training(data, 0.0)[0], CALIBRATION_IMAGES, network)
    print(f"Model: {settings.model}   To compare: {len(pixels):,} test images of {sources.name_of(data)}", flush=True)
    expected = np.asarray(network(pixels))  # also needed before the export: tf2onnx refuses a model never called
    about = json.dumps(dict(zip(("classes", "threshold", "segment"), description, strict=True)))
    check_writable(settings.model)
    with temporary_folder(settings.model.with_name(target.name)) as folder:
        temporary = folder / target.name
        try:
            convert(network, temporary, settings.to, about, calibration)
            result = check(temporary, settings, expected, pixels)
        except RunError:
            raise
        except Exception as error:  # the converters and runtimes raise nearly any type
            raise RunError(f"this network cannot be written as {settings.to}: {in_one_line(error)}") from error
        print(result)
        target.parent.mkdir(exist_ok=True)
        keep_previous(target)
        temporary.replace(target)
    size = sum(file.stat().st_size for file in (target, *target.rglob("*")) if file.is_file())
    print(f"Exported {target} ({size / 1000:,.0f} kB)", flush=True)


def main(argv=None):
    return run(export, Parser(__doc__, Settings).settings(argv), keep_going=True)


if __name__ == "__main__":
    sys.exit(main())
