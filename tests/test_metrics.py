import math

import keras
import numpy as np
import pytest

from digits import metrics, model
from digits.data import pipeline
from tests.conftest import CLASSES, LABELS, PROBABILITIES, digits


def test_metrics_by_hand():
    result = metrics.evaluate(LABELS, PROBABILITIES, CLASSES)
    assert result["confusion_matrix"] == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert (result["correct"], result["total"]) == (4, 6)
    assert result["accuracy"] == pytest.approx(4 / 6)
    likelihoods = (0.7, 0.6, 0.1, 0.7, 0.4, 0.25)
    assert result["loss"] == pytest.approx(-sum(map(math.log, likelihoods)) / 6)
    assert result["per_class"]["a"] == pytest.approx({"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3})
    assert result["per_class"]["c"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}
    assert result["averages"]["macro"]["precision"] == pytest.approx((2 / 3 + 2 / 3) / 3)
    assert result["averages"]["weighted"]["recall"] == pytest.approx(result["accuracy"])
    assert result["averages"]["macro"]["support"] == 6


def test_calibration_error_by_hand():
    # confidences 0.7 0.6 0.8 0.7 0.4 0.5, right: 1 1 0 1 1 0, each in a bin of its own but the two 0.7
    expected = (abs(1.4 - 2) + abs(0.6 - 1) + abs(0.8 - 0) + abs(0.4 - 1) + abs(0.5 - 0)) / 6
    assert metrics.calibration_error(LABELS, PROBABILITIES) == pytest.approx(expected)
    assert metrics.calibration_error(np.array([1, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])) == 0


def test_text_has_every_number():
    text = metrics.as_text(metrics.evaluate(LABELS, PROBABILITIES, CLASSES))
    assert "66.67%" in text
    assert text.splitlines()[-3].split() == ["a", "2", "1", "."]


def test_of_many_classes_the_text_names_what_is_confused_most():
    names = [f"letter {number}" for number in range(26)]
    probabilities = np.eye(26)[[*range(26), 7, 7, 7, 2]]
    text = metrics.as_text(metrics.evaluate(np.array([*range(26), 3, 3, 3, 9]), probabilities, names))
    confused = text.split("Most confused")[1].splitlines()[1:]
    assert [" ".join(line.split()) for line in confused] == ["letter 3 letter 7 3", "letter 9 letter 2 1"]


def test_the_confidence_is_calibrated():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.full(10, 0.2), 4000)
    labels = np.array([rng.choice(10, p=row) for row in truth])
    network = keras.Sequential([keras.Input((10,)), keras.layers.Dense(10, activation="softmax")])
    network.layers[0].set_weights([3 * np.eye(10, dtype=np.float32), np.zeros(10, np.float32)])  # far too sure
    logits = np.log(truth).astype(np.float32)
    before = np.asarray(network(logits))
    after = metrics.calibrate(network, before, labels)
    np.testing.assert_allclose(after, np.asarray(network(logits)), atol=1e-5)  # the last layer took it in
    assert network.layers[0].get_weights()[0][0, 0] == pytest.approx(3 / 2.5, abs=0.3)
    assert metrics.calibration_error(labels, after) < metrics.calibration_error(labels, before) / 4


def test_predictions_keep_the_order_of_the_images():
    pixels, labels = digits(600)
    network = model.build("dense64")
    probabilities = metrics.predict(network, pipeline.from_arrays(pixels, labels))
    np.testing.assert_allclose(probabilities, np.asarray(network(pixels.astype(np.float32))), atol=1e-5)
