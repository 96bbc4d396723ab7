"""Train a network on the digits in Mnist_dataset/ and save it as mnist_cnn.keras.

    python train.py                                # MNIST and other handwriting, five minutes on 2 cores
    python train.py --epochs 1                     # 99 % accuracy on the test images, the shortest run
    python train.py --epochs 4                     # a first good network in about a minute
    python train.py --data letters --network dense64   # your own images in letters/{train,test}/<class>/*.png
    python train.py --resume                       # continue after Ctrl-C, a crash or a power cut

Writes four files side by side: the model (.keras), its settings and results (.json), a log with a line per epoch
(_log.csv) and the curves (_curves.png). A model that is replaced is kept as <model>.previous.keras.
"""

import dataclasses
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from digits import checkpoint, files, model
from digits.cli import Parser, UsageError, flag, flag_value, folder, import_tensorflow, number, numbers, option, run
from digits.data import sources

SCORED = {"validation": "Validation", "writers": "Held-out writers'", "test": "Test"}  # splits, as they are printed


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag. __post_init__() derives those that are None from the others."""

    data: str = option(None, sources.HELP, recorded=False)
    network: str = option("cnn", "network to train, see digits/model.py", choices=list(model.NETWORKS))
    epochs: int = option(30, "passes over the training images", number(int, least=1, most=100_000))
    optimizer: str = option(None, "rule that changes the weights (default: set by --epochs)", choices=["adam", "muon"])
    batch_size: int = option(None, "images per step (default: set by --epochs)", number(int, least=1, most=1_000_000))
    learning_rate: float = option(
        None, "size of the steps at its peak (default: set by --epochs)", number(float, above=0, most=10)
    )
    filters: list = option(None, "filters per convolution of cnn (default: 32,64,128)", numbers(int, 1, 1024, count=8))
    kernel_size: int = option(None, "side of the filters of cnn, pixels (default: 3)", number(int, least=1, most=7))
    dropout: float = option(
        None, "share of features left out at random, 0-1 (default: set by --network)", number(float, least=0, below=1)
    )
    l2: float = option(1e-5, "weight of the L2 penalty on the convolutions of cnn", number(float, least=0, most=1))
    augment: float = option(
        None, "how much images are warped at random, 0-3 (default: set by --epochs)", number(float, least=0, most=3)
    )
    handwriting: float = option(
        None, "digits of other people per image, 0-2 (default: set by --epochs)", number(float, least=0, most=2)
    )
    validation_split: float = option(1 / 12, "share of images and writers held out", number(float, least=0, below=1))
    seed: int = option(0, "of all random numbers: same machine, same weights", number(int, least=0, most=2**31 - 1))
    precision: str = option(
        "auto", "precision while training; auto: the fastest on this machine", choices=["auto", "float32", "bfloat16"]
    )
    patience: int = option(
        None, "stop after this many epochs without a better val_accuracy (default: never)", number(int, 1, 100_000)
    )
    model: Path = option(None, model.HELP, Path, recorded=False)
    tensorboard: Path = option(None, "folder for a log that TensorBoard shows (default: none)", folder, recorded=False)
    cache: str = option(
        "auto", "where decoded images are kept", choices=["auto", "memory", "disk", "none"], recorded=False
    )
    resume: bool = option(False, "continue from the last finished epoch of this model's run", recorded=False)
    no_test: bool = option(False, "leave the test images unread, to compare settings", recorded=False)

    def __post_init__(self):
        if self.model and (self.model.suffix != ".keras" or not self.model.absolute().parent.is_dir()):
            raise UsageError(f"--model: {self.model} must end in .keras, in a folder that exists")
        if self.tensorboard and not find_spec("tensorboard"):
            raise UsageError("--tensorboard: the package tensorboard is missing: pip install tensorboard")
        if self.patience and not self.validation_split:
            raise UsageError("--patience: needs validation images; give --validation-split more than 0")
        if self.network != "cnn" and (self.filters or self.kernel_size):
            raise UsageError(f"--filters, --kernel-size: belong to --network cnn; {self.network} has a fixed size")
        if self.optimizer is None:
            self.optimizer = "muon" if self.epochs < 4 else "adam"  # muon learns more in few steps
        if self.batch_size is None:  # a short run needs more steps; the shortest has muon for that
            self.batch_size = 64 if 4 <= self.epochs < 10 else 128
        if self.learning_rate is None:  # a short run needs larger steps, too
            peak = 3e-3 * (30 / self.epochs) ** 0.5 * self.batch_size / 128
            self.learning_rate = round(min(1e-2, peak), 6)
        if self.network == "cnn":
            self.filters = self.filters or list(model.FILTERS)
            self.kernel_size = self.kernel_size or model.KERNEL_SIZE
        if self.dropout is None:
            self.dropout = model.NETWORKS[self.network].dropout
        if self.augment is None:  # a long run sees each image often enough for stronger warps
            self.augment = round(min(1, (self.epochs / 36) ** 0.5), 3)
        if self.handwriting is None:  # a very short run only has time for the training images
            self.handwriting = 0.4 if self.epochs >= 4 else 0.0

    @property
    def path(self):  # of the model file
        return self.model or model.default_path(sources.name_of(self.data), self.network)

    def recorded(self):
        """The settings in the .json, which must be the same to resume: all that determine the weights."""
        recorded = [field.name for field in dataclasses.fields(self) if field.metadata["recorded"]]
        return {name: getattr(self, name) for name in recorded}


def read_settings(parser, argv):
    """The Settings of a command line; with --resume, those of the interrupted run. Raises UsageError."""
    given = vars(parser.parse_args(argv))
    settings = parser.settings_class(**given)
    if settings.resume:
        other = dataclasses.replace(settings, data="handwriting")  # what is trained on where MNIST is not available
        paths = [checkpoint.path_for(one.path) for one in (settings, other)]
        if settings.data is None and not paths[0].exists() and paths[1].exists():
            settings = other
        run_settings = checkpoint.read(settings.path).settings
        for name in given.keys() & run_settings.keys():
            if given[name] != run_settings[name]:
                found = flag_value(run_settings[name])
                raise UsageError(f"{flag(name)}: the interrupted run has {found}; give the same, or none")
        recorded = {name: run_settings[name] for name in settings.recorded() if name in run_settings}
        settings = dataclasses.replace(settings, **recorded)
    files.check_writable(settings.path)  # all flags are checked before the images are made
    settings.data = sources.make_available(settings.data)
    return settings


def train(settings):
    """Train a network and save it; return its description, a dict. Raises UsageError, RunError."""
    start = time.monotonic()
    with checkpoint.running(settings.path) as scratch:
        splits = sources.load_splits(settings.data, settings.validation_split, tested=not settings.no_test)
        counts = f"{len(splits.training.labels):,} images to train, {len(splits.validation.labels):,} to validate"
        print(f"Model: {settings.path}   Data: {sources.name_of(settings.data)}, {counts}", flush=True)
        resume = checkpoint.read(settings.path) if settings.resume else None

        import_tensorflow()  # not before flags and files were checked
        from digits import training
        from digits.data import pipeline

        cache = pipeline.choose_cache(settings.cache, splits.training, scratch)
        training_set = pipeline.decode(splits.training, cache, "training")
        validation_set = pipeline.decode(splits.validation, cache, "validation")
        settings = dataclasses.replace(settings, precision=model.choose_precision(settings.precision))
        this_run = settings.recorded() | {"processes": 1}
        this_run["data_sha256"] = pipeline.fingerprint(training_set, validation_set)
        checkpoint.start(settings.path, this_run, resume)

        classes = splits.training.classes
        training_set = training.mix_in_handwriting(training_set, classes, settings)
        network = training.new_network(settings, classes)
        training.describe(network, settings)
        save_epoch = training.epoch_saver(settings.path, this_run)
        history = training.fit(network, training_set, validation_set, settings, resume, save_epoch)
        return finish(settings, splits, validation_set, cache, network, history, this_run, start)


def finish(settings, splits, validation_set, cache, network, history, this_run, start):
    """Calibrate, evaluate and save a trained network; return its description, a dict."""
    from digits import metrics, plots, training

    network = model.as_float32(network)  # what is saved is what is scored
    sizes = {name: len(images.labels) for name, images in splits._asdict().items() if images}
    results, threshold, test_checksum = metrics.calibrate_and_evaluate(network, splits, validation_set, cache)
    checksums = {"sha256": this_run["data_sha256"], "test_sha256": test_checksum}
    about = {
        "network": settings.network,
        "classes": splits.training.classes,
        "segment": splits.training.segment,
        "threshold": threshold,
        "accuracy": {name: results[name]["accuracy"] if name in results else None for name in SCORED},
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "data": {"name": sources.name_of(settings.data), **sizes, **checksums},
        "settings": {name: value for name, value in this_run.items() if name != "data_sha256"},
        **training.environment(),
        "history": history,
    }
    replaced, kept = model.details(settings.path), model.keep_replaced(settings.path)
    model.save(network, settings.path, about)
    checkpoint.path_for(settings.path).unlink(missing_ok=True)
    curves = settings.path.with_name(f"{settings.path.stem}_curves.png")
    print(f"Saved {settings.path}, {settings.path.with_suffix('.json')}, {training.log_path(settings.path)}, {curves}")
    if kept:
        print(model.compare_with_replaced(settings.path, about, replaced, kept))
    epochs, seconds = f"{len(history)} epoch{'s' * (len(history) != 1)}", time.monotonic() - start
    print(f"Trained {epochs} in {about['seconds']:.0f} s ({seconds:.0f} s with preparation and evaluation)")
    for name, result in results.items():
        print(f"{SCORED[name]} accuracy: {metrics.score(result)}", flush=True)
    plots.save(plots.curves(history), curves)
    plots.show()
    return about


def main(argv=None):
    parser = Parser(__doc__, Settings)
    parser.moved("--variety", to="--handwriting, digits of real people")
    parser.moved("--cluster", "--processes", "--process", to="python -m extras.train_cluster")
    return run(lambda: train(read_settings(parser, argv)), keep_going=True)


if __name__ == "__main__":
    sys.exit(main())
