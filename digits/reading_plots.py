"""The figures of predict.py: what was read in pictures, and the steps to it."""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Rectangle
from scipy import ndimage

from digits.plots import LONG_NAME, plt, shown
from digits.reading import segmentation
from digits.reading.candidates import candidates_in
from digits.reading.form_lines import outlines

MAX_BARS = 12  # of more classes, the most likely are shown
MAX_TILES = 16  # images in a panel, of a number with more digits the first
MAX_LETTERS = 50  # of a file's name in a title
TITLE_WIDTH = 90  # letters in a line of a title
COLOURS = ["#0072b2", "#e69f00", "#cc79a7"]  # all eyes tell them apart (M. Okabe, K. Ito, 2008)
READ, OTHER = "#d55e00", "0.6"  # what was read, and what was not
TILE, CAPTION = 32, 10  # pixels of an image of the network with its margin, and above it for what was read
MAX_CAPTION = 8  # letters of a class name in it
GROUND = 237  # grey level beside what is shown
PANEL = 170  # width of a panel in points, about


class Row(NamedTuple):
    """A picture in these figures."""

    pixels: np.ndarray  # uint8 H×W×3
    factor: int  # by which it was reduced
    corner: tuple  # x, y of its upper left pixel in the picture
    reading: object  # reader.Reading
    name: str
    answer: str


def predictions(rows):
    """A line for each Row: the picture with a box around each mark if there are several, what the network saw of each
    digit, and how sure it is."""
    heights = [3.2 + _height_of_title(row) for row in rows]
    figure = plt.figure(figsize=(9, sum(heights)), layout="constrained")
    for part, row in zip(_parts(figure, heights), rows, strict=True):
        left, middle, right = part.subplots(1, 3)
        part.suptitle(_title(row), x=0.01, ha="left", fontsize=10)
        _show(left, row.pixels, 0.9)
        _show_boxes(left, row)
        _show_seen(middle, row.reading, 0.9)
        right.set_box_aspect(0.9)
        (_show_confidences if len(row.reading.digits) > 1 else _show_probabilities)(right, row.reading)
    return figure


def steps(rows):
    """A line for each Row: each step from the picture to what the network saw."""
    aspects = [float(np.clip(row.pixels.shape[0] / row.pixels.shape[1], 0.4, 1.0)) for row in rows]
    heights = [2.5 * aspect + 0.4 + _height_of_title(row) for aspect, row in zip(aspects, rows, strict=True)]
    figure = plt.figure(figsize=(13, sum(heights)), layout="constrained")
    for part, row, aspect in zip(_parts(figure, heights), rows, aspects, strict=True):
        axes = part.subplots(1, 5)
        part.suptitle(_title(row), x=0.01, ha="left", fontsize=10)
        found = segmentation.preprocess(row.pixels)
        candidates_in(found)  # which cuts the pieces apart where digits may touch
        strokes = np.where(found.strokes, 2, found.printed)
        colours = ListedColormap(["white", OTHER, *COLOURS])
        _show(axes[0], row.pixels, aspect, "picture")
        _show(axes[1], found.foreground, aspect, "contrast with the paper", cmap="gray_r", vmin=0, vmax=1)
        lines = ListedColormap(["white", COLOURS[1], "black"])
        _show(axes[2], strokes, aspect, "strokes; printed lines in orange", cmap=lines, vmin=0, vmax=2)
        digits = _digits(found, row)
        _show(axes[3], digits, aspect, "digits in colour, the rest grey", cmap=colours, vmin=0, vmax=4)
        for outline in outlines(found.rows):
            axes[3].plot(*outline, color="tab:gray", linewidth=0.7)
        _show_seen(axes[4], row.reading, aspect)
    return figure


def _parts(figure, heights):
    """A part of a figure for each row, one below the other."""
    return figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]


def _title(row):
    answer = textwrap.fill(row.answer, TITLE_WIDTH)
    return f"{shown(row.name, MAX_LETTERS)}\n{shown(answer, len(answer))}"


def _height_of_title(row):
    """In inches."""
    return 0.1 + 0.18 * len(_title(row).splitlines())


def _show(axis, image, aspect, title="", **colours):
    """Show an image in the middle of a frame of this height / width."""
    axis.imshow(image, interpolation="nearest" if colours else None, **colours)
    axis.set(xticks=[], yticks=[], facecolor=str(GROUND / 255))
    axis.set_box_aspect(aspect)
    axis.set_adjustable("datalim")
    axis.set_title(title, fontsize=9)


def _in_pixels(box, row):
    """A box x, y, width, height of the picture of a Row, in its pixels."""
    return *((np.array(box[:2]) - row.corner) / row.factor), *(np.array(box[2:]) / row.factor)


def _show_boxes(axis, row):
    """Show where each digit of a number is, and each mark that was refused."""
    digits, refused = row.reading.digits, list(row.reading.refused)
    if not digits and row.reading.box:
        refused.append(row.reading)
    for mark in (digits if len(digits + refused) > 1 else []) + refused:
        read = any(mark is digit for digit in digits)
        label = "?" if not read else mark.digit if len(mark.digit) <= LONG_NAME else ""
        colour, style = (READ, "-") if read else (OTHER, ":")
        x, y, width, height = _in_pixels(mark.box, row)
        axis.add_patch(Rectangle((x, y), width, height, fill=False, color=colour, linestyle=style))
        axis.text(x, y, shown(label), color=colour, va="bottom", fontsize=9)


def _digits(found, row):
    """Where the digits of a Row are in its segmentation.Steps: int H×W, 0 nothing, 1 other ink, 2-4 digits in turn."""
    boxes = np.array([_in_pixels(digit.box, row) for digit in row.reading.digits]).reshape(-1, 4)
    numbers = np.zeros(found.pieces.max() + 1, int)
    for label, place in enumerate(ndimage.find_objects(found.pieces), 1):
        if place is None:
            continue
        (top, bottom), (left, right) = ((side.start, side.stop) for side in place)
        inside = (boxes[:, 0] <= left) & (boxes[:, 1] <= top)
        inside &= (boxes[:, :2] + boxes[:, 2:] >= (right - row.factor, bottom - row.factor)).all(1)
        away = np.where(inside, abs(boxes[:, 0] + boxes[:, 2] / 2 - (left + right) / 2), np.inf)
        numbers[label] = 2 + away.argmin() % len(COLOURS) if inside.any() else 1
    return numbers[found.pieces]


def _show_seen(axis, reading, aspect):
    """Show what the network saw of each digit, in a frame of this height / width."""
    seen = reading.digits if len(reading.digits) > 1 else [reading] * (reading.image is not None)
    tiles, above = seen[:MAX_TILES], CAPTION * (len(seen) > 1)
    columns, rows = _layout(len(tiles), aspect * TILE / (TILE + above))
    panel = np.full((rows * (TILE + above), columns * TILE), GROUND, np.uint8)
    _show(axis, panel, aspect, "what the network sees", cmap="gray", vmin=0, vmax=255)
    points = PANEL * min(1 / columns, aspect * TILE / (TILE + above) / rows)  # width of a tile
    for index, tile in enumerate(tiles):
        left, top = index % columns * TILE + 2, index // columns * (TILE + above) + above + 2
        panel[top : top + 28, left : left + 28] = tile.image[..., 0]
        if above:
            caption = f"{shown(tile.digit, MAX_CAPTION)} {100 * tile.confidence:.0f}%"
            size = min(8, points / 4, 1.5 * points / len(caption))
            axis.text(left + 14, top - 1, caption, ha="center", va="bottom", fontsize=size)
    axis.images[0].set_data(panel)
    if not tiles:
        axis.text(0.5, 0.5, "no ink found", ha="center", va="center", transform=axis.transAxes)
    if len(seen) > MAX_TILES:
        axis.set_xlabel(f"and {len(seen) - MAX_TILES} more", fontsize=8)


def _layout(count, aspect):
    """(columns, rows) in which so many squares are largest in a frame of this height / width."""
    ways = [(columns, -(-count // columns)) for columns in range(1, count + 1)]
    return max(ways, key=lambda way: min(1 / way[0], aspect / way[1]), default=(1, 1))


def _show_probabilities(axis, reading):
    """A bar for each class."""
    names, title = list(reading.probabilities), "probability of each class, %"
    if len(names) > MAX_BARS:
        title = f"probability of the {MAX_BARS} likeliest of {len(names)} classes, %"
        names = sorted(names, key=reading.probabilities.get, reverse=True)[:MAX_BARS]
    best = READ if reading.is_digit else OTHER
    colours = [best if name == reading.prediction else COLOURS[0] for name in names]
    _show_bars(axis, names, [reading.probabilities[name] for name in names], colours, title)


def _show_confidences(axis, reading):
    """A bar for each digit of a number."""
    names, shares = zip(*((digit.digit, digit.confidence) for digit in reading.digits), strict=True)
    _show_bars(axis, names, shares, READ, "confidence of each digit, %")


def _show_bars(axis, names, shares, colours, title):
    names, values = list(map(shown, names)), [100 * share for share in shares]
    axis.set_title(title, fontsize=9)
    if max(map(len, names)) <= LONG_NAME:
        axis.bar(range(len(names)), values, color=colours)
        axis.set_xticks(range(len(names)), names, fontsize=10 if len(names) <= MAX_BARS else 6)
        axis.set_ylim(0, 100)
        return
    axis.barh(range(len(names)), values, color=colours, alpha=0.6)
    axis.set(xlim=(0, 100), ylim=(len(names) - 0.5, -0.5), yticks=[])
    for place, name in enumerate(names):
        axis.text(2, place, name, va="center", fontsize=8 if len(names) <= MAX_BARS else 5)
