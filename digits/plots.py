"""Metrics and figures.

Matplotlib is imported where a figure is drawn: a program that asks for JSON does not wait for it.
"""

import numpy as np

from digits.cli import atomic_write

MOST_COLUMNS = 20  # classes of which the confusion matrix is printed
MOST_BARS = 12  # of more classes, the likeliest are shown
LONG_NAME = 3  # letters; longer names of classes stand upright below an axis


def metrics(labels, probabilities, classes):
    """Compare probabilities (float N×classes) with true labels (int N); return a dict that json can write.

    accuracy (0-1), loss (mean cross-entropy, natural logarithm), correct, total, per_class {name: precision, recall,
    f1 (all 0-1, 0 where undefined), support}, and confusion_matrix (rows true, columns predicted).
    """
    predicted = probabilities.argmax(1)
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, (labels, predicted), 1)
    hits, support, claimed = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    precision, recall = hits / np.maximum(claimed, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + claimed, 1)
    likelihood = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    columns = zip(classes, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist(), strict=True)
    return {
        "accuracy": float(hits.sum() / len(labels)),
        "loss": float(-np.log(np.maximum(likelihood, 1e-7)).mean()),
        "correct": int(hits.sum()),
        "total": len(labels),
        "per_class": {c: {"precision": p, "recall": r, "f1": f, "support": s} for c, p, r, f, s in columns},
        "confusion_matrix": matrix.tolist(),
    }


def calibration_error(labels, probabilities, bins=15):
    """Expected calibration error, 0-1: how far confidence and accuracy are apart, over bins of confidence of equal
    width, weighted by their sizes (M. Naeini, G. Cooper, M. Hauskrecht, 2015)."""
    confidence, right = probabilities.max(1).astype(np.float64), probabilities.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(which, confidence - right, bins)
    return float(np.abs(gaps).sum() / len(labels))


def as_text(result):
    """The metrics as two tables: per class, and the confusion matrix; of many classes, only what is confused most."""
    names = list(result["per_class"])
    wide = max(5, *map(len, names))
    lines = [f"{'class':>{wide}}  precision   recall       F1  support"]
    for name, row in result["per_class"].items():
        scores = "  ".join(f"{100 * row[key]:6.2f}%" for key in ("precision", "recall", "f1"))
        lines.append(f"{name:>{wide}}    {scores}  {row['support']:7,}")
    if len(names) > MOST_COLUMNS:
        matrix = np.array(result["confusion_matrix"])
        np.fill_diagonal(matrix, 0)
        lines += ["", "Confused most (true, predicted, how often):"]
        for place in np.argsort(-matrix, axis=None, kind="stable")[:MOST_COLUMNS]:
            true, predicted = divmod(int(place), len(names))
            if matrix[true, predicted]:
                lines.append(f"{names[true]:>{wide}}  {names[predicted]:<{wide}}  {matrix[true, predicted]:,}")
        return "\n".join(lines)
    cell = max(wide, len(str(np.max(result["confusion_matrix"])))) + 1
    lines += ["", "Confusion matrix (rows true, columns predicted):"]
    lines.append(" " * wide + "".join(f"{name:>{cell}}" for name in names))
    for name, row in zip(names, result["confusion_matrix"], strict=True):
        lines.append(f"{name:>{wide}}" + "".join(f"{count or '.':>{cell}}" for count in row))
    return "\n".join(lines)


def curves_figure(history):
    """Accuracy and loss over the epochs, from a list of dicts with the keys of Keras's logs."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axis, key in zip(axes, ("accuracy", "loss"), strict=True):
        for prefix, label in (("", "training (augmented)"), ("val_", "validation")):
            if prefix + key in history[0]:
                axis.plot(epochs, [row[prefix + key] for row in history], ".-", label=label)
        axis.set(xlabel="epoch", title=key.capitalize())
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    values = [row[key] for row in history for key in ("accuracy", "val_accuracy") if key in row]
    axes[0].set_ylim(np.percentile(values, 10) - 0.01, 1)  # the first epochs would flatten all the others
    axes[0].set_ylabel("accuracy")
    axes[1].set_ylabel("cross-entropy + L2 penalty")
    axes[1].set_yscale("log")
    return figure


def confusion_figure(result):
    """The confusion matrix as a heat map; the colours show the share of each true class, in steps of ten."""
    from matplotlib import pyplot as plt
    from matplotlib.colors import LogNorm

    names, matrix = list(result["per_class"]), np.array(result["confusion_matrix"])
    side = max(6, 0.55 * len(names))
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axis.imshow(np.maximum(share, 0.03), cmap="Blues", norm=LogNorm(0.03, 100))
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 5 else "black"
        axis.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    axis.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > LONG_NAME else 0)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(f"{100 * result['accuracy']:.2f}% of {result['total']:,} right")
    bar = figure.colorbar(image, label="share of the true class", shrink=0.8, ticks=[0.1, 1, 10, 100])
    bar.ax.set_yticklabels(["0.1%", "1%", "10%", "100%"])
    return figure


def grid_figure(pixels, labels, probabilities, classes, rows, columns, title):
    """A grid of images, uint8 n×28×28×1, with predicted and true label; mistakes in red."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(1.8 * columns, 2 * rows + 0.5), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, label, row in zip(axes.flat, pixels, labels, probabilities, strict=False):
        axis.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=255)
        between = "\n" if max(map(len, classes)) > LONG_NAME else ", "
        text = f"{classes[row.argmax()]} ({100 * row.max():.1f}%){between}true {classes[label]}"
        axis.set_title(text, fontsize=9, color="black" if row.argmax() == label else "crimson")
    figure.suptitle(title)
    return figure


def prediction_figure(rows):
    """A row for each (picture, factor, corner, Reading, title): the picture with a box round each digit where there are
    several, what the network saw of the main one, and a bar for each of its probabilities."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(rows), 3, figsize=(9, 3 * len(rows) + 0.3), squeeze=False, layout="constrained")
    for (left, middle, right), (picture, factor, corner, reading, title) in zip(axes, rows, strict=True):
        left.imshow(picture)
        left.set_title(title, fontsize=10)
        left.axis("off")
        if len(reading.digits) > 1:
            for digit in reading.digits:
                _draw_box(left, digit, factor, corner)
        middle.axis("off")
        if reading.image is None:
            middle.set_title("no ink found", fontsize=10)
        else:
            middle.imshow(reading.image[..., 0], cmap="gray", vmin=0, vmax=255)
            middle.set_title("what the network sees", fontsize=10)
        names = list(reading.probabilities)
        if len(names) > MOST_BARS:
            right.set_title(f"the {MOST_BARS} likeliest of {len(names)}", fontsize=10)
            names = sorted(names, key=reading.probabilities.get, reverse=True)[:MOST_BARS]
        colours = ["tab:orange" if name == reading.prediction else "tab:blue" for name in names]
        right.bar(names, [100 * reading.probabilities[name] for name in names], color=colours)
        right.tick_params(axis="x", rotation=90 if max(map(len, names)) > LONG_NAME else 0)
        right.set(ylim=(0, 100), ylabel="probability, %")
    return figure


def _draw_box(axis, digit, factor, corner):
    from matplotlib.patches import Rectangle

    x, y = (digit.box[0] - corner[0]) / factor, (digit.box[1] - corner[1]) / factor
    box = Rectangle((x, y), digit.box[2] / factor, digit.box[3] / factor, fill=False, color="tab:orange")
    axis.add_patch(box)
    axis.text(x, y, digit.digit, color="tab:orange", va="bottom", fontsize=9)


def steps_figure(rows):
    """A row for each (picture, Reading, title): each step from the picture to what the network saw."""
    from matplotlib import pyplot as plt

    from digits.reading import segmentation

    titles = ("ink, without the light", "strokes", "without lines", "pieces", "what the network sees")
    figure, axes = plt.subplots(
        len(rows), 1 + len(titles), figsize=(13, 2.2 * len(rows) + 0.3), squeeze=False, layout="constrained"
    )
    for line, (pixels, reading, title) in zip(axes, rows, strict=True):
        steps = segmentation.take_apart(pixels)
        pieces = np.where(steps.pieces > 0, 1 + (steps.pieces - 1) % 9, np.nan)
        seen = [digit.image[..., 0] for digit in reading.digits[:9]]
        if not seen and reading.image is not None:
            seen = [reading.image[..., 0]]
        line[0].imshow(pixels)
        line[0].set_title(title, fontsize=9, loc="left", pad=20)  # above the others, since it may be longer
        for axis, image in zip(line[1:4], (steps.ink, steps.strokes, steps.unlined), strict=True):
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        line[4].imshow(pieces, cmap="Set1", vmin=1, vmax=9, interpolation="nearest")
        for axis, name in zip(line[1:], titles, strict=True):
            axis.set_title(name, fontsize=9)
        if seen:
            line[5].imshow(_tiles(seen), cmap="gray", vmin=0, vmax=255)
        else:
            line[5].set_title("no ink found", fontsize=9)
        for axis in line:
            axis.set(xticks=[], yticks=[])
    return figure


def _tiles(images):
    """Up to nine images beside and below each other, as square as possible."""
    columns = int(np.ceil(np.sqrt(len(images))))
    images = images + [np.zeros_like(images[0])] * (-len(images) % columns)
    return np.vstack([np.hstack(images[start : start + columns]) for start in range(0, len(images), columns)])


def label_plainly(axis):
    """Label a logarithmic axis, such as axes.xaxis, with numbers as people write them: 500, 1,000, 2,000."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter("{x:,.6g}")
    axis.set_minor_formatter(NullFormatter())


def save(figure, path):
    """Write a figure to a PNG file, whole or not at all."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def has_screen():
    """Whether Matplotlib can open windows here."""
    from matplotlib import pyplot as plt
    from matplotlib.backends import BackendFilter, backend_registry

    backend = plt.get_backend().lower()
    return backend in backend_registry.list_builtin(BackendFilter.INTERACTIVE)


def show():
    """Show the open figures and wait until they are closed, where there is a screen; then forget them."""
    from matplotlib import pyplot as plt

    if has_screen():
        plt.show()
    plt.close("all")
