"""What it costs: start-up, data, training, reading and the service, measured on this machine in one table.

    python -m extras.bench                               # all but scale and cluster, about half an hour on 2 cores
    python -m extras.bench startup pictures              # parts by name
    python -m extras.bench accuracy_in_time --full       # without the limit of 120 s for each training
    python -m extras.bench --json > bench.json

A row is the median of its repeats, between the lowest and the highest. A ratio is that to the row it names: the median
of the ratios in each repeat, in which both were measured one right after the other. The parts:

    startup           predict.py, from start to answer, and import tensorflow
    data              Mnist_dataset/, written and read
    throughput        images a second: of the input pipeline, of the network, of both; an epoch
    accuracy_in_time  seconds of training until a test accuracy is reached, by train.py and by two others
    pictures          a photo, and 10,000 pictures
    draw              the service of draw.py: one client, and many
    scale             an epoch on 6,000, 60,000 and 600,000 drawn images on disk
    cluster           a step of train.py --cluster: 1, 2 and 4 processes on this machine
"""

import contextlib
import http.client
import io
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import train
from digits import dataset, mnist, strokes
from digits.console import Failure, Parser, import_tensorflow, number, run

TARGETS = (0.9829, 0.99, 0.995)  # test accuracies
EPOCHS_TO = {0.9829: 1, 0.99: 1, 0.995: 12}  # with which train.py gets there
LIMIT = 120  # seconds of one training, without --full
STEPS = 60  # in one measurement of the throughput
PICTURES = 10_000
CLIENTS = 32
SECONDS = 60  # of the many clients
SCALES = (6_000, 60_000, 600_000)
PYTHON = sys.executable


class Table:
    """Prints each row as soon as it is measured, as Markdown, or all at the end as JSON."""

    def __init__(self, as_json):
        self.as_json, self.rows = as_json, []

    def add(self, what, unit, values, against=None, memory=()):
        """values: a number for each repeat; None: not reached. against: the `what` of an earlier row. memory: in MB."""
        row = {"what": what, "unit": unit, "n": len(values), "values": values, "median": middle(values)}
        if against:
            other = next(row["values"] for row in self.rows if row["what"] == against)
            pairs = [(a, b) for a, b in zip(values, other, strict=True) if a is not None and b is not None]
            row |= {"against": against, "ratio": statistics.median(a / b for a, b in pairs) if pairs else None}
        if memory:
            row["memory_mb"] = max(memory)
        self.rows.append(row)
        if not self.as_json:
            if len(self.rows) == 1:
                print_row("what", "unit", "median", "lowest – highest", "n", "ratio", "peak memory")
                print_row(*["---"] * 7)
            print_row(*cells_of(row))

    def end(self):
        if self.as_json:
            print(json.dumps({"machine": machine(), "rows": self.rows}, indent=2))


def cells_of(row):
    reached = [value for value in row["values"] if value is not None]
    spread = f"{figure(min(reached))} – {figure(max(reached))}" if reached else ""
    if 0 < len(reached) < row["n"]:
        spread += f", {row['n'] - len(reached)} not reached"
    median = "not reached" if row["median"] is None else figure(row["median"])
    ratio = f"{figure(row['ratio'])} × {row['against']}" if row.get("ratio") else ""
    memory = f"{row['memory_mb']:,.0f} MB" if row.get("memory_mb") else ""
    return row["what"], row["unit"], median, spread, row["n"], ratio, memory


def figure(value):
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def middle(values):
    """The median; None, which counts as more than any number, where that is in the middle."""
    median = statistics.median(float("inf") if value is None else value for value in values)
    return median if median < float("inf") else None


def print_row(*cells):
    """A row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def machine():
    """The machine and the versions, in a line."""
    model, flags = platform.processor() or platform.machine(), ""
    with contextlib.suppress(OSError):
        lines = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        names = {key.strip(): value.split() for key, value in lines.items()}
        model = " ".join(names.get("model name", [model]))
        bf16 = {"avx512_bf16", "amx_bf16"} & set(names.get("flags", []))
        flags = f", computes in bfloat16: {'yes' if bf16 else 'no'}"
    parts = [f"{os.cpu_count()} cores of {model}{flags}", f"{platform.system()} {platform.machine()}"]
    parts += [f"Python {platform.python_version()}"]
    return ", ".join(parts + [f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy")])


def timed(command, **options):
    """Run a process; return (seconds, its peak memory in MB). Raises Failure."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, **options)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            errors.seek(0)
            raise Failure(f"{' '.join(map(str, command))} failed: {errors.read().decode(errors='replace')[-300:]}")
    return time.monotonic() - start, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure(repeats, commands):
    """Run commands in turn, {name: command}; return {name: list of seconds} and {name: list of MB}."""
    seconds, memory = ({name: [] for name in commands} for _ in range(2))
    for repeat in range(repeats + 1):
        for name, command in commands.items():
            result = timed(command)
            if repeat:  # the first one reads the libraries from disk
                seconds[name].append(result[0])
                memory[name].append(result[1])
    return seconds, memory


def startup(table, args):
    read = [PYTHON, "predict.py", "--json", "samples/5.png"]
    commands = {"import tensorflow": [PYTHON, "-c", "import tensorflow"], "predict.py --json, one picture": read}
    if Path("mnist_cnn.tflite").exists():
        commands["the same, --model mnist_cnn.tflite"] = [*read, "--model", "mnist_cnn.tflite"]
    seconds, memory = measure(args.repeats, commands)
    for name in commands:
        table.add(name, "s", seconds[name], None if name == "import tensorflow" else "import tensorflow", memory[name])


def data(table, args):
    import_tensorflow()
    import numpy as np

    splits, seconds, reading = {}, [], []
    for split in ("train", "test"):
        images = dataset.load(dataset.find("mnist")[1], split)
        pixels = [image[..., 0] for image, _ in dataset.decode(images).as_numpy_iterator()]
        splits[split] = np.stack(pixels), images.labels
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            mnist.write_data_set(Path(folder) / "set", splits)
            seconds.append(time.monotonic() - start)
            images = dataset.load(Path(folder) / "set", "train")
            start = time.monotonic()
            dataset.decode(images)
            reading.append(time.monotonic() - start)
    table.add("write Mnist_dataset/, 70,000 files", "s", seconds)
    table.add("read its 60,000 training images", "s", reading)


def throughput(table, args):
    """Both precisions where the processor has bfloat16, in turn with each other."""
    import_tensorflow()
    import tensorflow as tf

    from digits import model

    images, _ = dataset.hold_out(dataset.load(dataset.find("mnist")[1], "train"), train.VALIDATION_SPLIT)
    decoded = dataset.decode(images)
    precisions = dict.fromkeys(("float32", model.precision_of("auto")))
    settings = {name: train.settings_of([f"--precision={name}"], None) for name in precisions}
    size, augment = settings["float32"]["batch_size"], settings["float32"]["augment"]
    pipeline = dataset.training_batches(decoded, size, 3, augment, 0, 0, 1000)
    held = list(pipeline.take(STEPS))
    pixels, labels = (tf.concat([batch[part] for batch in held], 0) for part in (0, 1))
    memory = dataset.without_autotune(tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(size).prefetch(8))
    networks = {}
    for name in precisions:
        networks[name] = train.new_network(settings[name], 10)
        networks[name].compile("adam", loss=train.cross_entropy, metrics=[train.accuracy_of_digits()])
        networks[name].fit(pipeline, steps_per_epoch=5, shuffle=False, verbose=0)  # compiles
    feeds = {"network alone": memory, "network fed by the pipeline": pipeline}
    rates = {"input pipeline": []} | {f"{feed}, {name}": [] for name in precisions for feed in feeds}
    epochs = {name: [] for name in precisions}
    whole = -(-len(decoded) // size)
    for _ in range(args.repeats):
        start = time.monotonic()
        for _batch in pipeline.take(STEPS):
            pass
        rates["input pipeline"].append(STEPS * size / (time.monotonic() - start))
        for (name, network), (feed, batches) in itertools.product(networks.items(), feeds.items()):
            start = time.monotonic()
            network.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0)
            rates[f"{feed}, {name}"].append(STEPS * size / (time.monotonic() - start))
        for name, network in networks.items():
            start = time.monotonic()
            network.fit(pipeline, steps_per_epoch=whole, shuffle=False, verbose=0)
            epochs[name].append(time.monotonic() - start)
    table.add("input pipeline", "images/s", rates["input pipeline"])
    for name in precisions:
        alone, fed = (f"{feed}, {name}" for feed in feeds)
        table.add(alone, "images/s", rates[alone], None if name == "float32" else "network alone, float32")
        table.add(fed, "images/s", rates[fed], alone)
    for name in precisions:
        what = f"an epoch of {len(decoded):,} images, {name}"
        against = None if name == "float32" else f"an epoch of {len(decoded):,} images, float32"
        table.add(what, "s", epochs[name], against)


def accuracy_in_time(table, args):
    """All train on arrays in memory; testing does not count. train.py is a run of its own for each target."""
    import_tensorflow()

    folder = dataset.find("mnist")[1]
    images, test_images = (dataset.load(folder, split) for split in ("train", "test"))
    training, test = map(dataset.decode, (images, test_images))
    part = dataset.decode(dataset.hold_out(images, train.VALIDATION_SPLIT)[0])
    limit = float("inf") if args.full else LIMIT
    found = {}
    for seed in range(args.repeats):
        for who, contender in (("classic recipe", classic), ("Keras example", keras_example)):
            for target, seconds in times_of(*contender(training, seed), test, limit).items():
                found.setdefault((who, target), []).append(seconds)
        for target in TARGETS:
            seconds, accuracy = time_of_train(part, test, seed, EPOCHS_TO[target], limit)
            found.setdefault(("train.py", target), []).append(seconds if accuracy >= target else None)
    cut = "" if args.full else f", cut at {LIMIT} s"
    for target in TARGETS:
        name = "{} to " + f"{100 * target:.4g} %{cut}"
        table.add(name.format("Keras example"), "s", found["Keras example", target])
        table.add(name.format("classic recipe"), "s", found["classic recipe", target], name.format("Keras example"))
        ours = f"train.py --epochs {EPOCHS_TO[target]} to {100 * target:.4g} %{cut}"
        table.add(ours, "s", found["train.py", target], name.format("Keras example"))


def classic(training, seed):
    """The classic recipe for cnn: Adam with a constant rate, batches of 32, dropout 0.5, no augmentation."""
    import keras

    from digits import model

    keras.utils.set_random_seed(seed)
    return model.build("cnn"), keras.optimizers.Adam(1e-3), _plain(training, 32, 3, seed)


def keras_example(training, seed):
    """A convnet as in Keras's example "Simple MNIST convnet" (keras.io, F. Chollet, 2015), 34,826 parameters."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return network, "adam", _plain(training, 128, 1, seed)


def _plain(training, batch_size, channels, seed):
    """What gives the batches of an epoch, without augmentation."""
    return lambda epoch: dataset.training_batches(training, batch_size, channels, 0, seed + 1000 * epoch, 0, 1)


def times_of(network, optimizer, batches_of, test, limit):
    """Train until all targets are reached or the limit is; return {target: seconds or None}."""
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    seconds, epoch, times = 0.0, 0, dict.fromkeys(TARGETS)
    while None in times.values():
        start = time.monotonic()
        network.fit(batches_of(epoch), shuffle=False, verbose=0)
        seconds, epoch = seconds + time.monotonic() - start, epoch + 1
        if seconds > limit:
            break
        _, accuracy = network.evaluate(dataset.evaluation_batches(test, network.input_shape[-1]), verbose=0)
        times |= {target: seconds for target in TARGETS if times[target] is None and accuracy >= target}
    return times


def time_of_train(training, test, seed, epochs, limit):
    """train.py's training without validation: (seconds or None, test accuracy); given up where it would be too long."""
    from digits import model

    settings = train.settings_of([f"--epochs={epochs}", f"--seed={seed}"], None)
    settings["precision"] = model.precision_of(settings["precision"])
    network = train.new_network(settings, 10)

    class TooLong(Exception):
        pass

    def check(history):
        if epochs / len(history) * (time.monotonic() - start) > limit:
            raise TooLong

    start = time.monotonic()
    classes = [str(digit) for digit in range(10)]
    training = train.with_variety(training, classes, settings["variety"], seed)
    try:
        train.train(network, training, None, settings, on_epoch=check, quiet=True)
    except TooLong:
        return None, 0.0
    seconds = time.monotonic() - start
    _, accuracy = network.evaluate(dataset.evaluation_batches(test, 3), verbose=0)
    return seconds, accuracy


def pictures(table, args):
    """Reading after start-up, and 10,000 pictures from start to end."""
    import_tensorflow()
    import numpy as np
    from PIL import Image

    from digits import reader
    from extras import difficult

    model = Path("mnist_cnn.keras")
    with tempfile.TemporaryDirectory() as folder:
        small = difficult.uneven_light("5", np.random.default_rng(0))
        photo = Path(folder) / "photo.jpg"
        Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC).save(photo, quality=92)
        seconds = {"samples/5.png": [], photo: []}
        for repeat in range(args.repeats + 1):
            for path, all_seconds in seconds.items():
                start = time.monotonic()
                reader.read(path, model)
                if repeat:
                    all_seconds.append(1000 * (time.monotonic() - start))
        (Path(folder) / "many").mkdir()
        images, _ = strokes.draw(PICTURES, seed=3)
        for place, image in enumerate(images):
            Image.fromarray(image[..., 0]).save(Path(folder) / "many" / f"{place:05}.png")
        runs = [timed([PYTHON, "predict.py", "--json", f"{folder}/many"]) for _ in range(args.repeats)]
    table.add("read samples/5.png, after start-up", "ms", seconds["samples/5.png"])
    table.add("read a photo of 12 megapixels, after start-up", "ms", seconds[photo])
    name = f"predict.py --json, {PICTURES:,} pictures of 28×28"
    table.add(name, "s", [run[0] for run in runs], memory=[run[1] for run in runs])


def draw(table, args):
    """Requests for drawn digits on connections that stay open: one client, then many at once."""
    drawn = drawn_pictures()
    command = [PYTHON, "draw.py", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            ports = (int(line.split(":")[2].split("/")[0]) for line in service.stdout if "http://" in line)
            port = next(ports, None)
            if not port:
                raise Failure("draw.py did not start; its message is above")
            list(requests(port, drawn, 5))  # to warm up
            alone = [1000 * seconds for _, seconds in requests(port, drawn, SECONDS / 4)]
            with ThreadPoolExecutor(CLIENTS) as clients:
                many = [clients.submit(list, requests(port, drawn, SECONDS)) for _ in range(CLIENTS)]
                memory = []
                while not all(one.done() for one in many):
                    time.sleep(1)
                    memory.append(megabytes(service.pid))
            answers = [answer for one in many for answer in one.result()]
        finally:
            service.terminate()
    wrong = sum(not right for right, _ in answers)
    waits = sorted(1000 * seconds for _, seconds in answers)
    table.add("draw.py, a request alone", "ms", alone)
    table.add(f"draw.py, a request among {CLIENTS} clients", "ms", [statistics.median(waits)], memory=memory)
    table.add("the same, 99 % within", "ms", [waits[int(0.99 * len(waits))]])
    table.add(f"draw.py, {CLIENTS} clients for {SECONDS} s", "answers/s", [len(answers) / SECONDS])
    table.add("answers that were wrong or missing", "", [wrong])


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


def scale(table, args):
    """train.py as a user runs it, on folders of PNG files; seconds of the epoch alone, memory of the whole process."""
    micro, megs = {}, {}
    for count in SCALES:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            digits, labels = strokes.draw(count, seed=1)
            mnist.write_png_folder(Path(folder) / "set" / "train", digits[..., 0], labels)
            del digits
            for cache in ("auto", "disk", "none") if count == SCALES[1] else ("auto",):
                model = Path(folder) / "model.keras"
                flags = ["--data", f"{folder}/set", "--epochs", "1", "--no-test", "--cache", cache, "--model", model]
                _, memory = timed([PYTHON, "train.py", *flags])
                about = json.loads(model.with_suffix(".json").read_text())
                name = f"{count:,} images, --cache {cache}"
                micro[name], megs[name] = 1e6 * about["seconds"] / about["data"]["training"], memory
    base = f"{SCALES[1]:,} images, --cache auto"
    for name in sorted(micro, key=lambda name: name != base):
        table.add(f"train.py --epochs 1, {name}", "µs/image", [micro[name]],
                  None if name == base else f"train.py --epochs 1, {base}", [megs[name]])  # fmt: skip


def cluster(table, args):
    """Milliseconds of a step; from two sizes of batch follows what an image costs, and what a step does."""
    with tempfile.TemporaryDirectory() as folder:
        digits, labels = strokes.draw(4000, seed=1)
        mnist.write_png_folder(Path(folder) / "set" / "train", digits[..., 0], labels)
        for processes, size in itertools.product((1, 2, 4), (64, 256)):
            model = Path(folder) / "model.keras"
            flags = f"--data {folder}/set --model {model} --epochs {args.repeats + 1} --batch-size {size} --variety 0"
            flags += " --no-test --validation-split 0 --precision float32"
            run_cluster([PYTHON, "train.py", *flags.split()], processes)
            history = json.loads(model.with_suffix(".json").read_text())["history"][1:]
            steps = -(-(4000 // processes) // (size // processes))
            table.add(f"a step of {size} images, {processes} processes (JAX)", "ms",
                      [1000 * row["seconds"] / steps for row in history],
                      None if processes == 1 else f"a step of {size} images, 1 processes (JAX)")  # fmt: skip


def run_cluster(command, processes):
    """train.py by so many processes on this machine, on Keras's JAX backend in any case."""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--cluster", address, "--processes", str(processes)] if processes > 1 else []
    numbers = [["--process", str(process)] if flags else [] for process in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(lambda number: timed([*command, *flags, *number], env=environment), numbers))


PARTS = {part.__name__: part for part in (startup, data, throughput, accuracy_in_time, pictures, draw, scale, cluster)}
USUAL = [name for name in PARTS if name not in ("scale", "cluster")]


def work(args):
    table = Table(args.json)
    if not args.json:
        print(f"{machine()}\n", flush=True)
    for name in args.parts or USUAL:
        with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
            PARTS[name](table, args)
    table.end()


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help="what to measure (default: all but scale and cluster)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with every single value")
    parser.add_argument("--full", action="store_true", help=f"train on after {LIMIT} s until the accuracy is reached")
    count = number(int, 1, 100)
    parser.add_argument("--repeats", type=count, default=3, help="of each measurement (default: %(default)s)")
    args = parser.parse_args(argv)
    for name in args.parts:
        if name not in PARTS:
            parser.error(f"{name}: no such part; there are {', '.join(PARTS)}")
    return run(work, args)


if __name__ == "__main__":
    sys.exit(main())
