"""Search for better settings of the network and its training with Optuna: pip install -r extras/requirements-tune.txt

    python -m extras.tune                          # an hour, MNIST, 4 epochs per trial
    python -m extras.tune --minutes 0              # only show the results so far
    python -m extras.tune --most-parameters 15000 --study small     # the best small network

Trials are compared by val_accuracy alone; the test set is not read. A trial below the median of the others is stopped
early. tuning.db keeps all trials: after Ctrl-C or a crash, rerun the command to continue. Processes that run it in
several terminals share the work; on several machines, --storage names a database server. At the end it prints the ten
best trials and the train.py command that repeats the best one, and draws tuning.png.
"""

import dataclasses
import shlex
import sys
import time
import warnings
from collections import Counter

from tqdm import tqdm

import train
from digits import model, plots
from digits.cli import (
    Parser,
    RunError,
    UsageError,
    flag,
    flag_value,
    import_tensorflow,
    in_one_line,
    number,
    option,
    run,
)
from digits.data import sources

try:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError
except ModuleNotFoundError:  # tune() says how to install it
    optuna = None

RANGES = {  # of the parameters of a trial: least, most
    "layers": [2, 4],  # convolutions
    "first_filters": [8, 40],  # of the first convolution
    "growth": [1.0, 2.0],  # filters of a convolution, divided by those of the one before
    "kernel_size": [3, 5],  # pixels, odd
    "dropout": [0.0, 0.5],
    "l2": [1e-6, 1e-3],
    "learning_rate": [1e-3, 1e-2],
    "batch_size": [32, 64, 128, 256],  # each of these
    "augment": [0.0, 1.0],
}
MAX_TOO_LARGE = 300  # networks that are skipped before a process gives up, if it has trained none
HEARTBEAT = 30  # seconds; a process that is silent for twice as long is dead, and another one repeats its trial
FIGURE = "tuning.png"


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    data: str = option(None, sources.HELP)
    minutes: float = option(
        60, "for how long this process starts trials; 0: only show the results", number(float, least=0, most=100_000)
    )
    trials: int = option(
        None, "how many networks this process trains at most (default: no limit)", number(int, least=1, most=1_000_000)
    )
    epochs: int = option(4, "passes over the training images in each trial", number(int, least=1, most=100_000))
    most_parameters: int = option(
        100_000, "networks with more parameters are skipped, and not counted by --trials", number(int, 1, 10**9)
    )
    study: str = option(None, "name of the study in the database (default: <data>, <epochs> epochs)")
    storage: str = option("sqlite:///tuning.db?timeout=60", "URL of the database, seconds to wait if it is in use")


def suggest_settings(trial, epochs):
    """Let a trial choose its parameters within RANGES; return what they mean, settings of train.py {name: value}."""
    layers, first = (trial.suggest_int(name, *RANGES[name]) for name in ("layers", "first_filters"))
    growth, dropout, augment = (trial.suggest_float(name, *RANGES[name]) for name in ("growth", "dropout", "augment"))
    l2, learning_rate = (trial.suggest_float(name, *RANGES[name], log=True) for name in ("l2", "learning_rate"))
    return {
        "epochs": epochs,
        "filters": [round(first * growth**layer) for layer in range(layers)],
        "kernel_size": trial.suggest_int("kernel_size", *RANGES["kernel_size"], step=2),
        "dropout": round(dropout, 2),
        "l2": float(f"{l2:.2g}"),
        "learning_rate": float(f"{learning_rate:.3g}"),
        "batch_size": trial.suggest_categorical("batch_size", RANGES["batch_size"]),
        "augment": round(augment, 2),
    }


def default_parameters(epochs):
    """The parameters of a trial with the defaults of train.py, or with the nearest values within RANGES."""
    batch_size = min(RANGES["batch_size"], key=lambda size: abs(size - train.Settings(epochs=epochs).batch_size))
    defaults = vars(train.Settings(epochs=epochs, batch_size=batch_size))
    first, second, *_ = filters = defaults["filters"]
    defaults |= {"layers": len(filters), "first_filters": first, "growth": second / first}
    return {name: min(max(defaults[name], limits[0]), limits[-1]) for name, limits in RANGES.items()}


def run_trial(trial, training_set, validation_set, classes, epochs, max_parameters):
    """Train with the settings that a trial suggests; return the last val_accuracy, 0-1. Raises optuna.TrialPruned."""
    import keras

    from digits import training

    def report(result):
        cost = f"{network.count_params():7,} parameters  {trial.user_attrs.get('seconds', 0):5.0f} s"
        tqdm.write(f"trial {trial.number:3}  {result:13}  {cost}")  # above Optuna's progress bar
        sys.stdout.flush()

    def prune(reason):
        report(reason)
        raise optuna.TrialPruned

    def on_epoch(history, variables):
        trial.set_user_attr("seconds", round(sum(row["seconds"] for row in history), 1))
        trial.report(history[-1]["val_accuracy"], len(history))
        if len(history) < epochs and trial.should_prune():
            prune("stopped early")

    values = suggest_settings(trial, epochs)
    settings = train.Settings(**values, precision=model.choose_precision("auto"))
    keras.utils.clear_session()  # else the memory of earlier trials would stay in use
    network = training.new_network(settings, classes)
    texts = {flag(name): flag_value(value) for name, value in values.items()}
    trial.set_user_attr("flags", " ".join(f"{name} {text}" for name, text in texts.items()))
    trial.set_user_attr("parameters", network.count_params())
    if network.count_params() > max_parameters:
        prune("too large")
    try:
        history = training.fit(network, training_set, validation_set, settings, on_epoch=on_epoch, quiet=True)
    except RunError:
        prune("diverged")
    report(f"{100 * history[-1]['val_accuracy']:.2f}%")
    return history[-1]["val_accuracy"]


def open_storage(url):
    """The database of the studies; its tables are made if it has none. Raises UsageError."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # about the heartbeat
    retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=2)
    heartbeat = {"heartbeat_interval": HEARTBEAT, "heartbeat_stale_trial_callback": retry}
    return patiently(lambda: optuna.storages.RDBStorage(url, **heartbeat))


def open_study(storage, name):
    """The study of this name; created if it does not exist. Raises UsageError."""
    options = {"study_name": name, "direction": "maximize", "load_if_exists": True}
    sampler = optuna.samplers.TPESampler(multivariate=True)  # S. Watanabe, arXiv:2304.11127, 2023
    pruner = optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=2)
    return patiently(lambda: optuna.create_study(storage=storage, sampler=sampler, pruner=pruner, **options))


def patiently(make):
    """What make() returns, tried three times, since another process may be creating the same tables."""
    for pause in (0.5, 1, None):  # seconds
        try:
            return make()
        except Exception as error:  # SQLAlchemy and the database's driver raise nearly any type
            if pause is None:
                raise UsageError(f"--storage: the database cannot be used: {in_one_line(error)}") from error
            time.sleep(pause)


def search(study, data, settings):
    """Run trials until the minutes or the trials are used up. Raises UsageError if the study has other conditions."""
    defaults = train.Settings(epochs=settings.epochs)
    split = sources.load_training(data, defaults.validation_split)
    classes = split[0].classes
    if not len(split[1].labels):
        raise UsageError(f"--data: {len(split[0].labels)} images are too few to validate on; add some")
    print(f"Study '{study.study_name}'; Ctrl-C stops it; rerun the command to continue", flush=True)
    import_tensorflow()
    from digits import training
    from digits.data import pipeline

    training_set, validation_set = datasets = [pipeline.decode(part) for part in split]
    conditions = {"data": pipeline.fingerprint(*datasets), "epochs": settings.epochs, "ranges": RANGES}
    recorded = study.user_attrs.get("conditions", conditions)
    different = ", ".join(key for key in conditions if conditions[key] != recorded.get(key))
    if different:
        raise UsageError(f"--study: {study.study_name} was started with other {different}; choose another name")
    study.set_user_attr("conditions", conditions)
    if all(trial.state.name == "FAIL" for trial in study.trials):
        study.enqueue_trial(default_parameters(settings.epochs))
    training_set = training.mix_in_handwriting(training_set, classes, defaults)
    arguments = training_set, validation_set, classes, settings.epochs, settings.most_parameters
    counts = Counter()

    def stop_if_enough(study, trial):
        counts[trial.user_attrs.get("parameters", 0) > settings.most_parameters] += 1
        if counts[False] == settings.trials or (counts[True] == MAX_TOO_LARGE and not counts[False]):
            study.stop()

    limits = {"timeout": 60 * settings.minutes, "callbacks": [stop_if_enough]}
    study.optimize(lambda trial: run_trial(trial, *arguments), **limits, show_progress_bar=sys.stderr.isatty())
    if counts[True] and not counts[False]:
        raise UsageError(f"--most-parameters: all {counts[True]:,} networks were larger; allow more")


def show_results(study, data):
    """Print the best trials and the command that repeats the best one; save the figure."""
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    if not finished:
        print(f"No trial of the study '{study.study_name}' has finished yet", flush=True)
        return
    best, *_ = ranked = sorted(finished, key=lambda trial: -trial.value)
    print(f"\nThe best of {len(finished):,} finished trials, of {len(study.trials):,} started:")
    for trial in ranked[:10]:
        size, seconds, flags = (trial.user_attrs[name] for name in ("parameters", "seconds", "flags"))
        print(f"{100 * trial.value:.2f}%  {size:9,} parameters  {seconds:5.0f} s  trial {trial.number:3}  {flags}")
    importances = optuna.importance.get_param_importances(study) if len({t.value for t in finished}) > 3 else {}
    plots.save(plots.tuning(finished, importances), FIGURE)
    command = f"python train.py --data {shlex.quote(data)} {best.user_attrs['flags']} --model tuned.keras"
    print(f"Figure: {FIGURE}\n{command}")
    print(f"Best val_accuracy: {100 * best.value:.2f}% ({best.user_attrs['parameters']:,} parameters)", flush=True)
    plots.show()


def tune(settings):
    if optuna is None:
        raise UsageError("the package optuna is missing: pip install -r extras/requirements-tune.txt")
    storage = open_storage(settings.storage)  # before the images are made
    data = sources.make_available(settings.data)
    study = open_study(storage, settings.study or f"{sources.name_of(data)}, {settings.epochs} epochs")
    try:
        if settings.minutes > 0:
            search(study, data, settings)
    except KeyboardInterrupt:
        show_results(study, data)
        raise KeyboardInterrupt("interrupted; rerun the command to continue") from None
    except Exception as error:  # if the database fails, Optuna raises other errors on top
        cause = error
        while cause and not isinstance(cause, (optuna.exceptions.StorageInternalError, SQLAlchemyError)):
            cause = cause.__context__
        if not cause and "Cannot tell" not in str(error):
            raise
        failure = f"the database failed ({in_one_line(cause)})" if cause else "suspended, so another process took over"
        raise RunError(f"--storage: {failure}; rerun the command to continue") from error
    show_results(study, data)


def main(argv=None):
    return run(tune, Parser(__doc__, Settings).settings(argv), keep_going=True)


if __name__ == "__main__":
    sys.exit(main())
