"""Who trains to an accuracy in extras/bench.py: train.py, the recipe of tutorials, and an example of Keras's."""

import time

import keras
from keras import layers

from digits import metrics, model, training
from digits.data import folders, pipeline, sources
from train import Settings

DIGITS = [str(digit) for digit in range(10)]
MAX_EPOCHS = 50  # of one training


def compare(epochs_to, repeats, limit):
    """Return {(who, target): seconds of training for each seed, None if the limit ended it before}.

    epochs_to: {test accuracy, 0-1: epochs with which train.py gets there}. limit: seconds of one training.
    """
    data = sources.make_available("mnist")
    images, test = sources.load(data, "train"), sources.load(data, "test")
    everything, test_set = pipeline.decode(images), pipeline.decode(test)
    part = pipeline.decode(folders.train_val_split(images, Settings.validation_split)[0])

    def accuracy_of(network):
        return metrics.evaluate(test.labels, metrics.predict(network, test_set), DIGITS)["accuracy"]

    others = {"Keras example": keras_example, "classic recipe": classic_recipe}
    found = {(who, target): [] for target in epochs_to for who in (*others, "train.py")}
    for seed in range(repeats):
        for who, build in others.items():
            times = train_to_targets(*build(everything, seed), accuracy_of, epochs_to, limit)
            for target, seconds in times.items():
                found[who, target].append(seconds)
        runs = {count: train_epochs(part, count, seed, accuracy_of, limit) for count in set(epochs_to.values())}
        for target, epochs in epochs_to.items():
            seconds, accuracy = runs[epochs]
            found["train.py", target].append(seconds if accuracy >= target else None)
    return found


def classic_recipe(images, seed):
    """cnn as tutorials train it: Adam with a constant rate, batches of 32, dropout 0.5, no augmentation."""
    keras.utils.set_random_seed(seed)
    return model.build("cnn", dropout=0.5), keras.optimizers.Adam(1e-3), images, 32, seed


def keras_example(images, seed):
    """A convnet as in Keras's example "Simple MNIST convnet" (keras.io, F. Chollet, 2015), 34,826 parameters."""
    keras.utils.set_random_seed(seed)
    network = keras.Sequential([keras.Input((28, 28, 1)), layers.Rescaling(1 / 255)])
    for filters in (32, 64):
        network.add(layers.Conv2D(filters, 3, activation="relu"))
        network.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax")):
        network.add(layer)
    return network, keras.optimizers.Adam(), images, 128, seed


def train_to_targets(network, optimizer, images, batch_size, seed, accuracy_of, targets, limit):
    """Train without augmentation until all targets are reached or a limit is; return {target: seconds or None}."""
    network.compile(optimizer, "sparse_categorical_crossentropy")
    times, seconds, last = dict.fromkeys(targets), 0.0, 0.0
    for epoch in range(MAX_EPOCHS):
        if None not in times.values() or seconds + last > limit:
            break
        order = seed + 1000 * epoch
        batches = pipeline.training_batches(images, batch_size, network.input_shape[-1], 0, order, 0, 1)
        start = time.monotonic()
        network.fit(batches, shuffle=False, verbose=0)
        last = time.monotonic() - start
        seconds, accuracy = seconds + last, accuracy_of(network)
        times |= {target: seconds for target in times if times[target] is None and accuracy >= target}
    return times


def train_epochs(images, epochs, seed, accuracy_of, limit):
    """(seconds, test accuracy) of train.py's training without validation; (None, 0) if it would exceed the limit."""
    settings = Settings(epochs=epochs, seed=seed, precision=model.choose_precision("auto"))
    network, start = training.new_network(settings, DIGITS), time.monotonic()

    def check(history, variables):
        if epochs / len(history) * (time.monotonic() - start) > limit:
            raise TimeoutError

    try:
        mixed = training.mix_in_handwriting(images, DIGITS, settings.variety, seed)
        training.fit(network, mixed, images.take(0), settings, on_epoch=check, quiet=True)
    except TimeoutError:
        return None, 0.0
    return time.monotonic() - start, accuracy_of(network)
