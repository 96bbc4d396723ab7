"""Write a model for other programs: phones, browsers, servers.

    python -m extras.export --to litert            # mnist_cnn.tflite: phones, small computers
    python -m extras.export --to litert --int8     # mnist_cnn_int8.tflite: little more than a quarter of its size
    python -m extras.export --to onnx              # mnist_cnn.onnx: browsers, and most other programs
    python -m extras.export --to saved_model       # mnist_cnn_saved_model/1/: TensorFlow Serving

What is written takes raw pixels as the model does, float32 n×28×28×3, 0-255, and has the class names and the threshold
of the digit score inside. Before it is said to be done it is opened with its own runtime, and must give the same
answers as the model does on 1,000 images; with --int8, on 990 of them. predict.py --model mnist_cnn.tflite reads with
it, and so do evaluate.py and draw.py.

It needs more packages: pip install -r extras/requirements-export.txt
"""

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

from digits.cli import (
    Parser,
    RunError,
    UsageError,
    atomic_write,
    check_model_file,
    first_line,
    hold_native_log,
    keep_previous,
    run,
)
from digits.data import pipeline
from digits.reading import reader, runtimes

MODEL = "mnist_cnn.keras"  # model file
DATA = None  # images to compare on: as in train.py; None: the model's own data set if it is here, else drawn digits

IMAGES = 1000  # on which both must agree
LEAST_AGREEMENT = {False: 1.0, True: 0.99}  # without and with int8
LARGEST_DIFFERENCE = 1e-3  # of a probability, without int8
CALIBRATION = 500  # training images from which int8 learns how large numbers get
NEEDED = {
    "litert": {"ai_edge_litert": "ai-edge-litert"},
    "onnx": {"onnx": "onnx", "tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"},
    "saved_model": {},
}  # fmt: skip


def own_data(model):
    """The name of the data set that a model was trained on, if it is here, else "drawn"."""
    try:
        name = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))["data"]["name"]
    except (OSError, ValueError, KeyError, TypeError):  # none there, or of another's making
        return "drawn"
    _, folder = pipeline.name_and_folder(name)
    return name if folder and (folder / "train").is_dir() and (folder / "test").is_dir() else "drawn"


def some_images(images, count):
    """uint8 count×28×28×1 of the images, taken by lot, the same each time."""
    chosen = np.random.default_rng(0).permutation(len(images.labels))[:count]
    decoded = pipeline.decode(images._replace(labels=images.labels[chosen], files=images.files[chosen]))
    return np.stack([pixels for pixels, _ in decoded.as_numpy_iterator()])


def export(network, target, to, description, calibration=None):
    """Write a Keras model to a file or folder by its own export(), with a description, a str, inside.

    calibration: uint8 n×28×28×1 images, for int8.
    """
    options = {}
    if calibration is not None:
        import tensorflow as tf

        pixels = np.repeat(calibration.astype(np.float32), network.input_shape[-1], axis=-1)
        options = {
            "optimizations": [tf.lite.Optimize.DEFAULT],
            "representative_dataset": lambda: ([pixels[i : i + 1]] for i in range(len(pixels))),
        }
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # the export to ONNX wants it to have been called
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


def opened(path, to):
    """What was written, opened by its own runtime: a function from float32 n×28×28×channels to n×classes."""
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


def compare(network, other, images, int8):
    """Return what is printed of how both answer on uint8 n×28×28×1 images; raise RunError if they do not agree."""
    pixels = np.repeat(images.astype(np.float32), network.input_shape[-1], axis=-1)
    ours, theirs = reader.predict(network, images), other(pixels)
    same, difference = (ours.argmax(1) == theirs.argmax(1)).mean(), abs(ours - theirs).max()
    agree = f"the same answer on {round(same * len(images)):,} of {len(images):,} images"
    agree += f", largest difference of a probability {difference:.1g}"
    if same < LEAST_AGREEMENT[int8] or (not int8 and difference > LARGEST_DIFFERENCE):
        raise RunError(f"what was written does not answer as the model does ({agree}), so it was deleted")
    seconds = []
    for image in pixels[:200]:
        start = time.perf_counter()
        other(image[None])
        seconds.append(time.perf_counter() - start)
    return f"{agree}; {1000 * statistics.median(seconds):.2f} ms for one"


def new_version(folder):
    """The next free version in the folder of a SavedModel, as TensorFlow Serving wants them: 1, 2, …"""
    numbers = [int(entry.name) for entry in folder.glob("*") if entry.name.isdecimal()]
    return folder / str(max(numbers, default=0) + 1)


def write(network, path, to, description, images, calibration):
    """Export, compare, and only then give it its name; return (path, what is printed). Raises RunError."""

    def checked(target):
        try:
            export(network, target, to, description, calibration)
            other = opened(target, to)
        except Exception as error:  # the converters and runtimes raise nearly any type
            raise RunError(f"this network cannot be written as {to}: {first_line(error)}") from error
        return compare(network, other, images, calibration is not None)

    if to == "saved_model":
        with tempfile.TemporaryDirectory(prefix=".", dir=path.absolute().parent) as temporary:
            outcome = checked(Path(temporary) / "new")
            path.mkdir(exist_ok=True)
            return (Path(temporary) / "new").rename(new_version(path)), outcome
    with atomic_write(path) as temporary:
        outcome = checked(temporary)
        keep_previous(path)
    return path, outcome


def size_of(path):
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def check(args):
    """Raise UsageError for what can be seen to be wrong before TensorFlow is imported."""
    if args.model.suffix != ".keras":
        raise UsageError(f"--model: {args.model} is no .keras file; name one that train.py wrote")
    check_model_file(args.model)
    if args.int8 and args.to != "litert":
        raise UsageError("--int8: goes with --to litert alone")
    for module, package in NEEDED[args.to].items():
        if importlib.util.find_spec(module) is None:
            raise UsageError(f"the package {package} is missing: pip install -r extras/requirements-export.txt")
    if args.to == "litert" and tuple(map(int, version("keras").split(".")[:2])) < (3, 13):
        raise UsageError("--to litert: needs Keras 3.13 or later, and that Python 3.11 or later")


def work(args):
    check(args)
    ending = {"litert": "_int8.tflite" if args.int8 else ".tflite", "onnx": ".onnx", "saved_model": "_saved_model"}
    path = args.model.with_name(args.model.stem + ending[args.to])
    if path.is_dir() != (args.to == "saved_model") and path.exists():
        raise UsageError(f"{path}: stands where the export goes; rename it")
    name, folder = pipeline.find(args.data or own_data(args.model))
    test, training = pipeline.load(folder, "test"), pipeline.load(folder, "train") if args.int8 else None
    network, classes, threshold, whole = reader.load_model(args.model)
    images = some_images(test, IMAGES)
    calibration = some_images(training, CALIBRATION) if args.int8 else None
    print(f"Model: {args.model}   To compare: {len(images):,} test images of {name}", flush=True)
    description = json.dumps({"classes": classes, "threshold": threshold, "whole": whole})
    path, outcome = write(network, path, args.to, description, images, calibration)
    print(f"{outcome[0].upper()}{outcome[1:]}")
    print(f"Exported {path} ({size_of(path) / 1000:,.0f} kB)", flush=True)


def parse_args(argv):
    parser = Parser(__doc__)
    parser.add_argument("--to", choices=NEEDED, required=True, help="for what runtime")
    parser.add_argument("--model", type=Path, default=Path(MODEL), help="model file (default: %(default)s)")
    parser.add_argument("--int8", action="store_true", help="with --to litert: compute in whole numbers of 8 bits")
    data = "images to compare on, as in train.py (default: the model's own data set if it is here, else drawn)"
    parser.add_argument("--data", default=DATA, help=data)
    return parser.parse_args(argv)


def main(argv=None):
    return run(work, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
