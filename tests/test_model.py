import json
import os
import shutil
import zipfile

import keras
import numpy as np
import pytest
from keras.layers import Conv2D, Dense, Dropout, Flatten, Rescaling

from digits import model
from digits.cli import UsageError
from tests.conftest import posix

DIGITS = list("0123456789")


@pytest.mark.parametrize(
    ("network", "classes", "parameters", "channels"),
    [("cnn", 10, 94_538, 3), ("dense128", 10, 225_034, 1), ("dense64", 10, 121_930, 1), ("dense128", 26, 227_098, 1)],
)
def test_sizes(network, classes, parameters, channels):
    built = model.build(network, classes, dropout=0.4)
    assert sum(weight.numpy().size for weight in built.trainable_weights) == parameters == built.count_params()
    assert (built.input_shape, built.output_shape) == ((None, 28, 28, channels), (None, classes))
    assert [layer.rate for layer in built.layers if isinstance(layer, Dropout)] == [0.4]


@pytest.mark.parametrize(
    ("filters", "kernel_size", "parameters", "sides"),
    [
        ([32, 64, 128], 3, 94_538, [26, 11, 3]),
        ([8], 7, 1_274, [22]),
        ([8, 16], 5, 3_994, [24, 8]),
        ([8, 16, 24], 3, 5_122, [26, 11, 3]),
        ([8, 16, 24, 24], 5, 28_122, [24, 8, 4, 4]),  # where the kernel no longer fits, the image keeps its size
        ([4] * 8, 7, 6_158, [22, 5, 2, 2, 2, 2, 2, 2]),
    ],
)
def test_layers_of_the_cnn(filters, kernel_size, parameters, sides):
    built = model.build("cnn", filters=filters, kernel_size=kernel_size)
    names = [type(layer).__name__ for layer in built.layers]
    pooled = names.count("MaxPooling2D")
    assert pooled == min(2, len(filters) - 1)
    assert names == ["Rescaling", *["Conv2D", "MaxPooling2D"] * pooled, *["Conv2D"] * (len(filters) - pooled),
                     "GlobalAveragePooling2D", "Dropout", "Dense"]  # fmt: skip
    convolutions = [layer for layer in built.layers if isinstance(layer, Conv2D)]
    assert [layer.filters for layer in convolutions] == filters
    assert {layer.kernel_size for layer in convolutions} == {(kernel_size, kernel_size)}
    assert [layer.output.shape[1] for layer in convolutions] == sides
    assert all(layer.kernel_regularizer for layer in convolutions)
    assert built.count_params() == parameters and built.output_shape == (None, 10)


def test_saved_file_opens_with_plain_keras(tmp_path):
    built = model.build("cnn", l2=1e-4)
    built.compile("adam", "sparse_categorical_crossentropy")
    model.save(built, tmp_path / "a.keras", {"classes": DIGITS})
    opened = keras.saving.load_model(tmp_path / "a.keras", safe_mode=True)
    assert not opened.compiled
    assert {weight.dtype for weight in opened.weights} == {"float32"}
    pixels = np.random.default_rng(0).uniform(0, 255, (5, 28, 28, 3)).astype(np.float32)
    np.testing.assert_array_equal(opened(pixels), built(pixels))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.keras"]
    with zipfile.ZipFile(tmp_path / "a.keras") as archive:  # an older Keras refuses settings that are new
        assert b'_config": null' not in archive.read("config.json")


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.keras"
    path.write_bytes(b"old")

    def fail(self, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Sequential, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        model.save(model.build("dense64"), path, {"classes": DIGITS})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.keras": b"old"}


def saved(*layers, side=28):
    return lambda path: keras.Sequential([keras.Input((side, side, 1)), *layers]).save(path)


class UnknownLayer(Flatten):
    """Not registered, so Keras finds no class of this name."""


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in members.items():
            file.writestr(name, text)


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def without_numbers(path):
    network = model.build("dense64")
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])
    model.save(network, path, {"classes": DIGITS})


def truncated(path):
    model.save(model.build("dense64"), path, {"classes": DIGITS})
    path.write_bytes(path.read_bytes()[:100_000])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (saved(Flatten(), Dense(10, "softmax")), "does not scale its pixels"),
        (saved(Rescaling(1 / 255), Flatten(), Dense(10, "softmax"), side=32), "takes"),
        (saved(Rescaling(1 / 255), Flatten(), Dense(10)), "softmax"),
        (saved(UnknownLayer()), "Keras cannot open it"),
        (truncated, "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_text("a text"), "damaged"),
        (lambda path: path.mkdir(), "not a file"),
        (lambda path: None, "no such model file"),
        pytest.param(lambda path: os.mkfifo(path), "not a file", marks=posix),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "not a file", marks=posix),
        (lambda path: archive(path, {"config.json": " " * 20_000_000}), "damaged"),
        (lambda path: sparse(path, 10**9), "over 500 MB"),
        (without_numbers, "does not give probabilities"),
    ],
)
def test_files_that_are_refused(tmp_path, write, message):
    path = tmp_path / "model.keras"
    write(path)
    with pytest.raises(UsageError, match=message) as error:
        model.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_class_names_come_from_the_json(shipped, workplace):
    shutil.copy(shipped, "a.keras")
    assert model.load("a.keras").classes == DIGITS
    (workplace / "a.json").write_text(json.dumps({"classes": list("abcdefghij"), "threshold": 0.7, "segment": False}))
    opened = model.load("a.keras")  # anew, since the description has changed
    assert opened[1:] == (list("abcdefghij"), 0.7, False) == model.describe("a.keras")[1:]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "[" * 100_000, '{"classes": ["a"]}', '{"classes": 10}', json.dumps({"classes": list(range(10))}),
        *(json.dumps({"classes": names}) for names in (["a"] * 10, ["", *"123456789"], "0123456789")),
        *(json.dumps({"classes": DIGITS, "threshold": value}) for value in (2, -1, float("nan"), "high")),
    ],
)  # fmt: skip
def test_a_damaged_json_is_named(shipped, workplace, text):
    shutil.copy(shipped, "a.keras")
    (workplace / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        model.load("a.keras")


def test_the_digit_score_is_the_share_of_the_two_likeliest_classes():
    unsure = np.array([[0.1] * 10, [0.5, 0.5] + [0.0] * 8, [1.0] + [0.0] * 9])
    np.testing.assert_allclose(model.digit_score(unsure), [0, 1, 1], atol=1e-9)
    np.testing.assert_allclose(model.digit_score(np.array([[0.3, 0.7]])), [0.7])
