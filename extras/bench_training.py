"""The parts of extras/bench.py that read data and train. Each yields rows for Table.add()."""

import dataclasses
import math
import tempfile
import time
from collections import defaultdict, deque
from functools import partial
from pathlib import Path
from timeit import repeat, timeit

import keras
import numpy as np
from keras import layers

import train
from digits import metrics, model, training
from digits.data import folders, pipeline, sources
from digits.data.handwriting import DIGITS

EPOCHS_TO = {0.9829: 1, 0.99: 1, 0.995: 12}  # test accuracies, and the epochs with which train.py gets there
LIMIT = 120  # seconds of one training, without --full
MAX_EPOCHS = 50  # of one training, with it
STEPS = 60  # of the network alone, in one measurement


def read_and_write(settings):
    data, splits = sources.make_available("mnist"), {}
    for split, images in (("train", sources.load_training(data, 0.0)[0]), ("test", sources.load_test(data))):
        pixels = [image[..., 0] for image, _ in pipeline.decode(images).as_numpy_iterator()]
        splits[split] = np.stack(pixels), images.labels
    writing, reading = [], []
    for _ in range(settings.repeats):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            path = Path(folder) / "set"
            writing.append(timeit(partial(folders.write_dataset, path, splits), number=1))
            reading.append(timeit(partial(pipeline.decode, folders.load_folder(path, "train")), number=1))
    yield f"write {sum(len(labels) for _, labels in splits.values()):,} PNG files", "s", writing
    yield f"read {len(splits['train'][1]):,} training images", "s", reading


def throughput(settings):
    """In both precisions if the processor has bfloat16."""
    data = sources.make_available("mnist")
    decoded = pipeline.decode(sources.load_training(data, train.Settings.validation_split)[0])
    default = train.Settings()
    batches = pipeline.training_batches(decoded, default.batch_size, 3, default.augment, 0, 0, 1)
    passes = repeat(lambda: deque(batches, maxlen=0), number=1, repeat=settings.repeats)
    yield "input pipeline", "images/s", [len(decoded) / seconds for seconds in passes]
    in_memory = batches.take(STEPS).cache().repeat()
    for precision in dict.fromkeys(("float32", model.choose_precision("auto"))):
        with_precision = dataclasses.replace(default, epochs=settings.repeats + 1, precision=precision)
        network = training.new_network(with_precision, DIGITS)
        history = training.fit(network, decoded, decoded.take(0), with_precision, quiet=True)
        epochs = [row["seconds"] for row in history[1:]]  # the first one compiles
        fit = partial(network.fit, in_memory, steps_per_epoch=STEPS, shuffle=False, verbose=0)
        fit()  # fills the memory
        fits, alone = repeat(fit, number=1, repeat=settings.repeats), f"network alone, {precision}"
        yield alone, "images/s", [STEPS * default.batch_size / seconds for seconds in fits]
        fed = [len(decoded) / seconds for seconds in epochs]
        yield f"network fed by the pipeline, {precision}", "images/s", fed, alone
        yield f"an epoch of {len(decoded):,} images, {precision}", "s", epochs


def time_to_accuracy(settings):
    """All train on images in memory; testing does not count. train.py takes the epochs that a target needs."""
    data = sources.make_available("mnist")
    test = sources.load_test(data)
    everything, part = (
        pipeline.decode(sources.load_training(data, split)[0]) for split in (0.0, train.Settings.validation_split)
    )
    test_set = pipeline.decode(test)
    limit, found = math.inf if settings.full else LIMIT, defaultdict(list)

    def accuracy_of(network):
        return metrics.evaluate(test.labels, metrics.predict(network, test_set), DIGITS)["accuracy"]

    for seed in range(settings.repeats):
        for who, build in (("Keras example", keras_example), ("classic recipe", classic_recipe)):
            keras.utils.set_random_seed(seed)
            for target, seconds in train_to_targets(*build(), everything, seed, accuracy_of, limit).items():
                found[who, target].append(seconds)
        runs = {epochs: train_epochs(part, epochs, seed, accuracy_of, limit) for epochs in set(EPOCHS_TO.values())}
        for target, epochs in EPOCHS_TO.items():
            seconds, accuracy = runs[epochs]
            found[f"train.py --epochs {epochs}", target].append(seconds if accuracy >= target else None)
    cut = f"cut at {MAX_EPOCHS} epochs" if settings.full else f"cut at {LIMIT} s"
    for who, target in sorted(found, key=lambda who_target: who_target[1]):  # stable: the Keras example first
        to_target = f"to {100 * target:.4g} %, {cut}"
        yield f"{who} {to_target}", "s", found[who, target], f"Keras example {to_target}"


def classic_recipe():
    """cnn as tutorials train it, without augmentation: Adam with a constant rate, batches of 32, dropout 0.5."""
    return model.build("cnn", dropout=0.5), keras.optimizers.Adam(1e-3), 32


def keras_example():
    """A convnet as in Keras's example "Simple MNIST convnet" (keras.io, F. Chollet, 2015), 34,826 parameters."""
    network = keras.Sequential([keras.Input((28, 28, 1)), layers.Rescaling(1 / 255)])
    for filters in (32, 64):
        network.add(layers.Conv2D(filters, 3, activation="relu"))
        network.add(layers.MaxPooling2D())
    for layer in (layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax")):
        network.add(layer)
    return network, keras.optimizers.Adam(), 128


def train_to_targets(network, optimizer, batch_size, images, seed, accuracy_of, limit):
    """Train until all targets are reached or a limit is; return {target: seconds or None}."""
    network.compile(optimizer, "sparse_categorical_crossentropy")
    times, seconds, last = dict.fromkeys(EPOCHS_TO), 0.0, 0.0
    for epoch in range(MAX_EPOCHS):
        if None not in times.values() or seconds + last > limit:
            break
        order = seed + 1000 * epoch
        batches = pipeline.training_batches(images, batch_size, network.input_shape[-1], 0, order, 0, 1)
        last = timeit(partial(network.fit, batches, shuffle=False, verbose=0), number=1)
        seconds, accuracy = seconds + last, accuracy_of(network)
        times |= {target: seconds for target in times if times[target] is None and accuracy >= target}
    return times


def train_epochs(images, epochs, seed, accuracy_of, limit):
    """(seconds, test accuracy) of train.py's training without validation; (None, 0) if it would exceed the limit."""
    settings = train.Settings(epochs=epochs, seed=seed, precision=model.choose_precision("auto"))
    network, start = training.new_network(settings, DIGITS), time.monotonic()

    def check(history, variables):
        if epochs / len(history) * (time.monotonic() - start) > limit:
            raise TimeoutError

    try:
        mixed = training.mix_in_handwriting(images, DIGITS, settings)
        training.fit(network, mixed, images.take(0), settings, on_epoch=check, quiet=True)
    except TimeoutError:
        return None, 0.0
    return time.monotonic() - start, accuracy_of(network)


PARTS = {"data": read_and_write, "training": throughput, "time_to_accuracy": time_to_accuracy}
