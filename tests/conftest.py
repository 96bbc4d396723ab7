"""Shared fixtures: small data, a small trained model, MNIST and other handwriting where they are.

MNIST_DIR names a folder with MNIST's four IDX files, HANDWRITING_DIR one with digits/<source>/<label>__<n>.<ext>;
the tests that need them are skipped where they are not set.
"""

import contextlib
import functools
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

import draw
import train
from digits.data import mnist
from digits.data.folders import write_png_folder
from digits.data.handwriting import held_out_digits
from extras import drawing, export, fetch, html

PROJECT = Path(__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="pipes, devices and signals are those of POSIX")

# Predictions for six images, whose metrics are known by hand
CLASSES = ["a", "b", "c"]
LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3], [0.5, 0.25, 0.25]]
)


@pytest.fixture(scope="session")
def mnist_dir():
    if not os.environ.get("MNIST_DIR"):
        pytest.skip("MNIST_DIR is not set: no real MNIST here")
    return Path(os.environ["MNIST_DIR"])


@pytest.fixture(scope="session")
def handwriting():
    if not os.environ.get("HANDWRITING_DIR"):
        pytest.skip("HANDWRITING_DIR is not set: no other handwriting here")
    return Path(os.environ["HANDWRITING_DIR"])


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Each test works in an empty folder and reaches no data by itself."""
    monkeypatch.chdir(tmp_path)
    for name in ("MNIST_DIR", "FASHION_DIR", "KMNIST_DIR", "EMNIST_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "no_keras"))
    monkeypatch.setattr(mnist, "MIRRORS", ())
    without_mirrors = {name: dataset._replace(mirrors=()) for name, dataset in fetch.DATASETS.items()}
    monkeypatch.setattr(fetch, "DATASETS", without_mirrors)
    return tmp_path


def one_line(capsys, status, *words):
    """Assert that a script ended with status 2 and one line on stderr, with these words in it."""
    err = capsys.readouterr().err
    assert status == 2
    assert len(err.splitlines()) == 1, err
    for word in words:
        assert word in err


def idx(array):
    """The bytes of an uncompressed IDX file."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


test_digits = functools.cache(lambda: held_out_digits("test"))


def digits(count, seed=1):
    """Digits that no training sees: uint8 count×28×28×1 pixels and int64 labels, in turn 0, 1 … 9, 0 …"""
    images, labels = test_digits(), np.arange(count) % 10
    rng = np.random.default_rng(seed)
    return images.pixels[[rng.choice(np.flatnonzero(images.labels == label)) for label in labels]], labels


def png_folder(folder, training=300, test=100):
    for split, count, seed in (("train", training, 3), ("test", test, 4)):
        images, labels = digits(count, seed)
        write_png_folder(folder / split, images[..., 0], labels)
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """A data set of 300 + 100 digits in PNG files; not to be changed."""
    return png_folder(tmp_path_factory.mktemp("data") / "small")


@pytest.fixture
def folder(small_folder, workplace):
    """A copy of small_folder as small/, to be changed."""
    shutil.copytree(small_folder, workplace / "small")
    return workplace / "small"


# Flags of train.py: a tiny network, for a few seconds, with other handwriting mixed in
TINY = ["--epochs", "3", "--batch-size", "32", "--handwriting", "0.1", "--validation-split", "0.1", "--filters", "4,8"]


@pytest.fixture(scope="session")
def trained(small_folder, tmp_path_factory):
    """The model of an uninterrupted training on small_folder with the flags TINY."""
    model = tmp_path_factory.mktemp("trained") / "small_cnn.keras"
    assert train.main(["--data", str(small_folder), "--model", str(model), *TINY]) == 0
    return model


@pytest.fixture(scope="session")
def shipped():
    """The model that comes with the project."""
    return PROJECT / "mnist_cnn.keras"


@contextlib.contextmanager
def serving(app, port=0):
    """Run a service in a thread; yield its port."""
    import uvicorn

    listener = draw.listen("127.0.0.1", port)
    from digits.web.connections import make_config

    server = uvicorn.Server(make_config(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def service_port(shipped):
    """The port of the service with the shipped model."""
    service = pytest.importorskip("digits.web.service", reason="pip install -r requirements-draw.txt")
    hosts, origins = ["digits.example.org"], ["https://forms.example.org"]
    with serving(service.make_app(shipped, hosts, origins)) as port:
        yield port


EXPORTS = {  # flags of extras/export.py, what it makes of m.keras, and the packages that a test needs
    "tflite": (["--to", "litert"], "m.tflite", ["ai_edge_litert"]),
    "int8": (["--to", "litert", "--int8"], "m_int8.tflite", ["ai_edge_litert"]),
    "onnx": (["--to", "onnx"], "m.onnx", ["onnx", "tf2onnx", "onnxruntime"]),
    "saved_model": (["--to", "saved_model"], "m_saved_model", []),
}


@pytest.fixture(scope="session")
def exported(shipped, small_folder, tmp_path_factory):
    """A function from a key of EXPORTS to the path of the shipped model in that form, without the .json beside it."""

    @functools.cache
    def path_of(kind):
        flags, name, packages = EXPORTS[kind]
        for package in packages:
            pytest.importorskip(package, reason="pip install -r extras/requirements-export.txt")
        folder = tmp_path_factory.mktemp(kind)
        for suffix in (".keras", ".json"):
            shutil.copy(shipped.with_suffix(suffix), folder / f"m{suffix}")
        with contextlib.redirect_stdout(None):
            assert export.main(["--model", str(folder / "m.keras"), "--data", str(small_folder), *flags]) == 0
        assert sorted(path.name for path in folder.iterdir()) == sorted(["m.keras", "m.json", name])
        (folder / "m.json").unlink()
        return folder / name

    return path_of


def video_of(picture, path):
    """Write a picture, uint8 H×W grey levels, as a video in which it stands still (YUV4MPEG2)."""
    height, width = picture.shape
    colours = bytes([128]) * (height * width // 2)
    header = f"YUV4MPEG2 W{width} H{height} F10:1 Ip A1:1 C420mpeg2\n".encode()
    path.write_bytes(header + 3 * (b"FRAME\n" + picture.tobytes() + colours))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A headless browser, whose camera sees a drawn 407; skipped where there is none."""
    pytest.importorskip("selenium.webdriver")
    video = tmp_path_factory.mktemp("video") / "407.y4m"
    ink = drawing.write("407", np.random.default_rng(2), 480, 640, 120, 10, gap=0.5, corner=(180, 130))
    video_of((240 - 200 * ink).astype(np.uint8), video)
    camera = ("--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={video}")
    browser = html.start_chromium(*camera)
    if browser is None:
        pytest.skip("no Chromium with its chromedriver here")
    yield browser
    browser.quit()


@pytest.fixture
def axe(workplace):
    """A function from a Page to what axe-core finds wrong with it."""
    npm = shutil.which("npm")
    found = npm and subprocess.run([npm, "install", "--prefix", ".", "axe-core@4"], capture_output=True).returncode == 0
    if not found:
        pytest.skip("no npm, or no registry, to get axe-core from")
    library = (workplace / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

    def violations(page):
        page.run(library)
        script = "const done = arguments[0]; axe.run().then((found) => done(found.violations))"
        return page.browser.execute_async_script(script)

    return violations
