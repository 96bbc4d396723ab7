"""Programs that are killed (kill -9) while they make data, train, save, export or tune."""

import hashlib
import importlib.util
import io
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import h5py
from PIL import Image

from digits import checkpoint, model
from digits.cli import UsageError, progress
from extras.hostile.workplace import command_of, environment, make_template, working_in

TRAIN = ["--data", "small", "--filters", "4,8", "--epochs", "6", "--handwriting", "0.5"]
MODEL = Path("small_cnn.keras")
IMAGES = 1500  # of the data that are made
MAKE_DATA = f"""
import numpy as np
from digits.data.folders import write_dataset
from pathlib import Path
pixels = np.random.default_rng(0).integers(0, 256, ({IMAGES}, 28, 28), dtype=np.uint8)
write_dataset(Path("made"), {{"train": (pixels, np.arange({IMAGES}) % 10)}})
"""
# A script that kills itself at a renaming, which makes a new file visible: the n-th, just before or just after it.
KILLED_AT_RENAMING = """
import os, runpy, signal, sys
left, after, script, *sys.argv[1:] = sys.argv[1:]
rename, left = os.replace, int(left)
def replace(*arguments):
    global left
    left -= 1
    if not left and after == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*arguments)
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
sys.argv[0] = script
sys.path.insert(0, os.path.dirname(script))
runpy.run_path(script, run_name="__main__")
"""


def try_out(count, rng):
    """Kill programs; print what was not as it should be afterwards. Returns how many."""
    kinds = [kill_making_data, kill_training, kill_training, kill_saving, kill_saving, kill_export]
    if importlib.util.find_spec("optuna"):
        kinds.append(kill_tuning)
    else:
        print("Tuning is not tried: pip install -r extras/requirements-tune.txt", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as name, working_in(name):
        template = Path(name) / "template"
        make_reference(template)
        order = [kinds[index] for _ in range(count // len(kinds) + 1) for index in rng.permutation(len(kinds))]
        for index, kind in enumerate(progress(order[:count], "Kills")):
            place = Path(name) / str(index)
            shutil.copytree(template, place)
            with working_in(place):
                try:
                    kind(rng)
                    check_all_whole()
                except Fault as fault:
                    failed += 1
                    print(f"{kind.__name__}: {fault}", flush=True)
            shutil.rmtree(place)
    return failed


class Fault(Exception):
    """Something is not as it should be."""


def make_reference(folder):
    """A folder with a data set, an older model of it, and reference.keras, which TRAIN makes without interruption."""
    make_template(folder)
    with working_in(folder):
        run_to_end("train.py", *TRAIN)
        MODEL.rename("reference.keras")
        for path in Path(".").glob("small_cnn*"):
            path.unlink()
        run_to_end("train.py", *TRAIN, "--seed", "9", "--epochs", "1")


def run_to_end(script, *arguments, statuses=(0,)):
    process = subprocess.run(command_of(script, arguments), env=environment(), capture_output=True, text=True)
    if process.returncode not in statuses or "Traceback" in process.stderr:
        raise Fault(f"{script} {' '.join(arguments)} ended with {process.returncode}: {process.stderr[-500:]}")
    return process.stdout


def kill_after(seconds, command):
    """Start a command and kill it, unless it ends before."""
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment(), stdout=nothing, stderr=nothing)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()


def kill_making_data(rng):
    command = [sys.executable, "-c", MAKE_DATA]
    kill_after(rng.uniform(0.2, 2), command)
    if Path("made").exists() and len(list(Path("made").rglob("*.png"))) != IMAGES:
        raise Fault("the folder is not complete")
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    if len(list(Path("made").rglob("*.png"))) != IMAGES:
        raise Fault("the folder made afterwards is not complete")


def kill_training(rng):
    kill_after(rng.uniform(2, 8), command_of("train.py", TRAIN))
    finish_training()


def kill_saving(rng):
    renamings = 2 * 6 + 5  # checkpoint and log of each epoch; two kept files, model, description, figure
    script = command_of("train.py", TRAIN)[1:]
    lot = [str(rng.integers(1, renamings + 1)), str(rng.integers(2))]
    kill_after(60, [sys.executable, "-c", KILLED_AT_RENAMING, *lot, *script])
    finish_training()


def finish_training():
    """Train to the end after a kill, and compare with what an uninterrupted training makes."""
    check_all_whole()
    finished = model.details(MODEL).get("settings", {}).get("seed") == 0
    older, there_is_a_checkpoint = weights_of(MODEL), checkpoint.path_for(MODEL).exists()
    try:
        model.describe(MODEL)
    except UsageError as error:  # the new model is there, its description is not
        if not there_is_a_checkpoint or "--resume" not in str(error):
            raise Fault(f"no way out: {error}") from None
    if there_is_a_checkpoint or not finished:
        run_to_end("train.py", *TRAIN, *["--resume"] * there_is_a_checkpoint)
    model.describe(MODEL)
    if weights_of(MODEL) != weights_of("reference.keras"):
        raise Fault("the weights are not those of an uninterrupted training")
    kept = Path("small_cnn.previous.keras")
    if not kept.exists() or weights_of(kept) == weights_of(MODEL) or older not in map(weights_of, (kept, MODEL)):
        raise Fault("the older model is lost")
    model.describe(kept)


def kill_export(rng):
    flags = ["--to", "saved_model", "--model", str(MODEL), "--data", "small"]
    kill_after(rng.uniform(1, 10), command_of("extras.export", flags))
    check_all_whole()
    run_to_end("extras.export", *flags)


def kill_tuning(rng):
    flags = ["--data", "small", "--epochs", "1", "--trials", "2"]
    kill_after(rng.uniform(2, 15), command_of("extras.tune", flags))
    run_to_end("extras.tune", *flags, "--minutes", "0", statuses=(0, 1))
    run_to_end("extras.tune", *flags)


def weights_of(path):
    """A checksum of the weights in a .keras file."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        names = []
        weights.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        for name in sorted(names):
            digest.update(weights[name][()].tobytes())
    return digest.hexdigest()


def check_all_whole():
    """Raise Fault if a visible file is damaged, or if temporary ones are left that no program owns any more."""
    for path in Path(".").rglob("*"):
        if any(part.startswith(".") for part in path.parts) or not path.is_file():
            continue
        try:
            if path.suffix == ".keras":
                model.check(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".npz":
                checkpoint.read(path.with_name(path.name.removesuffix(".checkpoint.npz") + ".keras"))
            elif path.suffix == ".png":
                with Image.open(path) as image:
                    image.load()
        except (UsageError, ValueError, OSError) as error:
            raise Fault(f"{path} is damaged: {error}") from None
