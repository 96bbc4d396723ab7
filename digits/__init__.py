"""Read handwritten digits from any picture.

>>> from digits import read
>>> reading = read("samples/5.png", "mnist_cnn.keras")
>>> reading.prediction, reading.confidence
"""

__all__ = ["ReadDigit", "Reading", "load_model", "read"]


def __getattr__(name):  # imported on first use: train.py needs nothing that reads pictures
    if name == "load_model":
        from digits.model import load

        return load
    if name in __all__:
        from digits.reading import reader

        return getattr(reader, name)
    raise AttributeError(f"module 'digits' has no attribute {name!r}")
