import pytest

from digits.cli import UsageError
from digits.data import sources


def test_names_and_folders(workplace):
    assert [sources.name_of(data) for data in (None, "mnist", "handwriting", "my/letters", ".")] == [
        "mnist", "mnist", "handwriting", "letters", workplace.name,
    ]  # fmt: skip
    (workplace / "Mnist_dataset").mkdir()
    assert sources.make_available(None) == sources.make_available("mnist") == "mnist"
    assert sources.make_available("letters") == "letters"
    with pytest.raises(UsageError, match=r"--data drawn.*--data handwriting"):
        sources.make_available("drawn")
