"""How good is a model on the test images?

    python evaluate.py                                      # mnist_cnn.keras on MNIST's 10,000 test images
    python evaluate.py --network dense64                    # mnist_dense64.keras
    python evaluate.py --data drawn --model mnist_cnn.keras # any model on any data set
    python evaluate.py --json                               # one JSON object, for programs

Prints accuracy, loss, precision, recall and F1 of each class and the confusion matrix; saves three figures beside
the model: the confusion matrix, a sample of the test images, and the most confident mistakes.
"""

import json
import sys
from pathlib import Path

import numpy as np

from digits import plots
from digits.cli import Parser, UsageError, add_model_flags, check_model_file, model_file, run
from digits.data import pipeline
from digits.reading import reader

DATA = None  # "mnist", "drawn" or a folder; None: MNIST, or drawn digits where MNIST cannot be had
NETWORK = "cnn"  # "cnn", "dense128" or "dense64"
MODEL = None  # model file; None: <data>_<network>.keras


def score(network, decoded, labels, classes):
    """Score a Keras model on images as from pipeline.decode(); return (plots.metrics(), probabilities N×classes).

    This is the one way in which accuracy is measured, also by train.py.
    """
    batches = pipeline.evaluation_batches(decoded, network.input_shape[-1])
    probabilities = np.concatenate([network(pixels) for pixels, _ in batches])
    return plots.metrics(labels, probabilities, classes), probabilities


def save_figures(model, decoded, labels, probabilities, classes, result):
    """Save confusion matrix, sample grid and mistakes beside the model; return the paths."""
    pixels = np.stack([image for image, _ in decoded.as_numpy_iterator()])
    sample = np.random.default_rng(0).permutation(len(labels))[:15]
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:15]
    figures = {
        "confusion_matrix": plots.confusion_figure(result),
        "samples": plots.grid_figure(
            pixels[sample], labels[sample], probabilities[sample], classes, 3, 5, "Test images: prediction and truth"
        ),
        "mistakes": plots.grid_figure(
            pixels[wrong], labels[wrong], probabilities[wrong], classes, 3, 5,
            f"The most confident of {result['total'] - result['correct']:,} mistakes",
        ),
    }  # fmt: skip
    stem = model.stem if model.suffix == ".keras" else model.name.replace(".", "_")
    paths = [model.with_name(f"{stem}_{name}.png") for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        plots.save(figure, path)
    return paths


def parse_args(argv):
    parser = Parser(__doc__)
    add_model_flags(parser, DATA, NETWORK, MODEL)
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else, no figures")
    return parser.parse_args(argv)


def work(args):
    if args.model:
        check_model_file(args.model)
    name, folder = pipeline.find(args.data)
    model = model_file(args, name)
    shipped = Path(f"mnist_{args.network}.keras")
    if not args.model and args.data is None and not model.exists() and shipped.exists():
        print(f"{model} is not there yet: evaluating {shipped}", file=sys.stderr)
        model = shipped
    check_model_file(model)
    images = pipeline.load(folder, "test")
    network, classes, *_ = reader.load_model(model)
    if classes != images.classes:
        raise UsageError(
            f"{model}: its classes are {_list(classes)}, those of the data {name} are {_list(images.classes)}"
        )
    if not args.json:
        print(f"Model: {model}   Data: {name}, {len(images.labels):,} test images")
    decoded = pipeline.decode(images)
    result, probabilities = score(network, decoded, images.labels, classes)
    if args.json:
        print(json.dumps({"model": str(model), "data": name, "classes": classes, **result}))
        return
    print(f"\n{plots.as_text(result)}\n")
    paths = save_figures(model, decoded, images.labels, probabilities, classes, result)
    print("Figures: " + ", ".join(map(str, paths)))
    error = plots.calibration_error(labels=images.labels, probabilities=probabilities)
    print(f"Loss: {result['loss']:.4f}   Expected calibration error: {100 * error:.2f}%")
    print(f"Test accuracy: {100 * result['accuracy']:.2f}% ({result['correct']:,} of {result['total']:,})", flush=True)
    plots.show()


def _list(names):
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "")


def main(argv=None):
    args = parse_args(argv)
    return run(work, args)


if __name__ == "__main__":
    sys.exit(main())
