"""Look for better settings of the network and its training: Optuna's TPE tries them, train.py trains them.

    python -m extras.tune                          # an hour, MNIST, 4 epochs a trial
    python -m extras.tune --minutes 10 --data drawn
    python -m extras.tune --minutes 0              # show what was found so far
    python -m extras.tune --most-parameters 15000 --study small     # the best small network

Judged by val_accuracy alone; the test set is not read. A trial that falls behind the median of the others is ended
early. All is kept in tuning.db: after Ctrl-C or a crash the same command goes on. Start it several times, in several
terminals, and the processes share the work; --storage names a database server where they are on several machines.
At the end: a table of the best ten, tuning.png, and the train.py command that reproduces the best.

It needs one more package: pip install -r extras/requirements-tune.txt
"""

import itertools
import math
import shlex
import sys
import time
import warnings
from pathlib import Path

import train
from digits import plots
from digits.cli import Parser, RunError, UsageError, first_line, import_tensorflow, number, run
from digits.data import pipeline

MINUTES = 60  # that this process takes; the trial that runs then is finished
EPOCHS = 4  # of each trial
STORAGE = "sqlite:///tuning.db"  # where the study is kept: the URL of a database, as SQLAlchemy wants it
FIGURE = Path("tuning.png")

# What is tried: from, to.
LAYERS = (2, 4)  # convolutions
FIRST_FILTERS = (8, 40)  # of the first convolution
GROWTH = (1.0, 2.0)  # each further convolution has so many times the filters of the one before
KERNEL_SIZE = (3, 5)  # pixels, odd
DROPOUT = (0.0, 0.5)
L2 = (1e-6, 1e-3)
LEARNING_RATE = (1e-3, 1e-2)
BATCH_SIZE = (32, 64, 128, 256)  # each of these
AUGMENT = (0.0, 1.0)
RANGES = (LAYERS, FIRST_FILTERS, GROWTH, KERNEL_SIZE, DROPOUT, L2, LEARNING_RATE, BATCH_SIZE, AUGMENT)
MOST_PARAMETERS = 100_000  # larger networks are left out; the usual one has 94,538

HEARTBEAT = 20  # seconds; a process that was silent three times as long is dead, and another repeats its trial
BEST = 10  # trials in the table


def flags_of(trial, epochs):
    """Let a trial choose among the ranges above; return the flags of train.py that say the same."""
    layers = trial.suggest_int("layers", *LAYERS)
    first, growth = trial.suggest_int("first filters", *FIRST_FILTERS), trial.suggest_float("growth", *GROWTH)
    values = {
        "--network": "cnn",
        "--epochs": epochs,
        "--filters": ",".join(str(round(first * growth**layer)) for layer in range(layers)),
        "--kernel-size": trial.suggest_int("kernel size", *KERNEL_SIZE, step=2),
        "--dropout": round(trial.suggest_float("dropout", *DROPOUT), 2),
        "--l2": f"{trial.suggest_float('L2', *L2, log=True):.1e}",
        "--learning-rate": f"{trial.suggest_float('learning rate', *LEARNING_RATE, log=True):.2e}",
        "--batch-size": trial.suggest_categorical("batch size", BATCH_SIZE),
        "--augment": round(trial.suggest_float("augment", *AUGMENT), 2),
    }
    return {flag: str(value) for flag, value in values.items()}


def listed(flags):
    """A dict of flags as a command line."""
    return [word for flag in flags.items() for word in flag]


def usual(epochs):
    """The settings of plain train.py for so many epochs, to try first; where they are out of range, the nearest."""
    batch_size = min(BATCH_SIZE, key=lambda size: abs(size - train.batch_size(epochs)))
    plain = {
        "layers": (len(train.FILTERS), LAYERS),
        "first filters": (train.FILTERS[0], FIRST_FILTERS),
        "growth": (train.FILTERS[1] / train.FILTERS[0], GROWTH),
        "kernel size": (train.KERNEL_SIZE, KERNEL_SIZE),
        "dropout": (train.dropout_rate("cnn"), DROPOUT),
        "L2": (train.L2, L2),
        "learning rate": (train.peak_rate(epochs, batch_size), LEARNING_RATE),
        "augment": (train.augment_strength(epochs), AUGMENT),
    }
    within = {name: min(max(value, low), high) for name, (value, (low, high)) in plain.items()}
    return within | {"batch size": batch_size}


def objective_of(training, validation, classes, epochs, most_parameters):
    """What Optuna calls for each trial: train, report each epoch's val_accuracy, return the last one."""
    import keras
    import optuna

    from digits import model

    def objective(trial):
        flags = flags_of(trial, epochs)
        trial.set_user_attr("flags", flags)
        settings = train.settings_of(listed(flags), None)
        settings["precision"] = model.precision_of(settings["precision"])
        keras.utils.clear_session()  # else the memory of earlier trials would stay taken
        network = train.new_network(settings, classes)
        trial.set_user_attr("parameters", network.count_params())
        status(f"trial {trial.number}, epoch 0/{epochs}")
        if network.count_params() > most_parameters:
            raise optuna.TrialPruned

        def on_epoch(history):
            accuracy = history[-1]["val_accuracy"]
            status(f"trial {trial.number}, epoch {len(history)}/{epochs}: val_accuracy {100 * accuracy:.2f}%")
            trial.set_user_attr("seconds", round(sum(row["seconds"] for row in history), 1))
            trial.report(accuracy, len(history))
            if len(history) < epochs and trial.should_prune():
                raise optuna.TrialPruned

        try:
            history = train.train(network, training, validation, settings, on_epoch=on_epoch, quiet=True)
        except RunError:
            trial.set_user_attr("diverged", True)
            raise optuna.TrialPruned from None
        return history[-1]["val_accuracy"]

    return objective


def status(text=""):
    """Show a line on the terminal that the next one takes the place of."""
    if sys.stderr.isatty():
        print(f"\r{text:78}\r", end="", file=sys.stderr, flush=True)


def announcer(minutes, trials):
    """What Optuna calls after each trial: print how it went, the best so far, and the time left."""
    start, done = time.monotonic(), 0

    def announce(study, trial):
        nonlocal done
        done += 1
        passed = time.monotonic() - start
        left = max(0, 60 * minutes - passed)
        if trials:
            left = min(left, passed / done * (trials - done))
        about = trial.user_attrs
        if trial.state.name == "COMPLETE":
            how = f"{100 * trial.value:.2f}%"
        elif about.get("diverged"):
            how = "diverged"
        else:
            how = "ended early" if trial.intermediate_values else "left out"
        best = finished(study)[:1]
        of_best = f"best {100 * best[0].value:.2f}% (trial {best[0].number})" if best else "none finished yet"
        status()
        print(
            f"trial {trial.number:3}  {how:11}  {about['parameters']:7,} parameters  {about.get('seconds', 0):5.0f} s"
            f"   {of_best}   {math.ceil(left / 60)} min left",
            flush=True,
        )

    return announce


def open_study(storage, name):
    """The study of this name, made where it is missing. Raises UsageError."""
    import optuna
    from sqlalchemy.exc import IntegrityError, OperationalError

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the heartbeat is
    connect = {"timeout": 60} if storage.startswith("sqlite") else {}  # seconds to wait while another process writes
    for patience in (1, 2, 0):
        try:
            kept = optuna.storages.RDBStorage(
                storage,
                engine_kwargs={"connect_args": connect},
                heartbeat_interval=HEARTBEAT,
                grace_period=3 * HEARTBEAT,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=2),
            )
            return optuna.create_study(
                storage=kept,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(multivariate=True),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=8, n_warmup_steps=2),
            )
        except Exception as error:  # whatever SQLAlchemy and the database's driver raise
            if not patience or not isinstance(error, (IntegrityError, OperationalError)):
                raise UsageError(f"--storage: the database cannot be used: {first_line(error)}") from error
            time.sleep(patience)  # another process may be making the same tables


def begin(study, conditions, epochs):
    """Note under which conditions the study is made, and what to try first. Raises UsageError if they are others."""
    before = study.user_attrs.get("conditions")
    if before is None:
        study.set_user_attr("conditions", conditions)
    elif before != conditions:
        what = ", ".join(key for key in conditions if conditions[key] != before.get(key))
        raise UsageError(f"--study: {study.study_name} was begun with another {what}; choose another name")
    first = usual(epochs)
    if not any(t.system_attrs.get("fixed_params") == first and t.state.name != "FAIL" for t in study.trials):
        study.enqueue_trial(first)


def finished(study):
    """The trials that ran to their end, the best first."""
    trials = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    return sorted(trials, key=lambda trial: (-trial.value, trial.number))


def best_table(trials):
    """The best trials as text."""
    flags = list(trials[0].user_attrs["flags"])[2:]
    rows = [["", "val_accuracy", "parameters", "seconds", "trial", *(flag[2:] for flag in flags)]]
    for rank, trial in enumerate(trials[:BEST], 1):
        about = trial.user_attrs
        accuracy, seconds = f"{100 * trial.value:.2f}%", f"{about['seconds']:.0f}"
        row = [str(rank), accuracy, f"{about['parameters']:,}", seconds, str(trial.number)]
        rows.append(row + [about["flags"][flag] for flag in flags])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)


def figure_of(study, trials):
    """Four figures in one: history, importance of each parameter, error against parameters and against seconds."""
    import optuna
    from matplotlib import pyplot as plt

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
        importance.set(xlabel="share of the importance (PED-ANOVA)", title="What matters")
    else:
        importance.text(0.5, 0.5, "What matters is shown\nafter four finished trials", ha="center")
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


def work(args):
    try:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing: pip install -r extras/requirements-tune.txt") from None
    name, folder = pipeline.find(args.data)
    images = pipeline.load(folder, "train")
    parts = pipeline.hold_out(images, train.VALIDATION_SPLIT)
    if not len(parts[1].labels):
        raise UsageError(f"{folder}: VALIDATION_SPLIT in train.py leaves no image to judge by; make it larger")
    study = open_study(args.storage, args.study or f"{name}, {args.epochs} epochs")
    try:
        if args.minutes > 0:
            look_for_better(study, images.classes, parts, args)
    except KeyboardInterrupt:
        show(study, args, name)
        raise KeyboardInterrupt("interrupted; the same command goes on") from None
    except Exception as error:  # where the database fails, Optuna raises other errors on top
        cause = error
        while cause and not isinstance(cause, (optuna.exceptions.StorageInternalError, SQLAlchemyError)):
            cause = cause.__context__
        if not cause:
            raise
        message = f"--storage: the database failed ({first_line(cause)}); once it works, the same command goes on"
        raise RunError(message) from error
    show(study, args, name)


def look_for_better(study, classes, parts, args):
    """Try settings until the minutes or the trials are over."""
    print(f"Study '{study.study_name}'; Ctrl-C ends it, and the same command goes on", flush=True)
    import_tensorflow()
    training, validation = map(pipeline.decode, parts)
    data = pipeline.fingerprint(training, validation)
    conditions = {"data": data, "epochs": args.epochs, "ranges": list(map(list, RANGES))}
    begin(study, conditions, args.epochs)
    settings = train.settings_of([f"--epochs={args.epochs}"], None)
    training = train.with_variety(training, classes, settings["variety"], settings["seed"])
    objective = objective_of(training, validation, len(classes), args.epochs, args.most_parameters)
    try:
        study.optimize(objective, args.trials, 60 * args.minutes, callbacks=[announcer(args.minutes, args.trials)])
    except ValueError as error:
        if "Cannot tell" not in str(error):
            raise
        message = "this process was asleep for a while and another one took its trial over; the same command goes on"
        raise RunError(message) from error


def show(study, args, name):
    """Print the best trials and the command that repeats the best; save the figure."""
    trials = finished(study)
    status()
    if not trials:
        print(f"No trial of the study '{study.study_name}' was finished yet", flush=True)
        return
    print(f"\nThe best of {len(trials):,} finished trials, of {len(study.trials):,} begun:\n\n{best_table(trials)}\n")
    with warnings.catch_warnings():  # what Optuna says of the importance where all trials are equally good
        warnings.simplefilter("ignore")
        plots.save(figure_of(study, trials), FIGURE)
    print(f"Figure: {FIGURE}")
    best = trials[0]
    command = ["--data", args.data or name, *listed(best.user_attrs["flags"]), "--model", "tuned.keras"]
    print(f"python train.py {shlex.join(command)}")
    print(f"Best val_accuracy: {100 * best.value:.2f}% ({best.user_attrs['parameters']:,} parameters)", flush=True)
    plots.show()


def parse_args(argv):
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--data", default=train.DATA, help="as in train.py (default: mnist, or drawn without MNIST)")
    minutes = "that this process takes; 0 shows what was found (default: %(default)s)"
    add("--minutes", type=number(float, 0, 100_000), default=MINUTES, help=minutes)
    trials = "trials of this process at most (default: as many as the minutes allow)"
    add("--trials", type=number(int, 1, 1_000_000), help=trials)
    epochs = "of each trial (default: %(default)s)"
    add("--epochs", type=number(int, 1, 100_000), default=EPOCHS, help=epochs)
    most = "larger networks are left out (default: %(default)s)"
    add("--most-parameters", type=number(int, 1, 10**9), default=MOST_PARAMETERS, metavar="N", help=most)
    add("--study", help="name of the study in the database (default: <data>, <epochs> epochs)")
    add("--storage", default=STORAGE, metavar="URL", help="of the database (default: %(default)s)")
    return parser.parse_args(argv)


def main(argv=None):
    return run(work, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
