import numpy as np
import pytest
from matplotlib.text import Text

from digits import metrics, plots
from digits.reading import reader
from tests.conftest import CLASSES, LABELS, PROBABILITIES


def test_figures_are_drawn(tmp_path):
    result = metrics.evaluate(LABELS, PROBABILITIES, CLASSES)
    history = [{"epoch": e, "accuracy": 0.9, "loss": 1 / e, "val_accuracy": 0.8, "val_loss": 1 / e} for e in (1, 2)]
    pixels = np.zeros((6, 28, 28, 1), np.uint8)
    figures = [
        plots.confusion_matrix(result),
        plots.curves(history),
        plots.grid(pixels, LABELS, PROBABILITIES, CLASSES, 3, 5, "six images"),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    texts = {text.get_text() for text in figures[0].axes[0].texts}
    assert texts == {"2", "1"}
    assert not plots.has_screen()


def test_no_title_of_the_steps_covers_another(shipped):
    picture = np.full((320, 240, 3), 255, np.uint8)
    reading = reader.read(picture, shipped)
    figure = plots.steps([plots.Row(picture, 1, (0, 0), reading, "5.png\nNot a digit (looks most like 4, 56%)")] * 2)
    figure.canvas.draw()
    titles = [text for text in figure.findobj(Text) if text.get_text()]
    assert "no ink found" in {text.get_text() for text in titles}
    boxes = [text.get_window_extent() for text in titles]
    assert len(boxes) == 10
    assert not any(one.overlaps(two) for place, one in enumerate(boxes) for two in boxes[:place])


def test_the_title_of_a_square_picture_is_inside_the_figure(shipped):
    picture = np.full((28, 28, 3), 255, np.uint8)
    picture[5:22, 12:15] = 0
    reading = reader.read(picture, shipped)
    figure = plots.predictions([plots.Row(picture, 1, (0, 0), reading, "5.png\nPrediction: 5 with 100.00% confidence")])
    figure.canvas.draw()
    assert max(axis.title.get_window_extent().y1 for axis in figure.axes) <= figure.bbox.height


@pytest.mark.filterwarnings("error")
def test_names_are_no_mathematics_and_what_the_font_lacks_is_replaced(tmp_path):
    names = ["$\\frac$", "_$^{", "五"]
    figures = [
        plots.confusion_matrix(metrics.evaluate(LABELS, PROBABILITIES, names)),
        plots.grid(np.zeros((6, 28, 28, 1)), LABELS, PROBABILITIES, names, 2, 3, "title"),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "figure.png")
    assert [label.get_text() for label in figures[0].axes[0].get_xticklabels()] == ["$\\frac$", "_$^{", "\ufffd"]


def test_names_of_classes_do_not_overlap_in_the_figures():
    names = ["T-shirt/top", "Ankle boot", "Pullover"]
    figure = plots.confusion_matrix(metrics.evaluate(LABELS, PROBABILITIES, names))
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {90}
    figure = plots.grid(np.zeros((6, 28, 28, 1)), LABELS, PROBABILITIES, names, 2, 3, "title")
    assert figure.axes[0].get_title() == "T-shirt/top (70.0%)\ntrue T-shirt/top"
