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
from extras import drawing
from tests.conftest import PROJECT, serving

webdriver = pytest.importorskip("selenium.webdriver")
pointers = pytest.importorskip("selenium.webdriver.common.actions.pointer_input")

THREE = [(330, 190), (400, 150), (470, 190), (450, 260), (390, 290), (460, 320), (480, 390), (410, 440), (330, 410)]
FOUR = [[(230, 150), (200, 300), (330, 300)], [(310, 160), (305, 300), (300, 440)]]
TWO = [[(460, 220), (500, 160), (570, 180), (570, 260), (500, 360), (450, 430)], [(450, 430), (520, 425), (600, 430)]]


SCRIBBLE = [(200, 300), (260, 120), (300, 480), (360, 130), (400, 470), (460, 140), (500, 460), (560, 130)]
SIZES = {"upright": (390, 844), "lying": (844, 390), "desktop": (1280, 800)}


class Page:
    def __init__(self, browser, port, width=1280, height=900):
        self.browser = browser
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 1000}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": width < 1000})
        browser.get(port if isinstance(port, str) else f"http://127.0.0.1:{port}/")
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

    def press(self, key, *held):
        actions = webdriver.ActionChains(self.browser, duration=5)
        for one in held:
            actions.key_down(one)
        actions.send_keys(key)
        for one in held:
            actions.key_up(one)
        actions.perform()

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def open(self, path):
        self.find("#file").send_keys(str(path))

    def text(self, name):
        return self.browser.find_element("id", name).text

    def wait(self, answer, name="answer", seconds=10):
        self.until(f"return document.getElementById('{name}').innerText", answer, seconds)

    def until(self, script, value, seconds=10):
        end = time.monotonic() + seconds
        while self.run(script) != value and time.monotonic() < end:
            time.sleep(0.02)
        assert self.run(script) == value


@pytest.fixture
def page(chromium, service_port):
    page = Page(chromium, service_port)
    chromium.get_log("browser")  # forgets the messages of earlier tests
    yield page
    assert [line for line in chromium.get_log("browser") if line["level"] in ("WARNING", "SEVERE")] == []
    urls = chromium.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(url.startswith((f"http://127.0.0.1:{service_port}/", "data:", "blob:")) for url in urls)


def pixels(page, selector):
    """The pixels of a canvas of the page, uint8 H×W×4."""
    url = page.browser.execute_script("return document.querySelector(arguments[0]).toDataURL()", selector)
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
    seen = pixels(page, "#seen canvas")
    assert seen.shape == (28, 28, 4) and seen[..., 0].max() == 255 and seen[..., 0].min() == 0
    page.press("p")
    page.wait("3")
    page.press("c")
    page.wait("Draw a digit")
    assert page.browser.find_elements("css selector", "#seen canvas") == []


@pytest.mark.slow
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
    page.open(PROJECT / "samples" / "7.png")
    page.wait("7")
    page.draw([(100, 100), (105, 105)])  # a touch takes the picture away
    page.press("u")
    page.wait("7")
    page.press("u")
    page.wait("3")


def test_redo_brings_back_what_was_undone_until_something_else_is_drawn(page):
    states = "return ['undo', 'redo', 'clear'].map((name) => !document.getElementById(name).disabled)"
    assert page.run(states) == [False, False, False]
    page.draw(*FOUR)
    page.wait("4")
    assert page.run(states) == [True, False, True]
    control, shift = webdriver.Keys.CONTROL, webdriver.Keys.SHIFT
    for keys in (["r"], ["y", control], ["z", control, shift]):
        page.press("u")
        page.press("u")
        page.wait("Draw a digit")
        assert page.run(states) == [False, True, False]
        page.press(*keys)
        page.find("#redo").click()
        page.wait("4")
    page.press("u")
    page.draw(TWO[1])
    assert page.run(states) == [True, False, True]


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
    assert pixels(page, "#boxes")[..., 3].any()
    page.press("c")
    page.draw(SCRIBBLE)
    page.wait("Not a digit")
    assert page.text("detail").startswith("looks most like ") and page.run("return boxes") == []
    page.open(PROJECT / "samples" / "tick.png")
    page.until("return boxes.map((box) => box.label)", ["?"])


def test_each_digit_of_a_number_shows_its_confidence_and_its_probabilities(page):
    page.draw(*FOUR, *TWO)
    page.wait("42")
    over = page.run("return boxes.map((box) => [box.label, /^[0-9]+%$/.test(box.share), box.place])")
    assert [label for label, _, _ in over] == ["4", "2"] and all(share for _, share, _ in over)
    x, y, width, height = over[0][2]
    assert (x, y, x + width, y + height) == pytest.approx((190, 135, 345, 455), abs=20)
    tiles = page.browser.find_elements("css selector", "#seen button")
    assert [tile.text.split()[0] for tile in tiles] == ["4", "2"]
    for place, digit in enumerate("42"):
        page.browser.find_elements("css selector", "#seen button")[place].send_keys(" ")
        assert page.text("bars-title") == f"Probabilities of the {digit} ({place + 1} of 2)"
        assert bars(page, ".best") == [digit]
        assert page.run("return boxes.map((box) => box.selected)") == [digit == "4", digit == "2"]
    assert page.text("answer") == "42"


def test_a_refused_mark_has_a_box_of_another_colour(page, workplace):
    ink = np.zeros((200, 700))
    ink[:, :500] = drawing.write("472", np.random.default_rng(2), 200, 500, 100, 8, gap=0.4, corner=(50, 50))
    zigzag = np.array([(index / 8, index % 2) for index in range(8)])
    ink[40:160, 520:640] = drawing.rasterize([zigzag], np.random.default_rng(0), 120, 8, box=100)
    Image.fromarray(np.uint8(255 * (1 - ink))).save("mark.png")
    page.open(workplace / "mark.png")
    page.wait("472")
    assert "1 mark not read" in page.text("detail")
    assert page.run("return boxes.map((box) => [box.label, box.colour === GREY])")[-2:] == [["2", False], ["?", True]]


def test_pictures_that_the_browser_cannot_show_well(page, workplace):
    hint = """window.hints = []; const draw = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, ...at) {
            hints.push(text); draw.call(this, text, ...at); }"""
    page.run(hint)
    five = Image.open(PROJECT / "samples" / "5.png")
    five.save("pages.tif", save_all=True, append_images=[five])
    page.open(workplace / "pages.tif")
    page.wait("5")
    assert "page 1 of 2" in page.text("detail")
    assert "This browser cannot show the picture" in page.run("return window.hints")
    seven = Image.open(PROJECT / "samples" / "7.png").convert("L")
    white = Image.new("RGBA", seven.size, "white")
    white.putalpha(seven.point(lambda grey: 255 - grey))
    white.save("white.png")
    page.open(workplace / "white.png")
    page.wait("7")
    grey = pixels(page, "#paper")[300, 400:, :3].min(1)
    assert grey.min() < 255 and len(page.run("return boxes")) == 1


def test_touch_on_a_phone(chromium, service_port):
    page = Page(chromium, service_port, 390, 844)
    page.draw(THREE, kind="touch")
    page.wait("3")
    width = chromium.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1] == 390
    controls = [one for one in chromium.find_elements("css selector", "button, .file") if one.is_displayed()]
    assert len(controls) >= 6 and all(control.size["height"] >= 40 for control in controls)


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
        ("empty.png", b"", "the file is empty"),
    ):
        (workplace / name).write_bytes(content)
        page.open(workplace / name)
        page.wait(reason, "detail")
        assert page.text("answer") == "Not read"


def test_a_picture_is_chosen_from_disk(page, workplace):
    page.open(PROJECT / "samples" / "number.jpg")
    page.wait("40628")
    Image.new("L", (50, 50), 255).save("blank.png")
    page.open(workplace / "blank.png")
    page.wait("No digit found")
    Image.open(PROJECT / "samples" / "7.png").save("7.tif")  # which Chromium cannot show
    page.open(workplace / "7.tif")
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
        assert page.text("quit-question") == "End the program? This page then works no longer."
        page.press(webdriver.Keys.ESCAPE)
        page.press("q")
        page.browser.find_element("id", "quit-no").click()
        assert ended == [] and page.text("quit-question") == ""
        page.press("q")
        page.browser.find_element("id", "quit-yes").click()
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


@pytest.mark.slow
def test_long_names_of_classes_leave_room_for_the_bars(chromium, shipped, workplace):
    shutil.copy(shipped, "long.keras")
    names = [f"a class with a rather long name of about sixty letters, no. {number}" for number in range(10)]
    (workplace / "long.json").write_text(json.dumps({"classes": names, "threshold": 0.0}), encoding="utf-8")
    with serving(service.make_app("long.keras")) as port:
        for size in SIZES.values():
            page = Page(chromium, port, *size)
            page.draw(*FOUR, *TWO)
            page.wait(f"{names[4]} {names[2]}")
            assert min(page.run("return [...document.querySelectorAll('.bar')].map((bar) => bar.clientWidth)")) > 60
            assert page.run("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("size", SIZES)
def test_sheet_and_answer_are_seen_together_and_the_page_scrolls(chromium, service_port, size):
    page = Page(chromium, service_port, *SIZES[size])
    page.draw(*FOUR, *TWO)
    page.wait("42")
    for name in ("sheet", "answer", "detail", "undo", "predict", "camera"):
        area = page.run("return document.getElementById(arguments[0]).getBoundingClientRect().toJSON()", name)
        assert 0 <= area["left"] < area["right"] <= SIZES[size][0] and 0 <= area["top"] < area["bottom"]
        assert area["bottom"] <= SIZES[size][1] and (name != "sheet" or area["height"] > 200)
    beside = "const area = document.getElementById('sheet').getBoundingClientRect(); return innerWidth - area.width"
    assert page.run(beside) >= 16 and page.run("return getComputedStyle(document.body).touchAction") == "manipulation"


def test_on_a_phone_a_photo_can_be_taken_and_no_hover_stays_after_a_tap(chromium, service_port):
    page = Page(chromium, service_port, 390, 844)
    assert page.find(".photo").is_displayed() and page.find("#photo").get_attribute("capture") == "environment"
    page.draw(THREE, kind="touch")
    border = "return getComputedStyle(document.getElementById('predict')).borderColor"
    before = page.run(border)
    page.find("#predict").click()
    assert page.run(border) == before and page.run("return matchMedia('(hover: none)').matches")
    page.find("#photo").send_keys(str(PROJECT / "samples" / "7.png"))
    page.wait("7")
    assert not Page(chromium, service_port).find(".photo").is_displayed()


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_a_screen_reader_finds_a_name_for_all_that_it_reads(page, service_port, size):
    page = Page(page.browser, service_port, *SIZES[size])
    page.draw(*FOUR, *TWO)
    page.wait("42")
    page.press("q")  # also the dialog
    tree = page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    page.press(webdriver.Keys.ESCAPE)
    tree += page.browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "listitem", "list", "image", "heading", "dialog", "slider", "region", "application"}
    named = [(node["role"]["value"], node["name"]["value"]) for node in tree if not node["ignored"] and "name" in node]
    found = {role: [name for kind, name in named if kind == role] for role in roles}
    assert all(name for names in found.values() for name in names) and all(found.values()), found
    assert "2: 0.0%" in found["listitem"] or "4: 0.0%" in found["listitem"]
    assert any("1 of 2: show its probabilities" in name for name in found["button"])


def show_in(page, colours):
    scheme = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)


@pytest.mark.slow
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(page, service_port, axe, colours):
    show_in(page, colours)
    for size in SIZES.values():
        page = Page(page.browser, service_port, *size)
        assert axe(page) == []
        page.draw(*FOUR, *TWO)
        page.wait("42")
        assert axe(page) == []
        page.press("q")
        assert axe(page) == []
    show_in(page, "")


# The camera


def allow_camera(page, setting):
    origin = page.run("return location.origin")
    permission = {"permission": {"name": "camera"}, "setting": setting, "origin": origin}
    page.browser.execute_cdp_cmd("Browser.setPermission", permission)


@pytest.fixture
def camera(page):
    """The page with its camera on, which counts the requests that are under way."""
    allow_camera(page, "granted")
    page.draw(THREE)
    page.wait("3")
    page.run("""window.most = window.requests = window.open = 0; const send = window.fetch;
        window.fetch = (url, ...options) => {
            if (!url.startsWith("predict")) return send(url, ...options);
            most = Math.max(most, open += 1); requests += 1;
            return send(url, ...options).finally(() => { open -= 1; });
        }""")
    page.find("#camera").click()
    yield page
    page.run("stopCamera()")


def test_the_camera_reads_live_with_one_request_at_a_time(camera):
    camera.wait("407")
    assert "lowest confidence" in camera.text("detail") and camera.find("#video").is_displayed()
    assert camera.run("return boxes.map((box) => box.label).join('')") == "407"
    (x, y, width, height), *_ = camera.run("return boxes.map((box) => box.place)")
    shown = camera.run("return [boxes.length, overlay.canvas.width, overlay.canvas.height]")
    assert shown == [3, 800, 600] and 150 < x < 350 and 100 < y < 300 and height > width
    before = camera.run("return requests")
    time.sleep(1)
    assert camera.run("return [most, requests > arguments[0] + 2]", before) == [1, True]
    camera.find("#camera").click()
    camera.wait("3")  # the drawing is there again
    assert not camera.find("#video").is_displayed()
    assert camera.run("return [camera, document.getElementById('video').srcObject]") == [None, None]


@pytest.mark.slow
def test_a_number_counts_only_if_three_frames_agree(camera):
    camera.wait("407")
    camera.run("""const texts = ["1", "2", "12", "12", "407", "12", "12", "12"]; window.shown = [];
        new MutationObserver(() => shown.push(document.getElementById("answer").textContent))
            .observe(document.getElementById("answer"), {childList: true, characterData: true, subtree: true});
        const send = window.fetch;
        window.fetch = (url, ...options) => send(url, ...options).then(async (answer) => {
            if (!url.startsWith("predict")) return answer;
            const content = {...await answer.json(), text: texts.shift() ?? "5"};
            return {status: 200, json: () => content};
        })""")
    camera.wait("5")
    assert camera.run("return shown") == ["12", "5"]


def test_a_frame_can_be_kept(camera):
    camera.wait("407")
    camera.press("p")
    camera.until("return [camera, Boolean(picture?.bitmap), boxes.length]", [None, True, 3])
    camera.wait("407")
    camera.press("u")
    camera.wait("3")


def test_the_camera_is_off_when_the_tab_is_hidden(camera):
    camera.wait("407")
    track = "return (window.track ??= camera.getVideoTracks()[0]).readyState"
    assert camera.run(track) == "live"
    camera.run("""Object.defineProperty(document, "hidden", {get: () => true, configurable: true});
        document.dispatchEvent(new Event("visibilitychange")); delete document.hidden""")
    assert camera.run(track) == "ended"
    camera.wait("The camera is off because this tab was hidden.", "notice")


def test_why_there_is_no_camera(page):
    allow_camera(page, "denied")
    page.find("#camera").click()
    page.wait("The browser does not allow the camera: allow it beside the address, then press Camera again.", "notice")
    page.draw(THREE)
    page.wait("3")
    assert page.text("notice") == ""
    page.run("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")  # as without HTTPS
    page.find("#camera").click()
    assert page.text("notice").startswith(
        "The browser offers the camera only on the machine that runs draw.py, or under"
    )
