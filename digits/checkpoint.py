"""The file <model>.checkpoint.npz, written after each epoch of a training, from which --resume continues."""

import json
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from digits.cli import RunError, UsageError
from digits.files import WriteError, atomic_write, others_at_work, temporary_folder

HOW_TO_CONTINUE = "rerun the same command with --resume to continue from the last finished epoch"


class Checkpoint(NamedTuple):
    """A training after a finished epoch."""

    settings: dict  # of the run, and what else must be the same to continue it
    history: list  # a dict for each finished epoch
    values: list  # arrays: the variables of network and optimizer


def path_for(model_path):
    return model_path.with_suffix(".checkpoint.npz")


def write(model_path, settings, history, variables):
    """Save the state after an epoch, completely or not at all."""
    about = json.dumps({"settings": settings, "history": history})
    arrays = {f"variable_{index}": np.asarray(variable) for index, variable in enumerate(variables)}
    with atomic_write(path_for(model_path)) as temporary:
        np.savez(temporary, about=about, **arrays)


def read(model_path):
    """Return the Checkpoint of an interrupted run. Raises UsageError."""
    path = path_for(model_path)
    if not path.is_file():
        raise UsageError(f"--resume: there is no {path}, so no finished epoch to continue; start without --resume")
    try:
        with np.load(path, allow_pickle=False) as archive:
            about = json.loads(str(archive["about"]))
            values = [archive[f"variable_{index}"] for index in range(len(archive.files) - 1)]
        return Checkpoint(about["settings"], about["history"], values)
    except Exception as error:  # a damaged file makes NumPy and zipfile raise nearly any type
        raise UsageError(f"{path}: damaged ({error}); start again without --resume") from error


@contextmanager
def running(model_path, process=0):
    """While a training runs: yield a temporary folder beside the model, and refuse a second training of it.

    process: number of this one among those of one training. After Ctrl-C, and if something cannot be written, the error
    says how to continue if there is a checkpoint. Raises UsageError, RunError.
    """
    mark = model_path.with_name(f"{model_path.name}.training{process}")
    with temporary_folder(mark) as folder:
        if others_at_work(folder, mark):
            raise UsageError(f"{model_path}: another process is training it; wait for it, or give another --model")
        try:
            yield folder
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted{_advice(model_path)}") from None
        except WriteError as error:
            raise RunError(f"{error}{_advice(model_path)}") from error


def _advice(model_path):
    return f"; {HOW_TO_CONTINUE}" if path_for(model_path).exists() else ""


def start(model_path, settings, resume):
    """Before the first epoch: check that the images are those of `resume`, a Checkpoint, or set aside an older run.

    Raises UsageError.
    """
    if resume and resume.settings["data_sha256"] != settings["data_sha256"]:
        raise UsageError("--resume: the images have changed since the interrupted run; start again without --resume")
    path = path_for(model_path)
    if path.exists() and not resume:
        kept = path.rename(model_path.with_suffix(".checkpoint.previous.npz"))
        print(f"An unfinished run was here (--resume would continue it); its checkpoint is kept as {kept}")
