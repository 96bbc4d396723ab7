import numpy as np
import pytest

import train
from digits import model, training
from digits.data import pipeline
from digits.data.non_digits import NON_DIGIT
from tests.conftest import digits as images_of_digits

DIGITS = list("0123456789")


def test_one_cycle():
    schedule = training.one_cycle(0.004, 1000)
    rates = [float(schedule(step)) for step in (0, 50, 100, 550, 1000)]
    assert rates == pytest.approx([0, 0.002, 0.004, 0.002, 0], abs=1e-6)


def test_handwriting_and_non_digits_are_mixed_in():
    digits = pipeline.from_arrays(*images_of_digits(60))
    settings = train.Settings(handwriting=0.5)
    mixed = training.mix_in_handwriting(digits, DIGITS, settings)
    labels = [int(label) for _, label in mixed.as_numpy_iterator()]
    assert len(labels) == 60 + 30 + 15 and labels.count(NON_DIGIT) == 15
    assert training.mix_in_handwriting(digits, list("abcdefghij"), settings) is digits
    assert training.mix_in_handwriting(digits, DIGITS, train.Settings(handwriting=0.0)) is digits


def test_non_digits_have_equal_probabilities_as_target_and_no_accuracy():
    probabilities = np.array([[0.25] * 4, [0.7, 0.1, 0.1, 0.1], [0.7, 0.1, 0.1, 0.1]], np.float32)
    labels = np.array([NON_DIGIT, NON_DIGIT, 0])
    losses = np.asarray(training.cross_entropy(labels, probabilities))
    expected = [np.log(4), -(np.log(0.7) + 3 * np.log(0.1)) / 4, -np.log(0.7)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    accuracy = training.Accuracy()
    accuracy.update_state(labels, probabilities)
    assert float(accuracy.result()) == 1


@pytest.mark.parametrize("batch_size", [300, 60])
def test_a_training_of_few_steps(batch_size):
    digits = pipeline.from_arrays(*images_of_digits(300))
    settings = train.Settings(epochs=1, batch_size=batch_size, filters=[2, 2], precision="float32")
    history = training.fit(training.new_network(settings, DIGITS), digits, digits.take(0), settings, quiet=True)
    assert [row["epoch"] for row in history] == [1] and np.isfinite(history[0]["loss"])


def test_the_same_settings_give_the_same_network():
    one, other, third = (training.new_network(train.Settings(seed=seed), DIGITS) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
    assert not np.array_equal(one.get_weights()[0], third.get_weights()[0])
    assert one.count_params() == model.build("cnn").count_params()
