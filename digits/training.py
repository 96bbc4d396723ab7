"""Fit a network: learning-rate schedule, loss that ignores labels of non-digits, exact resume, a line per epoch."""

import csv
import math
import os
import platform
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from digits import checkpoint, model
from digits.checkpoint import HOW_TO_CONTINUE
from digits.cli import RunError, flag_value
from digits.data import handwriting, pipeline
from digits.data.folders import SHUFFLE_BUFFER
from digits.data.non_digits import NON_DIGIT, non_digits
from digits.files import atomic_write
from digits.muon import Muon

WARM_UP = 0.1  # share of the steps in which the learning rate rises to its peak
OPTIMIZERS = {"adam": keras.optimizers.Adam, "muon": Muon}


def one_cycle(peak, steps):
    """Linear warm-up to the peak, then a cosine to zero (L. Smith, N. Topin, "Super-convergence", 2018)."""
    warm_up = int(WARM_UP * steps)
    decay = max(1, steps - warm_up)
    return keras.optimizers.schedules.CosineDecay(0.0, decay, warmup_target=peak, warmup_steps=warm_up)


def cross_entropy(labels, probabilities):
    """The loss: cross-entropy with the label, or with equal probabilities for a non-digit."""
    classes = probabilities.shape[-1]
    labels = keras.ops.reshape(labels, (-1, 1))
    targets = keras.ops.where(labels == NON_DIGIT, 1 / classes, keras.ops.one_hot(labels[:, 0], classes))
    return keras.losses.categorical_crossentropy(targets, probabilities)


class Accuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy, ignoring non-digits."""

    def __init__(self):
        super().__init__(name="accuracy")

    def update_state(self, labels, probabilities, sample_weight=None):
        return super().update_state(labels, probabilities, sample_weight=labels != NON_DIGIT)


def mix_in_handwriting(training, classes, settings, rank=0):
    """Add other people's digits, settings.handwriting of the training images, and half as many non-digits.

    training: tf.data.Dataset of (uint8 28×28×1, int64 label). settings: train.Settings. rank: of this process, each of
    which adds its own. Nothing is added if the classes are not the digits.
    """
    if not settings.handwriting:
        return training
    if classes != handwriting.DIGITS:
        print("The classes are not the digits 0 to 9: no other handwriting is mixed in")
        return training
    images, _ = next(training.batch(SHUFFLE_BUFFER).as_numpy_iterator())
    count = round(settings.handwriting * len(images))  # a larger data set sees them several times per epoch
    if rank == 0:
        print(f"Preparing {count:,} digits of other people and {count // 2:,} non-digits", flush=True)
    seed = settings.seed + rank
    digits = handwriting.training_digits(count, settings.validation_split, seed)
    others = non_digits(images, count // 2, settings.validation_split, seed)
    pixels = np.concatenate([digits.pixels, others])
    labels = np.concatenate([digits.labels, np.full(len(others), NON_DIGIT)])
    return pipeline.mix_in(training, pixels, labels, times=len(training) / len(images))


def new_network(settings, classes):
    """The network before its first step: the same for the same settings. classes: names, str."""
    keras.utils.set_random_seed(settings.seed)
    s = settings
    return model.build(s.network, len(classes), s.dropout, s.precision, s.l2, s.filters, s.kernel_size)


def describe(network, settings):
    """Print the settings of a training and the layers of its network. settings: train.Settings."""
    values = ", ".join(f"{name} {flag_value(value)}" for name, value in settings.recorded().items())
    print(f"Settings: {values}", flush=True)
    network.summary()


def epoch_saver(model_path, this_run):
    """A function for fit() that writes checkpoint and log after each epoch. this_run: see Checkpoint.settings."""

    def save_epoch(history, variables):
        checkpoint.write(model_path, this_run, history, variables)
        with atomic_write(log_path(model_path)) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, history[0])
            writer.writeheader()
            writer.writerows(history)

    return save_epoch


def log_path(model_path):
    return model_path.with_name(f"{model_path.stem}_log.csv")


def environment():
    """Versions and machine, for the description of a model."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    return {
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {gpus} GPUs",
    }


class _Epochs(keras.callbacks.Callback):
    """Resets the noise of dropout, times each epoch, extends the history and passes it on."""

    def __init__(self, settings, history, on_epoch, quiet):
        super().__init__()
        self.settings, self.history, self.on_epoch, self.quiet = settings, history, on_epoch, quiet

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()
        for layer in self.model.layers:
            # Like the batches, the noise of dropout follows from seed and epoch alone.
            if isinstance(layer, keras.layers.Dropout) and layer.rate:
                layer.seed_generator.state.assign([self.settings.seed, 1_000_000 * epoch])

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
        row["seconds"] = round(time.monotonic() - self.start, 2)
        if not math.isfinite(row["loss"]):
            raise RunError(f"the training diverged in epoch {epoch + 1}; try a smaller --learning-rate")
        self.history.append(row)
        if self.on_epoch:
            self.on_epoch(self.history, self.model.weights + self.model.optimizer.variables)
        if not self.quiet and not sys.stdout.isatty():
            print(_epoch_line(row, self.settings.epochs), flush=True)


class _Patience(keras.callbacks.EarlyStopping):
    """Keras's early stopping, which also counts the epochs before --resume: `past`, their rows of the history."""

    past = ()

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        for row in self.past:
            self.on_epoch_end(row["epoch"] - 1, row)


def _has_stopped(history, patience):
    """Whether _Patience stopped after the last epoch of a history."""
    scores = [row.get("val_accuracy") for row in history]
    return bool(patience and scores) and len(scores) - 1 - scores.index(max(scores)) >= patience


def _epoch_line(row, epochs):
    scores = "  ".join(
        f"{key} {100 * row[key]:.2f}%" if key.endswith("accuracy") else f"{key} {row[key]:.4f}"
        for key in ("loss", "accuracy", "val_loss", "val_accuracy")
        if key in row
    )
    return f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}  {scores}  {row['seconds']:.1f} s"


def fit(network, training, validation, settings, resume=None, on_epoch=None, quiet=False, rank=0, world_size=1):
    """Train an uncompiled Keras model in place; return the history, a list with a dict for each epoch.

    training, validation: tf.data.Dataset of (uint8 28×28×1, int64 label), as from pipeline.decode(); validation may be
    empty. settings: train.Settings. resume: Checkpoint to continue. on_epoch: called after each epoch with the history
    and the list of all variables, of the network and its optimizer. quiet: print nothing. rank, world_size: which of
    how many processes this is; training and validation are its shards, and it takes its share of each batch.
    Raises RunError if the loss is NaN or infinite, or an image disappears.
    """
    seed, epochs = settings.seed + rank, settings.epochs
    batch_size, channels = settings.batch_size // world_size, network.input_shape[-1]
    steps = math.ceil(len(training) / batch_size)
    optimizer = OPTIMIZERS[settings.optimizer](one_cycle(settings.learning_rate, steps * epochs))
    network.compile(optimizer, loss=cross_entropy, metrics=[Accuracy()])
    optimizer.build(network.trainable_variables)
    history = list(resume.history) if resume else []
    if resume:
        for variable, value in zip(network.weights + optimizer.variables, resume.values, strict=True):
            variable.assign(value)
    if len(history) == epochs or _has_stopped(history, settings.patience):  # it was interrupted after the last one
        return history
    callbacks = [_Epochs(settings, history, on_epoch, quiet)]
    if settings.patience:
        callbacks.append(_Patience("val_accuracy", mode="max", patience=settings.patience))
        callbacks[-1].past = list(history)
    if settings.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(settings.tensorboard, write_graph=False))
    try:
        network.fit(
            pipeline.training_batches(training, batch_size, channels, settings.augment, seed, len(history), epochs),
            epochs=epochs,
            initial_epoch=len(history),
            steps_per_epoch=steps,
            shuffle=False,
            validation_data=pipeline.evaluation_batches(validation, channels) if len(validation) else None,
            callbacks=callbacks,
            verbose=1 if sys.stdout.isatty() and not quiet else 0,
        )
    except tf.errors.OpError as error:  # a file disappeared, of the images or of --cache disk
        reason = error.message.partition("[[")[0].strip().rpartition("\n")[2]  # without its place in the graph
        raise RunError(f"the training cannot continue: {reason}; {HOW_TO_CONTINUE}") from error
    return history
