"""Which digit is in this picture?

Edit img_path below and run it:

    python predict.py

or name any number of pictures and folders:

    python predict.py photo.jpg scans/
    python predict.py --random                     # a random test image of Mnist_dataset/, with its true label
    python predict.py --json scans/ > answers.jsonl

The picture may be of any size, mode and polarity: the digit is cut out and centred the way MNIST was made.
"""

import csv
import json
import random
import sys
from pathlib import Path

from digits import dataset, picture, reader
from digits.console import Parser, UserError, add_model_flags, check_model_file, fail, model_file, progress, run

img_path = "samples/5.png"  # the picture to read when the command line names none

DATA = "mnist"  # whose model to use, and whose test images with --random: "mnist", "drawn" or a folder
NETWORK = "cnn"  # "cnn", "dense128" or "dense64"
MODEL = None  # model file; None: <data>_<network>.keras
FIGURE = "prediction.png"  # where the figure goes without a screen
MOST_ROWS = 8  # pictures in the figure


def pictures_in(names):
    """The (name, path) of all pictures, those in folders sorted. Raises UserError for what does not exist."""
    pictures = []
    for name in map(Path, names):
        if name.is_dir():
            inside = sorted(p for p in name.rglob("*") if p.suffix.lower() in picture.SUFFIXES and p.name[0] != ".")
            if not inside:
                raise UserError(f"{name}: no pictures in this folder; name one that has some")
            pictures += [(str(path), path) for path in inside]
        elif name.exists() or len(names) > 1:  # a missing one among several is reported in its turn
            pictures.append((str(name), name))
        else:
            raise UserError(f"{name}: no such file; name another picture, or edit img_path in predict.py")
    return pictures


def random_test_image(data):
    """The name, the image (path, or uint8 28×28×1 if drawn) and the true label of a test image drawn by lot."""
    folder = dataset.MNIST_FOLDER if data == "mnist" else Path(data)
    if data != "drawn" and not (folder / "test").is_dir():
        raise UserError(f"--random: there is no {folder / 'test'}; train.py makes MNIST's, or use --data drawn")
    images = dataset.load(None if data == "drawn" else folder, "test")
    place = random.randrange(len(images.labels))
    drawn = images.files.ndim > 1
    name = f"drawn test image {place}" if drawn else images.files[place]
    return name, images.files[place] if drawn else Path(name), images.classes[images.labels[place]]


def read_all(pictures, model):
    """Yield (name, Reading or None, error or None) for each (name, picture); a bar shows where the answers do not."""
    for name, source in pictures if sys.stdout.isatty() else progress(pictures, "Reading pictures"):
        try:
            yield name, reader.read(source, model), None
        except picture.PictureError as error:
            yield name, None, str(error)


def print_json(pictures, model):
    status = 0
    for name, reading, error in read_all(pictures, model):
        if error:
            status, row = 2, {"path": name, "error": error}
        else:
            row = {"path": name, "prediction": reading.prediction, "confidence": reading.confidence}
            row["probabilities"] = reading.probabilities
        print(json.dumps(row, ensure_ascii=False), flush=True)
    return status


def print_csv(pictures, model):
    classes = reader.load_model(model)[1]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["path", "prediction", "confidence", *(f"probability_{name}" for name in classes), "error"])
    status = 0
    for name, reading, error in read_all(pictures, model):
        if error:
            status, cells = 2, [""] * (2 + len(classes)) + [error]
        else:
            cells = [reading.prediction, reading.confidence, *reading.probabilities.values(), ""]
        table.writerow([name, *cells])
    return status


def print_answers(pictures, model, true_label=None):
    """Print a line for each picture, and show or save a figure of the first few."""
    from digits import report

    status, read, rows, alone = 0, 0, [], len(pictures) == 1
    for (name, reading, error), (_, source) in zip(read_all(pictures, model), pictures, strict=True):
        if error:
            status = fail(f"{name}: {error}", 2)
            continue
        read += 1
        answer = "No digit found"
        if reading.prediction is not None:
            answer = f"Prediction: {reading.prediction} with {100 * reading.confidence:.2f}% confidence"
        if not alone:
            print(f"{name}  {answer}", flush=True)
        if len(rows) < MOST_ROWS:
            rows.append((picture.open_picture(source)[0], reading, f"{Path(name).name}\n{answer}"))
    if not rows:
        return status
    screen, figure = report.has_screen(), report.prediction_figure(rows)
    if not screen:
        report.save(figure, FIGURE)
        print(f"Figure{'' if alone else f' of the first {len(rows)}'}: {FIGURE}")
    if true_label is not None:
        print(f"True label: {true_label}")
    print(answer if alone else f"Read {read:,} of {len(pictures):,} pictures", flush=True)
    report.show()
    return status


def parse_args(argv):
    parser = Parser(__doc__)
    parser.add_argument("pictures", nargs="*", help=f"pictures and folders of pictures (default: img_path, {img_path})")
    parser.add_argument("--random", action="store_true", help="read a random test image and print its true label too")
    add_model_flags(parser, DATA, NETWORK, MODEL)
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print a JSON object for each picture, no figure")
    output.add_argument("--csv", action="store_true", help="print a table with a row for each picture, no figure")
    args = parser.parse_args(argv)
    if args.random and args.pictures:
        parser.error("--random takes no pictures")
    return args


def work(args):
    name = args.data if args.data in ("mnist", "drawn") else Path(args.data).resolve().name
    model = model_file(args, name)
    check_model_file(model)
    true_label = None
    if args.random:
        *found, true_label = random_test_image(args.data)
        pictures = [tuple(found)]
    else:
        pictures = pictures_in(args.pictures or [img_path])
    if args.json:
        return print_json(pictures, model)
    if args.csv:
        return print_csv(pictures, model)
    print(
        f"Model: {model}   " + (f"Picture: {pictures[0][0]}" if len(pictures) == 1 else f"Pictures: {len(pictures):,}")
    )
    return print_answers(pictures, model, true_label)


def main(argv=None):
    args = parse_args(argv)
    return run(work, args)


if __name__ == "__main__":
    sys.exit(main())
