import json

import numpy as np
import pytest
from PIL import Image

from digits.cli import UsageError
from digits.data import pipeline
from digits.data.folders import load_folder, train_val_split


def test_a_folder_with_metadata_files_of_operating_systems(folder):
    (folder / "train" / ".DS_Store").write_bytes(b"x")
    (folder / "train" / "__MACOSX").mkdir()
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    (folder / "train" / "3" / "Thumbs.db").write_bytes(b"x")
    (folder / "train" / "3" / "._00003.png").write_bytes(b"x")
    images = load_folder(folder, "train")
    assert images.classes == list("0123456789")
    assert np.bincount(images.labels).tolist() == [30] * 10
    pixels, label = next(iter(pipeline.decode(images).skip(30).as_numpy_iterator()))
    assert (pixels.shape, pixels.dtype, label) == ((28, 28, 1), np.uint8, 1)
    np.testing.assert_array_equal(pixels[..., 0], np.asarray(Image.open(images.paths[30])))


def test_missing_parts_are_named(folder, workplace):
    (folder / "train" / "x").mkdir()
    with pytest.raises(UsageError, match="train/x: no images"):
        load_folder(folder, "train")
    with pytest.raises(UsageError, match="nothing/train: no such folder"):
        load_folder(workplace / "nothing", "train")
    (workplace / "one" / "train" / "a").mkdir(parents=True)
    with pytest.raises(UsageError, match="at least 2"):
        load_folder(workplace / "one", "train")


def test_the_validation_split_takes_the_same_share_of_each_class(small_folder):
    images = load_folder(small_folder, "train")
    training, validation = train_val_split(images, 0.1)
    assert np.bincount(validation.labels).tolist() == [3] * 10
    assert sorted([*training.paths, *validation.paths]) == sorted(images.paths)
    np.testing.assert_array_equal(validation.paths, train_val_split(images, 0.1)[1].paths)
    assert len(train_val_split(images, 0)[1].labels) == 0
    assert np.bincount(train_val_split(images, 0.999)[0].labels).tolist() == [1] * 10


def test_shards_are_equal_and_complete(small_folder):
    images = load_folder(small_folder, "train")
    shards = [images.shard(rank, 7) for rank in range(7)]
    assert [len(shard.labels) for shard in shards] == [42] * 7
    assert sorted(path for shard in shards for path in shard.paths) == sorted(images.paths[:294])
    assert images.shard(0, 1).paths.tolist() == images.paths.tolist()


def test_class_names_are_those_of_the_folders_or_of_dataset_json(folder):
    (folder / "test" / "0").rename(folder / "test" / "äpfel")
    (folder / "test" / "5").rename(folder / "test" / "b")
    assert load_folder(folder, "test").classes == [*"12346789", "b", "äpfel"]
    names = {str(digit): f"digit {digit}" for digit in range(10)}
    (folder / "dataset.json").write_text(json.dumps({"classes": names, "segment": False}))
    images = load_folder(folder, "train")
    assert images.classes == list(names.values()) and not images.segment
    (folder / "dataset.json").write_text(json.dumps({"classes": names, "whole": True}))  # of an earlier version
    assert not load_folder(folder, "train").segment
    for text in ("{", "[]", json.dumps({"classes": names | {"1": "digit 0"}})):
        (folder / "dataset.json").write_text(text)
        with pytest.raises(UsageError, match=r"dataset\.json: damaged"):
            load_folder(folder, "train")
