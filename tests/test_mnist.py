import gzip
import hashlib
import io
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from digits.cli import RunError, UsageError
from digits.data import mnist, sources
from tests.conftest import idx


@pytest.fixture
def files(monkeypatch):
    """Four small IDX files as {name: bytes}, whose checksums are taken for MNIST's."""
    rng = np.random.default_rng(0)
    content = {}
    for name in mnist.SHA256:
        count = 40 if name.startswith("train") else 20
        labels = (np.arange(count) % 10).astype(np.uint8)
        content[name] = idx(labels if "labels" in name else rng.integers(0, 256, (count, 28, 28), dtype=np.uint8))
    monkeypatch.setattr(mnist, "SHA256", {name: hashlib.sha256(data).hexdigest() for name, data in content.items()})
    return content


@pytest.fixture
def idx_folder(files, workplace, monkeypatch):
    """The folder that MNIST_DIR names, with the files, gzipped."""
    monkeypatch.setenv("MNIST_DIR", "idx")
    (workplace / "idx").mkdir()
    for name, data in files.items():
        (workplace / "idx" / f"{name}.gz").write_bytes(gzip.compress(data))
    return workplace / "idx"


def check_made(folder, files):
    paths = sorted(folder.rglob("*.png"))
    assert len(paths) == 60
    pixels = np.frombuffer(files["train-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 28, 28)
    np.testing.assert_array_equal(np.asarray(Image.open(folder / "train" / "7" / "00017.png")), pixels[17])
    assert Image.open(folder / "test" / "3" / "00013.png").mode == "L"
    assert [path.name for path in folder.parent.glob("Mnist_dataset*")] == [folder.name]


def test_idx_files(files, idx_folder, workplace):
    (idx_folder / "train-labels-idx1-ubyte.gz").unlink()
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(files["train-labels-idx1-ubyte"])  # gzipped or not
    assert sources.make_available("mnist") == "mnist"
    check_made(workplace / "Mnist_dataset", files)


def npz(files):
    """The bytes of Keras's mnist.npz with the arrays of IDX files."""
    content = io.BytesIO()
    np.savez(content, **{mnist.NPZ_NAMES[name]: mnist.parse_idx(data) for name, data in files.items()})
    return content.getvalue()


def test_keras_cache(files, workplace, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(workplace))
    (workplace / "datasets").mkdir()
    (workplace / "datasets" / "mnist.npz").write_bytes(b"PK damaged")
    with pytest.raises(mnist.Unavailable, match=r"mnist\.npz"):
        mnist.make(workplace / "Mnist_dataset")
    (workplace / "datasets" / "mnist.npz").write_bytes(npz(files))
    mnist.make(workplace / "Mnist_dataset")
    check_made(workplace / "Mnist_dataset", files)


UNUSABLE = {
    "missing": lambda path: path.unlink(),
    "another": lambda path: path.write_bytes(gzip.compress(b"\0\0\10\1\0\0\0\2\1\2")),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-10]),
    "no gzip": lambda path: path.write_bytes(b"hello"),
    "no folder": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize("spoil", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_mnist_dir_is_an_error(idx_folder, workplace, spoil):
    spoil(idx_folder / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(UsageError, match=r"MNIST_DIR: idx has no intact (t10k-labels|train-images)-idx"):
        sources.make_available(None)
    assert not list(workplace.glob("Mnist_dataset*"))


@pytest.fixture
def server(files, monkeypatch):
    """The address of a loopback server of /<behaviour>/<file>: good, or wrong in one way; mirrors wait 0.3 s for it."""
    served = {f"{name}.gz": gzip.compress(data) for name, data in files.items()} | {"mnist.npz": npz(files)}
    released = threading.Event()

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self):
            behaviour, name = self.path.strip("/").split("/")
            data = served.get(name)
            if behaviour == "gone" or data is None:
                self.send_error(404)
                return
            if behaviour == "silent":
                released.wait(20)
                return
            if behaviour == "other" and name.startswith("train-labels"):
                data = gzip.compress(gzip.decompress(data)[:-1] + b"\7")
            if behaviour == "garbage":
                data = b"<html>log in first</html>"
            self.send_response(200)
            if behaviour != "unsized":
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            while behaviour == "trickles" and not released.wait(0.05):
                self.wfile.write(data[:1])
            self.wfile.write(data[: len(data) // 2])
            if behaviour == "stalls":
                self.wfile.flush()
                released.wait(20)
            elif behaviour != "cut":
                self.wfile.write(data[len(data) // 2 :])

        def log_message(self, *args):
            pass

    monkeypatch.setattr(mnist, "TIMEOUT", 0.3)
    monkeypatch.setattr(mnist, "CHUNK", 500)
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as http:
        http.handle_error = lambda *_: None  # a client that gives up
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        released.set()
        http.shutdown()


@pytest.mark.parametrize("good", ["good/", "good/mnist.npz"])
@pytest.mark.parametrize(
    "behaviour", ["good", "gone", "silent", "stalls", "trickles", "cut", "other", "garbage", "unsized"]
)
def test_the_next_mirror_is_asked(server, files, workplace, monkeypatch, behaviour, good):
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server}/{behaviour}/", "http://127.0.0.1:9/", f"{server}/{good}"))
    mnist.make(workplace / "Mnist_dataset")
    check_made(workplace / "Mnist_dataset", files)


def test_a_mirror_that_trickles_is_given_up(server):
    with pytest.raises(ValueError, match=r"only .* bytes came"):
        mnist.download(f"{server}/trickles/mnist.npz")


def test_when_nothing_answers(server, workplace, monkeypatch, capsys):
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server}/silent/", f"{server}/stalls/", f"{server}/silent/mnist.npz"))
    start = time.monotonic()
    assert sources.make_available(None) == "handwriting"
    assert time.monotonic() - start < 3
    assert "using --data handwriting" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"(?s)MNIST_DIR.*--data handwriting") as error:
        sources.make_available("mnist")
    assert "\n" not in str(error.value)
    assert not list(workplace.glob("Mnist_dataset*"))


def test_the_folder_appears_complete_or_not_at_all(files, idx_folder, workplace, monkeypatch):
    def save_until_full(image, path, **options):
        assert not (workplace / "Mnist_dataset").exists()
        if path.name == "00013.png":
            raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(RunError, match=r"Mnist_dataset: cannot be written .no space left.*free some"),
    ):
        patch.setattr(Image.Image, "save", save_until_full)
        mnist.make(workplace / "Mnist_dataset")
    assert not list(workplace.glob("*Mnist_dataset*"))
    mnist.make(workplace / "Mnist_dataset")
    check_made(workplace / "Mnist_dataset", files)


def test_real_mnist_has_the_known_checksums(mnist_dir, workplace, monkeypatch):
    written = []
    monkeypatch.setattr(mnist, "write_dataset", lambda folder, splits: written.append(splits))
    monkeypatch.setenv("MNIST_DIR", str(mnist_dir))
    mnist.make("Mnist_dataset")
    assert {name: len(labels) for name, (_, labels) in written[0].items()} == {"train": 60_000, "test": 10_000}
