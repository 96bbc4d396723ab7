import numpy as np

from digits.data import sources


def test_names_and_folders(workplace):
    assert [sources.name_of(data) for data in (None, "mnist", "drawn", "my/letters", ".")] == [
        "mnist", "mnist", "drawn", "letters", workplace.name,
    ]  # fmt: skip
    (workplace / "Mnist_dataset").mkdir()
    assert sources.make_available(None) == sources.make_available("mnist") == "mnist"
    assert sources.make_available("letters") == "letters"


def test_drawn_digits(monkeypatch):
    monkeypatch.setattr(sources, "DRAWN", {"train": (200, 1), "test": (50, 2)})
    images = sources.load("drawn", "test")
    assert images.paths is None and images.pixels.shape == (50, 28, 28, 1)
    assert np.bincount(images.labels).tolist() == [5] * 10 and images.classes == list("0123456789")
