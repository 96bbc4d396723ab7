"""The networks, and a model file with its description: build, save, check, load.

    cnn       28×28×3  three convolutions, global average pooling, dropout    94,538 parameters
    dense128  28×28×1  two convolutions, 128 dense units, dropout            225,034 parameters
    dense64   28×28×1  two convolutions, 64 dense units                      121,930 parameters

All take raw pixels (0 background, 255 ink) and scale them themselves, so that nothing can be scaled twice.

A model file is <model>.keras with its description in <model>.json (class names, threshold of the digit score, settings
and results of its training), or a .tflite or .onnx file by extras/export.py with the description inside. Keras is
imported in the functions that need it: files are checked before that, and exported models are read without it.
"""

import hashlib
import json
import os
import shlex
import zipfile
import zlib
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits import checkpoint, runtimes
from digits.cli import UsageError, import_tensorflow, in_one_line
from digits.files import MAX_JSON_BYTES, atomic_write, class_names, in_project, keep_as, previous, read_json

FILTERS = (32, 64, 128)  # of the convolutions of cnn
KERNEL_SIZE = 3  # height and width of their kernels, pixels
POOLINGS = 2  # after the first convolutions of cnn; the feature maps of the last one are averaged
DEFAULT_THRESHOLD = 0.5  # of the digit score, for a model without a description
CHECKSUM = "model_sha256"  # key of a description: of the .keras file that it belongs to
MAX_BYTES = 500_000_000  # of a model file, unpacked
HELP = "path of the model file (default: <data>_<network>.keras)"


# The networks


def _conv_gap_dropout(network, dropout, l2, filters, kernel_size):
    from keras import layers, regularizers

    for index, count in enumerate(filters):
        network.add(
            layers.Conv2D(
                count,
                kernel_size,
                padding="valid" if network.output_shape[1] >= kernel_size else "same",
                activation="relu",
                kernel_initializer="he_normal",
                kernel_regularizer=regularizers.L2(l2),
            )
        )
        if index < min(POOLINGS, len(filters) - 1):
            network.add(layers.MaxPooling2D())
    network.add(layers.GlobalAveragePooling2D())
    network.add(layers.Dropout(dropout))


def _conv_flatten_dense(network, dropout, l2, filters, kernel_size, units):
    from keras import layers

    for count in (32, 64):
        network.add(layers.Conv2D(count, 3, activation="relu"))
        network.add(layers.MaxPooling2D())
    network.add(layers.Flatten())
    network.add(layers.Dense(units, activation="relu"))
    if dropout:
        network.add(layers.Dropout(dropout))


class Network(NamedTuple):
    """What --network can name."""

    channels: int
    add_hidden: object  # function of a keras.Sequential, dropout, l2, filters and kernel_size
    dropout: float  # default rate, 0-1


NETWORKS = {
    # With augmentation and other handwriting, the classic 0.5 takes more from the small network than it gives.
    "cnn": Network(3, _conv_gap_dropout, 0.05),
    "dense128": Network(1, partial(_conv_flatten_dense, units=128), 0.25),
    "dense64": Network(1, partial(_conv_flatten_dense, units=64), 0.0),
}


def build(network, classes=10, dropout=0.0, precision="float32", l2=0.0, filters=FILTERS, kernel_size=KERNEL_SIZE):
    """Return an uncompiled Keras model: float32 N×28×28×channels pixels, 0-255 -> float32 N×classes probabilities.

    network: a key of NETWORKS. dropout: rate, 0-1. precision: what the layers compute in, "float32" or "bfloat16";
    weights and probabilities are float32 in any case. l2: weight of the L2 penalty on the convolutions of cnn. filters:
    of each convolution of cnn; their number sets the depth. kernel_size: height and width of its kernels, pixels.
    """
    import keras

    channels, add_hidden, _ = NETWORKS[network]
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        built = keras.Sequential([keras.Input((28, 28, channels)), keras.layers.Rescaling(1 / 255)], name=network)
        add_hidden(built, dropout, l2, filters, kernel_size)
        built.add(keras.layers.Dense(classes, activation="softmax", dtype="float32"))
        return built
    finally:
        keras.config.set_dtype_policy(policy)


def choose_precision(setting):
    """The precision that a setting means: "auto" is the one in which this machine trains fastest.

    That is bfloat16 on a processor that computes in it, else float32.
    """
    if setting != "auto":
        return setting
    import keras
    import tensorflow as tf

    measured = keras.backend.backend() == "tensorflow" and not tf.config.list_physical_devices("GPU")
    return "bfloat16" if measured and computes_bfloat16() else "float32"


def computes_bfloat16():
    """Whether the processor computes in bfloat16; False if the system is not Linux, which alone says it."""
    try:
        return not {"avx512_bf16", "amx_bf16"}.isdisjoint(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False


def digit_score(probabilities):
    """How surely each image is a digit, float N, 0-1, from probabilities N×classes.

    The network was trained to give a non-digit equal probabilities. So what the two most likely classes (it may be a 4
    or a 9, but it is a digit) leave to the others measures how likely it is a non-digit.
    """
    classes = probabilities.shape[1]
    if classes < 3:
        return probabilities.max(1)
    best = np.sort(probabilities, axis=1)[:, -2:].sum(1)
    return np.clip((best - 2 / classes) / (1 - 2 / classes), 0, 1)


# Model files


def default_path(data_name, network):
    """Where train.py saves a network of a data set."""
    return Path(f"{data_name}_{network}.keras")


def find_default(data_name="mnist", network="cnn"):
    """The default model file to read with: in the current folder, else in the project's."""
    return in_project(default_path(data_name, network))


class Model(NamedTuple):
    """A network and what its description says about reading with it."""

    network: object  # called with float32 n×28×28×channels pixels, gives n×classes probabilities; None from describe()
    classes: list | None  # class names, str; None from describe() if they are only numbered
    threshold: float = DEFAULT_THRESHOLD  # of the digit score, 0-1
    segment: bool = True  # whether pictures are searched for writing, or used whole


def check(path):
    """Raise UsageError unless the path is a model file, as far as can be seen without opening it in its runtime."""
    path = Path(path)
    if not os.path.isfile(path):
        found = "not a file" if os.path.lexists(path) else "no such model file"
        raise UsageError(f"{path}: {found}; train a model with train.py, or name another with --model")
    if path.suffix not in (".keras", *runtimes.SUFFIXES):
        raise UsageError(f"{path}: a model's file name ends in .keras, .tflite or .onnx; name one with --model")
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path}: over {MAX_BYTES // 1_000_000} MB, which no digit classifier has; name another")
    if path.suffix == ".keras" and not _is_complete(path):
        raise UsageError(f"{path}: damaged, or not a Keras model; train it again with train.py, or name another")


def _is_complete(path):
    """Whether a .keras file is an intact archive of a size that a model may have."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {info.filename: info.file_size for info in archive.infolist()}
            plausible = sum(sizes.values()) <= MAX_BYTES and sizes["config.json"] <= MAX_JSON_BYTES
            return plausible and archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError):
        return False


def save(network, path, about):
    """Write a Keras model and its description, a dict, each completely or not at all; see also keep_replaced().

    The model is saved as float32 and without compile state.
    """
    with atomic_write(path) as temporary:
        as_float32(network).save(temporary)
        _remove_defaults(temporary)
        checksum = _sha256(temporary)
    with atomic_write(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(about | {CHECKSUM: checksum}, indent=2) + "\n", encoding="utf-8")


def keep_replaced(path):
    """Copy a Keras model that is about to be replaced, and its description; return where, None if there is no model.

    It is kept as <model>.previous.keras, the one that comes with the project as <model>.shipped.keras.
    """
    if not path.exists():
        return None
    kept = previous(path, "shipped" if details(path).get("shipped") else "previous")
    if kept.exists() and not _belong_together(path):  # a training was stopped while it saved: the last whole pair stays
        return kept
    for file, copy in ((path, kept), (path.with_suffix(".json"), kept.with_suffix(".json"))):
        copy.unlink(missing_ok=True)
        if file.exists():
            keep_as(copy, file)
    return kept


def compare_with_replaced(path, about, replaced, kept):
    """Say where the model is kept that was replaced, and how to bring it back if it was better.

    about, replaced: the descriptions of the new model at `path` and of the old one; kept: see keep_replaced().
    """
    try:
        same_images = about["data"]["test_sha256"] == replaced["data"]["test_sha256"]
        before, now = replaced["accuracy"]["test"], about["accuracy"]["test"]
        lost = same_images and before > now
    except (KeyError, TypeError):  # one of them was not tested
        lost = False
    if not lost:
        return f"The model that was here is kept as {kept}"
    scores = f"{100 * before:.2f}% of the same test images right, this one {100 * now:.2f}%"
    return f"The model that was here had {scores}; to bring it back: {restore_command(kept, path)}"


def restore_command(kept, path):
    """The command that brings a model back that keep_replaced() kept, for a Unix shell and for PowerShell."""
    pairs = [(kept, path), (kept.with_suffix(".json"), path.with_suffix(".json"))]
    return "; ".join(f"cp {shlex.quote(str(source))} {shlex.quote(str(target))}" for source, target in pairs)


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _belong_together(path):
    """Whether the description beside a Keras model is its own, as far as it says."""
    checksum = details(path).get(CHECKSUM)
    return checksum is None or not path.is_file() or checksum == _sha256(path)


def _check_pair(path):
    """Raise UsageError if the description beside a Keras model is that of another."""
    if _belong_together(path):
        return
    kept = [file for file in (previous(path), previous(path, "shipped")) if file.exists()]
    ways = [f"bring back the one before ({restore_command(file, path)})" for file in kept[:1]]
    if checkpoint.path_for(path).exists():
        ways.insert(0, "rerun its training with --resume")
    reason = "describes another model: a training was stopped while it saved, or the file was replaced"
    raise UsageError(f"{path.with_suffix('.json')}: {reason}; {', or '.join(ways) or 'train it again, or delete it'}")


def as_float32(network):
    """A copy of a Keras model that computes in float32, without compile state."""
    import keras

    config = network.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    copy = keras.Sequential.from_config(config)
    copy.set_weights(network.get_weights())
    return copy


def _remove_defaults(path):
    """Rewrite a .keras file without the layers' settings that are None, the default.

    Each Keras version adds some, and an older one refuses a file with settings that it does not know.
    """

    def clean(part):
        if isinstance(config := part.get("config"), dict):
            part["config"] = {key: value for key, value in config.items() if value is not None}
        return part

    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["config.json"] = json.dumps(json.loads(files["config.json"], object_hook=clean))
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def describe(path):
    """Return the Model of a file without its network, and without TensorFlow. Raises UsageError."""
    path = Path(path)
    return load(path) if path.suffix in runtimes.SUFFIXES else _describe(path, *_times(path))


@lru_cache(maxsize=4)
def _describe(path, *times):
    _check_pair(path)
    return _parse_description(path.with_suffix(".json"))


def _times(path):
    """When a model file and its description were changed; None for one that is missing."""
    files = (path, path.with_suffix(".json"))
    return [file.stat().st_mtime_ns if os.path.exists(file) else None for file in files]


def _parse_description(path, text=None):
    """Return the Model, without network, that a text in `path` describes; the default text is the file's content."""
    if text is None and not path.exists():
        return Model(None, None)
    try:
        about = read_json(path if text is None else text)
        segment = about.get("segment", not about.get("whole"))  # files of earlier versions say "whole"
        threshold = float(about.get("threshold", DEFAULT_THRESHOLD))
        if not 0 <= threshold <= 1:
            raise ValueError(f"the threshold {threshold} is not from 0 to 1")
        return Model(None, class_names(about["classes"]), threshold, bool(segment))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: damaged ({in_one_line(error)}); delete it, or make the model again") from error


def warning(path):
    """A line for the user if a Keras model has no description, else None."""
    if path.suffix != ".keras" or path.with_suffix(".json").exists():
        return None
    return f"{path.with_suffix('.json')} is missing: its classes are taken to be 0-9, and more non-digits are accepted"


def details(path):
    """All that the description of a Keras model says, a dict; empty without one, or if train.py did not write it."""
    try:
        content = read_json(path.with_suffix(".json"))
        return content if isinstance(content, dict) else {}
    except ValueError:
        return {}


def data_name(path):
    """The name of the data set that a Keras model was trained on; None if its description does not say."""
    data = details(path).get("data")
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None


def load(path):
    """Return the Model in a file; it is read once, and again when it has changed. Raises UsageError."""
    path = Path(path)
    return _load(path, *_times(path))


@lru_cache(maxsize=4)
def _load(path, *times):
    check(path)
    where = path.with_suffix(".json")
    if path.suffix in runtimes.SUFFIXES:
        network = runtimes.Exported(path)
        where = path if network.description else where
        description = _parse_description(where, network.description)
    else:
        description = _describe(path, *times)
        network = _load_keras(path)
    _check_probabilities(path, network)
    count = network.output_shape[-1]
    classes = default_classes(count) if description.classes is None else description.classes
    if len(classes) != count:
        raise UsageError(f"{where}: does not name the {count} classes of the model; train or export it again")
    return description._replace(network=network, classes=classes)


def default_classes(count):
    return [str(index) for index in range(count)]


def _check_probabilities(path, network):
    """Raise UsageError unless a network gives probabilities: for a blank image, a stroke and noise."""
    pixels = np.zeros((3, *network.input_shape[1:]), np.float32)
    pixels[1, 4:24, 13:16] = 255
    pixels[2] = np.random.default_rng(0).integers(0, 256, pixels[2].shape)
    found = np.asarray(network(pixels))
    rounding = 0.01 + found.shape[1] / 512  # of 8-bit integers
    if not (found.min() >= -1e-3 and abs(found.sum(1) - 1).max() <= rounding):  # also if it is nan
        raise UsageError(f"{path}: does not give probabilities; end it with a softmax, or train it again")


def _load_keras(path):
    import_tensorflow()
    import keras

    try:
        network = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises nearly any type for a file that is not as it expects
        raise UsageError(f"{path}: Keras cannot open it: {in_one_line(error)}") from error
    takes, gives = (getattr(network, name, None) for name in ("input_shape", "output_shape"))
    if takes not in ((None, 28, 28, 1), (None, 28, 28, 3)) or gives is None or len(gives) != 2:
        raise UsageError(
            f"{path}: takes {takes} and gives {gives}; it must take (None, 28, 28, 1 or 3), and give classes"
        )
    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    if getattr(layers[-1], "activation", None) is not keras.activations.softmax:
        reason = "its last layer gives no probabilities; end it with activation softmax"
    elif not isinstance(layers[0], keras.layers.Rescaling):
        reason = "does not scale its pixels itself, so would misread ours; put layers.Rescaling(1 / 255) first in it"
    else:
        return network
    raise UsageError(f"{path}: {reason} and save it again")
