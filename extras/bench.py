"""Benchmark start-up, data, training, reading and the service on this machine; print one table.

    python -m extras.bench                               # all parts, about half an hour on 2 cores
    python -m extras.bench startup reading               # parts by name
    python -m extras.bench time_to_accuracy --full       # without the limit of 120 s for each training
    python -m extras.bench --json > bench.json           # with every single value

Each row gives the median, minimum and maximum of its repeats, and the median ratio to another row. Peak memory is that
of the largest process. The parts:

    startup           predict.py, from start to answer, and import tensorflow
    data              Mnist_dataset/, written and read
    training          images per second of the input pipeline, of the network, of both; an epoch
    time_to_accuracy  seconds of training until a test accuracy is reached, by train.py and by two others
    reading           a photo, after start-up, and 10,000 pictures
    service           draw.py: one client, and many (needs requirements-draw.txt)
"""

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from timeit import repeat

from PIL import Image

from digits import model
from digits.cli import Parser, RunError, UsageError, import_tensorflow, number, option, run
from digits.data import folders, handwriting
from digits.reading import reader

PARTS = ("startup", "data", "training", "time_to_accuracy", "reading", "service")
PICTURES = 10_000
CLIENTS = 32
SECONDS = 60  # of the many clients


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    parts: list = option((), "what to measure (default: all)", positional=True)
    json: bool = option(False, "print one JSON object; the table goes to stderr")
    full: bool = option(False, "measure time_to_accuracy without its limit of 120 s, up to 50 epochs")
    repeats: int = option(3, "how often each is measured (the service: once)", number(int, least=1, most=100))

    def __post_init__(self):
        for name in self.parts:
            if name not in PARTS:
                raise UsageError(f"{name}: no such part; there are {', '.join(PARTS)}")


def add_row(rows, what, unit, values, against=None, memory=()):
    """Add the row of a measurement to {what: row}; return its cells in the table.

    values: a number per repeat, None if not reached. against: `what` of an earlier row. memory: MB.
    """
    reached = [value for value in values if value is not None]
    others = rows[against]["values"] if against in rows else [None]
    row = {"what": what, "unit": unit, "n": len(values), "values": values, "median": None, "ratio": None}
    row["memory_mb"] = max(memory, default=None)
    if len(reached) == len(values):
        row["median"] = statistics.median(values)
        if None not in others:
            ratios = [value / other for value, other in zip(values, others, strict=True)]
            row |= {"against": against, "ratio": statistics.median(ratios)}
    rows[what] = row
    median = rounded(row["median"]) or f"not reached in {len(values) - len(reached)} of {len(values)}"
    spread = f"{rounded(min(reached))} – {rounded(max(reached))}" if reached else ""
    ratio = f"{rounded(row['ratio'])} × {against}" if row["ratio"] else ""
    return what, unit, median, spread, len(values), ratio, f"{rounded(max(memory))} MB" if memory else ""


def rounded(value):
    """Three significant digits."""
    return "" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def print_row(*row):
    """A row of a Markdown table."""
    print("| " + " | ".join(map(str, row)) + " |", flush=True)


def machine():
    """The machine and the versions, in a line."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    bfloat16 = f"computes in bfloat16: {'yes' if model.computes_bfloat16() else 'no'}"
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    return f"{os.cpu_count()} cores of {processor}, {bfloat16}, {system}, {versions}"


# The peak memory of a process counts from that of its parent, so a small process starts and measures it.
STARTER = """
import subprocess, sys, time
start = time.monotonic()
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(time.monotonic() - start)
try:
    import resource
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
except ModuleNotFoundError:  # Windows
    print(0)
sys.exit(status)
"""


def run_python(*arguments):
    """Run Python with these arguments to its end; return its seconds and peak memory, MB. Raises RunError."""
    command = [sys.executable, "-c", STARTER, sys.executable, *arguments]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        raise RunError(f"{' '.join(map(str, arguments))} failed: {process.stderr[-300:]}")
    seconds, memory = map(float, process.stdout.split())
    return seconds, memory / (1e6 if sys.platform == "darwin" else 1e3)


def startup(settings):
    read = ("predict.py", "--json", "samples/5.png")
    commands = {"import tensorflow": ("-c", "import tensorflow"), "predict.py --json, one picture": read}
    if Path("mnist_cnn.tflite").exists():
        commands["the same, --model mnist_cnn.tflite"] = (*read, "--model", "mnist_cnn.tflite")
    runs = [[run_python(*command) for command in commands.values()] for _ in range(settings.repeats + 1)]
    for name, measured in zip(commands, zip(*runs[1:], strict=True), strict=True):  # the first reads the libraries
        seconds, memory = zip(*measured, strict=True)
        yield name, "s", seconds, "import tensorflow", memory


def reading(settings):
    with tempfile.TemporaryDirectory() as folder:
        photo, many = Path(folder) / "photo.jpg", Path(folder) / "many"
        Image.open("samples/5_photo.jpg").resize((4000, 3000)).save(photo, quality=92)
        for name, path in (("samples/5.png", "samples/5.png"), ("a photo of 12 megapixels", photo)):
            seconds = repeat(partial(reader.read, path, "mnist_cnn.keras"), number=1, repeat=settings.repeats + 1)
            yield f"read {name}, after start-up", "ms", [1000 * one for one in seconds[1:]]
        images = handwriting.training_digits(PICTURES, 0, seed=0)
        folders.write_png_folder(many, images.pixels[..., 0], images.labels)
        runs = [run_python("predict.py", "--json", many) for _ in range(settings.repeats)]
    seconds, memory = zip(*runs, strict=True)
    yield f"predict.py --json, {PICTURES:,} pictures of 28×28", "s", seconds, None, memory


def service(settings):
    with run_service() as port:
        list(requests(port, SECONDS / 12))  # to warm up
        alone = [1000 * seconds for _, seconds in requests(port, SECONDS / 4)]
        with ThreadPoolExecutor(CLIENTS) as clients:
            many = [clients.submit(list, requests(port, SECONDS)) for _ in range(CLIENTS)]
    answers = [answer for client in many for answer in client.result()]
    waits = sorted(1000 * seconds for _, seconds in answers)
    yield "draw.py, a request alone", "ms", alone
    yield f"draw.py, a request among {CLIENTS} clients", "ms", [statistics.median(waits)]
    yield "the same, 99 % within", "ms", [waits[int(0.99 * len(waits))]]
    yield f"draw.py, {CLIENTS} clients for {SECONDS} s", "answers/s", [len(answers) / SECONDS]
    yield "answers that were wrong or refused", "", [sum(not right for right, _ in answers)]


@contextlib.contextmanager
def run_service():
    """Run draw.py; yield its port. Raises RunError."""
    command = [sys.executable, "draw.py", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = next((int(line.split(":")[2].split("/")[0]) for line in process.stdout if "http://" in line), None)
            if not port:
                raise RunError("draw.py did not start; its message is above")
            yield port
        finally:
            process.terminate()


def requests(port, seconds):
    """Send pictures on one connection; yield (whether the answer was right, the seconds that it took)."""
    connection, end = http.client.HTTPConnection("127.0.0.1", port, timeout=60), time.monotonic() + seconds
    for digit in itertools.cycle("0123456789"):
        picture = Path(f"samples/{digit}_screen.png").read_bytes()
        start = time.monotonic()
        if start > end:
            return
        connection.request("POST", "/predict", picture)
        answer = connection.getresponse()
        content = answer.read()
        yield answer.status == 200 and json.loads(content)["number"] == digit, time.monotonic() - start


def measure(settings):
    rows = {}
    try:
        with contextlib.redirect_stdout(sys.stderr if settings.json else sys.stdout):
            print(f"{machine()}\n")
            print_row("what", "unit", "median", "lowest – highest", "n", "ratio", "peak memory")
            print_row(*["---"] * 7)
            import_tensorflow()
            from extras import bench_training

            parts = {"startup": startup, "reading": reading, "service": service} | bench_training.PARTS
            for name in settings.parts or PARTS:
                for row in parts[name](settings):
                    print_row(*add_row(rows, *row))
    finally:  # what was measured before a part failed is kept
        if settings.json:
            print(json.dumps({"machine": machine(), "rows": list(rows.values())}, indent=2))


def main(argv=None):
    return run(measure, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
