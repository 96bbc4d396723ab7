"""Measure what the README says, on this machine.

    python -m extras.bench accuracy                          # plain train.py, mean of 3 seeds
    python -m extras.bench accuracy --epochs 4 --network dense64
    python -m extras.bench sizes --epochs 10                 # networks of 5,000 to 94,538 parameters, docs/sizes.png
    python -m extras.bench epoch                             # an epoch against one on batches held ready in memory
    python -m extras.bench startup                           # predict.py --json against import tensorflow; with
                                                             # mnist_cnn.tflite (extras.export --to litert), too
    python -m extras.bench pictures                          # a 12-megapixel photo, and small pictures a second
    python -m extras.bench draw                              # the service of draw.py: alone, and with 32 clients

Prints the machine, the versions and a Markdown table; ± is the standard deviation over the repeats.
"""

import http.client
import io
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
from importlib.metadata import version
from pathlib import Path

import train
from digits import dataset
from digits.console import NETWORKS, Failure, Parser, import_tensorflow, number, run


def accuracy(args):
    """Train with several seeds; the other settings are those of train.py."""
    flags = [f"--{name}={getattr(args, name)}" for name in ("data", "network", "epochs", "precision")]
    table(("network", "epochs", *SCORES), (args.network, args.epochs, *cells_of(trained(flags, args.repeats))))


def trained(flags, repeats):
    """The .json that train.py leaves, for seeds 0 … repeats - 1."""
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(repeats):
            model = Path(folder) / "model.keras"
            if train.main([*flags, f"--seed={seed}", f"--model={model}"]):
                raise SystemExit(1)
            scores.append(json.loads(model.with_suffix(".json").read_text()))
    return scores


SCORES = ("n", "validation accuracy, %", "test accuracy, %", "seconds of training")


def cells_of(scores):
    accuracies = ([100 * score["accuracy"][split] for score in scores] for split in ("validation", "test"))
    return len(scores), *map(spread, accuracies), spread([score["seconds"] for score in scores])


def sizes(args):
    """Train networks of several sizes, each with several seeds; draw docs/sizes.png."""
    import_tensorflow()
    from matplotlib import pyplot as plt

    from digits import model, report

    rows, figure = [], plt.figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    same = [f"--{name}={getattr(args, name)}" for name in ("data", "epochs", "precision")]
    for filters in SIZES:
        scores = trained([*same, f"--filters={filters}"], args.repeats)
        counts, classes = scores[0]["settings"]["filters"], len(scores[0]["classes"])
        parameters = model.build("cnn", classes, filters=counts).count_params()
        errors = [100 * (1 - score["accuracy"]["test"]) for score in scores]
        rows.append((f"`--filters {filters}`", f"{parameters:,}", *cells_of(scores)))
        axis.plot([parameters] * len(errors), errors, "o", color="tab:blue", alpha=0.35)
        axis.plot(parameters, statistics.mean(errors), "_", color="tab:orange", markersize=24, markeredgewidth=3)
        axis.annotate(f"{100 - statistics.mean(errors):.2f}%", (parameters, max(errors)), (0, 8),
                      textcoords="offset points", ha="center")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="parameters", ylabel="test error, %",
             title="Accuracy by size: each seed, and their mean")  # fmt: skip
    report.label_plainly(axis.xaxis)
    report.label_plainly(axis.yaxis)
    axis.margins(0.08, 0.2)
    axis.grid(alpha=0.3)
    report.save(figure, Path("docs/sizes.png"))
    table(("cnn with", "parameters", *SCORES), *rows)


def epoch(args):
    """Time epochs through the pipeline and on the same batches held in memory, in turn."""
    import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from digits import model

    flags = [f"--{name}={getattr(args, name)}" for name in ("network", "epochs", "precision")]
    settings = train.settings_of(flags, None)
    settings["precision"] = model.precision_of(settings["precision"])
    images = dataset.load(dataset.find(args.data)[1], "train")
    network = train.new_network(settings, len(images.classes))
    network.compile("adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    size, strength = settings["batch_size"], settings["augment"]
    decoded = dataset.decode(dataset.hold_out(images, train.VALIDATION_SPLIT)[0])
    batches = dataset.training_batches(decoded, size, network.input_shape[-1], strength, 0, 0, args.repeats + 2)
    steps = -(-len(decoded) // size)
    held = list(batches.take(steps))
    pixels, labels = (tf.constant(np.concatenate([batch[part] for batch in held])) for part in (0, 1))
    ready = dataset.without_autotune(tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(size).prefetch(8))
    seconds = {"pipeline": [], "memory": []}
    for repeat in range(args.repeats + 1):
        for name, data in (("pipeline", batches), ("memory", ready)):
            start = time.monotonic()
            network.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)
            if repeat:  # the first one also compiles
                seconds[name].append(time.monotonic() - start)
    ratio = [a / b for a, b in zip(seconds["pipeline"], seconds["memory"], strict=True)]
    names = ("precision", "n", "epoch through the pipeline, s", "on batches in memory, s", "ratio")
    table(names, (settings["precision"], args.repeats, *map(spread, seconds.values()), spread(ratio)))


def startup(args):
    """Time whole processes, in turn."""
    commands = {
        "import tensorflow": [sys.executable, "-c", "import tensorflow"],
        "predict.py --json": [sys.executable, "predict.py", "--json", "samples/5.png"],
    }
    if Path("mnist_cnn.tflite").exists():
        commands["the same --model mnist_cnn.tflite"] = [*commands["predict.py --json"], "--model", "mnist_cnn.tflite"]
    seconds = {name: [] for name in commands}
    for repeat in range(args.repeats + 1):
        for name, command in commands.items():
            start = time.monotonic()
            subprocess.run(command, check=True, capture_output=True)
            if repeat:  # the first one reads the libraries from disk
                seconds[name].append(time.monotonic() - start)
    ratio = [b / a for a, b in zip(seconds["import tensorflow"], seconds["predict.py --json"], strict=True)]
    names = ("n", *(f"{name}, s" for name in commands), "ratio of the first two")
    table(names, (args.repeats, *map(spread, seconds.values()), spread(ratio)))


def pictures(args):
    """Time reading, after start-up: a photo, and a folder of small pictures as predict.py --json reads it."""
    import numpy as np
    from PIL import Image

    import predict
    from digits import reader, strokes
    from extras import difficult

    model = Path("mnist_cnn.keras")
    with tempfile.TemporaryDirectory() as folder:
        small = difficult.uneven_light("5", np.random.default_rng(0))
        photo = Path(folder) / "photo.jpg"
        Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC).save(photo, quality=92)
        reader.read(photo, model)
        images, _ = strokes.draw(SMALL_PICTURES, seed=3)
        names = []
        for place, image in enumerate(images):
            names.append((f"{place}", Path(folder) / f"{place:05}.png", 0))
            Image.fromarray(image[..., 0]).save(names[-1][1])
        seconds, rates = [], []
        for _ in range(args.repeats):
            start = time.monotonic()
            reader.read(photo, model)
            seconds.append(time.monotonic() - start)
            start = time.monotonic()
            count = sum(1 for _ in predict.read_all(names, model, None))
            rates.append(count / (time.monotonic() - start))
    table(("n", "12-megapixel JPEG, s", f"{SMALL_PICTURES:,} pictures of 28×28, a second"),
          (args.repeats, spread(seconds), spread(rates)))  # fmt: skip


def draw(args):
    """Time requests to the service for drawn digits on connections that stay open: one client, then many at once."""
    pictures = drawn_pictures()
    command = [sys.executable, "draw.py", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            ports = (int(line.split(":")[2].split("/")[0]) for line in service.stdout if "http://" in line)
            port = next(ports, None)
            if not port:
                raise Failure("draw.py did not start; its message is above")
            list(requests(port, pictures, 5))  # to warm up
            alone = [1000 * seconds for _, seconds in requests(port, pictures, args.seconds / 4)]
            with ThreadPoolExecutor(CLIENTS) as clients:
                many = [clients.submit(list, requests(port, pictures, args.seconds)) for _ in range(CLIENTS)]
                memory = []
                while not all(one.done() for one in many):
                    time.sleep(1)
                    memory.append(megabytes(service.pid))
            answers = [answer for one in many for answer in one.result()]
        finally:
            service.terminate()
    waits = sorted(1000 * seconds for _, seconds in answers)
    settled = memory[args.seconds // 6 :]
    names = ("requests alone", "median, ms", f"of {CLIENTS} clients in {args.seconds} s", "a second", "median, ms",
             "99 % within, ms", "not answered right", "memory, MB")  # fmt: skip
    table(names, (f"{len(alone):,}", f"{statistics.median(alone):.1f}", f"{len(answers):,}",
                  f"{len(answers) / args.seconds:.0f}", f"{statistics.median(waits):.0f}",
                  f"{waits[int(0.99 * len(waits))]:.0f}", sum(not right for right, _ in answers),
                  f"{min(settled):.0f} to {max(settled):.0f}"))  # fmt: skip


def drawn_pictures():
    """A dict from each digit to a PNG file of 280×280 pixels in which it is drawn with a thick pen."""
    import numpy as np
    from PIL import Image

    from extras import difficult

    rng, pictures = np.random.default_rng(0), {}
    for digit in "0123456789":
        file = io.BytesIO()
        ink = difficult.ink_of(digit, rng, 280, 280, tall=180, pen=20)
        Image.fromarray((255 * (1 - ink)).astype(np.uint8)).convert("RGB").save(file, "PNG")
        pictures[digit] = file.getvalue()
    return pictures


def requests(port, pictures, seconds):
    """Ask for one picture after the other; yield (whether the answer was right, the seconds that it took)."""
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


def megabytes(pid):
    """The memory that a process and those that it started hold."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,rss="], capture_output=True, text=True, check=True)
    rows = [map(int, line.split()) for line in listing.stdout.splitlines()]
    return sum(kilobytes for own, parent, kilobytes in rows if pid in (own, parent)) / 1000


def spread(values):
    """Mean ± standard deviation."""
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def table(names, *rows):
    """Print a Markdown table."""
    for row in (names, ["---"] * len(names), *rows):
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def machine():
    parts = [f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", f"Python {platform.python_version()}"]
    return ", ".join(parts + [f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy")])


SIZES = ("7,14,28", "11,22,44", "16,32,64", "22,44,88", "27,54,108", "32,64,128")  # filters, in the shape of cnn
SMALL_PICTURES = 2000
CLIENTS = 32
PARTS = {"accuracy": accuracy, "sizes": sizes, "epoch": epoch, "startup": startup, "pictures": pictures, "draw": draw}


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("part", choices=PARTS, help="what to measure")
    parser.add_argument("--data", default="mnist", help="mnist, drawn, or a folder (default: %(default)s)")
    parser.add_argument("--network", choices=NETWORKS, default=train.NETWORK, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=number(int, 1, 1000), default=train.EPOCHS, help="(default: %(default)s)")
    precisions = ("auto", "float32", "bfloat16")
    parser.add_argument("--precision", choices=precisions, default=train.PRECISION, help="(default: %(default)s)")
    count = number(int, 1, 100)
    parser.add_argument("--repeats", type=count, default=3, help="seeds, or repeats (default: %(default)s)")
    duration = "of the many clients of draw (default: %(default)s)"
    parser.add_argument("--seconds", type=number(int, 1, 3600), default=60, help=duration)
    args = parser.parse_args(argv)
    print(machine(), flush=True)
    return run(PARTS[args.part], args)


if __name__ == "__main__":
    sys.exit(main())
