"""How good is a model on the test images?

    python evaluate.py                                      # mnist_cnn.keras on MNIST's 10,000 test images
    python evaluate.py --network dense64                    # mnist_dense64.keras
    python evaluate.py --data handwriting --model mnist_cnn.keras   # any model on any data set
    python evaluate.py --json                               # one JSON object, for programs

Prints accuracy, loss, precision, recall and F1 of each class and the confusion matrix; saves three figures beside
the model: the confusion matrix, a sample of the test images, and the most confident mistakes.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from digits import model
from digits.cli import Parser, UsageError, folder, import_tensorflow, option, run
from digits.data import sources


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    data: str = option(None, sources.HELP)
    network: str = option("cnn", "network that selects the default model file", choices=list(model.NETWORKS))
    model: Path = option(None, model.HELP, Path)
    output: Path = option(None, "folder in which the figures are saved (default: that of the model)", folder)
    json: bool = option(False, "print one JSON object and nothing else, no figures")


def find_model(settings, data):
    """The path of the model file: the project's own if you have not trained one. Raises UsageError."""
    path = settings.model or model.find_default(sources.name_of(data), settings.network)
    shipped = model.find_default("mnist", settings.network)
    if settings.model is None and settings.data is None and not path.exists() and shipped.exists():
        print(f"{path} does not exist yet; evaluating {shipped} instead", file=sys.stderr)
        path = shipped
    model.check(path)
    return path


def evaluate(settings):
    if settings.model or settings.data or not model.find_default("handwriting", settings.network).exists():
        find_model(settings, settings.data)  # before the images are made
    data = sources.make_available(settings.data)
    path = find_model(settings, data)
    images = sources.load_test(data)

    import_tensorflow()  # not before flags and files were checked
    from digits import metrics
    from digits.data import pipeline

    network, classes, *_ = model.load(path)
    name = sources.name_of(data)
    if classes != images.classes:
        found, expected = (", ".join(names[:12]) + " …" * (len(names) > 12) for names in (classes, images.classes))
        raise UsageError(f"{path}: its classes are {found}, those of the data {name} are {expected}")
    if not settings.json:
        print(f"Model: {path}   Data: {name}, {len(images.labels):,} test images")
    decoded = pipeline.decode(images)
    probabilities = metrics.predict(network, decoded)
    result = metrics.evaluate(images.labels, probabilities, classes)
    by_source = metrics.evaluate_by_source(images, probabilities)
    if settings.json:
        print(json.dumps({"model": str(path), "data": name, "classes": classes, **result, "sources": by_source}))
        return
    from digits import plots

    print(f"\n{metrics.as_text(result)}\n")
    for source, part in by_source.items():
        print(f"{source:12} {metrics.score(part)}")
    stem = path.stem if path.suffix == ".keras" else path.name.replace(".", "_")
    place = settings.output or path.parent
    paths = {name: place / f"{stem}_{name}.png" for name in ("confusion_matrix", "samples", "mistakes")}
    print("Figures: " + ", ".join(map(str, paths.values())))
    error = metrics.calibration_error(images.labels, probabilities)
    print(f"Loss: {result['loss']:.4f}   Expected calibration error: {100 * error:.2f}%")
    print(f"Test accuracy: {metrics.score(result)}", flush=True)
    pixels = np.stack([image for image, _ in decoded.as_numpy_iterator()])
    for name, figure in plots.evaluation(pixels, images.labels, probabilities, classes, result).items():
        plots.save(figure, paths[name])
    plots.show()


def main(argv=None):
    return run(evaluate, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
