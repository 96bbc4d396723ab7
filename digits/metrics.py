"""The one way in which accuracy is measured: probabilities of a model on a data set, report, calibration."""

import numpy as np

from digits import model
from digits.data import pipeline

TARGET_RECALL = 0.98  # share of the held-out digits that the threshold of the digit score accepts
MAX_COLUMNS = 20  # of more classes, the most confused pairs are printed in place of the confusion matrix


def predict(network, decoded):
    """Probabilities, float32 N×classes, of a model for images as from pipeline.decode()."""
    batches = pipeline.evaluation_batches(decoded, network.input_shape[-1])
    return np.concatenate([network(pixels) for pixels, _ in batches])


def evaluate(labels, probabilities, classes):
    """Compare probabilities (float N×classes) with true labels (int N); return a dict that json can write.

    accuracy (0-1), loss (mean cross-entropy, natural logarithm), correct, total, per_class {name: precision, recall,
    f1 (all 0-1, 0 where undefined), support}, averages {"macro": the same over the classes, "weighted": over the
    images}, and confusion_matrix (rows true, columns predicted).
    """
    predicted = probabilities.argmax(1)
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, (labels, predicted), 1)
    hits, support, claimed = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    precision, recall = hits / np.maximum(claimed, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + claimed, 1)
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    columns = zip(classes, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
    scores, weights = {"precision": precision, "recall": recall, "f1": f1}, {"macro": None, "weighted": support}
    return {
        "accuracy": float(hits.sum() / len(labels)),
        "loss": float(-np.log(np.maximum(likelihood, 1e-7)).mean()),
        "correct": int(hits.sum()),
        "total": len(labels),
        "per_class": {c: {"precision": p, "recall": r, "f1": f, "support": s} for c, p, r, f, s in columns},
        "averages": {
            name: {key: float(np.average(values, weights=share)) for key, values in scores.items()}
            | {"support": len(labels)}
            for name, share in weights.items()
        },
        "confusion_matrix": matrix.tolist(),
    }


def score(result):
    """The accuracy of what evaluate() returned, as people read it."""
    return f"{100 * result['accuracy']:.2f}% ({result['correct']:,} of {result['total']:,})"


def calibrate(network, probabilities, labels):
    """Divide a Keras model's logits by the temperature that makes its confidence true; return the new probabilities.

    The temperature is the one with the least cross-entropy on these probabilities, float N×classes, and labels, int N,
    of images that it was not trained on (C. Guo et al., "On Calibration of Modern Neural Networks", 2017). The last
    layer takes it in.
    """
    logits = np.log(np.maximum(probabilities, 1e-30))

    def log_probabilities(temperature):
        scaled = logits / temperature
        return scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)

    def loss(temperature):
        return -log_probabilities(temperature)[np.arange(len(labels)), labels].mean()

    best = min(np.exp(np.linspace(np.log(0.4), np.log(2.5), 201)), key=loss)
    last = network.layers[-1]
    last.set_weights([weights / np.float32(best) for weights in last.get_weights()])
    return np.exp(log_probabilities(best))


def calibrate_and_evaluate(network, splits, validation_set, cache):
    """Calibrate a network on the images that were held out, and evaluate it on those and on the test images.

    splits: train.Splits. validation_set: its validation images from pipeline.decode(). Returns ({name of the split:
    what evaluate() returned}, the threshold of the digit score, the fingerprint of the test images or None). The
    threshold is set by the digits of held-out writers; where there are none, by the validation images.
    """
    others = {"writers": splits.writers, "test": splits.test}
    decoded = {name: pipeline.decode(images, cache, name) for name, images in others.items() if images}
    decoded = {name: one for name, one in ({"validation": validation_set} | decoded).items() if len(one)}
    labels_of = {name: getattr(splits, name).labels for name in decoded}
    held_out, threshold, probabilities = [name for name in decoded if name != "test"], model.DEFAULT_THRESHOLD, {}
    if held_out:
        parts = [predict(network, decoded[name]) for name in held_out]
        labels = np.concatenate([labels_of[name] for name in held_out])
        calibrated = calibrate(network, np.concatenate(parts), labels)
        parts = np.split(calibrated, np.cumsum([len(part) for part in parts])[:-1])
        probabilities = dict(zip(held_out, parts, strict=True))
        threshold = float(np.quantile(model.digit_score(parts[-1]), 1 - TARGET_RECALL))
    if "test" in decoded:
        probabilities["test"] = predict(network, decoded["test"])
    classes = splits.training.classes
    results = {name: evaluate(labels, probabilities[name], classes) for name, labels in labels_of.items()}
    return results, threshold, pipeline.fingerprint(decoded["test"]) if "test" in decoded else None


def calibration_error(labels, probabilities, bins=15):
    """Expected calibration error, 0-1: the mean difference of confidence and accuracy, over bins of confidence of equal
    width, weighted by their sizes (M. Naeini, G. Cooper, M. Hauskrecht, 2015)."""
    confidence, right = probabilities.max(1).astype(np.float64), probabilities.argmax(1) == labels
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, confidence - right, bins)
    return float(np.abs(gaps).sum() / len(labels))


def as_text(result):
    """What evaluate() returned as two tables: per class, and the confusion matrix or the most confused pairs."""
    names = list(result["per_class"])
    rows = [*result["per_class"].items(), *((f"{name} average", row) for name, row in result["averages"].items())]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'class':>{width}}  precision   recall       F1  support"]
    for name, row in rows:
        scores = "  ".join(f"{100 * row[key]:6.2f}%" for key in ("precision", "recall", "f1"))
        lines.append(f"{name:>{width}}    {scores}  {row['support']:7,}")
    if len(names) > MAX_COLUMNS:
        matrix = np.array(result["confusion_matrix"])
        np.fill_diagonal(matrix, 0)
        lines += ["", "Most confused (true, predicted, count):"]
        for index in np.argsort(-matrix, axis=None, kind="stable")[:MAX_COLUMNS]:
            true, predicted = divmod(int(index), len(names))
            if matrix[true, predicted]:
                lines.append(f"{names[true]:>{width}}  {names[predicted]:<{width}}  {matrix[true, predicted]:,}")
        return "\n".join(lines)
    width = max(5, *map(len, names))
    cell = max(width, len(str(np.max(result["confusion_matrix"])))) + 1
    lines += ["", "Confusion matrix (rows true, columns predicted):"]
    lines.append(" " * width + "".join(f"{name:>{cell}}" for name in names))
    for name, row in zip(names, result["confusion_matrix"], strict=True):
        lines.append(f"{name:>{width}}" + "".join(f"{count or '.':>{cell}}" for count in row))
    return "\n".join(lines)


def evaluate_by_source(images, probabilities):
    """Source -> accuracy (0-1), correct and total of its images; empty where images do not name their writers."""
    if images.writers is None:
        return {}
    right = probabilities.argmax(1) == images.labels
    sources = np.char.partition(images.writers, "-")[:, 0]
    parts = {source: right[sources == source] for source in np.unique(sources).tolist()}
    return {
        source: {"accuracy": float(part.mean()), "correct": int(part.sum()), "total": len(part)}
        for source, part in parts.items()
    }
