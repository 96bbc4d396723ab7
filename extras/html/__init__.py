"""A model as one HTML file: the page of draw.py with the network and the preparation of a drawing inside.

The scripts here do what the modules of the same names in digits/reading/ do, for drawings and for pictures on even
paper: image.js stands for NumPy, SciPy and Pillow, network.js for Keras. Digits that touch are not cut apart, printed
lines and shadows not removed.
"""

import base64
import contextlib
import json
import shutil
import statistics
from pathlib import Path

import numpy as np

from digits.cli import RunError
from digits.reading import reader
from digits.web import page
from extras import drawing

FOLDER = Path(__file__).parent
SCRIPTS = ("image", "network", "foreground", "normalization", "segmentation", "signs", "reader", "inside", "lesson")
MAX_DIFFERENCE = 0.005  # of a probability, since the weights are rounded to float16
MIN_AGREEMENT = 0.999  # share of the images with the same answer
DRAWINGS = 60  # digits, numbers, numbers with signs and scribbles, on which the page and predict.py are compared
MIN_SAME_DRAWINGS = 0.98  # share; digits of which some may touch
AT_ONCE = 100  # images in a message to the browser


def write(network, path, about):
    """Write a Keras model as an HTML file. about: dict of its classes, threshold and segment. Raises RunError."""
    model = json.dumps(about | {"layers": layers_of(network)}).replace("<", "\\u003c")  # no name can end the element
    scripts = "\n".join(f'<script src="{name}.js"></script>' for name in SCRIPTS)
    more = {
        '<script src="server.js"></script>': f'<script type="application/json" id="model">{model}</script>\n{scripts}',
        '<link rel="stylesheet" href="page.css">': '<link rel="stylesheet" href="page.css">\n'
        '<link rel="stylesheet" href="lesson.css">',
    }
    text, policy = page.make_page(about["classes"], more.items(), (page.FOLDER, FOLDER))
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    path.write_text(text.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{meta}', 1), encoding="utf-8")


def layers_of(network):
    """The layers of a Keras model as network.js computes them: a list of dicts. Raises RunError."""
    first = next((layer for layer in network.layers if type(layer).__name__ == "Conv2D"), None)
    return [about for layer in network.layers if (about := _layer(layer, layer is first))]


def _layer(layer, is_first):
    kind = type(layer).__name__
    if kind == "Dropout":
        return None
    if kind == "Rescaling":
        return {"kind": "rescaling", "scale": float(layer.scale), "offset": float(layer.offset)}
    if kind in ("MaxPooling2D", "GlobalAveragePooling2D", "Flatten"):
        return {"kind": {"MaxPooling2D": "pooling", "Flatten": "flatten"}.get(kind, "average")}
    if kind not in ("Conv2D", "Dense"):
        raise RunError(f"this network cannot be written as html: it has a layer of the kind {kind}")
    kernel, bias = layer.get_weights()
    about = {"activation": layer.activation.__name__, "kernel": kernel, "bias": bias}
    if kind == "Dense":
        about |= {"kind": "dense", "units": kernel.shape[1]}
    else:
        if is_first:
            about["kernel"] = kernel.sum(2)  # the channels of the picture are equal
        about |= {"kind": "convolution", "size": kernel.shape[0], "filters": kernel.shape[3]}
        about["same"] = layer.padding == "same"
    return about | {name: base64.b64encode(about[name].astype("<f2").tobytes()).decode() for name in ("kernel", "bias")}


@contextlib.contextmanager
def open_page(path):
    """Open an HTML file in headless Chromium; yield a function from script and arguments to what the script returns.

    Yield None where there is no Chromium with its chromedriver, or no selenium, or they cannot open it.
    """
    with contextlib.ExitStack() as stack:
        run = None
        with contextlib.suppress(ModuleNotFoundError):
            run = _start_browser(path.resolve().as_uri(), stack)
        yield run


def _start_browser(address, stack):
    """Start Chromium, to be ended by an ExitStack; return its function as in open_page(), or None."""
    from selenium.common.exceptions import WebDriverException

    try:
        browser = start_chromium()
        if browser is None:
            return None
        stack.callback(browser.quit)
        browser.get(address)
    except WebDriverException:  # such as a driver of another version
        return None
    found = browser.execute_script("return typeof model")  # a confined Chromium may read no hidden folder
    return browser.execute_script if found == "object" else None


def start_chromium(*flags):
    """Start headless Chromium and return its Selenium driver, which keeps the console; None if it is not installed."""
    from selenium import webdriver

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (program and driver):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", *flags):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(driver))


def compare(run, expected, pixels):
    """Compare a page with the expected probabilities, n×classes, of images, n×28×28; return how both agree."""
    script = """return arguments[0].map((image) => Array.from(
        run(model.layers, bytesOf(image)).at(-1).data))"""
    images = [_in_base64(image) for image in pixels]
    found = [run(script, images[start : start + AT_ONCE]) for start in range(0, len(images), AT_ONCE)]
    found = np.concatenate([np.array(part) for part in found])
    same, difference = (expected.argmax(1) == found.argmax(1)).sum(), abs(expected - found).max()
    result = f"same answer on {same:,} of {len(found):,} images, largest difference of probabilities {difference:.1g}"
    if same < MIN_AGREEMENT * len(found) or difference > MAX_DIFFERENCE:
        raise RunError(f"the export does not answer as the model does ({result}), so it was deleted")
    return f"The {result}"


def compare_drawings(run, model_path):
    """Compare how a page and predict.py read drawings of real strokes; return how both agree. Raises RunError."""
    script = """const [text, height, width] = arguments;
        const grey = {height, width, data: bytesOf(text)};
        const ms = [0, 1, 2].map(() => {
            const start = performance.now();
            read([grey, grey, grey], model);
            return performance.now() - start;
        });
        const reading = read([grey, grey, grey], model), digits = reading.digits.map((digit) => digit.confidence);
        return {...reading, digits, ms: Math.min(...ms)}"""
    same, difference, times = 0, 0, {}
    for picture in drawings(DRAWINGS):
        found, expected = run(script, _in_base64(picture), *picture.shape), reader.read(picture, model_path)
        times.setdefault(len(expected.digits), []).append(found["ms"])
        if all(found[key] == getattr(expected, key) for key in ("text", "prediction", "is_digit")):
            same += 1
            confidences = zip(found["digits"], [digit.confidence for digit in expected.digits], strict=True)
            difference = max([difference, *(abs(one - other) for one, other in confidences)])
    result = f"same answer on {same} of {DRAWINGS} drawings, largest difference of confidence {difference:.1g}"
    if same < MIN_SAME_DRAWINGS * DRAWINGS or difference > MAX_DIFFERENCE:
        raise RunError(f"the export does not read as the model does ({result}), so it was deleted")
    ms = ", ".join(f"{number}: {statistics.median(times[number]):.0f}" for number in sorted(times) if number)
    return f"The {result}; ms by the number of digits: {ms}"


def drawings(count):
    """Drawings as the page makes them, uint8 300×400: digits, numbers, numbers with signs, and scribbles, in turn."""
    rng = np.random.default_rng(0)
    for index in range(count):
        kind = ("digit", "number", "signs", "scribble")[index % 4]
        length = {"digit": 1, "number": rng.integers(2, 6), "signs": 4, "scribble": 1}[kind]
        text = "".join(map(str, rng.integers(0, 10, length)))
        text = {"signs": f"{text[:2]}.{text[2:]}"}.get(kind, text)
        height, pen = (rng.integers(50, 180) if length == 1 else rng.integers(40, 75)), rng.uniform(4, 14)
        if kind == "scribble":
            zigzag = np.stack([np.linspace(0, 1, 9), np.arange(9) % 2], 1) + rng.normal(0, 0.05, (9, 2))
            ink = np.zeros((300, 400))
            ink[60:260, 80:280] = drawing.rasterize([zigzag], rng, 200, pen, box=160)
        else:
            ink = drawing.write(text, rng, 300, 400, height, pen, gap=0.35, corner=(60, 20))
        yield np.rint(255 - 238 * ink).astype(np.uint8)  # ink of the page's colour on white


def _in_base64(values):
    return base64.b64encode(np.asarray(values, np.uint8).tobytes()).decode()
