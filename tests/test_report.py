import math

import numpy as np
import pytest

from digits import plots
from digits.reading import reader

CLASSES = ["a", "b", "c"]
LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array(
    [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.4, 0.3], [0.5, 0.25, 0.25]]
)


def test_metrics_by_hand():
    result = plots.metrics(LABELS, PROBABILITIES, CLASSES)
    assert result["confusion_matrix"] == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert (result["correct"], result["total"]) == (4, 6)
    assert result["accuracy"] == pytest.approx(4 / 6)
    likelihoods = (0.7, 0.6, 0.1, 0.7, 0.4, 0.25)
    assert result["loss"] == pytest.approx(-sum(map(math.log, likelihoods)) / 6)
    assert result["per_class"]["a"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3})
    assert result["per_class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_calibration_error_by_hand():
    # confidences 0.7 0.6 0.8 0.7 0.4 0.5, right: 1 1 0 1 1 0, each in a bin of its own but the two 0.7
    expected = (abs(1.4 - 2) + abs(0.6 - 1) + abs(0.8 - 0) + abs(0.4 - 1) + abs(0.5 - 0)) / 6
    assert plots.calibration_error(LABELS, PROBABILITIES) == pytest.approx(expected)
    assert plots.calibration_error(np.array([1, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])) == 0


def test_text_has_every_number():
    text = plots.as_text(plots.metrics(LABELS, PROBABILITIES, CLASSES))
    assert "66.67%" in text
    assert text.splitlines()[-3].split() == ["a", "2", "1", "."]


def test_figures_are_drawn(tmp_path):
    result = plots.metrics(LABELS, PROBABILITIES, CLASSES)
    history = [{"epoch": e, "accuracy": 0.9, "loss": 1 / e, "val_accuracy": 0.8, "val_loss": 1 / e} for e in (1, 2)]
    pixels = np.zeros((6, 28, 28, 1), np.uint8)
    figures = [
        plots.confusion_figure(result),
        plots.curves_figure(history),
        plots.grid_figure(pixels, LABELS, PROBABILITIES, CLASSES, 3, 5, "six images"),
    ]
    for figure in figures:
        plots.save(figure, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    texts = {text.get_text() for text in figures[0].axes[0].texts}
    assert texts == {"2", "1"}
    assert not plots.has_screen()


def test_no_title_of_the_steps_covers_another(shipped):
    from matplotlib.text import Text

    picture = np.full((320, 240, 3), 255, np.uint8)
    reading = reader.read(picture, shipped)
    figure = plots.steps_figure([(picture, reading, "5.png\nNot a digit (looks most like a 4, 56%)")] * 2)
    figure.canvas.draw()
    titles = [text for text in figure.findobj(Text) if text.get_text()]
    assert "no ink found" in {text.get_text() for text in titles}
    boxes = [text.get_window_extent() for text in titles]
    assert len(boxes) == 12
    assert not any(one.overlaps(two) for place, one in enumerate(boxes) for two in boxes[:place])


def test_of_many_classes_the_text_names_what_is_confused_most():
    names = [f"letter {number}" for number in range(26)]
    probabilities = np.eye(26)[[*range(26), 7, 7, 7, 2]]
    text = plots.as_text(plots.metrics(np.array([*range(26), 3, 3, 3, 9]), probabilities, names))
    confused = text.split("Confused most")[1].splitlines()[1:]
    assert [" ".join(line.split()) for line in confused] == ["letter 3 letter 7 3", "letter 9 letter 2 1"]


def test_names_of_classes_do_not_overlap_in_the_figures():
    names = ["T-shirt/top", "Ankle boot", "Pullover"]
    figure = plots.confusion_figure(plots.metrics(LABELS, PROBABILITIES, names))
    assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {90}
    figure = plots.grid_figure(np.zeros((6, 28, 28, 1)), LABELS, PROBABILITIES, names, 2, 3, "title")
    assert figure.axes[0].get_title() == "T-shirt/top (70.0%)\ntrue T-shirt/top"
