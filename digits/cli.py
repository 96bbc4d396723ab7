"""Command-line helpers: flags from a Settings class, one-line errors, a quiet TensorFlow import, atomic writes."""

import argparse
import atexit
import dataclasses
import gc
import math
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


class UsageError(ValueError):
    """Wrong usage or input: the message is one line that says what is wrong and what to do."""


class RunError(Exception):
    """The work failed for another reason; the message is one line that says what to do."""


def run(work, *arguments):
    """Call work(*arguments) and return the exit status: 0, 1 (failure), 2 (wrong usage or input) or 130 (Ctrl-C).

    If work returns an integer, that is the status.
    """
    atexit.register(gc.freeze)  # else the process would end with a garbage collection through all of TensorFlow
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold characters the terminal cannot encode
    try:
        status = work(*arguments)
        return status if isinstance(status, int) else 0
    except UsageError as error:
        return fail(error, 2)
    except KeyboardInterrupt as interrupt:
        return fail(str(interrupt) or "interrupted", 130, label="")
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        return fail(f"the package {error.name} is missing: pip install -r requirements.txt", 2)
    except (RunError, OSError) as error:
        return fail(error, 1)


def fail(error, status, label="error: "):
    """Print an error as one line on stderr and return the status."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    print(f"{name}: {label}{' '.join(str(error).split())}", file=sys.stderr)
    return status


def first_line(error):
    """The first line of an error's message, or the error's type if it has no message."""
    return str(error).partition("\n")[0] or type(error).__name__


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


class Parser(argparse.ArgumentParser):
    """An argument parser that shows a script's docstring, and reports a mistake in one line."""

    def __init__(self, docstring, settings_class=None):
        super().__init__(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
        self.settings_class = settings_class
        for field in dataclasses.fields(settings_class) if settings_class else ():
            name = field.name if field.metadata["positional"] else flag(field.name)
            self.add_argument(name, **field.metadata["argument"])

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
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


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


@contextmanager
def hold_native_log(name="stderr"):
    """Yield a file that receives what native code writes to stderr, or stdout; what Python writes still appears."""
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


# Progress and files


def progress(items, description, total=None):
    """Yield the items; on a terminal, show a progress bar on stderr once it takes more than a second."""
    return tqdm(items, description, total, delay=1, disable=None)


@contextmanager
def atomic_write(path):
    """Yield a temporary path beside `path`, of the same suffix; rename it to `path` if all went well."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def keep_previous(path):
    """Copy a file that is about to be replaced to <stem>.previous<suffix>, if it exists."""
    if path.exists():
        with atomic_write(path.with_name(f"{path.stem}.previous{path.suffix}")) as temporary:
            shutil.copy2(path, temporary)
