"""The page as a person uses it, in headless Chromium; skipped where there is none."""

import base64
import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from digits.web import service
from tests.conftest import PROJECT, serving

webdriver = pytest.importorskip("selenium.webdriver")
pointers = pytest.importorskip("selenium.webdriver.common.actions.pointer_input")

THREE = [(330, 190), (400, 150), (470, 190), (450, 260), (390, 290), (460, 320), (480, 390), (410, 440), (330, 410)]
FOUR = [[(230, 150), (200, 300), (330, 300)], [(310, 160), (305, 300), (300, 440)]]
TWO = [[(460, 220), (500, 160), (570, 180), (570, 260), (500, 360), (450, 430)], [(450, 430), (520, 425), (600, 430)]]


class Page:
    def __init__(self, browser, port, width=1280, height=900):
        self.browser = browser
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(f"http://127.0.0.1:{port}/")
        self.paper = browser.find_element("id", "paper")

    def draw(self, *strokes, kind="mouse"):
        """Draw with real pointer events; points are in the paper's 800×600 pixels."""
        scale = self.paper.size["width"] / 800
        for stroke in strokes:
            actions = webdriver.ActionChains(self.browser, duration=5, devices=[pointers.PointerInput(kind, kind)])
            pointer = actions.w3c_actions.pointer_action
            for index, (x, y) in enumerate(stroke):
                pointer.move_to(self.paper, round((x - 400) * scale), round((y - 300) * scale))
                if index == 0:
                    pointer.pointer_down()
            pointer.pointer_up()
            actions.w3c_actions.perform()

    def press(self, key):
        self.browser.find_element("tag name", "body").send_keys(key)

    def text(self, name):
        return self.browser.find_element("id", name).text

    def wait(self, answer, name="answer", seconds=10):
        end = time.monotonic() + seconds
        while self.text(name) != answer and time.monotonic() < end:
            time.sleep(0.02)
        assert self.text(name) == answer


@pytest.fixture
def page(chromium, service_port):
    page = Page(chromium, service_port)
    chromium.get_log("browser")  # forgets the messages of earlier tests
    yield page
    assert [line for line in chromium.get_log("browser") if line["level"] in ("WARNING", "SEVERE")] == []
    urls = chromium.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(url.startswith((f"http://127.0.0.1:{service_port}/", "data:", "blob:")) for url in urls)


def pixels(page, name):
    """The pixels of a canvas of the page, uint8 H×W×4."""
    url = page.browser.execute_script("return document.getElementById(arguments[0]).toDataURL()", name)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))


def bars(page, kind="li"):
    """The class names of bars, all at one moment, since each answer brings new ones."""
    script = "return [...document.querySelectorAll(arguments[0])].map((name) => name.innerText)"
    return page.browser.execute_script(script, f"#bars {kind} > span:first-child")


def test_an_empty_page_asks_for_a_digit_and_names_its_controls(page):
    page.wait("Draw a digit")
    assert bars(page) == list("0123456789")
    script = """return [...document.querySelectorAll("button, input, canvas:not([aria-hidden])")]
        .filter((one) => !(one.ariaLabel || one.labels?.length || one.innerText.trim())).map((one) => one.outerHTML)"""
    assert page.browser.execute_script(script) == []
    assert page.browser.find_element("id", "result").get_attribute("aria-live") == "polite"


def test_a_three_is_read_while_it_is_drawn_and_the_keys_work(page):
    page.draw(THREE)
    page.wait("3")
    assert "% sure" in page.text("detail")
    assert bars(page, ".best") == ["3"]
    seen = pixels(page, "seen")
    assert seen.shape == (28, 28, 4) and seen[..., 0].max() == 255 and seen[..., 0].min() == 0
    page.press("p")
    page.wait("3")
    page.press("c")
    page.wait("Draw a digit")
    assert not pixels(page, "seen")[..., :3].any()


def test_the_answer_comes_as_soon_as_the_pen_rests(page):
    page.browser.execute_script("document.onpointerup = () => { window.rested = performance.now(); }")
    answers = "performance.getEntriesByType('resource').filter((entry) => entry.name.includes('predict'))"
    waited = []
    for _ in range(3):
        page.draw(THREE)
        page.wait("3")
        time.sleep(0.5)
        waited.append(page.browser.execute_script(f"return {answers}.at(-1).responseEnd - window.rested"))
        page.press("c")
    assert 0 < min(waited) < 150  # ms; the machine may be busy with other things, but not always


def test_undo_takes_back_strokes_and_restores_what_was_cleared_or_replaced(page):
    page.draw(*FOUR)
    page.wait("4")
    page.draw([(600, 450), (700, 200), (600, 210), (720, 460), (590, 330)])
    page.press("u")
    page.wait("4")
    page.browser.find_element("id", "undo").click()
    page.browser.find_element("id", "undo").click()
    page.wait("Draw a digit")
    page.draw(THREE)
    page.wait("3")
    page.press("c")
    page.wait("Draw a digit")
    page.press("u")
    page.wait("3")
    page.browser.find_element("id", "file").send_keys(str(PROJECT / "samples" / "7.png"))
    page.wait("7")
    page.draw([(100, 100), (105, 105)])  # a touch takes the picture away
    page.press("u")
    page.wait("7")
    page.press("u")
    page.wait("3")


def test_the_sheet_can_be_cleared_during_a_stroke(page):
    actions = webdriver.ActionChains(page.browser, duration=5).move_to_element(page.paper).click_and_hold()
    actions.move_by_offset(40, 60).send_keys("c").move_by_offset(40, 60).release().perform()
    page.wait("Draw a digit")
    page.draw(THREE)
    page.wait("3")


def test_a_number_is_read_with_its_boxes_and_a_scribble_is_refused(page):
    page.draw(*FOUR, *TWO)
    page.wait("42")
    assert "lowest confidence" in page.text("detail")
    assert pixels(page, "boxes")[..., 3].any()
    page.press("c")
    page.draw([(200, 300), (260, 120), (300, 480), (360, 130), (400, 470), (460, 140), (500, 460), (560, 130)])
    page.wait("Not a digit")
    assert page.text("detail").startswith("looks most like ")


def test_touch_on_a_phone(chromium, service_port):
    page = Page(chromium, service_port, 390, 844)
    page.draw(THREE, kind="touch")
    page.wait("3")
    width = chromium.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1] == 390
    assert all(control.size["height"] >= 40 for control in chromium.find_elements("css selector", "button, .file"))


GIVE = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0)), data = new DataTransfer();
data.items.add(new File([bytes], "5.png", {type: "image/png"}));
const about = {clipboardData: data, dataTransfer: data, bubbles: true, cancelable: true};
const event = arguments[1] === "paste" ? new ClipboardEvent("paste", about) : new DragEvent("drop", about);
document.getElementById("sheet").dispatchEvent(event);
"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted(page, way):
    data = base64.b64encode((PROJECT / "samples" / "5.png").read_bytes()).decode()
    page.browser.execute_script(GIVE, data, way)
    page.wait("5")


def test_why_a_file_cannot_be_read(chromium, service_port, workplace):
    page = Page(chromium, service_port)
    for name, content, reason in (
        ("no.png", b"no picture", "not a picture in a format that can be read; save it as PNG or JPEG"),
        ("large.png", bytes(10_000_001), "a picture may have at most 10 MB"),
    ):
        (workplace / name).write_bytes(content)
        page.browser.find_element("id", "file").send_keys(str(workplace / name))
        page.wait(reason, "detail")
        assert page.text("answer") == "Not read"


def test_a_picture_is_chosen_from_disk(page, workplace):
    page.browser.find_element("id", "file").send_keys(str(PROJECT / "samples" / "number.jpg"))
    page.wait("40628")
    Image.new("L", (50, 50), 255).save("blank.png")
    page.browser.find_element("id", "file").send_keys(str(workplace / "blank.png"))
    page.wait("No digit found")
    Image.open(PROJECT / "samples" / "7.png").save("7.tif")  # which Chromium cannot show
    page.browser.find_element("id", "file").send_keys(str(workplace / "7.tif"))
    page.wait("7")


def test_the_keyboard_alone_draws(page):
    page.paper.send_keys(*[webdriver.Keys.ARROW_UP] * 9, " ", *[webdriver.Keys.ARROW_DOWN] * 18, " ")
    page.wait("1")


@pytest.mark.slow
def test_the_page_says_that_the_server_is_gone_and_goes_on(chromium, shipped):
    with serving(service.make_app(shipped)) as port:
        page = Page(chromium, port)
        page.draw(THREE)
        page.wait("3")
    gone = "The server is gone. Start it again with python draw.py: this page goes on by itself."
    page.wait(gone, "notice")  # without anything being drawn
    page.press("c")
    page.draw(*FOUR)
    page.wait("No answer")
    with serving(service.make_app(shipped), port):
        page.wait("4", seconds=20)
        assert page.text("notice") == ""


def test_q_ends_the_program(chromium, shipped):
    ended = []
    with serving(service.make_app(shipped, on_quit=lambda: ended.append(True))) as port:
        page = Page(chromium, port)
        page.press("q")
        page.wait("The program has ended. This tab can be closed.", "notice")
    assert ended == [True]


@pytest.mark.slow
def test_the_page_follows_the_classes_of_the_model(chromium, shipped, workplace):
    shutil.copy(shipped, "clothes.keras")
    names = ["T-shirt/top", "Trouser", 'a "coat" <b>', "Bag", "Dress", "Sandal", "Shirt", "Sneaker", "Hat", "Boot"]
    about = {"classes": names, "threshold": 0.99999, "segment": False}
    (workplace / "clothes.json").write_text(json.dumps(about), encoding="utf-8")
    with serving(service.make_app("clothes.keras")) as port:
        page = Page(chromium, port)
        page.wait("Draw")
        assert page.text("title") == "Draw, and see what is read" and page.text("bars-title") == "Probabilities"
        labels = chromium.find_elements("css selector", "#bars li > span:first-child")
        assert [label.text for label in labels] == names
        assert all(label.size["height"] < 30 for label in labels)  # each on one line
        page.draw([(200, 200), (600, 200), (600, 400), (200, 400), (200, 200)])
        page.wait("None of the classes")
        assert "looks most like" in page.text("detail")
