"""The figures of training, evaluation and tuning; saving and showing any figure."""

import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from digits.cli import UsageError
from digits.files import atomic_write, make_folder

try:
    from matplotlib import pyplot as plt
    from matplotlib.backends import BackendFilter, backend_registry
    from matplotlib.colors import LogNorm
    from matplotlib.font_manager import FontProperties, findfont, get_font
    from matplotlib.ticker import LogLocator, NullFormatter
except ValueError:
    name = os.environ.get("MPLBACKEND")
    raise UsageError(f"MPLBACKEND: '{name}' is not a backend of Matplotlib; unset it, or set it to agg") from None

LONG_NAME = 3  # letters; longer class names stand upright below an axis
MAX_NAME = 16  # letters; of a longer class name the middle is left out
MANY_CLASSES = 20  # from which the confusion matrix is drawn smaller
FEW_EPOCHS = 5  # up to which the axis of the accuracy begins at the lowest
plt.rcParams["text.parse_math"] = False  # the dollar signs in a name are no mathematics


def shown(name, longest=MAX_NAME):
    """A name as a figure can show it: without the middle if it has more letters than longest, and with a replacement
    character for what the font does not have."""
    if len(name) > longest:
        name = f"{name[: longest // 2]}…{name[longest // 2 + 1 - longest :]}"
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
    for axis, key, scale, last in zip(axes, ("accuracy", "loss"), (100, 1), ("{:.2f}%", "{:.4f}"), strict=True):
        for prefix, label in (("", "training (augmented)"), ("val_", "validation")):
            if prefix + key in history[0]:
                values = [scale * row[prefix + key] for row in history]
                size = 8 if len(history) <= FEW_EPOCHS else 5
                axis.plot(epochs, values, ".-", markersize=size, label=f"{label}: {last.format(values[-1])} at the end")
        axis.set(xlabel="epoch", title=key.capitalize())
        count_along(axis, epochs)
        axis.grid(alpha=0.3)
        axis.legend()
    values = [100 * row[key] for row in history for key in ("accuracy", "val_accuracy") if key in row]
    lowest = np.percentile(values, 0 if len(history) <= FEW_EPOCHS else 10)  # else the first would flatten the others
    axes[0].set_ylim(lowest - 0.05 * (100 - lowest) - 0.1, 100)
    axes[0].set_ylabel("accuracy, %")
    axes[1].set_ylabel("cross-entropy + L2 penalty")
    axes[1].set_yscale("log")
    label_plainly(axes[1].yaxis)
    return figure


def confusion_matrix(result):
    """The confusion matrix as a heat map; the colours show the share of each true class, in steps of ten."""
    names, matrix = list(map(shown, result["per_class"])), np.array(result["confusion_matrix"])
    cell, size = (0.55, 8) if len(names) < MANY_CLASSES else (0.36, 6)  # side in inches, letters in points
    side = max(6, cell * len(names))
    figure, axis = plt.subplots(figsize=(side + 1, side), layout="constrained")
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axis.imshow(np.maximum(share, 0.03), cmap="Blues", norm=LogNorm(0.03, 100))
    for row, column in zip(*np.nonzero(matrix), strict=True):
        colour = "white" if share[row, column] > 5 else "black"
        axis.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour, fontsize=size)
    axis.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > LONG_NAME else 0)
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true")
    axis.set_title(f"{100 * result['accuracy']:.2f}% of {result['total']:,} correct")
    figure.colorbar(image, label="share of the true class", shrink=0.8, ticks=[0.1, 1, 10, 100], format="%g%%")
    return figure


def grid(pixels, labels, probabilities, classes, title, columns=5):
    """A grid of images, uint8 n×28×28×1, with predicted and true label; mistakes in red."""
    rows = -(-len(pixels) // columns)
    figure = plt.figure(figsize=(1.8 * columns, 2.1 * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat) if rows else []
    classes = list(map(shown, classes))
    for axis in axes:
        axis.axis("off")
    for axis, image, label, row in zip(axes, pixels, labels, probabilities, strict=False):
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
        return grid(pixels[index], labels[index], probabilities[index], classes, title)

    return {
        "confusion_matrix": confusion_matrix(result),
        "samples": grid_of(sample, "Test images: prediction and truth"),
        "mistakes": grid_of(wrong[:15], title if len(wrong) else f"No mistake in {len(labels):,} images"),
    }


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
    count_along(axes[0, 0], numbers)
    for axis, label in ((axes[0, 0], "trial"), (axes[1, 0], "parameters"), (axes[1, 1], "seconds")):
        axis.plot(numbers if label == "trial" else [trial.user_attrs[label] for trial in trials], errors, "o", ms=4)
        axis.set(xlabel=label, yscale="log", ylabel="validation error, %")
        label_plainly(axis.yaxis)
        axis.grid(alpha=0.3)
        if label != "trial":
            axis.set_xscale("log")
            label_plainly(axis.xaxis)
    axes[0, 1].barh(list(importances)[::-1], list(importances.values())[::-1])
    axes[0, 1].set_title("Importance (PED-ANOVA)")
    if not importances:
        axes[0, 1].set(xticks=[], yticks=[])
        axes[0, 1].text(0.5, 0.5, "too few finished trials", ha="center", va="center", transform=axes[0, 1].transAxes)
    return figure


def count_along(axis, numbers):
    """Label the x axis of axes with whole numbers only, from the first of numbers to the last."""
    axis.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


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
