"""The HTML file of extras.export, in headless Chromium; skipped where there is none."""

import base64
import json
import re
import time

import numpy as np
import pytest
from PIL import Image

from digits import model
from digits.reading import foreground, normalization, reader, segmentation
from extras import drawing, export, html
from tests.conftest import PROJECT
from tests.firefox import firefox
from tests.test_page import FOUR, SCRIBBLE, SIZES, THREE, TWO, Page, show_in

CLASSES = ["0", "1", '</script><b>"two"', "3"]


@pytest.fixture(scope="session")
def html_file(shipped, tmp_path_factory):
    path = tmp_path_factory.mktemp("html") / "mnist_cnn.html"
    network, *about = model.load(shipped)
    html.write(network, path, dict(zip(("classes", "threshold", "segment"), about, strict=True)))
    return path


@pytest.fixture
def page(chromium, html_file):
    """The file, opened from disk; it may neither send a request nor write to the console."""
    yield (page := Page(chromium, html_file.as_uri()))
    assert chromium.get_log("browser") == []
    assert page.run("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []


def grid(values):
    return {"height": values.shape[0], "width": values.shape[1], "data": base64.b64encode(values.tobytes()).decode()}


TYPED = """const list = ({data}) => Array.from(data);
    const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const picture = arguments[0].map(({data, ...size}) => ({...size, data: bytes(data)}));"""


def ported(page, script, picture):
    """What a script of the page returns; picture: uint8 H×W×3, in the script a list of grids."""
    return page.run(TYPED + script, [grid(picture[..., channel]) for channel in range(3)])


def drawn(text, seed, shape=(300, 400), height=90, pen=9, ink_colour=17, paper=255, noise=0):
    rng = np.random.default_rng(seed)
    ink = drawing.write(text, rng, *shape, height, pen, gap=0.4, corner=(shape[0] // 6, shape[1] // 20))
    levels = paper + (ink_colour - paper) * ink + rng.normal(0, noise, ink.shape)
    return np.repeat(np.rint(np.clip(levels, 0, 255)).astype(np.uint8)[..., None], 3, 2)


PICTURES = {
    "digit": drawn("5", 1),
    "number with signs": drawn("4-3.7", 2, height=60, pen=5),
    "light on dark": drawn("28", 3, ink_colour=230, paper=20),
    "small": drawn("6", 4, (60, 70), 40, 4),
    "small with noise": drawn("3", 5, (64, 64), 40, 4, 90, 200, noise=6),
    "28 by 28": drawn("8", 6, (28, 28), 18, 2),
    "thick pen": drawn("2", 7, height=150, pen=34),
    "large": drawn("905", 8, (1300, 1350), 300, 20, noise=2),
    "red on yellow": drawn("47", 9) // np.array([1, 2, 4]).astype(np.uint8) + np.array([0, 60, 0], np.uint8),
    "blank": np.full((200, 300, 3), 255, np.uint8),
}


@pytest.mark.parametrize("name", PICTURES)
def test_each_ported_step_does_what_its_original_does(page, name):
    picture, *_ = reader.open_picture(PICTURES[name])
    steps = segmentation.preprocess(picture)
    found = ported(
        page,
        """const small = candidatesOf(picture, true).factor, reduced = picture.map((channel) => reduce(channel, small));
        const steps = preprocess(reduced), levels = findLevels(withoutNoise(foreground(reduced)));
        return {...steps, foreground: list(steps.foreground), strokes: list(steps.strokes), pieces: list(steps.pieces),
            levels: Object.values(levels), even: !unevenGround(reduced),
            images: steps.boxes.map((box, piece) => list(imageOf(steps, box, [piece])))}""",
        PICTURES[name],
    )
    assert found["even"]
    assert np.abs(np.array(found["foreground"]) - steps.foreground.ravel()).max() < 1e-5
    levels = segmentation.find_levels(segmentation._without_noise(foreground.foreground(picture)))
    assert found["levels"] == pytest.approx(list(levels), abs=1e-5)
    other_strokes, other_pieces = found["strokes"] != steps.strokes.ravel(), found["pieces"] != steps.pieces.ravel()
    assert np.count_nonzero(other_strokes) <= 2 and np.count_nonzero(other_pieces) <= 2  # at a threshold
    assert np.array_equal(np.reshape(found["boxes"], (-1, 4)), steps.boxes.reshape(-1, 4))
    assert found["lines"] == steps.lines
    marks = [(tuple(mark["pieces"]), mark["line"], mark["sign"]) for mark in found["marks"]]
    assert marks == [tuple(mark) for mark in steps.marks]
    for piece, (top, left, bottom, right) in enumerate(steps.boxes):
        mask, ink = steps.pieces[top:bottom, left:right] == piece + 1, steps.foreground[top:bottom, left:right]
        image = normalization.to_mnist(np.where(mask, np.maximum(ink, 0.01), 0))
        assert np.abs(np.array(found["images"][piece]) - image.ravel().astype(int)).max() <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read_as_predict_reads_it(page, shipped, name):
    found, expected = ported(page, "return read(picture, model)", PICTURES[name]), reader.read(PICTURES[name], shipped)
    for key in ("prediction", "text", "number", "is_digit"):
        assert found[key] == getattr(expected, key)
    assert found["box"] == (expected.box and list(expected.box))
    for name in ("digits", "refused"):
        for one, other in zip(found[name], getattr(expected, name), strict=True):
            assert one["digit"] == other.digit and one["box"] == list(other.box)
            assert one["probabilities"] == pytest.approx(other.probabilities, abs=0.005)
            assert one["digit_score"] == pytest.approx(other.digit_score, abs=0.01)


@pytest.mark.parametrize("shape", [(28, 28), (200, 140)])
@pytest.mark.parametrize("dark", [False, True])
def test_whole_pictures_are_resized_alike(page, shape, dark):
    picture = np.full((*shape, 3), 10 if dark else 250, np.uint8)
    picture[shape[0] // 4 : shape[0] // 2, shape[1] // 3 : shape[1] // 2] = (200, 90, 120)
    image, box = normalization.resize_whole(picture)
    found = ported(page, "const {image, box} = resizeWhole(picture); return [list(image), box]", picture)
    assert np.abs(np.array(found[0]) - image.ravel().astype(int)).max() <= 1 and found[1] == list(box)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("cnn", {"filters": (3, 5), "kernel_size": 5}),
        ("cnn", {"filters": (4, 4, 4, 6), "kernel_size": 4}),
        ("dense64", {}),
        ("dense128", {"dropout": 0.2}),
    ],
)
def test_other_networks_and_classes(chromium, workplace, kind, settings):
    network = model.build(kind, len(CLASSES), **settings)
    html.write(network, workplace / "other.html", {"classes": CLASSES, "threshold": 0.5, "segment": True})
    page = Page(chromium, (workplace / "other.html").as_uri())
    pixels = np.random.default_rng(0).integers(0, 256, (20, 28, 28))
    repeated = np.repeat(pixels[..., None].astype(np.float32), network.input_shape[-1], 3)
    assert "same answer on 20 of 20" in html.compare(page.run, np.asarray(network(repeated)), pixels)
    page.draw(THREE)
    page.until("return $('seen').children.length", 1)
    assert [bar.text for bar in chromium.find_elements("css selector", "#bars li > span:first-child")] == CLASSES
    assert chromium.get_log("browser") == []


def test_the_file_is_small_and_can_send_nothing(html_file):
    text = html_file.read_text(encoding="utf-8")
    assert html_file.stat().st_size < 700_000 and "http://" not in text and "https://" not in text
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "connect-src" not in policy
    assert "unsafe" not in policy and "src=" not in text.split("<script", 1)[0]


def test_a_request_is_refused_by_the_browser(page):
    refused = "return fetch('data.json').then(() => false, () => true)"
    assert page.browser.execute_async_script(f"(async () => {{ {refused} }})().then(arguments[0])") is True
    assert "Content Security Policy" in page.browser.get_log("browser")[0]["message"]
    page.run("performance.clearResourceTimings()")


@pytest.mark.parametrize("size", SIZES)
def test_it_draws_and_reads_by_mouse_finger_and_keys(chromium, html_file, size):
    page = Page(chromium, html_file.as_uri(), *SIZES[size])
    page.draw(*FOUR, *TWO, kind="mouse" if size == "desktop" else "touch")
    page.wait("42")
    assert page.run("return boxes.map((box) => box.label)") == ["4", "2"]
    page.press("c")
    page.draw(SCRIBBLE)
    page.wait("Not a digit")
    page.press("u")
    page.press("u")
    page.wait("42")
    assert page.run("return document.documentElement.scrollWidth <= innerWidth")
    assert not page.find("#camera").is_displayed() and page.find("#inside summary").is_displayed()


@pytest.mark.slow
def test_the_answer_comes_at_once(page):
    page.run("""addEventListener("pointerup", () => { window.rested = performance.now(); });
        new MutationObserver(() => { window.answered = performance.now(); })
            .observe($("bars"), {childList: true});""")
    waited = []
    for _ in range(5):
        page.draw(THREE)
        page.wait("3")
        time.sleep(0.2)
        waited.append(page.run("return answered - rested"))
        page.press("c")
    assert min(waited) < 100  # ms; the machine may be busy with other things, but not always


def test_pictures_are_opened_and_those_that_need_more_are_named(page, workplace):
    page.open(PROJECT / "samples" / "4_sticker.png")  # transparent
    page.wait("4")
    assert page.text("notice") == ""
    for name in ("5_photo.jpg", "postal_code.png", "number.jpg"):
        page.open(PROJECT / "samples" / name)
        page.until("return $('notice').textContent.includes('predict.py reads such pictures better')", True)
        page.press("c")
        assert page.text("notice") == ""
    Image.new("L", (50, 50), 255).save("blank.png")
    page.open(workplace / "blank.png")
    page.wait("No digit found")
    (workplace / "no.png").write_bytes(b"no picture")
    page.open(workplace / "no.png")
    page.wait("this browser cannot show such a picture; save it as PNG or JPEG", "detail")


def test_the_fold_shows_what_each_layer_makes_of_the_digit(page, shipped):
    page.find("#inside summary").click()
    page.draw(*FOUR, *TWO)
    page.wait("42")
    titles = "return [...document.querySelectorAll('#steps h3')].map((title) => title.textContent)"
    convolutions = [f"Convolution {number}" for number in (1, 2, 3)]
    assert page.run(titles) == ["The image", *convolutions, "Averages", "Outputs"]
    assert all(
        page.run("return [...document.querySelectorAll('#steps p')].map((text) => text.textContent.length > 30)")
    )
    for place, digit in enumerate("42"):
        page.browser.find_elements("css selector", "#seen button")[place].click()
        assert page.find("#steps .best").text.split()[0] == digit
    image = np.frombuffer(base64.b64decode(page.run("return insideMark.image")), np.uint8).reshape(1, 28, 28, 1)
    network, maps = model.load(shipped).network, np.repeat(image.astype(np.float32), 3, 3)
    outputs = page.run("return run(model.layers, Uint8Array.from(atob(insideMark.image), (c) => c.charCodeAt(0)))"
                       ".map(({data}) => Array.from(data))")  # fmt: skip
    layers = [layer for layer in network.layers if type(layer).__name__ != "Dropout"]
    for layer, output in zip(layers, outputs, strict=True):
        maps = np.asarray(layer(maps))
        if maps.shape[-1] != 3:  # Rescaling has three channels there, one here
            assert np.abs(maps.ravel() - output).max() < 0.02 * max(1, np.abs(maps).max())
    page.press("c")
    assert page.run(titles) == []


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(page, axe, colours):
    show_in(page, colours)
    page.find("#inside summary").click()
    page.draw(*FOUR, *TWO)
    page.wait("42")
    assert axe(page) == []
    show_in(page, "")


@pytest.mark.slow
def test_in_firefox(html_file, workplace):
    def wait(answer):
        end = time.monotonic() + 20
        while browser.run("$('answer').textContent") != answer and time.monotonic() < end:
            time.sleep(0.05)
        assert browser.run("$('answer').textContent") == answer

    with firefox(workplace) as browser:
        for size, (width, height) in SIZES.items():
            browser.open(html_file.as_uri(), width, height)
            browser.draw(*FOUR, *TWO, kind="mouse" if size == "desktop" else "touch")
            wait("42")
            assert browser.run("boxes.map((box) => box.label)") == ["4", "2"]
            assert browser.run("document.documentElement.scrollWidth <= innerWidth")
            browser.run("$('inside').open = true")
            assert len(browser.run("[...$('steps').querySelectorAll('canvas')].map((one) => one.width)")) == 5
            browser.press("c")
            wait("Draw a digit")
            browser.draw(SCRIBBLE)
            wait("Not a digit")
            browser.press("u")
            browser.press("u")
            wait("42")


@pytest.mark.slow
def test_export(shipped, small_folder, workplace, capsys, monkeypatch, chromium):
    for suffix in (".keras", ".json"):
        (workplace / f"m{suffix}").write_bytes(shipped.with_suffix(suffix).read_bytes())
    argv = ["--to", "html", "--model", "m.keras", "--data", str(small_folder)]
    monkeypatch.setattr(html, "DRAWINGS", 12)
    assert export.main(argv) == 0
    out = capsys.readouterr().out
    assert "same answer on 100 of 100 images" in out and "of 12 drawings" in out and "Exported m.html (" in out
    before = (workplace / "m.html").read_bytes()
    monkeypatch.setattr(html, "layers_of", lambda network: [{"kind": "average"}] * 3)
    assert export.main(argv) == 1
    assert "the export does not answer as the model does" in capsys.readouterr().err
    assert (workplace / "m.html").read_bytes() == before


@pytest.mark.parametrize("program", [None, "/bin/false"])
def test_without_a_browser_that_starts_it_is_said_that_nothing_was_checked(html_file, shipped, monkeypatch, program):
    monkeypatch.setattr(html.shutil, "which", lambda name: program)
    settings = export.Settings(to="html", model=shipped)
    assert export.check(html_file, settings, None, None).startswith("Not checked: that needs Chromium")


def test_a_layer_that_the_page_does_not_know(shipped):
    import keras

    network = keras.Sequential([keras.Input((28, 28, 3)), keras.layers.BatchNormalization()])
    with pytest.raises(Exception, match="it has a layer of the kind BatchNormalization"):
        html.layers_of(network)


def test_the_committed_page_is_that_of_the_shipped_model(html_file):
    committed = (PROJECT / "docs" / "mnist_cnn.html").read_text(encoding="utf-8")
    assert committed == html_file.read_text(encoding="utf-8"), "run python -m extras.export --to html, and copy it"
    assert json.loads(re.findall(r'id="model">(.*?)</script>', committed)[0])["classes"] == list("0123456789")
