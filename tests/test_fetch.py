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
from digits import model
from digits.cli import RunError
from digits.data import mnist, strokes
from digits.data.folders import load_folder
from digits.reading import reader
from extras import difficult, fetch
from tests.conftest import idx, one_line

COUNTS = {"train": 300, "test": 100}


def files_of(name):
    """Small IDX files of a data set, {name: bytes}: drawn digits in the data set's layout; and the images, labels."""
    dataset, contents, truth = fetch.DATASETS[name], {}, {}
    for place, (split, count) in enumerate(COUNTS.items()):
        images, labels = strokes.draw(count, seed=5 + place)
        images = images[..., 0]
        if len(dataset.classes) != 10:
            labels = np.arange(count) % len(dataset.classes)
        stored = images.transpose(0, 2, 1) if dataset.transposed else images
        contents[dataset.files[2 * place]] = idx(np.ascontiguousarray(stored))
        contents[dataset.files[2 * place + 1]] = idx((labels + dataset.first_label).astype(np.uint8))
        truth[split] = images, labels
    return contents, truth


def put(folder, contents, ending=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / (name + ending)).write_bytes(gzip.compress(data) if ending else data)
    return folder


@pytest.mark.parametrize("name", fetch.DATASETS)
def test_each_kind_becomes_a_folder(name, workplace, monkeypatch):
    contents, truth = files_of(name)
    dataset = fetch.DATASETS[name]
    monkeypatch.setenv(dataset.variable, str(put(workplace / "idx", contents)))
    assert fetch.main([name]) == 0
    folder = workplace / name
    for split, (pixels, labels) in truth.items():
        images = load_folder(folder, split)
        assert images.classes == dataset.classes
        assert images.segment == (name != "fashion")
        assert np.bincount(images.labels).tolist() == np.bincount(labels).tolist()
        for path, label in list(zip(images.paths, images.labels, strict=True))[:: len(labels) // 20]:
            place = int(path[-9:-4])  # the file is named after the index in the original set
            np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels[place])
            assert label == labels[place]
    class_folders = sorted(path.name.lower() for path in (folder / "train").iterdir())
    assert len(set(class_folders)) == len(dataset.classes)  # on a disk that does not tell a from A, too


def test_names_of_the_classes():
    names = {name: dataset.classes for name, dataset in fetch.DATASETS.items()}
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
            letters[name] = idx(mnist.parse_idx(letters[name]) + np.uint8(1))
    monkeypatch.setenv("EMNIST_DIR", str(put(workplace / "idx", letters, ending="")))
    assert fetch.main(["emnist-letters"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Made emnist-letters/: 300 training and 100 test images")
    assert fetch.main(["emnist-letters"]) == 0 and "already there" in capsys.readouterr().out
    flags = ["--data", "emnist-letters", "--network", "dense64"]
    assert train.main([*flags, "--epochs", "15", "--batch-size", "16", "--augment", "0.2"]) == 0
    about = json.loads((workplace / "emnist-letters_dense64.json").read_text())
    assert about["classes"][:3] == ["a", "b", "c"] and len(about["classes"]) == 26
    assert about["data"]["name"] == "emnist-letters" and about["accuracy"]["test"] > 0.8
    capsys.readouterr()
    assert evaluate.main(flags) == 0
    out = capsys.readouterr().out
    assert "Most confused" in out and "Confusion matrix" not in out  # 26 columns would not fit on a screen
    Image.fromarray(difficult.KINDS["scan"]("7", np.random.default_rng(3))).save("h.png")
    assert predict.main([*flags, "--json", "h.png"]) == 0
    reading = json.loads(capsys.readouterr().out)
    assert reading["prediction"] == "h" and set(reading["probabilities"]) == set("abcdefghijklmnopqrstuvwxyz")
    Image.new("L", (50, 50), 255).save("blank.png")
    assert predict.main([*flags, "blank.png"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing found"
    assert predict.main([*flags, "--random"]) == 0
    assert "True label: " in capsys.readouterr().out


def test_pictures_of_clothes_are_used_whole(workplace, monkeypatch, capsys):
    """A test image reaches the network as it is; a photo is cut out and made a negative, not searched for writing."""
    contents, truth = files_of("fashion")
    monkeypatch.setenv("FASHION_DIR", str(put(workplace / "idx", contents)))
    assert fetch.main(["fashion"]) == 0
    assert train.main(["--data", "fashion", "--epochs", "1", "--network", "dense64"]) == 0
    path = "fashion_dense64.keras"
    assert not model.describe(path).segment
    reading = reader.read(truth["test"][0][0], path)
    np.testing.assert_array_equal(reading.image[..., 0], truth["test"][0][0])
    photo = np.full((300, 200, 3), 240, np.uint8)
    photo[50:250, 30:70] = photo[50:250, 130:170] = photo[50:80, 30:170] = (40, 60, 90)  # trousers
    reading = reader.read(photo, path)
    assert reading.box == (30, 50, 140, 200)
    rows, columns = (np.flatnonzero(reading.image[..., 0].any(axis)) for axis in (1, 0))
    assert (rows[0], rows[-1]) == (0, 27) and (columns[0], columns[-1]) == (4, 23)
    assert reading.image.max() > 150 and reading.image[14, 14] == 0  # between the legs
    assert reader.read(np.full((50, 50), 200, np.uint8), path).prediction is None
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
def test_a_bad_file_is_named(how, workplace, monkeypatch, capsys):
    spoil(put(workplace / "idx", files_of("emnist-letters")[0]), how)
    monkeypatch.setenv("EMNIST_DIR", "idx")
    one_line(capsys, fetch.main(["emnist-letters"]), "emnist-letters-test-labels-idx1-ubyte")
    assert not (workplace / "emnist-letters").exists()


def test_without_a_source(monkeypatch, capsys):
    assert fetch.main(["kmnist"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "kmnist is not available" in err and "KMNIST_DIR" in err
    monkeypatch.setenv("KMNIST_DIR", "nowhere")
    one_line(capsys, fetch.main(["kmnist"]), "KMNIST_DIR: nowhere")


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
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(mnist, "TIMEOUT", 2)
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


def serve(name, monkeypatch, **changes):
    monkeypatch.setitem(fetch.DATASETS, name, fetch.DATASETS[name]._replace(**changes))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_download_of_four_files(server, workplace, monkeypatch):
    good, other = (workplace / "served" / name for name in ("good", "other"))
    contents, _ = files_of("fashion")
    put(good, contents)
    put(other, {name: data[:-1] + b"\7" for name, data in contents.items()})
    sums = tuple(md5(good / f"{name}.gz") for name in contents)
    serve("fashion", monkeypatch, mirrors=(f"{server}/none/", f"{server}/other/", f"{server}/good/"), md5=sums)
    fetch.fetch("fashion")
    assert Quiet.asked[:2] == ["/none/train-images-idx3-ubyte.gz", "/other/train-images-idx3-ubyte.gz"]
    serve("kmnist", monkeypatch, mirrors=(f"{server}/other/",), md5=sums)
    with pytest.raises(RunError, match="wrong checksum"):
        fetch.fetch("kmnist")


def test_the_archive_of_emnist_is_downloaded_once(server, workplace, monkeypatch):
    path = workplace / "served" / "gzip.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("emnist-digits", "emnist-letters"):
            for file, data in files_of(name)[0].items():
                archive.writestr(f"gzip/{file}.gz", gzip.compress(data))
    for name in ("emnist-digits", "emnist-letters", "emnist-balanced"):
        serve(name, monkeypatch, mirrors=(f"{server}/gzip.zip",), md5=(md5(path),))
    for name in ("emnist-digits", "emnist-letters"):
        fetch.fetch(name)
    assert Quiet.asked == ["/gzip.zip"]
    with pytest.raises(RunError, match="emnist-balanced-train-images"):  # not in this archive
        fetch.fetch("emnist-balanced")
    monkeypatch.setenv("EMNIST_DIR", str(workplace / "served"))  # the archive as downloaded by hand
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    fetch.fetch("emnist-letters")


def test_an_archive_that_is_another_is_not_kept(server, workplace, monkeypatch):
    (workplace / "served" / "gzip.zip").write_bytes(b"<html>moved</html>")
    serve("emnist-letters", monkeypatch, mirrors=(f"{server}/gzip.zip",))
    with pytest.raises(RunError, match="wrong checksum"):
        fetch.fetch("emnist-letters")
    assert not [path for path in mnist.keras_cache().iterdir()]
