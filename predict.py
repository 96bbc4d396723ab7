"""Which digit, or which number, is in this picture?

Edit img_path below and run it:

    python predict.py

or name any number of pictures and folders:

    python predict.py photo.jpg scans/
    python predict.py --steps photo.jpg            # also save steps.png: how the answer came out
    python predict.py --box 420,80,300,60 form.png # read one field of a form
    python predict.py --random                     # a random test image of Mnist_dataset/, with its true label
    python predict.py --json scans/ > answers.jsonl

The picture may be a photo, a scan or a drawing of any size, mode and polarity; all pages of a TIFF are read.
"""

import argparse
import csv
import json
import random
import sys
import textwrap
from collections import deque
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from digits.cli import (
    Parser,
    RunError,
    UsageError,
    add_model_flags,
    check_model_file,
    fail,
    model_file,
    number,
    progress,
    run,
)
from digits.data import pipeline
from digits.reading import image_file, reader, worker_pool

img_path = "samples/5.png"  # the picture to read when the command line names none

DATA = "mnist"  # whose model to use, and whose test images with --random: "mnist", "drawn" or a folder
NETWORK = "cnn"  # "cnn", "dense128" or "dense64"
MODEL = None  # model file; None: <data>_<network>.keras
MIN_CONFIDENCE = 0.0  # readings less sure than this, 0-1, are marked for review
FIGURE = "prediction.png"  # where the figure goes without a screen
STEPS_FIGURE = "steps.png"  # where that of --steps goes
MOST_ROWS = 8  # pictures in a figure
BATCH = 20  # pictures that the network reads at a time


def figures():
    """Where the figures go."""
    return [Path(name).resolve() for name in (FIGURE, STEPS_FIGURE)]


def pictures_in(names):
    """The (name, path, page) of all pictures, those in folders sorted. Raises UsageError for what does not exist."""
    paths, own = [], figures()
    for name in map(Path, names):
        if name.is_dir():
            inside = [path for path in image_file.pictures_in(name) if path.resolve() not in own]
            if not inside and len(names) == 1:
                raise UsageError(f"{name}: no pictures in this folder; name one that has some")
            paths += inside or [name]
        elif name.exists() or len(names) > 1:  # a missing one among several is reported in its turn
            paths.append(name)
        else:
            raise UsageError(f"{name}: no such file; name another picture, or edit img_path in predict.py")
    pictures = []
    for path in paths:
        pages = image_file.count_pages(path) if path.suffix.lower() in (".tif", ".tiff") else 1
        pictures += [(str(path) if pages == 1 else f"{path} page {page + 1}", path, page) for page in range(pages)]
    return pictures


def random_test_image(data):
    """The name, the image (path, or uint8 28×28×1 if drawn) and the true label of a test image drawn by lot."""
    _, folder = pipeline.name_and_folder(data)
    if folder and not (folder / "test").is_dir():
        raise UsageError(f"--random: there is no {folder / 'test'}; train.py makes it, or use --data drawn")
    images = pipeline.load(folder, "test")
    place = random.randrange(len(images.labels))
    drawn = images.files.ndim > 1
    name = f"drawn test image {place}" if drawn else images.files[place]
    return name, images.files[place] if drawn else Path(name), images.classes[images.labels[place]]


def read_all(pictures, model, box):
    """Yield (name, Reading or None, error or None) for each picture; a bar shows where the answers do not."""
    readings = judged(found_in(pictures, box, reader.sees_whole(model)), model)
    return readings if sys.stdout.isatty() else progress(readings, "Reading pictures", len(pictures))


def judged(batches, model):
    """Yield (name, Reading or None, error or None) for each picture of the batches from found_in()."""
    for batch in batches:
        found = [found for _, found, error in batch if not error]
        readings = iter(reader.judge(found, model) if found else ())
        for name, _, error in batch:
            yield name, None if error else next(readings), error


def found_in(pictures, box, whole):
    """Yield lists of (name, what reader.find() returns, error or None); for many pictures all processors work."""
    size = 1 if sys.stdout.isatty() and len(pictures) <= BATCH else BATCH
    batches = (pictures[start : start + size] for start in range(0, len(pictures), size))
    if worker_pool.count() == 1 or len(pictures) <= 5 * BATCH:
        yield from ([find_one(*picture, box, whole) for picture in batch] for batch in batches)
        return
    pool, running = worker_pool.pool(), deque()
    try:
        for batch in batches:
            running.append([pool.submit(find_one, *picture, box, whole) for picture in batch])
            if len(running) > 2 * worker_pool.count():  # few at a time, so that memory does not grow with the folder
                yield [one.result() for one in running.popleft()]
        for batch in running:
            yield [one.result() for one in batch]
    except BrokenProcessPool:
        raise RunError("a process that reads pictures was killed, for want of memory perhaps; read fewer") from None
    finally:
        pool.shutdown(cancel_futures=True)


def find_one(name, source, page, box, whole):
    """(name, what reader.find() returns, error or None) for a picture."""
    try:
        return name, reader.find(source, box, page, whole=whole), None
    except image_file.PictureError as error:
        folder = isinstance(source, Path) and source.is_dir()
        return name, None, "no pictures in this folder" if folder else str(error)


def answer_of(reading, min_confidence):
    """What is printed of a picture."""
    of_digits = all(name.isdecimal() for name in reading.probabilities)
    if reading.prediction is None:
        answer = "No digit found" if of_digits else "Nothing found"
    elif len(reading.digits) > 1:
        lowest = min(digit.confidence for digit in reading.digits)
        answer = f"{'Number' if of_digits else 'Text'}: {reading.number}  (lowest confidence {100 * lowest:.1f}%)"
    elif reading.is_digit:
        answer = f"Prediction: {reading.prediction} with {100 * reading.confidence:.2f}% confidence"
    else:
        refused = "Not a digit (looks most like a" if of_digits else "None of the classes (looks most like"
        answer = f"{refused} {reading.prediction}, {100 * reading.confidence:.0f}%)"
    return answer + ("  (to be reviewed)" if for_review(reading, min_confidence) else "")


def for_review(reading, min_confidence):
    """Whether a person should look at it: what was read is not sure enough, something was refused, or all."""
    unsure = any(digit.confidence < min_confidence for digit in reading.digits)
    return unsure or (min_confidence > 0 and bool(reading.refused or not reading.digits))


def print_json(pictures, model, box, min_confidence):
    status = 0
    for (name, reading, error), (_, source, page) in zip(read_all(pictures, model, box), pictures, strict=True):
        row = {"path": name if isinstance(source, np.ndarray) else str(source)}
        if name != row["path"]:
            row["page"] = page + 1
        if error:
            status, row["error"] = 2, error
        else:
            row |= reader.as_json(reading)
            if min_confidence:
                row["review"] = for_review(reading, min_confidence)
        print(json.dumps(row), flush=True)
    return status


def print_csv(pictures, model, box, min_confidence):
    classes = reader.load_model(model)[1]
    table = csv.writer(sys.stdout, lineterminator="\n")
    columns = ["path", "prediction", "confidence", *(f"probability_{name}" for name in classes)]
    table.writerow([*columns, "is_digit", "digit_score", "number", "review", "error"])
    status = 0
    for name, reading, error in read_all(pictures, model, box):
        if error:
            status, cells = 2, [""] * (6 + len(classes)) + [error]
        else:
            cells = [reading.prediction, reading.confidence, *reading.probabilities.values(), reading.is_digit]
            cells += [reading.digit_score, reading.number, for_review(reading, min_confidence), ""]
        table.writerow([name, *cells])
    return status


def print_answers(pictures, model, box, min_confidence, steps=False, true_label=None):
    """Print a line for each picture, and show or save a figure of the first few."""
    from digits import plots

    status, read, rows, alone = 0, 0, [], len(pictures) == 1
    for (name, reading, error), picture in zip(read_all(pictures, model, box), pictures, strict=True):
        if error:
            status = fail(f"{name}: {error}", 2)
            continue
        read += 1
        answer = answer_of(reading, min_confidence)
        if not alone:
            print(f"{name}  {answer}", flush=True)
        if len(rows) < MOST_ROWS:
            look = reader.look if steps else image_file.open_picture  # the steps are those of the very pixels read
            pixels, factor, *_ = look(picture[1], box, picture[2])
            lines = [Path(name).name, *answer.replace("  (", "\n(").splitlines()]
            title = "\n".join(textwrap.fill(line, 38) for line in lines)
            rows.append((pixels, factor, (box or (0, 0))[:2], reading, title))
    if not rows:
        return status
    screen, figure = plots.has_screen(), plots.prediction_figure(rows)
    first = "" if alone else f" of the first {len(rows)}"
    if steps:
        of_steps = plots.steps_figure([(pixels, reading, title) for pixels, _, _, reading, title in rows])
        status = save("Steps" + first, of_steps, STEPS_FIGURE) or status
    if not screen:
        status = save("Figure" + first, figure, FIGURE) or status
    if true_label is not None:
        print(f"True label: {true_label}")
    print(answer if alone else f"Read {read:,} of {len(pictures):,} pictures", flush=True)
    plots.show()
    return status


def save(name, figure, path):
    """Save a figure and say so; a folder that cannot be written to does not keep the answer back. Return the status."""
    from digits import plots

    try:
        plots.save(figure, path)
    except OSError as error:
        return fail(f"{path}: cannot be written ({error.strerror}); run it in a folder of your own", 1)
    print(f"{name}: {path}")
    return 0


def box_of(text):
    """The box x,y,width,height that a flag names."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y,width,height in pixels, such as 420,80,300,60") from None
    return x, y, width, height


def parse_args(argv):
    parser = Parser(__doc__)
    parser.add_argument("pictures", nargs="*", help=f"pictures and folders of pictures (default: img_path, {img_path})")
    parser.add_argument("--random", action="store_true", help="read a random test image and print its true label too")
    add_model_flags(parser, DATA, NETWORK, MODEL)
    parser.add_argument("--box", type=box_of, help="read only this part: x,y,width,height in pixels (default: all)")
    confidence = "mark what is less sure than this, 0-1, for review (default: %(default)s: nothing)"
    parser.add_argument("--min-confidence", type=number(float, 0, 1), default=MIN_CONFIDENCE, help=confidence)
    parser.add_argument("--steps", action="store_true", help=f"also save {STEPS_FIGURE}: each step of the reading")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a JSON object for each picture, no figure")
    output.add_argument("--csv", action="store_true", help="print a table with a row for each picture, no figure")
    args = parser.parse_args(argv)
    if args.random and args.pictures:
        parser.error("--random takes no pictures")
    if args.steps and (args.json or args.csv):
        parser.error("--steps draws a figure, --json and --csv do not")
    return args


def work(args):
    name, _ = pipeline.name_and_folder(args.data)
    model = model_file(args, name)
    check_model_file(model)
    if args.steps and reader.sees_whole(model):
        raise UsageError(f"--steps: {model} sees pictures whole, so there are no steps; leave it out")
    true_label = None
    if args.random:
        name, source, true_label = random_test_image(args.data)
        pictures = [(name, source, 0)]
    else:
        pictures = pictures_in(args.pictures or [img_path])
    if args.json:
        return print_json(pictures, model, args.box, args.min_confidence)
    if args.csv:
        return print_csv(pictures, model, args.box, args.min_confidence)
    own = figures()
    for name, source, _ in pictures:
        if isinstance(source, Path) and source.resolve() in own:
            raise UsageError(f"{name}: the figure would be written over it; rename the picture, or use --json")
    print(
        f"Model: {model}   " + (f"Picture: {pictures[0][0]}" if len(pictures) == 1 else f"Pictures: {len(pictures):,}")
    )
    return print_answers(pictures, model, args.box, args.min_confidence, args.steps, true_label)


def main(argv=None):
    args = parse_args(argv)
    return run(work, args)


if __name__ == "__main__":
    sys.exit(main())
