import numpy as np
import pytest

from digits import metrics, plots
from tests.conftest import CLASSES, LABELS, PROBABILITIES


def test_figures_are_drawn(tmp_path):
    result = metrics.evaluate(LABELS, PROBABILITIES, CLASSES)
    history = [{"epoch": e, "accuracy": 0.9, "loss": 1 / e, "val_accuracy": 0.8, "val_loss": 1 / e} for e in (1, 2)]
    pixels = np.zeros((6, 28, 28, 1), np.uint8)
    figures = [
        plots.confusion_matrix(result),
        plots.curves(history),
        plots.grid(pixels, LABELS, PROBABILITIES, CLASSES, "six images"),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    texts = {text.get_text() for text in figures[0].axes[0].texts}
    assert texts == {"2", "1"}
    assert not plots.has_screen()


@pytest.mark.filterwarnings("error")
def test_names_are_no_mathematics_and_what_the_font_lacks_is_replaced(tmp_path):
    names = ["$\\frac$", "_$^{", "五"]
    figures = [
        plots.confusion_matrix(metrics.evaluate(LABELS, PROBABILITIES, names)),
        plots.grid(np.zeros((6, 28, 28, 1)), LABELS, PROBABILITIES, names, "title", 3),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "figure.png")
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["$\\frac$", "_$^{", "\ufffd"]


def test_names_of_classes_do_not_overlap_in_the_figures():
    names = ["T-shirt/top", "Ankle boot", "Pullover"]
    figure = plots.confusion_matrix(metrics.evaluate(LABELS, PROBABILITIES, names))
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {90}
    figure = plots.grid(np.zeros((6, 28, 28, 1)), LABELS, PROBABILITIES, names, "title", 3)
    assert figure.axes[0].get_title() == "T-shirt/top (70.0%)\ntrue T-shirt/top"


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_the_curves_show_all_epochs_and_only_whole_ones(epochs):
    history = [{"epoch": e, "accuracy": 1 - 0.3 / e, "loss": 1 / e} for e in range(1, epochs + 1)]
    accuracy = plots.curves(history).axes[0]
    low, high = accuracy.get_ylim()
    assert low < 100 * history[0 if epochs < 5 else epochs // 2]["accuracy"] and high == 100
    ticks = [tick for tick in accuracy.get_xticks() if accuracy.get_xlim()[0] <= tick <= accuracy.get_xlim()[1]]
    assert ticks and all(tick == round(tick) for tick in ticks)
    last = f"training (augmented): {100 - 30 / epochs:.2f}% at the end"
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == [last]


def test_long_names_of_classes_and_no_mistake_leave_room():
    names = [f"{'a name of many letters':59}{number}" for number in range(3)]
    perfect = np.eye(3)[LABELS]
    pixels = np.zeros((6, 28, 28, 1), np.uint8)
    figures = plots.evaluation(pixels, LABELS, perfect, names, metrics.evaluate(LABELS, perfect, names))
    shown = [label.get_text() for label in figures["confusion_matrix"].axes[0].get_xticklabels()]
    assert [len(name) for name in shown] == [16] * 3 and len(set(shown)) == 3
    assert figures["mistakes"].axes == [] and figures["mistakes"].get_suptitle() == "No mistake in 6 images"
