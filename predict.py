"""Which digit, or which number, is in this picture?

Edit img_path below and run it:

    python predict.py

or name any number of pictures and folders:

    python predict.py photo.jpg scans/
    python predict.py --steps photo.jpg            # also save steps.png: each step from picture to answer
    python predict.py --box 420,80,300,60 --digits 5 form.png   # read one field of a form, which has 5 digits
    python predict.py --random                     # a random test image of Mnist_dataset/, with its true label
    python predict.py --json scans/ > answers.jsonl

A picture is a photo, scan or drawing of any size and colours, dark on light or not; all pages of a TIFF are read.
"""

import argparse
import csv
import dataclasses
import json
import random
import sys
from pathlib import Path

from digits import model
from digits.cli import Parser, UsageError, fail, folder, number, option, printable, run
from digits.data import sources
from digits.files import in_project
from digits.reading import answers, image_file, reader
from digits.reading.batches import Picture, find_pictures, named, read_pictures

img_path = "samples/5.png"  # the picture to read if the command line names none

FIGURE = "prediction.png"  # where the figure is saved without a screen
STEPS_FIGURE = "steps.png"  # where that of --steps is saved
MAX_ROWS = 8  # pictures in a figure


def box(text):
    """The box x,y,width,height that a flag names."""
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not x,y,width,height in pixels, such as 420,80,300,60") from None
    return x, y, width, height


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    pictures: list = option((), f"pictures and folders of pictures (default: img_path, {img_path})", positional=True)
    random: bool = option(False, "read a random test image and print its true label too")
    data: str = option(
        "mnist", "data set that selects the model, and the images of --random: mnist, handwriting or a folder"
    )
    network: str = option("cnn", "network that selects the default model file", choices=list(model.NETWORKS))
    model: Path = option(None, model.HELP, Path)
    box: tuple = option(None, "read only this part: x,y,width,height in pixels (default: all)", box)
    digits: int = option(None, "how many digits each line has (default: not known)", number(int, least=1, most=100))
    min_confidence: float = option(0.0, "mark readings below it for review, 0-1", number(float, least=0, most=1))
    output: Path = option(Path("."), "folder in which the figures are saved, made if it is missing", folder)
    steps: bool = option(False, f"also save {STEPS_FIGURE}: each step of the reading")
    json: bool = option(False, "print a JSON object for each picture, no figure")
    csv: bool = option(False, "print a table with a row for each picture, no figure")

    def __post_init__(self):
        if self.random and self.pictures:
            raise UsageError("--random takes no pictures")
        if self.steps + self.json + self.csv > 1:
            raise UsageError("--steps, --json, --csv: give only one of them")
        self.model = self.model or model.find_default(sources.name_of(self.data), self.network)


def random_test_image(data):
    """Return (Picture, true label) of a random test image of a data set."""
    images_at = sources.folder_of(data) / "test"
    if data != "handwriting" and not images_at.is_dir():
        advice = "train.py makes it, or use --data handwriting --model mnist_cnn.keras"
        raise UsageError(f"--random: there is no {images_at}; {advice}")
    images = sources.load_test(data)
    index = random.randrange(len(images.labels))
    label = images.classes[images.labels[index]]
    if images.paths is None:
        return Picture(f"handwriting test image {index}", images.pixels[index]), label
    return Picture(images.paths[index], Path(images.paths[index])), label


def predict(settings):
    model.check(settings.model)
    if settings.steps and not model.describe(settings.model).segment:
        raise UsageError(f"--steps: {settings.model} classifies pictures whole, so there are no steps; leave it out")
    figures, true_label = [(settings.output / name).resolve() for name in (FIGURE, STEPS_FIGURE)], None
    if settings.random:
        picture, true_label = random_test_image(settings.data)
        pictures = [picture]
    else:
        pictures, left_out = find_pictures(settings.pictures or [in_project(img_path)], exclude=figures)
        if left_out:
            print(f"Left out, since they cannot be read: {named(left_out)}", file=sys.stderr)
    if settings.json:
        status = print_json(pictures, settings)
    elif settings.csv:
        status = print_csv(pictures, settings)
    else:
        for picture in pictures:
            if isinstance(picture.source, Path) and picture.source.resolve() in figures:
                raise UsageError(f"{picture.name}: the figure would overwrite it; rename the picture, or use --json")
        status = print_answers(pictures, settings, true_label)
    if warning := model.warning(settings.model):
        print(warning, file=sys.stderr)
    return status


def print_json(pictures, settings):
    status = 0
    for picture, reading, error in read_pictures(pictures, settings.model, settings.box, settings.digits):
        row = {"path": str(picture.source) if isinstance(picture.source, Path) else picture.name}
        if picture.name != row["path"]:
            row["page"] = picture.page + 1
        if error:
            status, row["error"] = 2, error
        else:
            row |= answers.as_json(reading)
            if settings.min_confidence or settings.digits:
                row["review"] = answers.needs_review(reading, settings.min_confidence, settings.digits)
        print(json.dumps(row), flush=True)
    return status


def print_csv(pictures, settings):
    status, table = 0, csv.writer(sys.stdout, lineterminator="\n")
    header = answers.csv_header(model.load(settings.model).classes)
    table.writerow(header)
    for picture, reading, error in read_pictures(pictures, settings.model, settings.box, settings.digits):
        if error:
            status = 2
            table.writerow([picture.name, *[""] * (len(header) - 2), error])
        else:
            table.writerow(answers.csv_row(picture.name, reading, settings.min_confidence, settings.digits))
    return status


def print_answers(pictures, settings, true_label):
    """Print a line for each picture, and show or save a figure of the first few."""
    from digits import plots, reading_plots

    shown = f"Picture: {printable(pictures[0].name)}" if len(pictures) == 1 else f"Pictures: {len(pictures):,}"
    print(f"Model: {settings.model}   {shown}")
    status, read, rows, alone = 0, 0, [], len(pictures) == 1
    for picture, reading, error in read_pictures(pictures, settings.model, settings.box, settings.digits):
        if error:
            status = fail(f"{picture.name}: {error}", 2)
            continue
        read += 1
        answer = answers.as_text(reading, settings.min_confidence, settings.digits)
        if not alone:
            print(f"{printable(picture.name)}  {answer}", flush=True)
        if len(rows) < MAX_ROWS:
            load = reader.preprocess if settings.steps else image_file.open_picture  # the steps show the pixels read
            pixels, factor, *_ = load(picture.source, settings.box, picture.page)
            corner, name = (settings.box or (0, 0))[:2], printable(Path(picture.name).name)
            rows.append(reading_plots.Row(pixels, factor, corner, reading, name, answer))
    if not rows:
        return status
    figures = {settings.output / STEPS_FIGURE: reading_plots.steps} if settings.steps else {}
    if not plots.has_screen():
        figures[settings.output / FIGURE] = reading_plots.predictions
    if figures:
        part = "" if alone else f" of the first {len(rows)}" if len(rows) > 1 else " of the first one"
        print(f"Figure{'s' * (len(figures) > 1)}{part}: " + ", ".join(map(str, figures)))
    if true_label is not None:
        print(f"True label: {true_label}")
    print(answer if alone else f"Read {read:,} of {len(pictures):,} pictures", flush=True)
    for path, draw in figures.items():  # after the answer, which people wait for
        plots.save(draw(rows), path)
    if plots.has_screen():
        reading_plots.predictions(rows)
    plots.show()
    return status


def main(argv=None):
    return run(predict, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
