"""The page in which doubtful fields are reviewed, as a person uses it, in headless Chromium."""

import csv
import io
import time

import pytest
from PIL import Image

pytest.importorskip("cv2", reason="pip install -r extras/requirements-forms.txt")
pytest.importorskip("selenium")

from selenium.webdriver.common.keys import Keys

from extras.forms.read import FieldReading
from extras.forms.table import Row, Table

NAME = 'scans/=<img src="x" onerror="alert(1)">, "2".jpg'


def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (400, 80), "white").save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def page(workplace, chromium):
    """The browser with the review page of three sheets: one with two doubtful fields, one without, one not read."""

    def field(number, confidence, doubt=""):
        return FieldReading(number, confidence, doubt, jpeg())

    with Table(workplace / "scans.csv", ["Order", "<Total>"], "", False) as table:
        table.add(Row(NAME, 1, {"Order": field("123", 0.51, "confidence 51%"), "<Total>": field("", 0.2, "x")}, "", []))
        table.add(Row("scans/3.jpg", 1, {"Order": field("7", 1.0), "<Total>": field("-8", 0.99)}, "", []))
        missing = dict.fromkeys(("Order", "<Total>"), FieldReading("", None, "not read", b""))
        table.add(Row("scans/4.pdf", 2, missing, "it is another form", [jpeg()]))
    downloads = {"behavior": "allow", "downloadPath": str(workplace / "down")}
    chromium.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    chromium.get_log("browser")  # forgets the messages of earlier tests
    chromium.get((workplace / "scans_review.html").as_uri())
    yield chromium
    assert [line for line in chromium.get_log("browser") if line["level"] in ("WARNING", "SEVERE")] == []
    chromium.execute_script("localStorage.clear()")


def download(browser, workplace):
    """The rows of the corrected table."""
    path = workplace / "down" / "scans_corrected.csv"
    path.unlink(missing_ok=True)
    browser.find_element("id", "download").click()
    end = time.monotonic() + 10
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.1)
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def type_keys(browser, *text):
    browser.switch_to.active_element.send_keys(*text)


def test_doubtful_fields_are_corrected_with_the_keyboard(page, workplace):
    count = page.find_element("id", "count")
    assert count.text == "0 of 4 reviewed"
    assert [one.text for one in page.find_elements("css selector", "h2")] == [NAME, "scans/4.pdf, page 2"]
    assert [one.text for one in page.find_elements("css selector", "label")] == ["Order", "<Total>"] * 2
    assert len(page.find_elements("css selector", ".field img")) == 2  # of the sheet that was not read: all of it
    type_keys(page, "124", Keys.ENTER)  # corrected: what was read is selected
    type_keys(page, "=1+1", Keys.TAB)
    assert count.text == "2 of 4 reviewed"
    type_keys(page, "55", Keys.ENTER)
    type_keys(page, Keys.SHIFT, Keys.ENTER)  # back
    assert page.switch_to.active_element.get_attribute("value") == "55"
    header, first, second, third = download(page, workplace)
    assert header == ["file", "page", "Order", "Order confidence", "<Total>", "<Total> confidence", "review", "error"]
    assert first == [NAME, "1", "124", "", "'=1+1", "", "", ""]
    assert second == ["scans/3.jpg", "1", "7", "1.000", "'-8", "0.990", "", ""]
    assert third == ["scans/4.pdf", "2", "55", "", "", "", "<Total>", "it is another form"]
    page.refresh()
    assert page.find_element("id", "count").text == "3 of 4 reviewed"  # nothing is lost
    type_keys(page, Keys.ENTER)
    assert page.find_element("id", "count").text == "4 of 4 reviewed"
    assert page.switch_to.active_element.get_attribute("id") == "download"
    assert download(page, workplace)[3][-2:] == ["", ""]


def test_the_table_of_the_page_is_the_table(page, workplace):
    with open("scans.csv", encoding="utf-8", newline="") as file:
        assert download(page, workplace) == list(csv.reader(file))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_can_be_read(page, scheme, width):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    ground, text = (
        page.execute_script(f"return getComputedStyle(document.querySelector('section')).{name}.match(/\\d+/g)")[:3]
        for name in ("backgroundColor", "color")
    )
    assert abs(sum(map(int, ground)) - sum(map(int, text))) > 450
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
