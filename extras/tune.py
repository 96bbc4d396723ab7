"""Search for better settings of the network and its training: Optuna's TPE suggests them, and each is trained.

    python -m extras.tune                          # an hour, MNIST, 4 epochs per trial
    python -m extras.tune --minutes 10 --data drawn
    python -m extras.tune --minutes 0              # show what was found so far
    python -m extras.tune --most-parameters 15000 --study small     # the best small network

Trials are compared by val_accuracy alone; the test set is not read. A trial that falls behind the median of the others
is ended early. All is kept in tuning.db: after Ctrl-C or a crash the same command continues. Start it several times, in
several terminals, and the processes share the work; --storage names a database server for several machines. At the end:
a table of the best ten, tuning.png, and the train.py command that reproduces the best.

It needs one more package: pip install -r extras/requirements-tune.txt
"""

import dataclasses
import itertools
import math
import shlex
import sys
import time
import warnings
from pathlib import Path

import train
from digits import model
from digits.cli import Parser, RunError, UsageError, first_line, flag, import_tensorflow, number, option, run
from digits.data import folders, sources

FIGURE = Path("tuning.png")

# The ranges of the search: from, to
LAYERS = (2, 4)  # convolutions
FIRST_FILTERS = (8, 40)  # of the first convolution
GROWTH = (1.0, 2.0)  # filters of each further convolution, as a multiple of the one before
KERNEL_SIZE = (3, 5)  # pixels, odd
DROPOUT = (0.0, 0.5)
L2 = (1e-6, 1e-3)
LEARNING_RATE = (1e-3, 1e-2)
BATCH_SIZE = (32, 64, 128, 256)  # each of these
AUGMENT = (0.0, 1.0)
RANGES = (LAYERS, FIRST_FILTERS, GROWTH, KERNEL_SIZE, DROPOUT, L2, LEARNING_RATE, BATCH_SIZE, AUGMENT)

HEARTBEAT = 20  # seconds; a process that is silent three times as long is dead, and another repeats its trial
TABLE_ROWS = 10


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    data: str = option(None, sources.HELP)
    minutes: float = option(60, "for this process; 0 shows what was found", number(float, least=0, most=100_000))
    trials: int = option(None, "of this process at most (default: no limit)", number(int, least=1, most=1_000_000))
    epochs: int = option(4, "of each trial", number(int, least=1, most=100_000))
    most_parameters: int = option(100_000, "larger networks are left out", number(int, least=1, most=10**9))
    study: str = option(None, "its name in the database (default: <data>, <epochs> epochs)")
    storage: str = option("sqlite:///tuning.db", "URL of the database, as SQLAlchemy wants it")


def suggest(trial, epochs):
    """Let a trial choose within the ranges; return the settings that it changes, a dict for train.Settings."""
    layers = trial.suggest_int("layers", *LAYERS)
    first, growth = trial.suggest_int("first filters", *FIRST_FILTERS), trial.suggest_float("growth", *GROWTH)
    return {
        "epochs": epochs,
        "filters": [round(first * growth**layer) for layer in range(layers)],
        "kernel_size": trial.suggest_int("kernel size", *KERNEL_SIZE, step=2),
        "dropout": round(trial.suggest_float("dropout", *DROPOUT), 2),
        "l2": float(f"{trial.suggest_float('L2', *L2, log=True):.1e}"),
        "learning_rate": float(f"{trial.suggest_float('learning rate', *LEARNING_RATE, log=True):.2e}"),
        "batch_size": trial.suggest_categorical("batch size", BATCH_SIZE),
        "augment": round(trial.suggest_float("augment", *AUGMENT), 2),
    }


def default_parameters(epochs):
    """The settings of plain train.py for so many epochs, to try first; if out of range, the nearest."""
    batch_size = min(BATCH_SIZE, key=lambda size: abs(size - train.Settings(epochs=epochs).batch_size))
    plain = train.Settings(epochs=epochs, batch_size=batch_size)
    values = {
        "layers": (len(plain.filters), LAYERS),
        "first filters": (plain.filters[0], FIRST_FILTERS),
        "growth": (plain.filters[1] / plain.filters[0], GROWTH),
        "kernel size": (plain.kernel_size, KERNEL_SIZE),
        "dropout": (plain.dropout, DROPOUT),
        "L2": (plain.l2, L2),
        "learning rate": (plain.learning_rate, LEARNING_RATE),
        "augment": (plain.augment, AUGMENT),
    }
    within = {name: min(max(value, low), high) for name, (value, (low, high)) in values.items()}
    return within | {"batch size": batch_size}


def make_objective(training_set, validation_set, classes, settings):
    """The function that Optuna calls for each trial: train, report each epoch's val_accuracy, return the last one."""
    import keras
    import optuna

    from digits import training

    def objective(trial):
        changes = suggest(trial, settings.epochs)
        trial.set_user_attr("flags", flags_of(changes))
        trial_settings = train.Settings(**changes, precision=model.choose_precision("auto"))
        keras.utils.clear_session()  # else the memory of earlier trials would stay taken
        network = training.new_network(trial_settings, classes)
        trial.set_user_attr("parameters", network.count_params())
        show_status(f"trial {trial.number}, epoch 0/{settings.epochs}")
        if network.count_params() > settings.most_parameters:
            raise optuna.TrialPruned

        def on_epoch(history, variables):
            accuracy, epoch = history[-1]["val_accuracy"], f"epoch {len(history)}/{settings.epochs}"
            show_status(f"trial {trial.number}, {epoch}: val_accuracy {100 * accuracy:.2f}%")
            trial.set_user_attr("seconds", round(sum(row["seconds"] for row in history), 1))
            trial.report(accuracy, len(history))
            if len(history) < settings.epochs and trial.should_prune():
                raise optuna.TrialPruned

        try:
            history = training.fit(network, training_set, validation_set, trial_settings, None, on_epoch, quiet=True)
        except RunError:
            trial.set_user_attr("diverged", True)
            raise optuna.TrialPruned from None
        return history[-1]["val_accuracy"]

    return objective


def show_status(text=""):
    """Show a line on the terminal that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r{text:78}\r", end="", file=sys.stderr, flush=True)


def make_announcer(settings):
    """The function that Optuna calls after each trial: print its outcome, the best so far, and the time left."""
    start, done = time.monotonic(), 0

    def announce(study, trial):
        nonlocal done
        done += 1
        elapsed = time.monotonic() - start
        left = max(0, 60 * settings.minutes - elapsed)
        if settings.trials:
            left = min(left, elapsed / done * (settings.trials - done))
        about = trial.user_attrs
        if trial.state.name == "COMPLETE":
            outcome = f"{100 * trial.value:.2f}%"
        elif about.get("diverged"):
            outcome = "diverged"
        else:
            outcome = "ended early" if trial.intermediate_values else "left out"
        best = finished_trials(study)[:1]
        best_so_far = f"best {100 * best[0].value:.2f}% (trial {best[0].number})" if best else "none finished yet"
        show_status()
        trained = f"{about['parameters']:7,} parameters  {about.get('seconds', 0):5.0f} s"
        minutes = f"{math.ceil(left / 60)} min left"
        print(f"trial {trial.number:3}  {outcome:11}  {trained}   {best_so_far}   {minutes}", flush=True)

    return announce


def open_study(storage, name):
    """The study of this name, created if it is missing. Raises UsageError."""
    import optuna
    from sqlalchemy.exc import IntegrityError, OperationalError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the heartbeat is experimental
    connect = {"timeout": 60} if storage.startswith("sqlite") else {}  # seconds to wait while another process writes
    for patience in (1, 2, 0):
        try:
            database = optuna.storages.RDBStorage(
                storage,
                engine_kwargs={"connect_args": connect},
                heartbeat_interval=HEARTBEAT,
                grace_period=3 * HEARTBEAT,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=2),
            )
            return optuna.create_study(
                storage=database,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(multivariate=True),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=2),
            )
        except Exception as error:  # SQLAlchemy and the database's driver raise nearly any type
            if not patience or not isinstance(error, (IntegrityError, OperationalError)):
                raise UsageError(f"--storage: the database cannot be used: {first_line(error)}") from error
            time.sleep(patience)  # another process may be creating the same tables


def begin(study, conditions, epochs):
    """Note the conditions of a new study, and try plain train.py first. Raises UsageError if they have changed."""
    before = study.user_attrs.get("conditions")
    if before is None:
        study.set_user_attr("conditions", conditions)
    elif before != conditions:
        changed = ", ".join(key for key in conditions if conditions[key] != before.get(key))
        raise UsageError(f"--study: {study.study_name} was begun with another {changed}; choose another name")
    first = default_parameters(epochs)
    if not any(t.system_attrs.get("fixed_params") == first and t.state.name != "FAIL" for t in study.trials):
        study.enqueue_trial(first)


def finished_trials(study):
    """The trials that ran to their end, the best first."""
    trials = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return sorted(trials, key=lambda trial: (-trial.value, trial.number))


def flags_of(settings):
    """The flags of train.py, {flag: text}, for settings, a dict."""
    texts = {name: ",".join(map(str, v)) if isinstance(v, list) else str(v) for name, v in settings.items()}
    return {"--network": "cnn"} | {flag(name): text for name, text in texts.items()}


def best_table(trials):
    """The best trials as text."""
    names = list(trials[0].user_attrs["flags"])[2:]  # without network and epochs
    rows = [["", "val_accuracy", "parameters", "seconds", "trial", *(name[2:] for name in names)]]
    for rank, trial in enumerate(trials[:TABLE_ROWS], 1):
        about = trial.user_attrs
        accuracy, seconds = f"{100 * trial.value:.2f}%", f"{about['seconds']:.0f}"
        row = [str(rank), accuracy, f"{about['parameters']:,}", seconds, str(trial.number)]
        rows.append(row + [about["flags"][name] for name in names])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def study_figure(study, trials):
    """Four plots: history, importance of each parameter, error against parameters and against seconds."""
    import optuna
    from matplotlib import pyplot as plt

    from digits import plots

    figure, ((history, importance), (size, duration)) = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
    in_order = sorted(trials, key=lambda trial: trial.number)
    numbers, errors = [t.number for t in in_order], [max(100 * (1 - t.value), 0.01) for t in in_order]
    history.plot(numbers, errors, ".", label="trial")
    history.step(numbers, list(itertools.accumulate(errors, min)), where="post", label="best so far")
    history.set(xlabel="trial", title="History")
    history.legend()
    history.xaxis.get_major_locator().set_params(integer=True)
    if len(trials) > 3:
        share = optuna.importance.get_param_importances(study)
        importance.barh(list(share)[::-1], list(share.values())[::-1])
        importance.set(xlabel="share of the importance (PED-ANOVA)", title="Importance")
    else:
        importance.text(0.5, 0.5, "Importance is shown\nafter four finished trials", ha="center")
        importance.axis("off")
    for axis, key, label in ((size, "parameters", "parameters"), (duration, "seconds", "seconds of training")):
        axis.plot([t.user_attrs[key] for t in in_order], errors, ".")
        axis.set(xlabel=label, xscale="log", title=f"Against {label}")
        plots.label_plainly(axis.xaxis)
    for axis in (history, size, duration):
        axis.set(yscale="log", ylabel="validation error, %")
        plots.label_plainly(axis.yaxis)
        axis.grid(alpha=0.3)
    return figure


def tune(settings):
    try:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing: pip install -r extras/requirements-tune.txt") from None
    settings.data = sources.make_available(settings.data)
    images = sources.load(settings.data, "train")
    training_images, validation_images = folders.train_val_split(images, train.Settings.validation_split)
    if not len(validation_images.labels):
        raise UsageError("validation_split in train.py leaves no image to compare trials by; make it larger")
    name = settings.study or f"{sources.name_of(settings.data)}, {settings.epochs} epochs"
    study = open_study(settings.storage, name)
    try:
        if settings.minutes > 0:
            search(study, training_images, validation_images, settings)
    except KeyboardInterrupt:
        report(study, settings)
        raise KeyboardInterrupt("interrupted; the same command continues") from None
    except Exception as error:  # if the database fails, Optuna raises other errors on top
        cause = error
        while cause and not isinstance(cause, (optuna.exceptions.StorageInternalError, SQLAlchemyError)):
            cause = cause.__context__
        if not cause:
            raise
        message = f"--storage: the database failed ({first_line(cause)}); once it works, the same command continues"
        raise RunError(message) from error
    report(study, settings)


def search(study, training_images, validation_images, settings):
    """Try settings until the minutes or the trials are over."""
    print(f"Study '{study.study_name}'; Ctrl-C ends it, and the same command continues", flush=True)
    import_tensorflow()
    from digits import training
    from digits.data import pipeline

    training_set, validation_set = map(pipeline.decode, (training_images, validation_images))
    data = pipeline.fingerprint(training_set, validation_set)
    begin(study, {"data": data, "epochs": settings.epochs, "ranges": list(map(list, RANGES))}, settings.epochs)
    plain, classes = train.Settings(epochs=settings.epochs), training_images.classes
    training_set = training.mix_in_handwriting(training_set, classes, plain.variety, plain.seed)
    objective = make_objective(training_set, validation_set, classes, settings)
    try:
        study.optimize(objective, settings.trials, 60 * settings.minutes, callbacks=[make_announcer(settings)])
    except ValueError as error:
        if "Cannot tell" not in str(error):
            raise
        message = "this process was asleep for a while and another one took its trial over; the same command continues"
        raise RunError(message) from error


def report(study, settings):
    """Print the best trials and the command that repeats the best; save the figure."""
    from digits import plots

    trials = finished_trials(study)
    show_status()
    if not trials:
        print(f"No trial of the study '{study.study_name}' is finished yet", flush=True)
        return
    print(f"\nThe best of {len(trials):,} finished trials, of {len(study.trials):,} begun:\n\n{best_table(trials)}\n")
    with warnings.catch_warnings():  # Optuna's about the importance if all trials are equally good
        warnings.simplefilter("ignore")
        plots.save(study_figure(study, trials), FIGURE)
    print(f"Figure: {FIGURE}")
    best = trials[0]
    flags = {"--data": settings.data} | best.user_attrs["flags"] | {"--model": "tuned.keras"}
    print(f"python train.py {shlex.join(itertools.chain(*flags.items()))}")
    print(f"Best val_accuracy: {100 * best.value:.2f}% ({best.user_attrs['parameters']:,} parameters)", flush=True)
    plots.show()


def main(argv=None):
    return run(tune, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
