import dataclasses
import gc
import os
import subprocess
import sys

import pytest

import digits
from digits import cli
from digits.cli import number, numbers, option
from tests.conftest import PROJECT, posix


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


SCRIPT = """
import sys, time
from digits import cli
def work():
    for line in range(3000):
        print("line", line, "x" * 100, flush=True)
        print("progress", file=sys.stderr)
    open("done", "w").close()
sys.exit(cli.run(work, keep_going={keep_going}))
"""


@pytest.mark.parametrize("keep_going", [True, False])
def test_when_the_reader_of_the_output_has_gone(keep_going, workplace):
    """As in `script 2>&1 | head -1`: work that saves something goes on, other work ends quietly."""
    command = [sys.executable, "-c", SCRIPT.format(keep_going=keep_going)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 0
    assert (workplace / "done").exists() == keep_going


@posix
@pytest.mark.parametrize(("redirection", "status"), [(">&-", 2), ("2>&-", 0)])
def test_closed_streams(redirection, status, workplace):
    code = "import sys; from digits import cli; sys.exit(cli.run(lambda: print('answer', file=sys.stderr)))"
    command = f'{sys.executable} -c "{code}" {redirection}'
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    process = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert process.returncode == status and "Traceback" not in process.stderr
    assert ("standard output is closed" in process.stderr) == (status == 2)


def test_names_in_errors_are_printable(capsys):
    def work():
        raise cli.UsageError("bad\udcff\x1b[31m.png: no such file")

    assert cli.run(work) == 2
    assert capsys.readouterr().err.endswith(": error: bad\\udcff\\x1b[31m.png: no such file\n")


def test_errors_of_libraries_are_not_cut_at_their_first_line():
    assert cli.in_one_line(ValueError("one object could not be loaded:\n  <Dense>")).endswith("loaded: <Dense>")
    assert len(cli.in_one_line(ValueError("x" * 1000))) < 310


def test_values_that_begin_with_a_minus(capsys):
    with pytest.raises(SystemExit):
        parse("--sizes", "-5,2")
    assert "-5 is out of range" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as error:
        parse("--version")
    assert error.value.code == 0
    assert f"{digits.__version__} (Python {sys.version.split()[0]}, TensorFlow " in capsys.readouterr().out
