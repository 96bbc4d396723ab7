"""The edges of a script: one-line errors, a quiet TensorFlow import, progress, files written whole."""

import argparse
import atexit
import gc
import os
import shutil
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

NETWORKS = ("cnn", "dense128", "dense64")
DATA_SETS = (
    "mnist, fashion, kmnist, emnist-digits, emnist-letters, emnist-balanced, drawn, or a folder of train/ and test/"
)


class UsageError(ValueError):
    """Wrong usage or input: the message is one line that says what is wrong and what to do."""


class RunError(Exception):
    """The work failed for another reason; the message is one line that says what to do."""


def run(work, *arguments):
    """Call work(*arguments) and return the exit status: 0, 1 (failure), 2 (wrong usage or input) or 130 (Ctrl-C).

    An integer that work returns is the status.
    """
    atexit.register(gc.freeze)  # else the process would end with a search for garbage in all of TensorFlow
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name may have letters that the terminal has not
    try:
        return work(*arguments) or 0
    except UsageError as error:
        return fail(error, 2)
    except KeyboardInterrupt as interrupt:
        return fail(str(interrupt) or "interrupted", 130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        return fail(f"the package {error.name} is missing: pip install -r requirements.txt", 2)
    except (RunError, OSError) as error:
        return fail(error, 1)


def fail(error, status):
    """Print an error as one line on stderr and return the status."""
    print(f"{Path(sys.argv[0]).name}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return status


def first_line(error):
    """The first line of an error's message; its type where there is none."""
    return str(error).partition("\n")[0] or type(error).__name__


class Parser(argparse.ArgumentParser):
    """An argument parser that shows a script's docstring, and reports a mistake in one line."""

    def __init__(self, docstring):
        super().__init__(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def add_model_flags(parser, data, network, model):
    """The flags that train.py, evaluate.py and predict.py share, with their defaults."""
    default = "(default: %(default)s)" if data else "(default: mnist, or drawn where MNIST cannot be had)"
    parser.add_argument("--data", default=data, help=f"{DATA_SETS} {default}")
    parser.add_argument("--network", choices=NETWORKS, default=network, help="(default: %(default)s)")
    parser.add_argument("--model", type=Path, default=model, help="model file (default: <data>_<network>.keras)")


def model_file(args, name):
    """The model file that the shared flags mean, for a data set of this name."""
    return args.model or Path(f"{name}_{args.network}.keras")


def number(kind, low, high, open_low=False, open_high=False):
    """An argparse type: an int or float between low and high, bounds included unless open."""

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not {'a whole' if kind is int else 'a'} number") from None
        too_low = value <= low if open_low else not value >= low  # "not >=" refuses nan
        too_high = value >= high if open_high else not value <= high
        if too_low or too_high:
            bounds = (
                f"{'more than' if open_low else 'at least'} {low} and {'less than' if open_high else 'at most'} {high}"
            )
            raise argparse.ArgumentTypeError(f"{text} is out of range: it must be {bounds}")
        return value

    return parse


def import_tensorflow():
    """Import TensorFlow without its start-up lines; they are shown if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return
    with hold_native_log() as held, no_garbage_collection():
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()  # looks for a GPU, which logs too
        except Exception:
            held.seek(0)
            print(held.read().decode(errors="replace"), file=sys.stderr)
            raise


@contextmanager
def no_garbage_collection():
    """Look for no garbage meanwhile.

    The import of a large library makes a million objects and no garbage; to search them again and again takes an eighth
    of its time.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()  # both together: all objects count as old, so that the next search is not of them
        if before:
            gc.enable()


@contextmanager
def hold_native_log(name="stderr"):
    """Hold back, in the file that this yields, what native code writes to stderr, or stdout, past Python.

    What Python itself writes to it still appears.
    """
    python, descriptor = getattr(sys, name), {"stdout": 1, "stderr": 2}[name]
    python.flush()
    real = os.dup(descriptor)
    with tempfile.TemporaryFile() as held, os.fdopen(real, "w", buffering=1) as terminal:
        if python.isatty() or python is getattr(sys, f"__{name}__"):
            setattr(sys, name, terminal)
        os.dup2(held.fileno(), descriptor)
        try:
            yield held
        finally:
            os.dup2(real, descriptor)
            setattr(sys, name, python)


def progress(items, label, total=None):
    """Yield the items, total (default: len) in number; on a terminal, draw a bar on stderr once it takes a second."""
    start, drawn, total = time.monotonic(), 0.0, total or len(items)
    show = sys.stderr.isatty()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if show and now - start > 1 and (now - drawn > 0.1 or done == total):
            bar = "█" * (30 * done // total)
            left = (now - start) * (total - done) / done
            print(f"\r{label} {bar:░<30} {done:,}/{total:,} {left:4.0f} s left", end="", file=sys.stderr, flush=True)
            drawn = now
    if drawn:
        print(file=sys.stderr)


@contextmanager
def atomic_write(path):
    """Give a temporary path beside `path` to write to, of the same suffix; rename it to `path` if all went well."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def keep_previous(path):
    """Copy a file that is about to be replaced to <stem>.previous<suffix>; nothing where there is none."""
    if path.exists():
        with atomic_write(path.with_name(f"{path.stem}.previous{path.suffix}")) as temporary:
            shutil.copy2(path, temporary)


def check_model_file(path):
    """Raise UsageError unless the path is a model file, as far as can be seen without opening it in its runtime."""
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise UsageError(f"{path}: no such model file; train one with train.py, or name another with --model")
    if path.suffix in (".tflite", ".onnx"):
        return
    if path.suffix != ".keras":
        raise UsageError(f"{path}: a model's file name ends in .keras, .tflite or .onnx; name one with --model")
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None and "config.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError):
        whole = False
    if not whole:
        raise UsageError(f"{path}: damaged, or not a Keras model; train it again with train.py, or name another")
