import dataclasses
import gc
import sys

import pytest

from digits import cli
from digits.cli import number, numbers, option


@dataclasses.dataclass
class Settings:
    words: list = option((), "words", positional=True)
    learning_rate: float = option(0.1, "rate", number(float, above=0, most=1))
    sizes: list = option(None, "sizes (default: 1,2)", numbers(int, 1, 9, count=3))
    verbose: bool = option(False, "say more")
    names: tuple = option((), "may be repeated")

    def __post_init__(self):
        if self.verbose and self.sizes:
            raise cli.UsageError("--verbose: not with --sizes")


def parse(*argv):
    return cli.Parser("What it does.", Settings).settings(argv)


def test_flags_follow_from_the_settings(capsys):
    assert parse() == Settings()
    given = parse("a", "b", "--learning-rate", "1", "--sizes", "3,4", "--names", "x", "--names", "y")
    assert given == Settings(["a", "b"], 1.0, [3, 4], False, ["x", "y"])
    with pytest.raises(SystemExit):
        parse("--help")
    text = capsys.readouterr().out
    assert text.count("(default: 0.1)") == 1 and "What it does." in text and "--learning-rate" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--learning-rate 0", "must be more than 0 and at most 1"),
        ("--learning-rate nan", "out of range"),
        ("--sizes 1,x", "'x' is not a whole number"),
        ("--sizes 1,2,3,4", "at most 3"),
        ("--verbose --sizes 1", "not with --sizes"),
    ],
)
def test_a_mistake_is_reported_in_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as error:
        parse(*argv.split())
    assert error.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("before", [gc.enable, gc.disable])
def test_the_import_of_tensorflow_leaves_the_garbage_collection_as_it_was(before, workplace, monkeypatch):
    """Else a program that reads many pictures would grow, or one that had it off would stop for it."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # so that what was imported comes back after the test
    del sys.modules["tensorflow"]
    monkeypatch.syspath_prepend(workplace)
    (workplace / "tensorflow.py").write_text("import gc\nraise ImportError('on' if gc.isenabled() else 'off')\n")
    before()
    with pytest.raises(ImportError, match="off"):
        cli.import_tensorflow()
    after = gc.isenabled()
    gc.enable()
    assert after == (before is gc.enable) and gc.get_freeze_count() == 0
