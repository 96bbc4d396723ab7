"""Every figure of the scripts."""

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from digits.cli import UsageError
from digits.files import atomic_write, make_folder
from digits.reading import segmentation
from digits.reading.form_lines import outlines

try:
    from matplotlib import pyplot as plt
    from matplotlib.backends import BackendFilter, backend_registry
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import LogLocator, NullFormatter
except ValueError:
    name = os.environ.get("MPLBACKEND")
    raise UsageError(f"MPLBACKEND: '{name}' is not a backend of Matplotlib; unset it, or set it to agg") from None

MAX_BARS = 12  # of more classes, the most likely are shown
LONG_NAME = 3  # letters; longer class names stand upright below an axis
plt.rcParams["text.parse_math"] = False  # the dollar signs in a name are no mathematics


def shown(name):
    """A name as a figure can show it: what the font does not have becomes a replacement character."""
    letters = _letters()
    return "".join(letter if letter == "\n" or ord(letter) in letters else "\ufffd" for letter in name)


@lru_cache(maxsize=1)
def _letters():
    """The code points that the font has."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def curves(history):
    """Accuracy and loss over the epochs, from a list of dicts with the keys of Keras's logs."""
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
    label_plainly(axes[1].yaxis)
    return figure


def confusion_matrix(result):
    """The confusion matrix as a heat map; the colours show the share of each true class, in steps of ten."""
    names, matrix = list(map(shown, result["per_class"])), np.array(result["confusion_matrix"])
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
    axis.set_title(f"{100 * result['accuracy']:.2f}% of {result['total']:,} correct")
    figure.colorbar(image, label="share of the true class", shrink=0.8, ticks=[0.1, 1, 10, 100], format="%g%%")
    return figure


def grid(pixels, labels, probabilities, classes, rows, columns, title):
    """A grid of images, uint8 n×28×28×1, with predicted and true label; mistakes in red."""
    figure, axes = plt.subplots(rows, columns, figsize=(1.8 * columns, 2 * rows + 0.5), layout="constrained")
    classes = list(map(shown, classes))
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, label, row in zip(axes.flat, pixels, labels, probabilities, strict=False):
        axis.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=255)
        between = "\n" if max(map(len, classes)) > LONG_NAME else ", "
        text = f"{classes[row.argmax()]} ({100 * row.max():.1f}%){between}true {classes[label]}"
        axis.set_title(text, fontsize=9, color="black" if row.argmax() == label else "crimson")
    figure.suptitle(title)
    return figure


def evaluation(pixels, labels, probabilities, classes, result):
    """The figures of an evaluation, {name: figure}: confusion matrix, a sample, and the most confident mistakes.

    pixels: uint8 N×28×28×1, labels: int N, probabilities: float N×classes, result: what metrics.evaluate() returned.
    """
    sample = np.random.default_rng(0).permutation(len(labels))[:15]
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    wrong = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")]
    title = f"The most confident of {len(wrong):,} mistakes" if len(wrong) > 15 else f"All mistakes: {len(wrong)}"

    def grid_of(index, title):
        return grid(pixels[index], labels[index], probabilities[index], classes, 3, 5, title)

    return {
        "confusion_matrix": confusion_matrix(result),
        "samples": grid_of(sample, "Test images: prediction and truth"),
        "mistakes": grid_of(wrong[:15], title),
    }


class Row(NamedTuple):
    """A picture in the figures of predict.py."""

    pixels: np.ndarray  # uint8 H×W×3
    factor: int  # by which it was reduced
    corner: tuple  # x, y of its upper left pixel in the picture
    reading: object  # reader.Reading
    title: str


def predictions(rows):
    """A line for each Row: the picture with a box around each digit if there are several, what the network saw of the
    main one, and a bar for each of its probabilities."""
    figure, axes = plt.subplots(len(rows), 3, figsize=(9, 3 * len(rows) + 0.8), squeeze=False, layout="constrained")
    for (left, middle, right), (picture, factor, corner, reading, title) in zip(axes, rows, strict=True):
        left.imshow(picture)
        left.set_title(shown(title), fontsize=10)
        left.axis("off")
        if len(reading.digits) > 1:
            for digit in reading.digits:
                x, y = (np.array(digit.box[:2]) - corner) / factor
                width, height = np.array(digit.box[2:]) / factor
                left.add_patch(Rectangle((x, y), width, height, fill=False, color="tab:orange"))
                left.text(x, y, shown(digit.digit), color="tab:orange", va="bottom", fontsize=9)
        middle.axis("off")
        middle.set_title("no ink found" if reading.image is None else "what the network sees", fontsize=10)
        if reading.image is not None:
            middle.imshow(reading.image[..., 0], cmap="gray", vmin=0, vmax=255)
        names = list(reading.probabilities)
        if len(names) > MAX_BARS:
            right.set_title(f"the {MAX_BARS} most likely of {len(names)}", fontsize=10)
            names = sorted(names, key=reading.probabilities.get, reverse=True)[:MAX_BARS]
        colours = ["tab:orange" if name == reading.prediction else "tab:blue" for name in names]
        right.bar(range(len(names)), [100 * reading.probabilities[name] for name in names], color=colours)
        right.set_xticks(range(len(names)), map(shown, names))
        right.tick_params(axis="x", rotation=90 if max(map(len, names)) > LONG_NAME else 0)
        right.set(ylim=(0, 100), ylabel="probability, %")
    return figure


def steps(rows):
    """A line for each Row: each step from the picture to what the network saw."""
    titles = ("contrast with the paper", "strokes; printed lines in red", "pieces and cells", "what the network sees")
    size = (13, 2.2 * len(rows) + 0.3)
    figure, axes = plt.subplots(len(rows), 1 + len(titles), figsize=size, squeeze=False, layout="constrained")
    for line, (pixels, _, _, reading, title) in zip(axes, rows, strict=True):
        steps = segmentation.preprocess(pixels)
        pieces = np.where(steps.pieces > 0, 1 + (steps.pieces - 1) % 9, np.nan)
        seen = [digit.image for digit in reading.digits[:9]] or [reading.image]
        line[0].imshow(pixels)
        line[0].set_title(shown(title), fontsize=9, loc="left", pad=20)  # above the others, since it may be longer
        line[1].imshow(steps.foreground, cmap="gray_r", vmin=0, vmax=1)
        strokes = np.where(steps.strokes, 2, steps.printed)
        line[2].imshow(strokes, cmap=ListedColormap(["white", "tab:red", "black"]), vmin=0, vmax=2)
        line[3].imshow(pieces, cmap="Set1", vmin=1, vmax=9, interpolation="nearest")
        for outline in outlines(steps.rows):
            line[3].plot(*outline, color="tab:gray", linewidth=0.7)
        for axis, name in zip(line[1:], titles, strict=True):
            axis.set_title(name, fontsize=9)
        if seen[0] is None:
            line[4].set_title("no ink found", fontsize=9)
        else:
            line[4].imshow(_tiles(seen), cmap="gray", vmin=0, vmax=255)
        for axis in line:
            axis.set(xticks=[], yticks=[])
    return figure


def _tiles(images):
    """Up to nine images beside and below each other, as square as possible."""
    columns = int(np.ceil(np.sqrt(len(images))))
    images = images + [np.zeros_like(images[0])] * (-len(images) % columns)
    lines = [np.hstack(images[start : start + columns]) for start in range(0, len(images), columns)]
    return np.vstack(lines)[..., 0]


def sizes(errors):
    """Test error by size, from {number of parameters: list of errors, %, one for each seed}."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for parameters, values in errors.items():
        mean = np.mean(values)
        axis.plot([parameters] * len(values), values, "o", color="tab:blue", alpha=0.35)
        axis.plot(parameters, mean, "_", color="tab:orange", markersize=24, markeredgewidth=3)
        top = (parameters, max(values))
        axis.annotate(f"{100 - mean:.2f}%", top, (0, 8), textcoords="offset points", ha="center")
    axis.set(xscale="log", yscale="log", xlabel="parameters", ylabel="test error, %")
    axis.set_title("Accuracy by size: each seed, and their mean")
    label_plainly(axis.xaxis)
    label_plainly(axis.yaxis)
    axis.margins(0.08, 0.2)
    axis.grid(alpha=0.3)
    return figure


def tuning(trials, importances):
    """Validation error by trial, parameters and seconds, and the importance of each parameter, 0-1.

    trials: of an Optuna study, finished, in order, as extras/tune.py makes them. importances: {name: share}, or empty.
    """
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    errors = [max(100 * (1 - trial.value), 0.01) for trial in trials]
    numbers = [trial.number for trial in trials]
    axes[0, 0].step(numbers, np.minimum.accumulate(errors), "tab:orange", where="post", label="best so far")
    axes[0, 0].legend()
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    for axis, label in ((axes[0, 0], "trial"), (axes[1, 0], "parameters"), (axes[1, 1], "seconds")):
        axis.plot(numbers if label == "trial" else [trial.user_attrs[label] for trial in trials], errors, ".")
        axis.set(xlabel=label, yscale="log", ylabel="validation error, %")
        label_plainly(axis.yaxis)
        axis.grid(alpha=0.3)
        if label != "trial":
            axis.set_xscale("log")
            label_plainly(axis.xaxis)
    axes[0, 1].barh(list(importances)[::-1], list(importances.values())[::-1])
    axes[0, 1].set_title("Importance (PED-ANOVA)" if importances else "Importance: too few finished trials")
    if not importances:
        axes[0, 1].axis("off")
    return figure


def label_plainly(axis):
    """Label a logarithmic axis, such as axes.xaxis, with numbers as people write them: 500, 1,000, 2,000."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter("{x:,.6g}")
    axis.set_minor_formatter(NullFormatter())


def save(figure, path):
    """Write a figure to a PNG file, completely or not at all; make its folder if it is missing. Raises WriteError."""
    make_folder(Path(path).parent)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def has_screen():
    """Whether Matplotlib can open windows here."""
    return plt.get_backend().lower() in backend_registry.list_builtin(BackendFilter.INTERACTIVE)


def show():
    """Show the open figures until they are closed, if there is a screen; then discard them."""
    if has_screen():
        plt.show()
    plt.close("all")
