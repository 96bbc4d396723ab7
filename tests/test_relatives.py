import gzip
import hashlib
import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

import evaluate
import predict
import train
from digits.cli import UsageError
from digits.data import mnist, pipeline, relatives, strokes
from digits.reading import reader
from extras import difficult
from tests.test_mnist import idx

COUNTS = {"train": 300, "test": 100}


def files_of(name):
    """Small IDX files of a relative, {name: bytes}: drawn digits in the relative's layout; and the images, labels."""
    relative, contents, truth = relatives.RELATIVES[name], {}, {}
    for place, (split, count) in enumerate(COUNTS.items()):
        images, labels = strokes.draw(count, seed=5 + place)
        images = images[..., 0]
        if len(relative.classes) != 10:
            labels = np.arange(count) % len(relative.classes)
        stored = images.transpose(0, 2, 1) if relative.transposed else images
        contents[relative.files[2 * place]] = idx(np.ascontiguousarray(stored))
        contents[relative.files[2 * place + 1]] = idx((labels + relative.first_label).astype(np.uint8))
        truth[split] = images, labels
    return contents, truth


def put(folder, contents, ending=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / (name + ending)).write_bytes(gzip.compress(data) if ending else data)
    return folder


@pytest.mark.parametrize("name", relatives.RELATIVES)
def test_each_kind_becomes_a_folder(name, workplace, monkeypatch):
    contents, truth = files_of(name)
    relative = relatives.RELATIVES[name]
    monkeypatch.setenv(relative.variable, str(put(workplace / "idx", contents)))
    found, folder = pipeline.find(name)
    assert (found, folder) == (name, relatives.folder_of(name))
    for split, (pixels, labels) in truth.items():
        images = pipeline.load(folder, split)
        assert images.classes == relative.classes
        assert images.whole == (name == "fashion")
        assert np.bincount(images.labels).tolist() == np.bincount(labels).tolist()
        for path, label in list(zip(images.files, images.labels, strict=True))[:: len(labels) // 20]:
            place = int(path[-9:-4])  # the file is named after the place in the original set
            np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels[place])
            assert label == labels[place]
    relative_folders = sorted(path.name.lower() for path in (folder / "train").iterdir())
    assert len(set(relative_folders)) == len(relative.classes)  # on a disk that does not tell a from A, too


def test_names_of_the_classes():
    names = {name: relative.classes for name, relative in relatives.RELATIVES.items()}
    assert {name: len(classes) for name, classes in names.items()} == {
        "fashion": 10, "kmnist": 10, "emnist-digits": 10, "emnist-letters": 26, "emnist-balanced": 47
    }  # fmt: skip
    assert names["fashion"][0] == "T-shirt/top" and names["fashion"][9] == "Ankle boot"
    assert names["emnist-balanced"][10] == "A" and names["emnist-balanced"][36:] == list("abdefghnqrt")


def test_train_evaluate_predict_follow(workplace, monkeypatch, capsys):
    contents, _ = files_of("emnist-digits")  # real shapes, so that little training is enough
    letters = {name.replace("digits", "letters"): data for name, data in contents.items()}
    for name in list(letters):
        if "labels" in name:  # 0 … 9 are called a … j
            letters[name] = idx(mnist.array_of(letters[name]) + np.uint8(1))
    monkeypatch.setenv("EMNIST_DIR", str(put(workplace / "idx", letters, ending="")))
    flags = ["--data", "emnist-letters", "--network", "dense64"]
    assert train.main([*flags, "--epochs", "15", "--batch-size", "16", "--augment", "0.2"]) == 0
    about = json.loads((workplace / "emnist-letters_dense64.json").read_text())
    assert about["classes"][:3] == ["a", "b", "c"] and len(about["classes"]) == 26
    assert about["data"]["name"] == "emnist-letters" and about["accuracy"]["test"] > 0.8
    capsys.readouterr()
    assert evaluate.main(flags) == 0
    out = capsys.readouterr().out
    assert "Confused most" in out and "Confusion matrix" not in out  # 26 columns would not fit on a screen
    Image.fromarray(difficult.scan("7", np.random.default_rng(3))).save("h.png")
    assert predict.main([*flags, "--json", "h.png"]) == 0
    reading = json.loads(capsys.readouterr().out)
    assert reading["prediction"] == "h" and set(reading["probabilities"]) == set("abcdefghijklmnopqrstuvwxyz")
    Image.new("L", (50, 50), 255).save("blank.png")
    assert predict.main([*flags, "blank.png"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing found"
    assert predict.main([*flags, "--random"]) == 0
    assert "True label: " in capsys.readouterr().out


def test_clothes_are_seen_whole(workplace, monkeypatch, capsys):
    """A test image reaches the network as it is; a photo is cut out and made a negative, not searched for writing."""
    contents, truth = files_of("fashion")
    monkeypatch.setenv("FASHION_DIR", str(put(workplace / "idx", contents)))
    assert train.main(["--data", "fashion", "--epochs", "1", "--network", "dense64"]) == 0
    model = "fashion_dense64.keras"
    assert reader.sees_whole(model)
    reading = reader.read(truth["test"][0][0], model)
    np.testing.assert_array_equal(reading.image[..., 0], truth["test"][0][0])
    photo = np.full((300, 200, 3), 240, np.uint8)
    photo[50:250, 30:70] = photo[50:250, 130:170] = photo[50:80, 30:170] = (40, 60, 90)  # trousers
    reading = reader.read(photo, model)
    assert reading.box == (30, 50, 140, 200)
    rows, columns = (np.flatnonzero(reading.image[..., 0].any(axis)) for axis in (1, 0))
    assert (rows[0], rows[-1]) == (0, 27) and (columns[0], columns[-1]) == (4, 23)
    assert reading.image.max() > 150 and reading.image[14, 14] == 0  # between the legs
    assert reader.read(np.full((50, 50), 200, np.uint8), model).prediction is None
    Image.fromarray(photo).save("photo.png")
    assert predict.main(["--data", "fashion", "--network", "dense64", "photo.png"]) == 0
    capsys.readouterr()
    assert predict.main(["--data", "fashion", "--network", "dense64", "--steps", "photo.png"]) == 2
    assert "--steps" in capsys.readouterr().err


def spoil(folder, how):
    path = folder / "emnist-letters-test-labels-idx1-ubyte.gz"
    if how == "missing":
        path.unlink()
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif how == "too few":
        path.write_bytes(gzip.compress(idx(np.ones(99, np.uint8))))
    elif how == "0 is no letter":
        path.write_bytes(gzip.compress(idx(np.zeros(100, np.uint8))))
    elif how == "text":
        path.write_bytes(gzip.compress(b"label,a,b"))


@pytest.mark.parametrize("how", ["missing", "cut", "too few", "0 is no letter", "text"])
def test_what_is_wrong_is_named(how, workplace, monkeypatch, capsys):
    spoil(put(workplace / "idx", files_of("emnist-letters")[0]), how)
    monkeypatch.setenv("EMNIST_DIR", "idx")
    assert train.main(["--data", "emnist-letters"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "emnist-letters-test-labels-idx1-ubyte" in err
    assert not list(workplace.glob("Emnist*"))


def test_without_a_source(workplace, monkeypatch, capsys):
    assert train.main(["--data", "kmnist"]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "KMNIST_DIR" in err and "Kmnist_dataset" in err
    monkeypatch.setenv("KMNIST_DIR", "nowhere")
    with pytest.raises(UsageError, match="KMNIST_DIR: nowhere"):
        pipeline.find("kmnist")


class Quiet(SimpleHTTPRequestHandler):
    asked: list

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def server(workplace, monkeypatch):
    """The address of a loopback server of the folder served/."""
    (workplace / "served").mkdir()
    Quiet.asked = []
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(workplace / "served")))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setattr(mnist, "PATIENCE", 2)
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def serve(name, monkeypatch, **changes):
    monkeypatch.setitem(relatives.RELATIVES, name, relatives.RELATIVES[name]._replace(**changes))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_download_of_four_files(server, workplace, monkeypatch):
    good, other = (workplace / "served" / name for name in ("good", "other"))
    contents, _ = files_of("fashion")
    put(good, contents)
    put(other, {name: data[:-1] + b"\7" for name, data in contents.items()})
    sums = tuple(md5(good / f"{name}.gz") for name in contents)
    serve("fashion", monkeypatch, mirrors=(f"{server}/none/", f"{server}/other/", f"{server}/good/"), md5=sums)
    assert pipeline.find("fashion")[1].is_dir()
    assert Quiet.asked[:2] == ["/none/train-images-idx3-ubyte.gz", "/other/train-images-idx3-ubyte.gz"]
    serve("kmnist", monkeypatch, mirrors=(f"{server}/other/",), md5=sums)
    with pytest.raises(UsageError, match="wrong checksum"):
        pipeline.find("kmnist")


def test_the_archive_of_emnist_is_downloaded_once(server, workplace, monkeypatch):
    path = workplace / "served" / "gzip.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("emnist-digits", "emnist-letters"):
            for file, data in files_of(name)[0].items():
                archive.writestr(f"gzip/{file}.gz", gzip.compress(data))
    for name in ("emnist-digits", "emnist-letters", "emnist-balanced"):
        serve(name, monkeypatch, mirrors=(f"{server}/gzip.zip",), md5=(md5(path),))
    for name in ("emnist-digits", "emnist-letters"):
        assert pipeline.find(name)[1].is_dir()
    assert Quiet.asked == ["/gzip.zip"]
    with pytest.raises(UsageError, match="emnist-balanced-train-images"):  # this archive has it not
        pipeline.find("emnist-balanced")
    monkeypatch.setenv("EMNIST_DIR", str(workplace / "served"))  # the archive as one has downloaded it oneself
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    assert pipeline.find("emnist-letters")[1].is_dir()


def test_an_archive_that_is_another_is_not_kept(server, workplace, monkeypatch):
    (workplace / "served" / "gzip.zip").write_bytes(b"<html>moved</html>")
    serve("emnist-letters", monkeypatch, mirrors=(f"{server}/gzip.zip",))
    with pytest.raises(UsageError, match="wrong checksum"):
        pipeline.find("emnist-letters")
    assert not [path for path in mnist.keras_cache().iterdir()]
