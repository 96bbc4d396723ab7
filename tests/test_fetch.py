import gzip
import hashlib
import json
import shutil
import zipfile
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

import evaluate
import predict
import train
from digits import model
from digits.cli import RunError
from digits.data import mnist, sources
from digits.data.folders import load_folder
from digits.reading import reader
from extras import difficult, fetch
from tests.conftest import digits, idx, one_line


def files_of(name):
    """Small gzipped IDX files of a data set, {name: bytes}: digits in its layout; {split: (images, labels)}."""
    dataset, contents, truth = fetch.DATASETS[name], {}, {}
    for index, (split, count) in enumerate((("train", 300), ("test", 100))):
        images, labels = digits(count, seed=5 + index)
        truth[split] = images[..., 0], labels if len(dataset.classes) == 10 else np.arange(count) % len(dataset.classes)
        stored = images[..., 0].transpose(0, 2, 1) if dataset.transposed else images[..., 0]
        arrays = np.ascontiguousarray(stored), (truth[split][1] + dataset.first_label).astype(np.uint8)
        for file, array in zip(dataset.files[2 * index :], arrays, strict=False):
            contents[f"{file}.gz"] = gzip.compress(idx(array))
    return contents, truth


def put(folder, contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def idx_folder(workplace, monkeypatch):
    """The folder idx/ that all variables name."""
    for dataset in fetch.DATASETS.values():
        monkeypatch.setenv(dataset.variable, "idx")
    return workplace / "idx"


@pytest.mark.parametrize("name", fetch.DATASETS)
def test_each_kind_becomes_a_folder(name, idx_folder):
    contents, truth = files_of(name)
    put(idx_folder, contents)
    assert fetch.main([name]) == 0
    classes = fetch.DATASETS[name].classes
    for split, (pixels, labels) in truth.items():
        images = load_folder(Path(name), split)
        assert (images.classes, images.segment) == (classes, name != "fashion")
        assert np.bincount(images.labels).tolist() == np.bincount(labels).tolist()
        for path, label in list(zip(images.paths, images.labels, strict=True))[:: len(labels) // 20]:
            index = int(path[-9:-4])  # the file is named after the index in the original set
            np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels[index])
            assert label == labels[index]
    folders = {path.name.lower() for path in Path(name, "train").iterdir()}
    assert len(folders) == len(classes)  # on a disk that does not tell a from A, too


def test_names_of_the_classes():
    names = {name: dataset.classes for name, dataset in fetch.DATASETS.items()}
    assert [len(names[name]) for name in sources.FETCHED] == [10, 10, 10, 26, 47] and len(names) == 5
    assert names["fashion"][0] == "T-shirt/top" and names["fashion"][9] == "Ankle boot"
    assert names["emnist-balanced"][10] == "A" and names["emnist-balanced"][36:] == list("abdefghnqrt")


@pytest.mark.slow
def test_train_evaluate_predict_follow(idx_folder, capsys):
    contents, truth = files_of("emnist-digits")  # real shapes, so that little training is enough
    for split, (_, labels) in truth.items():  # 0 … 9 are called a … j; not gzipped
        contents[f"emnist-digits-{split}-labels-idx1-ubyte.gz"] = gzip.compress(idx((labels + 1).astype(np.uint8)))
    put(idx_folder, {name[:-3].replace("digits", "letters"): gzip.decompress(data) for name, data in contents.items()})
    assert fetch.main(["emnist-letters"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Made emnist-letters/: 300 training and 100 test images")
    assert fetch.main(["emnist-letters"]) == 0 and "already there" in capsys.readouterr().out
    flags = ["--data", "emnist-letters", "--network", "dense64"]
    assert train.main([*flags, "--epochs", "15", "--batch-size", "16", "--augment", "0.2"]) == 0
    about = json.loads(Path("emnist-letters_dense64.json").read_text())
    assert about["classes"][:3] == ["a", "b", "c"] and len(about["classes"]) == 26
    assert about["data"]["name"] == "emnist-letters" and about["accuracy"]["test"] > 0.6
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


def test_pictures_of_clothes_are_used_whole(idx_folder, capsys):
    """A test image reaches the network as it is; a photo is cut out and made a negative, not searched for writing."""
    contents, truth = files_of("fashion")
    put(idx_folder, contents)
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


BAD_FILES = {
    "too few": gzip.compress(idx(np.ones(99, np.uint8))),
    "0 is no letter": gzip.compress(idx(np.zeros(100, np.uint8))),
    "text": gzip.compress(b"label,a,b"),
    "cut": gzip.compress(idx(np.ones(100, np.uint8)))[:-10],
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_named(content, idx_folder, capsys):
    path = put(idx_folder, files_of("emnist-letters")[0]) / "emnist-letters-test-labels-idx1-ubyte.gz"
    path.write_bytes(content)
    one_line(capsys, fetch.main(["emnist-letters"]), path.stem)
    assert not Path("emnist-letters").exists()


def test_without_a_source(capsys):
    assert fetch.main(["kmnist"]) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "kmnist is not available" in err and "KMNIST_DIR" in err


@pytest.fixture
def download(monkeypatch):
    """mnist.download(), counted; here folders are mirrors, at file: addresses."""
    monkeypatch.setattr(mnist, "download", Mock(wraps=mnist.download))
    return mnist.download


def set_source(monkeypatch, name, mirrors, *files):
    """Let a data set have these mirrors, and the checksums of these files' bytes."""
    md5 = [hashlib.md5(data).hexdigest() for data in files]
    monkeypatch.setitem(fetch.DATASETS, name, fetch.DATASETS[name]._replace(mirrors=mirrors, md5=md5))


def test_download_of_four_files(download, workplace, monkeypatch):
    good, _ = files_of("fashion")
    put(workplace / "good", good)
    put(workplace / "other", {name: data[:-1] for name, data in good.items()})
    mirrors = [f"{(workplace / name).as_uri()}/" for name in ("none", "other", "good")]
    set_source(monkeypatch, "fashion", mirrors, *good.values())
    cached = put(mnist.keras_cache(), {"fashion-t10k-labels-idx1-ubyte.gz": b"another"})
    fetch.fetch("fashion")
    assert (cached / "fashion-t10k-labels-idx1-ubyte.gz").read_bytes() == good["t10k-labels-idx1-ubyte.gz"]
    assert [call.args[0] for call in download.call_args_list[:2]] == [
        f"{mirror}train-images-idx3-ubyte.gz" for mirror in mirrors[:2]
    ]
    assert load_folder(Path("fashion"), "test").classes == fetch.DATASETS["fashion"].classes
    set_source(monkeypatch, "kmnist", mirrors[1:2], *good.values())
    with pytest.raises(RunError, match="wrong checksum"):
        fetch.fetch("kmnist")
    assert not list(cached.glob("*kmnist*"))  # what is another is not kept


def test_the_archive_of_emnist_is_downloaded_once(download, workplace, monkeypatch):
    path = put(workplace / "served", {}) / "gzip.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("emnist-digits", "emnist-letters"):
            for file, data in files_of(name)[0].items():
                archive.writestr(f"gzip/{file}", data)
    for name in ("emnist-digits", "emnist-letters", "emnist-balanced"):
        set_source(monkeypatch, name, [path.as_uri()], path.read_bytes())
    for name in ("emnist-digits", "emnist-letters"):
        fetch.fetch(name)
    with pytest.raises(RunError, match="emnist-balanced-train-images"):  # not in this archive
        fetch.fetch("emnist-balanced")
    download.assert_called_once_with(path.as_uri())
    monkeypatch.setenv("EMNIST_DIR", "served")  # the archive as downloaded by hand
    shutil.rmtree("emnist-letters")
    fetch.fetch("emnist-letters")
    assert Path("emnist-letters").is_dir()
