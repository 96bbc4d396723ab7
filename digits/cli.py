"""Command-line helpers: flags from a Settings class, one-line errors, a quiet TensorFlow import, progress."""

import argparse
import atexit
import dataclasses
import errno
import gc
import math
import os
import re
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

from tqdm import tqdm

from digits import __version__

OF_INPUT = {  # errors of a path that the user named; the scripts report what cannot be written as RunError
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL,
}  # fmt: skip


class UsageError(ValueError):
    """Wrong usage or input: the message is one line that says what is wrong and what to do."""


class RunError(Exception):
    """The work failed for another reason; the message is one line that says what to do."""


def run(work, *arguments, keep_going=False):
    """Call work(*arguments) and return the exit status: 0, 1 (failure), 2 (wrong usage or input) or 130 (Ctrl-C).

    If work returns an integer, that is the status. keep_going: the work is worth more than what it prints, so it goes
    on when the reader of its output, such as `head`, has gone; otherwise it ends quietly.
    """
    atexit.register(gc.freeze)  # else the process would end with a garbage collection through all of TensorFlow
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by digits/__init__.py during the imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    closed, streams = _open_closed_streams(), (sys.stdout, sys.stderr)
    if "stdout" in closed and not keep_going:
        return fail("standard output is closed, so there is no place for the result; send it to a file", 2)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold characters the terminal cannot encode
    if keep_going:
        sys.stdout, sys.stderr = map(_Unbreakable, streams)
    try:
        status = work(*arguments)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except UsageError as error:
        return fail(error, 2)
    except KeyboardInterrupt as interrupt:
        return fail(str(interrupt) or "interrupted", 130, label="")
    except BrokenPipeError:
        for stream in streams:
            _discard(stream)
        return 0
    except ModuleNotFoundError as error:
        return fail(f"the package {error.name} is missing: pip install -r requirements.txt", 2)
    except ImportError as error:  # such as Matplotlib's for a window without a screen
        return fail(in_one_line(error), 2)
    except RunError as error:
        return fail(error, 1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return fail(f"{where}{(error.strerror or str(error)).lower()}", 2 if error.errno in OF_INPUT else 1)
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:  # else Python would try it once more at its end, and report that it cannot
            try:
                stream.flush()
            except (OSError, ValueError):
                _discard(stream)


def fail(error, status, label="error: "):
    """Print an error as one line on stderr and return the status."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    print(f"{name}: {label}{printable(' '.join(str(error).split()))}", file=sys.stderr, flush=True)
    return status


def in_one_line(error):
    """The message of an error in one line of at most 300 letters, or the error's type if it has no message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:300]} …"


def printable(text):
    """A text, such as a file's name, with escapes for control characters and for bytes that are not UTF-8."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


# Standard output and standard error that are closed, or whose reader has gone


class _Unbreakable:
    """A text stream that drops what is written to it once its reader has gone."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        try:
            return self.stream.write(text)
        except BrokenPipeError:
            _discard(self.stream)
            return len(text)

    def flush(self):
        try:
            self.stream.flush()
        except BrokenPipeError:
            _discard(self.stream)


def _discard(stream):
    """Let what is and will be written to a stream disappear."""
    with suppress(OSError, ValueError), open(os.devnull, "w") as nothing:  # unless it has no file
        os.dup2(nothing.fileno(), stream.fileno())


def _open_closed_streams():
    """Open those of stdout and stderr that the shell closed, else the next file would take their place.

    Returns the set of their names.
    """
    closed = {name for name in ("stdout", "stderr") if getattr(sys, name) is None}
    for name in closed:
        setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        descriptor = {"stdout": 1, "stderr": 2}[name]
        try:
            os.fstat(descriptor)
        except OSError:
            os.dup2(getattr(sys, name).fileno(), descriptor)
    return closed


# Flags from a Settings class


def option(default, help, parse=str, choices=None, recorded=True, positional=False):
    """A field of a Settings dataclass that is also a flag.

    parse: function from the flag's text to its value, such as number(). recorded: the value belongs into the .json
    beside a model. positional: any number of words without a flag. A default of False makes a switch, a tuple a flag
    that may be repeated.
    """
    if not (default is None or default is False or default == ()):
        help += f" (default: {default:.3g})" if isinstance(default, float) else f" (default: {default})"
    argument = {"help": help, "default": argparse.SUPPRESS}  # only what was given is passed on to the Settings
    if positional:
        argument["nargs"] = "*"
    elif default is False:
        argument["action"] = "store_true"
    else:
        argument |= {"type": parse, "choices": choices, "action": "append" if isinstance(default, tuple) else "store"}
    return dataclasses.field(
        default=default, metadata={"argument": argument, "positional": positional, "recorded": recorded}
    )


def flag(name):
    """The flag of an option: learning_rate -> --learning-rate."""
    return "--" + name.replace("_", "-")


def flag_value(value):
    """The value of an option as it is written on the command line: [32, 64] -> 32,64."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


class Parser(argparse.ArgumentParser):
    """An argument parser that shows a script's docstring, and reports a mistake in one line."""

    def __init__(self, docstring, settings_class=None):
        super().__init__(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.settings_class = settings_class
        self._negative_number_matcher = re.compile(r"-\d")  # so that -5,0,20,20 counts as a value, not as a flag
        for field in dataclasses.fields(settings_class) if settings_class else ():
            name = field.name if field.metadata["positional"] else flag(field.name)
            self.add_argument(name, **field.metadata["argument"])
        versions = "print the versions of this program and of what it runs on, and exit"
        self.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help=versions)

    def moved(self, *flags, to):
        """Let these flags say in one line where they are now."""

        class Moved(argparse.Action):
            def __call__(self, parser, namespace, values, option_string=None):
                parser.error(f"{option_string}: moved to {to}")

        self.add_argument(*flags, action=Moved, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    def settings(self, argv):
        """Parse the command line into the Settings."""
        try:
            return self.settings_class(**vars(self.parse_args(argv)))
        except UsageError as error:
            self.error(str(error))

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {printable(message)} (see --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        names = {"Python": sys.version.split()[0]} | {name: _version_of(name) for name in ("TensorFlow", "Keras")}
        others = ", ".join(f"{name} {version}" for name, version in names.items())
        print(f"{parser.prog} {__version__} ({others})")
        parser.exit()


def _version_of(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def number(kind, least=-math.inf, most=math.inf, above=-math.inf, below=math.inf):
    """A parser of an int or float: at least `least` and more than `above`, at most `most` and less than `below`."""
    bounds = {"at least": least, "more than": above, "at most": most, "less than": below}
    allowed = " and ".join(f"{words} {bound}" for words, bound in bounds.items() if math.isfinite(bound))

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {'a whole' if kind is int else 'a'} number") from None
        if not (least <= value <= most and above < value < below):  # also if it is nan
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {allowed}")
        return value

    return parse


def folder(text):
    """A parser of a folder that exists or may be made."""
    if os.path.lexists(text) and not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return Path(text)


def numbers(kind, least, most, count):
    """A parser of up to `count` numbers with commas between."""

    def parse(text):
        values = [number(kind, least=least, most=most)(part) for part in text.split(",")]
        if len(values) > count:
            raise argparse.ArgumentTypeError(f"{text} lists {len(values)} numbers; there can be at most {count}")
        return values

    return parse


# The quiet import of TensorFlow


def import_tensorflow():
    """Import TensorFlow without its start-up lines; they are shown if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    collected = gc.isenabled()
    with hold_native_log() as held:
        gc.disable()  # it takes an eighth of the import, which makes a million objects to keep
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()  # looks for a GPU, which logs too
        except Exception:
            held.seek(0)
            print(held.read().decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            gc.freeze()
            gc.unfreeze()  # both together: all objects count as old, so that the next collection skips them
            if collected:
                gc.enable()


_HOLDING = threading.RLock()  # two threads that held the same descriptor would not find the way back


@contextmanager
def hold_native_log(name="stderr"):
    """Yield a file that receives what native code writes to stderr, or stdout; what Python writes still appears."""
    with _HOLDING, _hold(name) as held:
        yield held


@contextmanager
def _hold(name):
    python, descriptor = getattr(sys, name), {"stdout": 1, "stderr": 2}[name]
    if python is None:  # a program without a terminal
        with tempfile.TemporaryFile() as held:
            yield held
        return
    python.flush()
    real = os.dup(descriptor)
    with tempfile.TemporaryFile() as held, os.fdopen(real, "w", buffering=1) as terminal:
        if python.isatty() or _writes_to(python, descriptor):
            setattr(sys, name, terminal)
        os.dup2(held.fileno(), descriptor)
        try:
            yield held
        finally:
            os.dup2(real, descriptor)
            setattr(sys, name, python)


def _writes_to(stream, descriptor):
    try:
        return stream.fileno() == descriptor
    except (OSError, ValueError):  # it is not a file, as in a test
        return False


# Progress


def progress(items, description, total=None):
    """Yield the items; on a terminal, show a progress bar on stderr once it takes more than a second."""
    return tqdm(items, description, total, delay=1, disable=None)
