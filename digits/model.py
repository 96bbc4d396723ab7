"""The networks, and the files they are kept in.

    cnn       28×28×3  three convolutions, global average pooling, dropout    94,538 parameters
    dense128  28×28×1  two convolutions, 128 dense units, dropout            225,034 parameters
    dense64   28×28×1  two convolutions, 64 dense units                      121,930 parameters

All take raw pixels (0 background, 255 ink) and scale them themselves, so that nothing can be scaled twice.
"""

import json
import zipfile

import keras
from keras import layers

from digits.cli import UsageError, atomic_write, check_model_file, first_line
from digits.machine import computes_bfloat16

FILTERS = (32, 64, 128)  # of the convolutions of cnn
POOLINGS = 2  # after the first convolutions of cnn; the last one's maps are averaged


def build(network, classes=10, dropout=None, l2=0.0, precision="float32", filters=FILTERS, kernel_size=3):
    """Return an uncompiled Keras model: float32 N×28×28×channels pixels, 0-255 -> N×classes probabilities.

    dropout: rate, 0-1; None: the network's own (cnn 0.5, dense128 0.25). dense64 has no dropout.
    l2: weight of the L2 penalty on the convolution kernels of cnn.
    precision: what the layers compute in, "float32" or "bfloat16"; weights and probabilities are float32 in any case.
    filters: of each convolution of cnn, as many as it shall have. kernel_size: their height and width, pixels.
    """
    usual = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    try:
        if network == "cnn":
            return _conv_gap_dropout(classes, 0.5 if dropout is None else dropout, l2, filters, kernel_size)
        if network == "dense128":
            return _conv_flatten_dense(128, classes, 0.25 if dropout is None else dropout)
        if network == "dense64":
            return _conv_flatten_dense(64, classes, 0.0)
    finally:
        keras.config.set_dtype_policy(usual)
    raise ValueError(f"no network is called {network!r}")


def precision_of(setting):
    """The precision that a setting means: for "auto" the one in which this machine trains fastest.

    That is bfloat16 on a processor that computes in it, else float32.
    """
    if setting != "auto":
        return setting
    if keras.backend.backend() != "tensorflow":  # not measured there
        return "float32"
    import tensorflow as tf

    return "bfloat16" if computes_bfloat16() and not tf.config.list_physical_devices("GPU") else "float32"


def as_float32(model):
    """A copy of a model that computes in float32, without compile state."""
    config = model.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    copy = keras.Sequential.from_config(config)
    copy.set_weights(model.get_weights())
    return copy


def _conv_gap_dropout(classes, dropout, l2, filters, kernel_size):
    network = keras.Sequential([keras.Input((28, 28, 3)), layers.Rescaling(1 / 255)], name="cnn")
    for place, count in enumerate(filters):
        network.add(
            layers.Conv2D(
                count,
                kernel_size,
                padding="valid" if network.output_shape[1] >= kernel_size else "same",
                activation="relu",
                kernel_initializer="he_normal",
                kernel_regularizer=keras.regularizers.L2(l2),
            )
        )
        if place < min(POOLINGS, len(filters) - 1):
            network.add(layers.MaxPooling2D())
    network.add(layers.GlobalAveragePooling2D())
    network.add(layers.Dropout(dropout))
    network.add(layers.Dense(classes, activation="softmax", dtype="float32"))
    return network


def _conv_flatten_dense(units, classes, dropout):
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(units, activation="relu"),
            *([layers.Dropout(dropout)] if dropout else []),
            layers.Dense(classes, activation="softmax", dtype="float32"),
        ],
        name=f"dense{units}",
    )


def save(model, path):
    """Write the model to a .keras file, whole or not at all, as float32 and without compile state."""
    with atomic_write(path) as temporary:
        as_float32(model).save(temporary)
        _leave_out_nones(temporary)


def _leave_out_nones(path):
    """Rewrite a .keras file without the layers' settings that are None, the default.

    Each Keras version adds some, and an older one refuses a file that has settings which it does not know.
    """

    def without(value, inside=False):
        if isinstance(value, list):
            return [without(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {k: without(v, inside=k == "config") for k, v in value.items() if not (inside and v is None)}

    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["config.json"] = json.dumps(without(json.loads(files["config.json"]))).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def load(path):
    """Return the Keras model in a .keras file. Raises UsageError for a file that the scripts cannot use."""
    check_model_file(path)
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises nearly any type for a file that is not as it expects
        raise UsageError(f"{path}: Keras cannot open it: {first_line(error)}") from error
    first = next((layer for layer in model.layers if not isinstance(layer, layers.InputLayer)), None)
    takes, gives = (getattr(model, name, None) for name in ("input_shape", "output_shape"))
    if takes not in ((None, 28, 28, 1), (None, 28, 28, 3)) or gives is None or len(gives) != 2:
        raise UsageError(f"{path}: takes {takes} and gives {gives}, not 28×28 pixels to classes")
    if getattr(model.layers[-1], "activation", None) is not keras.activations.softmax:
        raise UsageError(
            f"{path}: its last layer gives no probabilities; end it with activation softmax and save it again"
        )
    if not isinstance(first, layers.Rescaling):
        raise UsageError(
            f"{path}: does not scale its pixels itself, so it expects them divided by 255 and would misread ours; "
            "put layers.Rescaling(1 / 255) first in it and save it again"
        )
    return model
