"""Learn the digits in Mnist_dataset/ and save mnist_cnn.keras.

    python train.py                                # MNIST, the small exact network, about six minutes on 2 cores
    python train.py --epochs 1                     # 99 % of the test images right, the fastest way there
    python train.py --epochs 4                     # a first good network in about a minute
    python train.py --data letters --network dense64   # your own images in letters/{train,test}/<class>/*.png
    python train.py --resume                       # go on after Ctrl-C, a crash or a power cut
    python train.py --cluster host:4321 --processes 2 --process 0    # on two machines; on the other: --process 1

Writes, beside each other: the model (.keras), how it was trained and what it scored (.json), a line for each epoch
(_log.csv) and the curves (_curves.png). A model that is replaced is kept as <model>.previous.keras.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import platform
import sys
import time

import numpy as np

import evaluate
from digits import cluster, plots
from digits.cli import (
    Parser,
    RunError,
    UsageError,
    add_model_flags,
    atomic_write,
    import_tensorflow,
    keep_previous,
    model_file,
    number,
    run,
)
from digits.data import handwriting, pipeline
from digits.reading import reader

DATA = None  # "mnist", "drawn" or a folder; None: MNIST, or drawn digits where MNIST cannot be had
NETWORK = "cnn"  # "cnn", "dense128" or "dense64"
EPOCHS = 30  # times that each training image is seen
OPTIMIZER = None  # "adam" or "muon"; None: follows from the epochs, see optimizer_name()
BATCH_SIZE = None  # images a step; None: follows from the epochs, see batch_size()
LEARNING_RATE = None  # peak of the one-cycle schedule; None: follows from epochs and batch size, see peak_rate()
FILTERS = [32, 64, 128]  # of each convolution of cnn, as many as it shall have
KERNEL_SIZE = 3  # height and width of the kernels of cnn, pixels
DROPOUT = None  # rate, 0-1; None: follows from the network, see dropout_rate()
L2 = 1e-5  # weight of the L2 penalty on the convolutions of cnn
AUGMENT = None  # strength of the random transforms; None: follows from the epochs, see augment_strength()
VARIETY = None  # other people's digits mixed in, a share of the training images; None: see variety_share()
VALIDATION_SPLIT = 1 / 12  # share of each class that is held out: 5,001 of MNIST's 60,000
SEED = 0  # same seed, same machine: same weights
MODEL = None  # model file; None: <data>_<network>.keras

CACHE = "auto"  # where decoded images are kept: "memory", "disk", "none", or "auto": where there is room
PRECISION = "auto"  # "float32", "bfloat16" or "auto": the faster of the two on this machine
KEPT = 0.98  # share of the validation images that the threshold of the digit score lets through
WARM_UP = 0.1  # share of the steps in which the learning rate rises to its peak


def optimizer_name(epochs):
    return "muon" if epochs < 4 else "adam"  # which learns more in few steps


def batch_size(epochs):
    return 64 if 4 <= epochs < 10 else 128  # a short run needs more steps, but the shortest has muon for that


def peak_rate(epochs, batch_size):
    return min(1e-2, 3e-3 * (30 / epochs) ** 0.5 * batch_size / 128)  # a short run needs larger ones, too


def dropout_rate(network):
    # With augmentation and other people's digits, the classic 0.5 takes more from the small network than it gives.
    return {"cnn": 0.05, "dense128": 0.25, "dense64": 0.0}[network]


def augment_strength(epochs):
    return min(1, (epochs / 36) ** 0.5)  # a long run sees each image often enough for stronger changes


def variety_share(epochs):
    return 0.2 if epochs >= 4 else 0.0  # a very short run has only time to learn the training images


def one_cycle(peak, steps):
    """Linear warm-up to the peak, then a cosine to zero (L. Smith, N. Topin, "Super-convergence", 2018)."""
    import keras

    warm_up = int(WARM_UP * steps)
    decay = max(1, steps - warm_up)
    return keras.optimizers.schedules.CosineDecay(0.0, decay, warmup_target=peak, warmup_steps=warm_up)


def new_network(settings, classes):
    """The network before its first step: the same for the same settings."""
    import keras

    from digits import model

    keras.utils.set_random_seed(settings["seed"])
    names = ("dropout", "l2", "precision", "filters", "kernel_size")
    return model.build(settings["network"], classes, **{name: settings[name] for name in names})


def cross_entropy(labels, probabilities):
    """The loss: cross-entropy with the label, or with equal probabilities where there is no digit."""
    import keras

    classes = probabilities.shape[-1]
    labels = keras.ops.reshape(labels, (-1, 1))
    targets = keras.ops.where(labels == handwriting.NON_DIGIT, 1 / classes, keras.ops.one_hot(labels[:, 0], classes))
    return keras.losses.categorical_crossentropy(targets, probabilities)


def accuracy_of_digits():
    """The metric: accuracy, in which what is no digit does not count."""
    import keras

    class Accuracy(keras.metrics.SparseCategoricalAccuracy):
        def update_state(self, labels, probabilities, sample_weight=None):
            return super().update_state(labels, probabilities, sample_weight=labels != handwriting.NON_DIGIT)

    return Accuracy(name="accuracy")


def with_variety(training, classes, share, seed):
    """Add other people's digits, `share` of the training images, and half as many images of what is no digit.

    Nothing where the classes are not the digits 0 to 9.
    """
    if not share:
        return training
    if classes != [str(digit) for digit in range(10)]:
        print("The classes are not the digits 0 to 9: no other handwriting is mixed in")
        return training
    images, labels = next(training.batch(pipeline.SHUFFLED).as_numpy_iterator())
    count = round(share * len(images))  # a larger data set sees them several times an epoch
    more, more_labels = handwriting.digits(images, labels, count, seed)
    non_digits = handwriting.non_digits(images, count // 2, seed)
    pixels = np.concatenate([more, non_digits])
    labels = np.concatenate([more_labels, np.full(len(non_digits), handwriting.NON_DIGIT)])
    return pipeline.with_more(training, pixels, labels, times=len(training) / len(images))


def calibrate(network, probabilities, labels):
    """Divide the network's logits by the temperature that makes its confidence true; return the temperature.

    It is the one with the least cross-entropy on these probabilities, N×classes, and labels, N, which it was not
    trained on (C. Guo et al., "On Calibration of Modern Neural Networks", 2017). The last layer takes it in.
    """
    logits = np.log(np.maximum(probabilities, 1e-30))
    temperatures = np.exp(np.linspace(np.log(0.4), np.log(2.5), 201))

    def loss(temperature):
        scaled = logits / temperature
        return (np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(labels)), labels]).mean()

    best = min(temperatures, key=loss)
    last = network.layers[-1]
    last.set_weights([weights / np.float32(best) for weights in last.get_weights()])
    return float(best)


def train(network, training, validation, settings, checkpoint=None, resume=None, on_epoch=None, quiet=False, process=0):
    """Train an uncompiled Keras model in place; return the history, a list with a dict for each epoch.

    training, validation: tf.data.Dataset of (uint8 28×28×1, label), as from pipeline.decode(); validation or None.
    settings: dict with epochs, optimizer, batch_size, learning_rate, augment, seed, processes. process: which of the
    processes this is; training and validation are its shares, and so is what it takes of each batch.
    checkpoint: file to which each finished epoch is saved. resume: what read_checkpoint() returned, to go on
    from. on_epoch: called with the history after each epoch. quiet: print nothing. Raises RunError if the loss becomes
    infinite or no number.
    """
    import keras

    from digits.muon import Muon

    epochs, seed = settings["epochs"], settings["seed"]
    history = list(resume["history"]) if resume else []
    batch_size = settings["batch_size"] // settings["processes"]
    steps = math.ceil(len(training) / batch_size)
    kinds = {"adam": keras.optimizers.Adam, "muon": Muon}
    optimizer = kinds[settings["optimizer"]](one_cycle(settings["learning_rate"], steps * epochs))
    network.compile(optimizer, loss=cross_entropy, metrics=[accuracy_of_digits()])
    optimizer.build(network.trainable_variables)
    variables = network.weights + optimizer.variables
    if resume:
        for variable, value in zip(variables, resume["values"], strict=True):
            variable.assign(value)
    channels = network.input_shape[-1]
    batches = pipeline.training_batches(
        training, batch_size, channels, settings["augment"], seed + process, len(history), epochs
    )

    class EachEpoch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.start = time.monotonic()
            for layer in network.layers:
                # The noise of dropout, too, follows from seed and epoch alone.
                if isinstance(layer, keras.layers.Dropout) and layer.rate:
                    layer.seed_generator.state.assign([seed, 1_000_000 * epoch])

        def on_epoch_end(self, epoch, logs=None):
            row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
            row["seconds"] = round(time.monotonic() - self.start, 2)
            if not math.isfinite(row["loss"]):
                raise RunError(f"the training diverged in epoch {epoch + 1}; try a smaller --learning-rate")
            history.append(row)
            if checkpoint:
                write_checkpoint(checkpoint, settings, history, variables)
            if on_epoch:
                on_epoch(history)
            if not quiet and not sys.stdout.isatty():
                print(epoch_line(row, epochs), flush=True)

    if len(history) == epochs:  # it was interrupted after the last one
        return history
    network.fit(
        batches,
        epochs=epochs,
        initial_epoch=len(history),
        steps_per_epoch=steps,
        shuffle=False,
        validation_data=validation and pipeline.evaluation_batches(validation, channels),
        callbacks=[EachEpoch()],
        verbose=1 if sys.stdout.isatty() and not quiet else 0,
    )
    return history


def epoch_line(row, epochs):
    scores = "  ".join(
        f"{key} {100 * row[key]:.2f}%" if key.endswith("accuracy") else f"{key} {row[key]:.4f}"
        for key in ("loss", "accuracy", "val_loss", "val_accuracy")
        if key in row
    )
    return f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}  {scores}  {row['seconds']:.1f} s"


def write_log(path, history):
    with atomic_write(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, history[0])
        writer.writeheader()
        writer.writerows(history)


def write_checkpoint(path, settings, history, variables):
    about = json.dumps({"settings": settings, "history": history})
    arrays = {f"variable_{place}": np.asarray(variable) for place, variable in enumerate(variables)}
    with atomic_write(path) as temporary:
        np.savez(temporary, about=about, **arrays)


def read_checkpoint(path):
    """Return a dict with settings, history and values (the variables of network and optimizer). Raises UsageError."""
    if not path.exists():
        missing = f"--resume: there is no {path}, so no finished epoch to go on from; start without --resume"
        raise UsageError(f"{missing} (in a cluster, all processes need the file that process 0 wrote)")
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            values = [archive[f"variable_{place}"] for place in range(len(archive.files) - 1)]
        return {"settings": about["settings"], "history": about["history"], "values": values}
    except Exception as error:  # a damaged file makes NumPy and zipfile raise nearly any type
        raise UsageError(f"{path}: damaged ({error}); start again without --resume") from error


def save(network, path, about):
    """Write model and .json, each whole or not at all; keep those they replace as <model>.previous.*"""
    from digits import model

    description = path.with_suffix(".json")
    keep_previous(path)
    keep_previous(description)
    model.save(network, path)
    with atomic_write(description) as temporary:
        temporary.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def filters_of(text):
    """The numbers of filters that a flag names."""
    counts = [number(int, 1, 1024)(part) for part in text.split(",")]
    if len(counts) > 8:
        raise argparse.ArgumentTypeError(f"{text} names {len(counts)} convolutions; there can be at most 8")
    return counts


def address(text):
    """The host:port that a flag names."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, such as 192.168.1.5:4321")
    return text


def parse_args(argv, defaults=None):
    parser = Parser(__doc__)
    add_model_flags(parser, DATA, NETWORK, MODEL)
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=SEED, help="(default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the last finished epoch of this model's run")
    parser.add_argument("--no-test", action="store_true", help="leave the test set unread, to compare settings")
    # The training
    add = parser.add_argument
    add("--epochs", type=number(int, 1, 100_000), default=EPOCHS, help="(default: %(default)s)")
    optimizer = "(default: adam, muon for < 4 epochs)"
    add("--optimizer", choices=("adam", "muon"), default=OPTIMIZER, help=optimizer)
    size = "images a step (default: 128, 64 for 4 to 9 epochs)"
    add("--batch-size", type=number(int, 1, 1_000_000), default=BATCH_SIZE, help=size)
    rate = "peak of the one-cycle schedule (default: 3e-3 · √(30 / epochs) · batch size / 128, at most 0.01)"
    add("--learning-rate", type=number(float, 0, 10, open_low=True), default=LEARNING_RATE, help=rate)
    filters = f"of each convolution of cnn, as many as it shall have (default: {','.join(map(str, FILTERS))})"
    add("--filters", type=filters_of, default=FILTERS, metavar="N,N,...", help=filters)
    kernel = "height and width of the kernels of cnn, pixels (default: %(default)s)"
    add("--kernel-size", type=number(int, 1, 7), default=KERNEL_SIZE, help=kernel)
    dropout = "rate, 0-1 (default: cnn 0.05, dense128 0.25, dense64 none)"
    add("--dropout", type=number(float, 0, 1, open_high=True), default=DROPOUT, help=dropout)
    add("--l2", type=number(float, 0, 1), default=L2, help="weight of the L2 penalty of cnn (default: %(default)s)")
    augment = "strength of the random transforms, 0-3 (default: follows from the epochs, √(epochs / 36), at most 1)"
    add("--augment", type=number(float, 0, 3), default=AUGMENT, help=augment)
    others = "other people's digits mixed in, a share of the training images, 0-2 (default: 0.2; none for < 4 epochs)"
    add("--variety", type=number(float, 0, 2), default=VARIETY, help=others)
    held_out = "share of each class that is held out, 0-1 (default: 1/12)"
    add("--validation-split", type=number(float, 0, 1, open_high=True), default=VALIDATION_SPLIT, help=held_out)
    precision = "what the layers compute in; the saved network is float32 in any case (default: %(default)s)"
    add("--precision", choices=("auto", "float32", "bfloat16"), default=PRECISION, help=precision)
    # The machines
    cache = "where decoded images are kept: memory, disk (beside the model, while it trains) or none (default: auto)"
    add("--cache", choices=("auto", "memory", "disk", "none"), default=CACHE, help=cache)
    add(
        "--cluster",
        type=address,
        metavar="HOST:PORT",
        help="train in several processes; where process 0 waits for the others",
    )
    add("--processes", type=number(int, 1, 100_000), default=1, help="of the cluster (default: %(default)s)")
    which = "which of them this is, from 0, which writes the files (default: %(default)s)"
    add("--process", type=number(int, 0, 100_000), default=0, help=which)
    parser.set_defaults(**(defaults or {}))
    args = parser.parse_args(argv)
    if args.process >= args.processes:
        parser.error(f"--process: {args.process} is not one of {args.processes}, they are numbered from 0")
    if (args.cluster is None) != (args.processes == 1):
        parser.error("--cluster, --processes: are needed together, for 2 processes or more")
    return args


SETTINGS = ("network", "epochs", "optimizer", "batch_size", "learning_rate", "filters", "kernel_size", "dropout", "l2",
            "augment", "variety", "validation_split", "seed", "precision", "processes")  # fmt: skip


def settings_of(argv, resume):
    """The settings as a dict, those left open filled in; those of the interrupted run where one is resumed."""
    args = parse_args(argv, {**resume["settings"], "processes": 1} if resume else {})
    if args.optimizer is None:
        args.optimizer = optimizer_name(args.epochs)
    if args.batch_size is None:
        args.batch_size = batch_size(args.epochs)
    if args.learning_rate is None:
        args.learning_rate = round(peak_rate(args.epochs, args.batch_size), 6)
    if args.dropout is None:
        args.dropout = dropout_rate(args.network)
    if args.augment is None:
        args.augment = round(augment_strength(args.epochs), 3)
    if args.variety is None:
        args.variety = variety_share(args.epochs)
    if args.batch_size % args.processes:
        raise UsageError(
            f"--batch-size: {args.batch_size} cannot be shared out evenly among {args.processes} processes"
        )
    if args.network != "cnn":
        if (args.filters, args.kernel_size) not in ((FILTERS, KERNEL_SIZE), (None, None)):
            raise UsageError(f"--filters, --kernel-size: are of --network cnn, {args.network} is always the same")
        args.filters = args.kernel_size = None
    settings = {key: getattr(args, key) for key in SETTINGS}
    for key in SETTINGS if resume else ():
        if settings[key] != resume["settings"].get(key, settings[key]):
            flag = "--" + key.replace("_", "-")
            raise UsageError(f"{flag}: the run to resume has {resume['settings'][key]}; give it the same")
    return settings


def load_images(folder, no_test):
    """The Images for training and, unless no_test, for the test."""
    images = pipeline.load(folder, "train")
    if no_test:
        return images, None
    test_images = pipeline.load(folder, "test")
    if test_images.classes != images.classes:
        raise UsageError(
            f"{folder / 'test'}: has other classes than the training images; make them agree, or use --no-test"
        )
    return images, test_images


def work(argv):
    args = parse_args(argv)
    if args.process:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  process 0 tells all
    if args.model and (args.model.suffix != ".keras" or not args.model.absolute().parent.is_dir()):
        raise UsageError(f"--model: {args.model} must end in .keras, in a folder that exists")
    name, folder = pipeline.find(args.data)
    path = model_file(args, name)
    resume = read_checkpoint(checkpoint_of(path)) if args.resume else None
    settings = settings_of(argv, resume)
    images, test_images = load_images(folder, args.no_test)
    parts = pipeline.hold_out(images, settings["validation_split"])
    sizes = {"training": len(parts[0].labels), "validation": len(parts[1].labels)}
    if sizes["training"] < args.processes:
        raise UsageError(f"--processes: there are only {sizes['training']} images to train, take fewer processes")
    print(f"Model: {path}   Data: {name}, {sizes['training']:,} images to train, {sizes['validation']:,} to validate")

    if args.cluster:
        cluster.join(args.cluster, args.processes, args.process)
    import_tensorflow()
    from digits import model

    folder_of_cache = path.with_suffix(f".cache{args.process}")
    with pipeline.kept(args.cache, images, folder_of_cache) as cache:
        with cluster.loss_of_others():
            network, history = trained(parts, settings, resume, path, cache, args.process)
            if args.cluster:
                cluster.leave(network)
        if args.process:
            return
        network = model.as_float32(network)  # what is saved is what is scored
        results, threshold = {"validation": None, "test": None}, reader.USUAL_THRESHOLD
        if sizes["validation"]:
            validation = pipeline.decode(parts[1], cache and cache / "all_validation")  # training had only a share
            results["validation"], threshold = validated(network, validation, parts[1].labels, images.classes)
        if test_images:
            test = pipeline.decode(test_images, cache and cache / "test")
            results["test"], _ = evaluate.score(network, test, test_images.labels, images.classes)
            sizes["test"] = results["test"]["total"]
    save(network, path, description(name, images, threshold, sizes, settings, history, results))
    checkpoint_of(path).unlink(missing_ok=True)
    curves = path.with_name(f"{path.stem}_curves.png")
    plots.save(plots.curves_figure(history), curves)
    print(f"Saved {path}, {path.with_suffix('.json')}, {log_of(path)}, {curves}")
    print(summary_line(history, results), flush=True)
    plots.show()


def trained(parts, settings, resume, path, cache, process):
    """Train a new network; return (network, history). Completes the settings.

    parts: Images for training and validation. cache: as from pipeline.kept(). process: which one of a cluster this is,
    0 writes a checkpoint and a line of the log beside path after each epoch.
    """
    import tensorflow as tf

    from digits import model

    settings["precision"] = model.precision_of(settings["precision"])
    print("Settings: " + ", ".join(f"{key} {value}" for key, value in settings.items()), flush=True)
    shares = [pipeline.share(part, process, settings["processes"]) for part in parts]
    training, validation = (
        pipeline.decode(part, cache and cache / split) if len(part.labels) else None
        for part, split in zip(shares, ("training", "validation"), strict=True)
    )
    settings["data_sha256"] = pipeline.fingerprint(*filter(None, (training, validation)))
    if settings["processes"] > 1:
        labels = [hashlib.sha256(part.labels.tobytes()).hexdigest() for part in parts]
        same = [parts[0].classes, *labels, resume and resume["history"]]
        settings["data_sha256"] = cluster.agree(settings, same)
    if resume and resume["settings"]["data_sha256"] != settings["data_sha256"]:
        raise UsageError("--resume: the images have changed since the interrupted run; start again without --resume")
    checkpoint, classes, leads = checkpoint_of(path), parts[0].classes, process == 0
    if checkpoint.exists() and not resume and leads:
        kept = checkpoint.rename(path.with_suffix(".checkpoint.previous.npz"))
        print(f"An unfinished run was here (--resume would go on with it); its checkpoint is kept as {kept}")
    training = with_variety(training, classes, settings["variety"], settings["seed"] + process)
    network = new_network(settings, len(classes))
    network.summary()
    try:
        history = train(
            network, training, validation, settings, checkpoint if leads else None, resume,
            lambda rows: write_log(log_of(path), rows) if leads else None, process=process,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {cluster.HOW_TO_GO_ON}") from None
    except tf.errors.OpError as error:  # a file went away, of the images or of --cache disk
        reason = error.message.partition("[[")[0].strip().rpartition("\n")[2]  # without where in the graph it was
        raise RunError(f"the training cannot go on: {reason}; {cluster.HOW_TO_GO_ON}") from error
    return network, history


def checkpoint_of(path):
    return path.with_suffix(".checkpoint.npz")


def log_of(path):
    return path.with_name(f"{path.stem}_log.csv")


def validated(network, validation, labels, classes):
    """Calibrate the network on the validation images; return (its result there, threshold of the digit score)."""
    _, probabilities = evaluate.score(network, validation, labels, classes)
    calibrate(network, probabilities, labels)
    result, probabilities = evaluate.score(network, validation, labels, classes)
    return result, float(np.quantile(reader.digit_score(probabilities), 1 - KEPT))


def description(name, images, threshold, sizes, settings, history, results):
    """What the .json beside the model says."""
    import keras
    import tensorflow as tf

    return {
        "network": settings["network"],
        "classes": images.classes,
        "whole": images.whole,
        "threshold": threshold,
        "accuracy": {split: result and result["accuracy"] for split, result in results.items()},
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "data": {"name": name, **sizes, "sha256": settings["data_sha256"]},
        "settings": {key: settings[key] for key in SETTINGS},
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{len(tf.config.list_physical_devices('GPU'))} GPUs",
        "history": history,
    }


def summary_line(history, results):
    line = f"Trained {len(history)} epochs in {sum(row['seconds'] for row in history):.0f} s."
    for split, result in results.items():
        if result:
            score = f"{100 * result['accuracy']:.2f}% ({result['correct']:,} of {result['total']:,})"
            line += f" {split.capitalize()} accuracy: {score}"
    return line


def main(argv=None):
    return cluster.end(run(work, argv))


if __name__ == "__main__":
    sys.exit(main())
