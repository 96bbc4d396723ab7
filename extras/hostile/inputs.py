"""Bad input for the scripts."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from digits.cli import progress
from extras.hostile.workplace import command_of, environment, make_template, working_in

SECONDS = 5  # in which a script must have ended
FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF", "gif": "GIF", "bmp": "BMP", "webp": "WEBP"}
NAMES = ["$\\frac$", "US$5_to_$10", "五", "a b", "-", "\x1b[31m", "bad\udcff", "%s{0}", "x" * 120]


class Case(NamedTuple):
    """A command in an empty folder with a model, a small data set and a picture; it must end with status 2."""

    what: str
    script: str  # "predict.py", or the module of an extra
    arguments: list
    without_output: bool = False  # as by >&- in a shell


# What is made in the current folder


def damaged_picture(rng):
    """A file that is no picture, or only half of one; its path."""
    suffix = rng.choice(list(FORMATS))
    path = Path(f"{rng.choice(NAMES)}.{suffix}")
    file = io.BytesIO()
    Image.effect_noise((rng.integers(30, 300), rng.integers(30, 300)), 80).save(file, FORMATS[suffix])
    data, kind = file.getvalue(), rng.integers(5)
    if kind == 0:
        path.write_bytes(b"")
    elif kind == 1:
        path.write_text("only text " * rng.integers(1, 1000))
    elif kind == 2:
        path.write_bytes(data[: rng.integers(4, 24)])
    elif kind == 3:
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + rng.bytes(rng.integers(1, 5000)))
    else:
        path.write_bytes(b"\0\0\0\x1cftyp" + rng.choice([b"heic", b"avif"]) + rng.bytes(3000))
    return f"./{path}"


def no_file(rng):
    """A path that is none of a file."""
    kind = rng.integers(6)
    if kind == 0:
        os.mkfifo("pipe.png")
        return "pipe.png"
    if kind == 1:
        Path("many").mkdir()
        (Path("many") / "a.heic").write_bytes(b"\0\0\0\x1cftypheic")
        return "many"
    if kind == 2:
        Path("loop.png").symlink_to("loop.png")
        return "loop.png"
    return str(rng.choice(["/dev/zero", "n" * 300 + ".png", "n/" * 3000 + "a.png", f"./{rng.choice(NAMES)}.png"]))


def too_large_picture(rng):
    data = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(data, "PNG")
    Path("large.png").write_bytes(data.getvalue())
    return "large.png"


def damaged_model(rng):
    """A file that is no model, or a damaged one; its path."""
    whole = Path("mnist_cnn.keras").read_bytes()
    kind = rng.integers(7)
    path = Path("other" + rng.choice([".keras", ".tflite", ".onnx"]) if kind < 2 else "other.keras")
    if kind == 0:
        path.write_bytes(rng.bytes(rng.integers(0, 5000)))
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.write_bytes(whole[: rng.integers(10, len(whole) - 10)])
    elif kind == 3:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", rng.choice(["{", "[" * 100_000, " " * 30_000_000, '{"class_name": "os"}']))
    elif kind == 4:
        with path.open("wb") as file:
            file.truncate(10**12)
    elif kind == 5:
        path.mkdir()
    else:
        return str(rng.choice(["none.keras", "model.h5", "samples", "n" * 300 + ".keras"]))
    return str(path)


def damage_description(rng):
    about = json.loads(Path("mnist_cnn.json").read_text())
    changes = [
        {"threshold": 2}, {"threshold": float("nan")}, {"threshold": "high"}, {"classes": ["0"] * 10},
        {"classes": ["", *about["classes"][1:]]}, {"classes": about["classes"][:9]}, {"classes": 10},
        {"model_sha256": "0" * 64},
    ]  # fmt: skip
    texts = ["{", "[]", "[" * 100_000, "\0", *(json.dumps(about | change) for change in changes)]
    Path("mnist_cnn.json").write_text(str(rng.choice(texts)))


def damage_data(rng):
    """Damage the data set small/."""
    place = Path("small") / rng.choice(["train", "test"]) / str(rng.integers(10))
    kind = rng.integers(7)
    if kind == 0:
        shutil.rmtree(place)
    elif kind == 1:
        (place / "text.png").write_text("no picture")
    elif kind == 2:
        Image.new(rng.choice(["RGB", "1", "L"]), (28, 29)).save(place / "other.png")
    elif kind == 3:
        os.mkfifo(place / "pipe.png")
    elif kind == 4:
        (place / "empty").mkdir()
    elif kind == 5:
        texts = ["{", "[" * 100_000, '{"classes": {"0": "a", "1": "a"}}', '{"classes": {"0": 1}}', '{"classes": [1]}']
        (Path("small") / "dataset.json").write_text(str(rng.choice(texts)))
    else:
        file = next(place.iterdir())
        file.write_bytes(file.read_bytes()[:60])


# The cases


def wrong_picture(rng):
    path = rng.choice([damaged_picture, no_file, too_large_picture], p=[0.5, 0.4, 0.1])(rng)
    return Case("a file that is no picture", "predict.py", [str(rng.choice(["--json", "--steps", "--csv"])), path])


def wrong_model(rng):
    script = rng.choice(["predict.py", "evaluate.py", "draw.py", "extras.export", "extras.forms"])
    more = {"evaluate.py": ["--data", "small"], "extras.export": ["--to", "saved_model"], "draw.py": ["--no-browser"]}
    if script == "extras.forms":
        return Case("a form that is none", script, ["read", damaged_form(rng), "5.png"])
    return Case("a file that is no model", script, [*more.get(script, []), "--model", damaged_model(rng)])


def damaged_form(rng):
    texts = ["{", "[" * 100_000, "[]", "{}", '{"forms": [1]}', '{"forms": [{"picture": "/dev/zero"}]}']
    Path("form.json").write_text(str(rng.choice(texts)))
    return "form.json"


def wrong_description(rng):
    damage_description(rng)
    script = rng.choice(["predict.py", "evaluate.py"])
    return Case("a description that is none", script, ["--data", "small"] * (script == "evaluate.py") + MODEL)


def wrong_data(rng):
    damage_data(rng)
    flags = ["--epochs", "1", "--filters", "4"]
    return Case("a damaged data set", "train.py", ["--data", "small", *flags])


def wrong_checkpoint(rng):
    name = "small_cnn.checkpoint.npz"
    kind = rng.integers(4)
    if kind == 0:
        Path(name).write_bytes(rng.bytes(1000))
    elif kind == 1:
        np.savez(name, about=np.array([{}], object))
    elif kind == 2:
        os.mkfifo(name)
    return Case("no checkpoint", "train.py", ["--data", "small", "--resume"])


MODEL = ["--model", "mnist_cnn.keras"]
WRONG_FLAGS = {
    "predict.py": """--box 1,2,3,4,5 | --box=-5,0,20,20 | --box 0,0,0,0 | --box 9000,0,9,9 | --digits 0 | --digits 1e9
        | --min-confidence nan | --min-confidence 2 | --json --csv | --random 5.png | --data nowhere --random
        | --nothing | --network resnet | --output 5.png 5.png | --page 1""",
    "evaluate.py": """--data nowhere | --data 5.png | --network x | --model | --output 5.png --data small
        | --data small --network dense64""",
    "train.py": """--epochs 0 | --epochs 1e3 | --batch-size -1 | --learning-rate nan | --dropout 1 | --filters 1,,2
        | --filters 0 | --network dense64 --filters 3,3 | --kernel-size 99 | --validation-split 1 | --seed -1
        | --model a.h5 | --model no/a.keras | --data nowhere | --data fashion | --resume | --patience 0
        | --patience 1 --validation-split 0 --data small | --cache ram | --data small --model /dev/null""",
    "draw.py": """--port 99999 | --host no.such.host.invalid | --host a/b | --allow-origin x | --in-flight 0
        | --allow-host *""",
    "extras.export": "--to x | --int8 --to onnx | --model a.onnx --to litert |  --to saved_model --data nowhere",
    "extras.tune": "--storage nonsense | --storage sqlite:////no/a.db | --trials 0 | --minutes -1 | --data nowhere",
    "extras.fetch": "nothing | ",
}


def wrong_flags(rng):
    script = str(rng.choice(list(WRONG_FLAGS)))
    return Case("a wrong flag", script, str(rng.choice(WRONG_FLAGS[script].split("|"))).split())


def closed_output(rng):
    return Case("closed output", "predict.py", [["--json"], []][rng.integers(2)], without_output=True)


CASES = [wrong_picture, wrong_flags, wrong_model, wrong_data, wrong_description, wrong_checkpoint, closed_output]
SHARES = [0.28, 0.32, 0.12, 0.1, 0.1, 0.05, 0.03]


def try_out(count, rng):
    """Try bad inputs; print what was not handled as it should be. Returns how many."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        template = Path(name) / "template"
        make_template(template)
        for index in progress(range(count), "Bad inputs"):
            place = Path(name) / str(index)
            shutil.copytree(template, place)
            with working_in(place):
                case = rng.choice(CASES, p=SHARES)(rng)
                fault = try_case(case)
            if fault:
                failed += 1
                print(f"{case.script} {case.arguments}: {case.what}: {fault}", flush=True)
            shutil.rmtree(place)
    return failed


def checksums():
    files = (path for path in Path(".").rglob("*") if path.is_file() and path.stat().st_size < 10**9)
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def try_case(case):
    """Run a case in the current folder; return what is wrong with how it ended, "" if nothing is."""
    before, start = checksums(), time.monotonic()
    close = (lambda: os.close(1)) if case.without_output else None
    pipes = {"stdout": None if close else subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": close}
    try:
        process = subprocess.run(
            command_of(case.script, case.arguments), **pipes, env=environment(), timeout=60, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return "it hangs"
    seconds, lines, after = time.monotonic() - start, process.stderr.splitlines(), checksums()
    if not lines and "--json" in case.arguments:  # the line is in the result
        lines = process.stdout.splitlines()
    elif not lines and "--csv" in case.arguments:
        lines = process.stdout.splitlines()[1:]
    lost = [str(path) for path in before if after.get(path) != before[path]]
    left = [path.name for path in Path(".").glob(".*")]
    faults = {
        "traceback": "Traceback" in process.stderr,
        f"status {process.returncode}": process.returncode != 2,
        f"{len(lines)} lines: {process.stderr[-300:]!r}": len(lines) != 1,
        f"it took {seconds:.1f} s": seconds > SECONDS,
        f"changed {lost}": lost,
        f"left {left}": left,
    }
    return "; ".join(fault for fault, found in faults.items() if found)
