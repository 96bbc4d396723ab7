import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from digits.cli import UsageError
from digits.data import folders, pipeline
from digits.data.folders import Images, load_folder, train_val_split

BAD_FILES = {
    "text.png": lambda path: path.write_text("no image"),
    "empty.png": lambda path: path.write_bytes(b""),
    "large.png": lambda path: Image.new("L", (29, 28)).save(path),
    "colour.png": lambda path: Image.new("RGB", (28, 28)).save(path),
    "alpha.png": lambda path: Image.new("LA", (28, 28)).save(path),
    "palette.png": lambda path: Image.new("P", (28, 28)).save(path),
    "bits.png": lambda path: Image.new("1", (28, 28)).save(path),
    "deep.png": lambda path: Image.new("I;16", (28, 28)).save(path),
    "photo.jpg": lambda path: Image.new("L", (28, 28)).save(path),
    "notes.txt": lambda path: path.write_text("notes"),
    "cut.png": lambda path: path.write_bytes((path.parent / "00004.png").read_bytes()[:-60]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_is_not_such_an_image_is_named(folder, name):
    BAD_FILES[name](folder / "train" / "4" / name)
    with pytest.raises(UsageError) as error:
        pipeline.decode(load_folder(folder, "train"))
    assert str(folder / "train" / "4" / name) in str(error.value)
    assert "28×28" in str(error.value)


@pytest.fixture(scope="module")
def decoded(small_folder):
    return pipeline.decode(load_folder(small_folder, "train"))


def epochs(decoded, seed=0, augment=0.0, first=0, total=2):
    """Batches as arrays, a list for each epoch."""
    batches = [
        (pixels.numpy(), labels.numpy())
        for pixels, labels in pipeline.training_batches(decoded, 64, 3, augment, seed, first, total)
    ]
    return [batches[start : start + 5] for start in range(0, len(batches), 5)]


def test_each_epoch_has_every_image_once_in_another_order(decoded):
    first, second = epochs(decoded)
    everything = np.stack([image for image, _ in decoded.as_numpy_iterator()])
    for epoch in (first, second):
        assert [len(labels) for _, labels in epoch] == [64, 64, 64, 64, 44]
        pixels = np.concatenate([pixels for pixels, _ in epoch])
        assert pixels.dtype == np.float32
        np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])
        assert sorted(map(bytes, pixels[..., 0].astype(np.uint8))) == sorted(map(bytes, everything[..., 0]))
    assert not np.array_equal(first[0][1], second[0][1])


@pytest.mark.parametrize("augment", [0.0, 0.7])
def test_an_epoch_follows_from_seed_and_number_alone(decoded, augment):
    all_three = epochs(decoded, augment=augment, total=3)
    resumed = epochs(decoded, augment=augment, first=2, total=3)
    np.testing.assert_array_equal(all_three[2][3][0], resumed[0][3][0])
    batches = pipeline.training_batches(decoded, 64, 3, augment, 0, 0, 1)
    once, again = ([labels.numpy().tolist() for _, labels in batches] for _ in range(2))
    assert once == again
    assert not np.array_equal(all_three[2][3][0], epochs(decoded, seed=1, augment=augment, first=2, total=3)[0][3][0])


def test_distortion_is_modest_and_grows_with_strength(decoded):
    pixels = tf.cast(next(iter(decoded.batch(200)))[0], tf.float32)
    changes = [float(tf.reduce_mean(abs(pipeline.augment(pixels, s, (0, 0)) - pixels))) for s in (0.0, 0.1, 0.5, 1.0)]
    assert changes[0] < 0.01
    assert changes == sorted(changes)
    ink = tf.reduce_sum(pipeline.augment(pixels, 1.0, (0, 1)), (1, 2, 3)) / tf.reduce_sum(pixels, (1, 2, 3))
    assert float(tf.reduce_min(ink)) > 0.6 and float(tf.reduce_max(ink)) < 1.5


def test_the_fingerprint_tells_data_apart(folder, decoded):
    same = pipeline.fingerprint(pipeline.decode(load_folder(folder, "train")))
    assert same == pipeline.fingerprint(decoded)
    Image.new("L", (28, 28)).save(folder / "train" / "0" / "00000.png")
    assert same != pipeline.fingerprint(pipeline.decode(load_folder(folder, "train")))


def test_names_need_not_be_utf8(folder):
    (folder / "test" / "3").rename(folder / "test" / "bad\udcff")
    images = load_folder(folder, "test")
    assert images.classes[-1] == "bad\\udcff"
    assert len(list(pipeline.decode(images))) == 100
    (folder / "test" / "4").rename(folder / "test" / "bad\\udcff")  # would have the same name
    with pytest.raises(UsageError, match="two classes have the same name"):
        load_folder(folder, "test")


def test_where_decoded_images_are_kept(workplace, monkeypatch):
    images = Images(["0", "1"], np.zeros(1000, int), np.array(["a.png"] * 1000))
    on_disk = pipeline.Cache("disk", workplace)
    assert pipeline.choose_cache("auto", images, workplace) == pipeline.MEMORY
    assert pipeline.choose_cache("disk", images, workplace) == on_disk
    monkeypatch.setattr(pipeline, "free_memory", lambda: 2_000_000)
    assert pipeline.choose_cache("auto", images, workplace) == on_disk
    drawn = images._replace(paths=None, pixels=np.zeros((1000, 28, 28, 1), np.uint8))
    assert pipeline.choose_cache("auto", drawn, workplace) == pipeline.MEMORY
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert pipeline.choose_cache("auto", images, workplace).kind == "none"
    with pytest.raises(UsageError, match="--cache"):
        pipeline.choose_cache("disk", images, workplace)
    assert pipeline.free_memory() > 0


def test_the_cache_on_disk_takes_the_room_that_is_reserved(small_folder, workplace):
    images = load_folder(small_folder, "train").select(np.tile(np.arange(300), 10))
    cache = pipeline.choose_cache("disk", images, workplace)
    decoded = pipeline.decode(images, cache, "training")
    assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= 3000 * pipeline.IMAGE_BYTES
    assert len(decoded) == 3000


def test_more_images_than_are_shuffled_at_once(decoded, small_folder, monkeypatch):
    """They come in random order, those that are added among the others; the rest does not change."""
    images = load_folder(small_folder, "train")
    assert (np.diff(train_val_split(images, 0.1)[0].labels) >= 0).all()
    pixels, labels = np.full((100, 28, 28, 1), 7, np.uint8), np.full(100, 7)

    def added(*arguments, **options):
        """Which images of the mixture are from the second set."""
        mixed = list(pipeline.mix_in(decoded, *arguments, **options).as_numpy_iterator())
        assert len(mixed) == len(pipeline.mix_in(decoded, *arguments, **options)) == 400
        return [bool((image == 7).all()) for image, _ in mixed]

    assert added(pixels, labels) == [False] * 300 + [True] * 100
    monkeypatch.setattr(pipeline, "SHUFFLE_BUFFER", 50)
    monkeypatch.setattr(folders, "SHUFFLE_BUFFER", 50)
    training, validation = train_val_split(images, 0.1)
    assert sorted(training.paths) == sorted(set(images.paths) - set(validation.paths))
    assert np.bincount(training.labels[:90], minlength=10).max() < 30
    many = added(pixels, labels)
    assert sum(many) == 100 and 15 < sum(many[:100]) < 35
    assert sum(added(pixels[:50], labels[:50], times=2)) == 100
    monkeypatch.setattr(pipeline, "SHUFFLE_BUFFER", 350)  # the images fit, and are in the order of their classes
    labels_of = [int(label) for _, label in pipeline.mix_in(decoded, pixels, labels).as_numpy_iterator()]
    assert len(labels_of) == 400 and np.bincount(labels_of[:120], minlength=10)[:7].max() < 30
