"""Files: written completely or not at all, by one program at a time; JSON of any origin, read with care."""

import errno
import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from digits import PROJECT
from digits.cli import RunError, in_one_line, printable

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None
    import msvcrt

LOCK = "lock"  # file in a temporary folder that its owner keeps locked
MAX_JSON_BYTES = 10_000_000
FULL = errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)


@contextmanager
def atomic_write(path):
    """Yield a temporary path of the same name; move it to `path`, a file or folder, if all went well.

    Raises WriteError if it cannot be written.
    """
    path = Path(path)
    try:
        with temporary_folder(path) as folder:
            yield (temporary := folder / path.name)
            os.replace(temporary, path)
    except OSError as error:
        raise WriteError(path, error) from error


class WriteError(RunError):
    """A path cannot be written."""

    def __init__(self, path, error):
        """error: the OSError that says why."""
        advice = "free some space" if error.errno in FULL else "run it in a folder of your own"
        super().__init__(f"{path}: cannot be written ({reason(error)}); {advice}")


def make_folder(folder):
    """Make a folder, and those that it is in, if it is missing. Raises WriteError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(folder, error) from error


def check_writable(path):
    """Raise WriteError if `path` could not be written now."""
    try:
        with temporary_folder(path):
            pass
    except OSError as error:
        raise WriteError(path, error) from error


def reason(error):
    """Why the system refused something, in lower case, from an OSError."""
    return (error.strerror or in_one_line(error)).lower()


def in_project(path):
    """A path, or that of the project's own file of this name if the current folder has none."""
    own = PROJECT / path
    return own if own.exists() and not os.path.exists(path) else path


def keep_previous(path):
    """Copy a file that is about to be replaced to previous(path), if it exists."""
    if path.exists():
        keep_as(previous(path), path)


def keep_as(copy, path):
    """Copy a file, completely or not at all."""
    with atomic_write(copy) as temporary:
        shutil.copy2(path, temporary)


def previous(path, word="previous"):
    """Where the file is kept that `path` replaces: <stem>.previous<suffix>."""
    return path.with_name(f"{path.stem}.{word}{path.suffix}")


# Temporary folders: each holds a locked file, so that one whose program was killed can be told from one in use.


@contextmanager
def temporary_folder(target):
    """Yield a new hidden folder beside `target`, removed at the end; first remove those of killed programs."""
    parent = target.absolute().parent
    for leftover in parent.glob(".*.partial-*"):
        _remove_if_abandoned(leftover)
    folder, lock = _locked_folder(_prefix(target), parent)
    try:
        yield folder
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def others_at_work(folder, target):
    """Whether another running program has a temporary_folder() for `target` too; folder: our own."""
    return any(other != folder for other in folder.parent.glob(f"{_prefix(target)}*"))


def _prefix(target):
    return f".{target.name[:100]}.partial-"  # a name has at most 255 bytes


def _locked_folder(prefix, parent):
    """Return (a new folder, its open and locked file)."""
    for attempts_left in (2, 1, 0):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = (folder / LOCK).open("wb")
        if _try_lock(lock) or not attempts_left:  # some network drives have no locks
            return folder, lock
        lock.close()  # another program had just begun to remove it as a leftover
        shutil.rmtree(folder, ignore_errors=True)


def _try_lock(file):
    """Lock an open file; return whether that worked. The system unlocks it when the process ends, however it ends."""
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        return True
    except OSError:
        return False


def _remove_if_abandoned(folder):
    try:
        with (folder / LOCK).open("r+b") as lock:
            abandoned = _try_lock(lock)
            if abandoned:
                shutil.rmtree(folder, ignore_errors=True)
        if abandoned:
            shutil.rmtree(folder, ignore_errors=True)  # Windows does not remove what is open
    except FileNotFoundError:  # its program was killed, or is just about to lock it
        if folder.exists() and time.time() - folder.stat().st_mtime > 60:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass  # it belongs to someone else


# JSON


def read_json(source, **options):
    """What a JSON file, a path, or a text holds. options: those of json.loads().

    Raises ValueError, with a message of one line, for any that is bad.
    """
    try:
        if isinstance(source, Path):
            if not source.is_file():
                raise ValueError("not a file")
            if source.stat().st_size > MAX_JSON_BYTES:
                raise ValueError(f"larger than {MAX_JSON_BYTES // 1_000_000} MB")
            source = source.read_text(encoding="utf-8")
        return json.loads(source, **options)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except OSError as error:
        raise ValueError(reason(error)) from error


def class_names(names):
    """The class names in a JSON file, printable. Raises ValueError unless they are a list of distinct texts."""
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError("the class names are not a list of texts")
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return list(map(printable, names))
