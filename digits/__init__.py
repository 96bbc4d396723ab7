"""Read handwritten digits from any picture.

>>> from digits import read
>>> reading = read("samples/5.png", "mnist_cnn.keras")
>>> reading.prediction, reading.confidence
"""

import signal
import sys
from pathlib import Path

__all__ = ["ReadDigit", "Reading", "load_model", "read"]
__version__ = "1.0.0"

PROJECT = Path(__file__).resolve().parents[1]  # the folder of the scripts


def _is_a_script():
    """Whether the running program is one of the project's own, rather than someone's that imports digits."""
    program = Path(getattr(sys.modules["__main__"], "__file__", None) or "/").resolve()
    scripts = [PROJECT / f"{name}.py" for name in ("train", "evaluate", "predict", "draw")]
    return program in scripts or PROJECT / "extras" in program.parents


# During the imports, Ctrl-C ends a script at once and without a traceback; run() in cli.py takes over from there.
if _is_a_script() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name):  # imported on first use: train.py needs nothing that reads pictures
    if name == "load_model":
        from digits.model import load

        return load
    if name in __all__:
        from digits.reading import reader

        return getattr(reader, name)
    raise AttributeError(f"module 'digits' has no attribute {name!r}")
