import os
import subprocess
import sys

import pytest

from digits import files
from tests.conftest import PROJECT, posix

HOLD = """
import sys, time
from pathlib import Path
from digits import files
with files.atomic_write(Path("a.txt")) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def writer():
    """A process that is writing a.txt in the current folder."""
    command = [sys.executable, "-c", HOLD]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(PROJECT)}
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_what_killed_programs_left_is_removed_but_not_what_others_are_writing(workplace):
    killed, running = writer(), writer()
    killed.kill()
    killed.wait()
    assert len(list(workplace.iterdir())) == 2
    with files.atomic_write(workplace / "b.txt") as temporary:
        temporary.write_text("whole")
        assert sorted(path.name[:6] for path in workplace.iterdir()) == [".a.txt", ".b.txt"]
    running.kill()
    running.communicate()
    files.check_writable(workplace / "c.txt")
    assert [(path.name, path.read_text()) for path in workplace.iterdir()] == [("b.txt", "whole")]


def test_a_file_that_cannot_be_written_is_named(workplace):
    (workplace / "full.txt").write_text("before")
    message = r"full\.txt: cannot be written \(no space left on device\); free some space"
    with pytest.raises(files.WriteError, match=message), files.atomic_write(workplace / "full.txt"):
        raise OSError(28, "No space left on device")
    with pytest.raises(files.WriteError, match=r"nowhere/a\.txt: cannot be written \(no such file"):
        files.check_writable(workplace / "nowhere" / "a.txt")
    assert [(path.name, path.read_text()) for path in workplace.iterdir()] == [("full.txt", "before")]


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '"', "\udcff"])
def test_json_of_any_origin(workplace, text):
    (workplace / "a.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as error:
        files.read_json(workplace / "a.json")
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


@posix
def test_a_json_that_never_ends(workplace):
    os.mkfifo("pipe.json")
    with pytest.raises(ValueError, match="not a file"):
        files.read_json(workplace / "pipe.json")
    with (workplace / "large.json").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ValueError, match="larger than 10 MB"):
        files.read_json(workplace / "large.json")
