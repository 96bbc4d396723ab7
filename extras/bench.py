"""What it costs: start-up, data, training, reading and the service, measured on this machine in one table.

    python -m extras.bench                               # all parts, about half an hour on 2 cores
    python -m extras.bench startup reading               # parts by name
    python -m extras.bench time_to_accuracy --full       # without the limit of 120 s for each training
    python -m extras.bench --json > bench.json

A row is the median of its repeats, with the lowest and the highest. A ratio is the median of the ratios to another row.
The parts:

    startup           predict.py, from start to answer, and import tensorflow
    data              Mnist_dataset/, written and read
    training          images per second of the input pipeline, of the network, of both; an epoch
    time_to_accuracy  seconds of training until a test accuracy is reached, by train.py and by two others
    reading           a photo, and 10,000 pictures
    service           draw.py: one client, and many (needs requirements-draw.txt)
"""

import contextlib
import http.client
import io
import itertools
import json
import math
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

import numpy as np
from PIL import Image

from digits import model
from digits.cli import Parser, RunError, import_tensorflow, number, run
from digits.data import folders, sources, strokes
from extras import difficult, drawing
from train import Settings

EPOCHS_TO = {0.9829: 1, 0.99: 1, 0.995: 12}  # test accuracies, and the epochs with which train.py gets there
LIMIT = 120  # seconds of one training, without --full
STEPS = 60  # of training in one measurement
PICTURES = 10_000
CLIENTS = 32
SECONDS = 60  # of the many clients
DIGITS = [str(digit) for digit in range(10)]


class Table:
    """Prints each row as soon as it is measured, as Markdown, or all at the end as JSON."""

    def __init__(self, as_json):
        self.as_json, self.rows = as_json, []

    def add(self, what, unit, values, against=None):
        """values: a number for each repeat, None if a limit ended it before. against: `what` of an earlier row."""
        reached = [value for value in values if value is not None]
        row = {"what": what, "unit": unit, "n": len(values), "values": values, "median": None, "ratio": None}
        if len(reached) == len(values):
            row["median"] = statistics.median(values)
            other = next((earlier for earlier in self.rows if earlier["what"] == against), None)
            if other and None not in other["values"]:
                ratios = (value / base for value, base in zip(values, other["values"], strict=True))
                row |= {"against": against, "ratio": statistics.median(ratios)}
        self.rows.append(row)
        if self.as_json:
            return
        if len(self.rows) == 1:
            print_row("what", "unit", "median", "lowest – highest", "n", "ratio")
            print_row(*["---"] * 6)
        spread = f"{rounded(min(reached))} – {rounded(max(reached))}" if reached else ""
        ratio = f"{rounded(row['ratio'])} × {against}" if row["ratio"] else ""
        missed = f"not reached in {len(values) - len(reached)} of {len(values)}"
        print_row(what, unit, missed if row["median"] is None else rounded(row["median"]), spread, row["n"], ratio)

    def end(self):
        if self.as_json:
            print(json.dumps({"machine": machine(), "rows": self.rows}, indent=2))


def rounded(value):
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


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


def run_python(*command):
    """Run a Python process to its end. Raises RunError."""
    process = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if process.returncode:
        raise RunError(f"{' '.join(map(str, command))} failed: {process.stderr[-300:]}")


def seconds_of(work, *arguments):
    start = time.monotonic()
    work(*arguments)
    return time.monotonic() - start


# The parts


def startup(table, args):
    read = ("predict.py", "--json", "samples/5.png")
    commands = {"import tensorflow": ("-c", "import tensorflow"), "predict.py --json, one picture": read}
    if Path("mnist_cnn.tflite").exists():
        commands["the same, --model mnist_cnn.tflite"] = (*read, "--model", "mnist_cnn.tflite")
    seconds = {name: [] for name in commands}
    for _ in range(args.repeats + 1):
        for name, command in commands.items():
            seconds[name].append(seconds_of(run_python, *command))
    for name, measured in seconds.items():  # the first one read the libraries from disk
        table.add(name, "s", measured[1:], None if name == "import tensorflow" else "import tensorflow")


def data(table, args):
    from digits.data import pipeline

    splits = {}
    for split in ("train", "test"):
        images = sources.load(sources.make_available("mnist"), split)
        pixels = [image[..., 0] for image, _ in pipeline.decode(images).as_numpy_iterator()]
        splits[split] = np.stack(pixels), images.labels
    writing, reading = [], []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            path = Path(folder) / "set"
            writing.append(seconds_of(folders.write_dataset, path, splits))
            reading.append(seconds_of(pipeline.decode, folders.load_folder(path, "train")))
    table.add(f"write {sum(len(labels) for _, labels in splits.values()):,} PNG files", "s", writing)
    table.add(f"read {len(splits['train'][1]):,} training images", "s", reading)


def training(table, args):
    """In both precisions if the processor has bfloat16."""
    from digits import training
    from digits.data import pipeline

    images = sources.load(sources.make_available("mnist"), "train")
    decoded = pipeline.decode(folders.train_val_split(images, Settings.validation_split)[0])
    size, steps = Settings().batch_size, math.ceil(len(decoded) / Settings().batch_size)
    fed = pipeline.training_batches(decoded, size, 3, Settings().augment, 0, 0, 1000)
    memory = fed.take(STEPS).cache().repeat()

    def rates(work, count, *arguments):
        return [count / seconds_of(work, *arguments) for _ in range(args.repeats)]

    table.add("input pipeline", "images/s", rates(list, len(decoded), fed.take(steps)))
    for precision in dict.fromkeys(("float32", model.choose_precision("auto"))):
        network = training.new_network(Settings(precision=precision), DIGITS)
        network.compile("adam", loss=training.cross_entropy, metrics=[training.Accuracy()])
        fit = partial(network.fit, shuffle=False, verbose=0)
        few, whole = partial(fit, steps_per_epoch=STEPS), partial(fit, steps_per_epoch=steps)
        few(memory)  # compiles, and fills the memory
        alone, both = f"network alone, {precision}", f"network fed by the pipeline, {precision}"
        table.add(alone, "images/s", rates(few, STEPS * size, memory))
        table.add(both, "images/s", rates(few, STEPS * size, fed), alone)
        epochs = [seconds_of(whole, fed) for _ in range(args.repeats)]
        table.add(f"an epoch of {len(decoded):,} images, {precision}", "s", epochs)


def time_to_accuracy(table, args):
    """All train on images in memory; testing does not count. train.py takes the epochs that a target needs."""
    from extras import contenders

    cut = f"cut at {contenders.MAX_EPOCHS} epochs" if args.full else f"cut at {LIMIT} s"
    found = contenders.compare(EPOCHS_TO, args.repeats, math.inf if args.full else LIMIT)
    for (who, target), seconds in found.items():
        to_target = f"to {100 * target:.4g} %, {cut}"
        flags = f" --epochs {EPOCHS_TO[target]}" if who == "train.py" else ""
        table.add(f"{who}{flags} {to_target}", "s", seconds, f"Keras example {to_target}")


def reading(table, args):
    """After start-up, and 10,000 pictures from start to end."""
    from digits.reading import reader

    with tempfile.TemporaryDirectory() as folder:
        photo, many = Path(folder) / "photo.jpg", Path(folder) / "many"
        small = Image.fromarray(difficult.uneven_light("5", np.random.default_rng(0)))
        small.resize((4000, 3000), Image.Resampling.BICUBIC).save(photo, quality=92)
        for name, path in (("samples/5.png", "samples/5.png"), ("a photo of 12 megapixels", photo)):
            reader.read(path, "mnist_cnn.keras")
            times = [1000 * seconds_of(reader.read, path, "mnist_cnn.keras") for _ in range(args.repeats)]
            table.add(f"read {name}, after start-up", "ms", times)
        many.mkdir()
        for index, image in enumerate(strokes.draw(PICTURES, seed=3)[0]):
            Image.fromarray(image[..., 0]).save(many / f"{index:05}.png")
        read_all = ("predict.py", "--json", many)
        seconds = [seconds_of(run_python, *read_all) for _ in range(args.repeats)]
    table.add(f"predict.py --json, {PICTURES:,} pictures of 28×28", "s", seconds)


def service(table, args):
    """Requests for drawn digits on connections that stay open: one client, then many at once."""
    pictures, rng = {}, np.random.default_rng(0)
    for digit in DIGITS:
        file = io.BytesIO()
        picture = drawing.on_paper(drawing.write(digit, rng, 280, 280, 180, 20))
        Image.fromarray(picture).save(file, "PNG")
        pictures[digit] = file.getvalue()
    command = [sys.executable, "draw.py", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = next((int(line.split(":")[2].split("/")[0]) for line in process.stdout if "http://" in line), None)
            if not port:
                raise RunError("draw.py did not start; its message is above")
            list(requests(port, pictures, 5))  # to warm up
            alone = [1000 * seconds for _, seconds in requests(port, pictures, SECONDS / 4)]
            with ThreadPoolExecutor(CLIENTS) as clients:
                many = [clients.submit(list, requests(port, pictures, SECONDS)) for _ in range(CLIENTS)]
            results = [result for one in many for result in one.result()]
        finally:
            process.terminate()
    waits = sorted(1000 * seconds for _, seconds in results)
    table.add("draw.py, a request alone", "ms", alone)
    table.add(f"draw.py, a request among {CLIENTS} clients", "ms", [statistics.median(waits)])
    table.add("the same, 99 % within", "ms", [waits[int(0.99 * len(waits))]])
    table.add(f"draw.py, {CLIENTS} clients for {SECONDS} s", "answers/s", [len(results) / SECONDS])
    table.add("answers that were wrong or refused", "", [sum(not right for right, _ in results)])


def requests(port, pictures, seconds):
    """Send one picture after the other; yield (whether the answer was right, the seconds that it took)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()
    end = time.monotonic() + seconds
    for digit, picture in itertools.cycle(pictures.items()):
        start = time.monotonic()
        if start > end:
            return
        connection.request("POST", "/predict", picture)
        answer = connection.getresponse()
        content = answer.read()
        yield answer.status == 200 and json.loads(content)["number"] == digit, time.monotonic() - start


PARTS = {part.__name__: part for part in (startup, data, training, time_to_accuracy, reading, service)}


def work(args):
    table = Table(args.json)
    if not args.json:
        print(f"{machine()}\n", flush=True)
    import_tensorflow()
    try:
        for name in args.parts or PARTS:
            with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
                PARTS[name](table, args)
    finally:  # what was measured before a part failed is kept
        table.end()


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help="what to measure (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with every single value")
    parser.add_argument("--full", action="store_true", help=f"train on after {LIMIT} s, for up to 50 epochs")
    repeats = "of each measurement but those of service (default: %(default)s)"
    parser.add_argument("--repeats", type=number(int, least=1, most=100), default=3, help=repeats)
    args = parser.parse_args(argv)
    for name in args.parts:
        if name not in PARTS:
            parser.error(f"{name}: no such part; there are {', '.join(PARTS)}")
    return run(work, args)


if __name__ == "__main__":
    sys.exit(main())
