"""What it costs: start-up, data, training, reading and the service, measured on this machine in one table.

    python -m extras.bench                               # all but scale and cluster, about half an hour on 2 cores
    python -m extras.bench startup pictures              # parts by name
    python -m extras.bench accuracy_in_time --full       # without the limit of 120 s for each training
    python -m extras.bench --json > bench.json
    python -m extras.bench accuracy_in_time scale --figure bench.png

A row is the median of its repeats, between the lowest and the highest. A ratio is that to the row it names, the median
of the ratios in each repeat. The memory is that of the largest process, of all for draw. The parts:

    startup           predict.py, from start to answer, and import tensorflow
    data              Mnist_dataset/, written and read
    throughput        images a second: of the input pipeline, of the network, of both; an epoch
    ceiling           what the processor computes at best, and where the time of a step goes
    accuracy_in_time  seconds of training until a test accuracy is reached, by train.py and by two others
    pictures          a photo, and 10,000 pictures
    draw              the service of draw.py: one client, and many (wants requirements-draw.txt)
    scale             an epoch on 6,000, 60,000 and 600,000 drawn images on disk
    cluster           a step of train.py --cluster: 1, 2 and 4 processes on this machine (wants
                      extras/requirements-distributed.txt)
"""

import contextlib
import http.client
import io
import itertools
import json
import math
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
from digits.cli import Parser, RunError, import_tensorflow, number, run
from digits.data import mnist, pipeline, strokes
from digits.machine import computes_bfloat16

EPOCHS_TO = {0.9829: 1, 0.99: 1, 0.995: 12}  # test accuracies, and the epochs with which train.py gets there
LIMIT = 120  # seconds of one training, without --full
MOST_EPOCHS = 50  # of one training, with it
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

    def add(self, what, unit, values, against=None, memory=(), limit=None, **facts):
        """values: a number for each repeat; None: not reached within the limit. memory: in MB. facts: for the figure.

        against: the `what` of an earlier row. Where that was not reached, the ratio to the limit is an upper bound.
        """
        row = {"what": what, "unit": unit, "n": len(values), "values": values, "median": middle(values), **facts}
        if against:
            other = next(row["values"] for row in self.rows if row["what"] == against)
            row |= {"against": against, "ratio": None, "ratio_is_a_bound": None in other}
            if None not in values and (limit or None not in other):
                row["ratio"] = statistics.median(a / (b or limit) for a, b in zip(values, other, strict=True))
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


def save_figure(rows, path):
    """Draw the time to accuracies and the time an image by the number of images, as far as they were measured."""
    import numpy as np
    from matplotlib import pyplot as plt

    from digits import plots

    in_time = [row for row in rows if "target" in row]
    scaled = sorted((row for row in rows if row.get("cache") == "auto"), key=lambda row: row["images"])
    whole = plt.figure(figsize=(10, 4), layout="constrained")
    axes = whole.subplots(1, bool(in_time) + bool(scaled), squeeze=False)[0]
    for place, who in enumerate(dict.fromkeys(row["who"] for row in in_time)):
        mine = [row for row in in_time if row["who"] == who]
        heights = [row["median"] or 0 for row in mine]
        bars = axes[0].bar(np.arange(len(mine)) + 0.27 * (place - 1), heights, 0.25, label=who)
        texts = [f"{row['median']:.0f} s" if row["median"] else "–" for row in mine]
        axes[0].bar_label(bars, texts, fontsize="small")
    if in_time:
        targets = list(dict.fromkeys(row["target"] for row in in_time))
        axes[0].set_xticks(range(len(targets)), [f"{100 * target:.4g} %" for target in targets])
        cut = "" if in_time[0]["full"] else f" (–: not in {LIMIT} s)"
        axes[0].set(title="Time to a test accuracy" + cut, ylabel="seconds of training")
        axes[0].margins(y=0.15)
        axes[0].legend()
    if scaled:
        counts, values = [row["images"] for row in scaled], [row["median"] for row in scaled]
        axes[-1].plot(counts, values, "o-")
        for row in scaled:
            axes[-1].annotate(f"{row['memory_mb']:,.0f} MB", (row["images"], row["median"]), (0, 8),
                              textcoords="offset points", ha="center")  # fmt: skip
        axes[-1].set(xscale="log", xlabel="images in the data set", ylabel="µs an image", ylim=(0, 1.4 * max(values)),
                     title="Time an image, and peak memory of train.py")  # fmt: skip
        axes[-1].set_xticks(counts, [f"{count:,}" for count in counts])
        axes[-1].margins(x=0.15)
    plots.save(whole, path)


def cells_of(row):
    reached = [value for value in row["values"] if value is not None]
    spread = f"{figure(min(reached))} – {figure(max(reached))}" if reached else ""
    if 0 < len(reached) < row["n"]:
        spread += f", {row['n'] - len(reached)} not reached"
    median = "not reached" if row["median"] is None else figure(row["median"])
    ratio = f"{figure(row['ratio'])} × {row['against']}" if row.get("ratio") else ""
    ratio = ratio and "at most " * row["ratio_is_a_bound"] + ratio
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
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":")[1].strip() if names else model
    bfloat16 = f"computes in bfloat16: {'yes' if computes_bfloat16() else 'no'}"
    parts = [f"{os.cpu_count()} cores of {model}", bfloat16, f"{platform.system()} {platform.machine()}"]
    parts += [f"Python {platform.python_version()}"]
    return ", ".join(parts + [f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy")])


# The peak memory of a process counts from that of its parent: from this small one, not from ours.
IN_A_SMALL_PROCESS = """
import subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
try:
    import resource
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
except ModuleNotFoundError:  # Windows does not say
    print(0)
sys.exit(status)
"""


def timed(command, **options):
    """Run a process; return (seconds, the peak memory of the largest of its processes in MB). Raises RunError."""
    start = time.monotonic()
    small = [PYTHON, "-c", IN_A_SMALL_PROCESS, *command]
    process = subprocess.run(small, capture_output=True, text=True, **options)
    if process.returncode:
        raise RunError(f"{' '.join(map(str, command))} failed: {process.stderr[-300:]}")
    return time.monotonic() - start, int(process.stdout) / (1e6 if sys.platform == "darwin" else 1e3)


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
        images = pipeline.load(pipeline.find("mnist")[1], split)
        pixels = [image[..., 0] for image, _ in pipeline.decode(images).as_numpy_iterator()]
        splits[split] = np.stack(pixels), images.labels
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            mnist.write_data_set(Path(folder) / "set", splits)
            seconds.append(time.monotonic() - start)
            images = pipeline.load(Path(folder) / "set", "train")
            start = time.monotonic()
            pipeline.decode(images)
            reading.append(time.monotonic() - start)
    table.add("write Mnist_dataset/, 70,000 files", "s", seconds)
    table.add("read its 60,000 training images", "s", reading)


def throughput(table, args):
    """Both precisions where the processor has bfloat16, in turn with each other."""
    import_tensorflow()
    import tensorflow as tf

    from digits import model

    images, _ = pipeline.hold_out(pipeline.load(pipeline.find("mnist")[1], "train"), train.VALIDATION_SPLIT)
    decoded = pipeline.decode(images)
    precisions = dict.fromkeys(("float32", model.precision_of("auto")))
    settings = {name: train.settings_of([f"--precision={name}"], None) for name in precisions}
    size, augment = settings["float32"]["batch_size"], settings["float32"]["augment"]
    fed = pipeline.training_batches(decoded, size, 3, augment, 0, 0, 1000)
    held = list(fed.take(STEPS))
    pixels, labels = (tf.concat([batch[part] for batch in held], 0) for part in (0, 1))
    memory = pipeline.without_autotune(tf.data.Dataset.from_tensor_slices((pixels, labels)).batch(size).prefetch(8))
    feeds = {"network alone": memory, "network fed by the pipeline": fed}
    networks = {}
    for name in precisions:
        networks[name] = train.new_network(settings[name], 10)
        networks[name].compile("adam", loss=train.cross_entropy, metrics=[train.accuracy_of_digits()])
        for feed in feeds.values():
            networks[name].fit(feed, steps_per_epoch=5, shuffle=False, verbose=0)  # compiles
    rates = {"input pipeline": []} | {f"{feed}, {name}": [] for name in precisions for feed in feeds}
    epochs = {name: [] for name in precisions}
    whole = -(-len(decoded) // size)
    for _ in range(args.repeats):
        start = time.monotonic()
        for _batch in fed.take(whole):
            pass
        rates["input pipeline"].append(len(decoded) / (time.monotonic() - start))
        for (name, network), (feed, batches) in itertools.product(networks.items(), feeds.items()):
            start = time.monotonic()
            network.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0)
            rates[f"{feed}, {name}"].append(STEPS * size / (time.monotonic() - start))
        for name, network in networks.items():
            start = time.monotonic()
            network.fit(fed, steps_per_epoch=whole, shuffle=False, verbose=0)
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


def ceiling(table, args):
    """A product of large matrices, and the forward and backward pass of each layer that costs time, alone."""
    import_tensorflow()
    import keras
    import tensorflow as tf

    from digits import model

    def rows(name, unit, work, amount):
        compiled, seconds = tf.function(work), []
        for repeat in range(10 * args.repeats + 1):
            start = time.monotonic()
            tf.nest.flatten(compiled())[0].numpy()
            if repeat:  # the first one compiles
                seconds.append(time.monotonic() - start)
        table.add(name, unit, [amount(value) for value in seconds])

    def passes(layer, inputs, first):
        wanted = layer.trainable_variables + ([] if first else [inputs])  # nobody needs the gradient of the images

        def work():
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                loss = tf.reduce_sum(layer(inputs))
            return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, wanted)]

        return work

    for precision in dict.fromkeys(("float32", model.precision_of("auto"))):
        matrix = tf.cast(tf.random.normal((2048, 2048)), precision)
        rows(
            f"matrix product, {precision}",
            "GFLOP/s",
            lambda matrix=matrix: matrix @ matrix,
            lambda s: 2 * 2048**3 / s / 1e9,
        )
        keras.utils.clear_session()  # else the names of the layers count on from those of other networks
        network = model.build("cnn", precision=precision)
        images = tf.random.uniform((128, 28, 28, 3))
        for layer in network.layers:
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.MaxPooling2D)):
                name = f"128 images through {layer.name} and back, {precision}"
                rows(name, "ms", passes(layer, images, layer is network.layers[1]), lambda seconds: 1000 * seconds)
            images = layer(images)


def accuracy_in_time(table, args):
    """All train on images in memory; testing does not count. train.py takes the epochs that a target needs."""
    import_tensorflow()

    folder = pipeline.find("mnist")[1]
    images, test_images = (pipeline.load(folder, split) for split in ("train", "test"))
    training, test = map(pipeline.decode, (images, test_images))
    part = pipeline.decode(pipeline.hold_out(images, train.VALIDATION_SPLIT)[0])
    limit, most_epochs = (None, MOST_EPOCHS) if args.full else (LIMIT, None)
    found = {}
    for seed in range(args.repeats):
        for who, contender in (("classic recipe", classic), ("Keras example", keras_example)):
            for target, seconds in times_of(*contender(training, seed), test, limit, most_epochs).items():
                found.setdefault((who, target), []).append(seconds)
        runs = {}
        for epochs in sorted(set(EPOCHS_TO.values())):
            known = [epochs / others * seconds for others, (seconds, _) in runs.items() if seconds]
            too_long = limit and known and min(known) > limit
            runs[epochs] = (None, 0.0) if too_long else time_of_train(part, test, seed, epochs, limit)
        for target, epochs in EPOCHS_TO.items():
            seconds, accuracy = runs[epochs]
            found.setdefault(("train.py", target), []).append(seconds if accuracy >= target else None)
    cut = f"cut at {MOST_EPOCHS} epochs" if args.full else f"cut at {LIMIT} s"
    for target, epochs in EPOCHS_TO.items():
        first = f"Keras example to {100 * target:.4g} %, {cut}"
        for who, flags in (("Keras example", ""), ("classic recipe", ""), ("train.py", f" --epochs {epochs}")):
            name = f"{who}{flags} to {100 * target:.4g} %, {cut}"
            facts = {"who": who, "target": target, "full": args.full}
            table.add(name, "s", found[who, target], None if name == first else first, limit=limit, **facts)


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
    return lambda epoch: pipeline.training_batches(training, batch_size, channels, 0, seed + 1000 * epoch, 0, 1)


def times_of(network, optimizer, batches_of, test, limit, most_epochs):
    """Train until all targets are reached or a limit is; return {target: seconds or None}."""
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    seconds, took, epoch, times = 0.0, 0.0, 0, dict.fromkeys(EPOCHS_TO)
    limit = limit or math.inf
    while None in times.values() and epoch != most_epochs and seconds + took <= limit:  # another epoch is in time
        start = time.monotonic()
        network.fit(batches_of(epoch), shuffle=False, verbose=0)
        took = time.monotonic() - start
        seconds, epoch = seconds + took, epoch + 1
        _, accuracy = network.evaluate(pipeline.evaluation_batches(test, network.input_shape[-1]), verbose=0)
        reached = [target for target in times if times[target] is None and accuracy >= target and seconds <= limit]
        times |= dict.fromkeys(reached, seconds)
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
        if limit and epochs / len(history) * (time.monotonic() - start) > limit:
            raise TooLong

    start = time.monotonic()
    classes = [str(digit) for digit in range(10)]
    training = train.with_variety(training, classes, settings["variety"], seed)
    try:
        train.train(network, training, None, settings, on_epoch=check, quiet=True)
    except TooLong:
        return None, 0.0
    seconds = time.monotonic() - start
    _, accuracy = network.evaluate(pipeline.evaluation_batches(test, 3), verbose=0)
    return seconds, accuracy


def pictures(table, args):
    """Reading after start-up, and 10,000 pictures from start to end."""
    import_tensorflow()
    import numpy as np
    from PIL import Image

    from digits.reading import reader
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
        many = [timed([PYTHON, "predict.py", "--json", f"{folder}/many"]) for _ in range(args.repeats)]
    table.add("read samples/5.png, after start-up", "ms", seconds["samples/5.png"])
    table.add("read a photo of 12 megapixels, after start-up", "ms", seconds[photo])
    name = f"predict.py --json, {PICTURES:,} pictures of 28×28"
    table.add(name, "s", [took for took, _ in many], memory=[size for _, size in many])


def draw(table, args):
    """Requests for drawn digits on connections that stay open: one client, then many at once."""
    drawn = drawn_pictures()
    command = [PYTHON, "draw.py", "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            ports = (int(line.split(":")[2].split("/")[0]) for line in service.stdout if "http://" in line)
            port = next(ports, None)
            if not port:
                raise RunError("draw.py did not start; its message is above")
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
    table.add("answers that were wrong or refused", "", [wrong])


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
    """train.py as a user runs it, on folders of PNG files: its last epoch, and the memory of the whole process."""
    micro, memory, facts = {}, {}, {}
    for count in SCALES:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            digits, labels = strokes.draw(count, seed=1)
            mnist.write_png_folder(Path(folder) / "set" / "train", digits[..., 0], labels)
            del digits
            for cache in ("auto", "disk", "none") if count == SCALES[1] else ("auto",):
                model = Path(folder) / "model.keras"
                epochs = "1" if count > 100_000 else "2"  # in a short one, the time to compile would count
                flags = ["--data", f"{folder}/set", "--epochs", epochs, "--no-test", "--cache", cache, "--model", model]
                name = f"train.py, {count:,} images, --cache {cache}"
                facts[name] = {"images": count, "cache": cache}
                _, memory[name] = timed([PYTHON, "train.py", *flags])
                about = json.loads(model.with_suffix(".json").read_text())
                micro[name] = 1e6 * about["history"][-1]["seconds"] / about["data"]["training"]
    base = f"train.py, {SCALES[1]:,} images, --cache auto"
    for name in sorted(micro, key=lambda name: name != base):
        table.add(name, "µs/image", [micro[name]], None if name == base else base, [memory[name]], **facts[name])


def cluster(table, args):
    """Milliseconds of a step; from two sizes of batch follows what an image costs, and what a step does."""
    with tempfile.TemporaryDirectory() as folder:
        digits, labels = strokes.draw(4000, seed=1)
        mnist.write_png_folder(Path(folder) / "set" / "train", digits[..., 0], labels)
        for processes, size in itertools.product((1, 2, 4), (64, 256)):
            model = Path(folder) / "model.keras"
            flags = ["--epochs", args.repeats + 1, "--batch-size", size, "--validation-split", 0, "--no-test"]
            flags += ["--optimizer", "adam", "--augment", 0, "--variety", 0, "--precision", "float32"]
            run_cluster([PYTHON, "train.py", "--data", f"{folder}/set", "--model", model, *map(str, flags)], processes)
            history = json.loads(model.with_suffix(".json").read_text())["history"][1:]
            steps = -(-(4000 // processes) // (size // processes))
            alone = f"a step of {size} images, 1 process (JAX)"
            name = alone if processes == 1 else f"a step of {size} images, {processes} processes (JAX)"
            values = [1000 * row["seconds"] / steps for row in history]
            table.add(name, "ms", values, None if processes == 1 else alone)


def run_cluster(command, processes):
    """train.py by so many processes on this machine, on Keras's JAX backend in any case."""
    environment = os.environ | {"KERAS_BACKEND": "jax"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = ["--cluster", address, "--processes", str(processes)] if processes > 1 else []
    numbers = [["--process", str(process)] if flags else [] for process in range(processes)]
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(lambda one: timed([*command, *flags, *one], env=environment), numbers))


PARTS = {
    part.__name__: part
    for part in (startup, data, throughput, ceiling, accuracy_in_time, pictures, draw, scale, cluster)
}
USUAL = [name for name in PARTS if name not in ("scale", "cluster")]


def work(args):
    table = Table(args.json)
    if not args.json:
        print(f"{machine()}\n", flush=True)
    try:
        for name in args.parts or USUAL:
            with contextlib.redirect_stdout(sys.stderr) if args.json else contextlib.nullcontext():
                PARTS[name](table, args)
    finally:  # what was measured before a part failed is kept
        table.end()
        if args.figure and any("target" in row or "cache" in row for row in table.rows):
            save_figure(table.rows, args.figure)


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help="what to measure (default: all but scale and cluster)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with every single value")
    parser.add_argument("--full", action="store_true", help=f"train on after {LIMIT} s, for up to {MOST_EPOCHS} epochs")
    parser.add_argument("--figure", type=Path, help="PNG file, of accuracy_in_time and scale (default: none)")
    count = number(int, 1, 100)
    repeats = "of each measurement but those of draw and scale (default: %(default)s)"
    parser.add_argument("--repeats", type=count, default=3, help=repeats)
    args = parser.parse_args(argv)
    if args.figure and not {"accuracy_in_time", "scale"} & set(args.parts or USUAL):
        parser.error("--figure: is of accuracy_in_time and scale, name one of them")
    if args.figure and (args.figure.suffix != ".png" or not args.figure.absolute().parent.is_dir()):
        parser.error(f"--figure: {args.figure} must end in .png, in a folder that exists")
    for name in args.parts:
        if name not in PARTS:
            parser.error(f"{name}: no such part; there are {', '.join(PARTS)}")
    return run(work, args)


if __name__ == "__main__":
    sys.exit(main())
