"""The service: over real sockets, with the network that comes with the project."""

import base64
import http.client
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

import draw
import predict
from digits.web import service
from tests.conftest import PROJECT, serving

FIVE = (PROJECT / "samples" / "5.png").read_bytes()


def ask(port, method="POST", path="/predict", body=None, **headers):
    """Return (status, headers, JSON or text) of a request; underscores in header names become hyphens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        kind = answer.headers.get_content_type()
        return answer.status, answer.headers, json.loads(content) if kind == "application/json" else content.decode()
    finally:
        connection.close()


@pytest.fixture
def port(service_port):
    return service_port


def test_a_picture_is_read_as_predict_reads_it(port, capsys, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert predict.main(["--json", "samples/5.png"]) == 0
    expected = json.loads(capsys.readouterr().out)
    del expected["path"]
    status, headers, answer = ask(port, body=FIVE)
    assert (status, headers.get_content_type()) == (200, "application/json")
    assert answer["probabilities"] == pytest.approx(expected.pop("probabilities"), abs=1e-6)
    assert answer["prediction"] == expected["prediction"] == "5"
    assert list(answer) == ["prediction", "confidence", "probabilities", "is_digit", "digit_score", "number", "digits"]
    seen = base64.b64decode(ask(port, path="/predict?image=true", body=FIVE)[2]["image"])
    assert len(seen) == 28 * 28 and max(seen) == 255


def test_blank_paper_and_non_digits(port, workplace):
    Image.new("L", (50, 50), 255).save("blank.png")
    blank = ask(port, body=(workplace / "blank.png").read_bytes())[2]
    assert (blank["prediction"], blank["number"], blank["is_digit"]) == (None, "", False)
    tick = ask(port, body=(PROJECT / "samples" / "tick.png").read_bytes())[2]
    assert tick["is_digit"] is False and tick["digits"] == []


def test_health_openapi_and_the_page(port):
    assert ask(port, "GET", "/health")[2] == {"status": "ok"}
    paths = ask(port, "GET", "/openapi.json")[2]["paths"]
    assert set(paths) == {"/health", "/predict"}
    status, headers, page = ask(port, "GET", "/")
    assert status == 200 and "<canvas" in page and "http://" not in page and "https://" not in page
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert ask(port, "GET", "/docs")[0] == 404  # its page loads scripts from elsewhere


@pytest.mark.parametrize(
    ("status", "reason", "request_"),
    [
        (400, "empty", {"body": b""}),
        (400, "not a picture", {"body": b"<html>"}),
        (400, "damaged", {"body": FIVE[:300]}),
        (415, "curl --data-binary", {"body": b"--x", "Content_Type": "multipart/form-data; boundary=x"}),
        (422, "image", {"path": "/predict?image=perhaps", "body": FIVE}),
        (404, "Not Found", {"path": "/elsewhere"}),
        (404, "Not Found", {"path": "/predict/", "body": FIVE}),
        (405, "Not Allowed", {"method": "GET"}),
        (403, "host name", {"body": FIVE, "Host": "evil.example.org"}),
        (403, "host name", {"body": FIVE, "Host": "localhost.evil.example.org"}),
        (403, "origin", {"body": FIVE, "Origin": "https://evil.example.org"}),
        (403, "origin", {"body": FIVE, "Origin": "null"}),
        (403, "origin", {"body": FIVE, "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}),
        (403, "only the page", {"path": "/quit"}),
    ],
)
def test_a_wrong_request_gets_a_reason(port, status, reason, request_):
    found, headers, answer = ask(port, **request_)
    assert found == status
    assert set(answer) == {"error"} and reason in answer["error"] and "/" not in answer["error"].replace("…/", "")
    assert "default-src 'none'" in headers["content-security-policy"]


def test_known_hosts_and_origins_are_served(port):
    for headers in (
        {"Host": f"localhost:{port}"},
        {"Host": "digits.example.org"},
        {"Origin": f"http://127.0.0.1:{port}"},
        {"Origin": "https://forms.example.org"},
    ):
        assert ask(port, body=FIVE, **headers)[0] == 200
    asked = {"Origin": "https://forms.example.org", "Access_Control_Request_Method": "POST"}
    answer = ask(port, "OPTIONS", **asked)
    assert answer[0] == 200 and answer[1]["access-control-allow-origin"] == "https://forms.example.org"


def test_limits(port, monkeypatch, workplace):
    for body in (bytes(10_000_001), iter([bytes(6_000_000), bytes(6_000_000)])):  # with its length said first, without
        assert ask(port, body=body)[0] == 413
    Image.new("1", (8000, 8000)).save("large.png")
    status, _, answer = ask(port, body=(workplace / "large.png").read_bytes())
    assert status == 400 and "8,000×8,000" in answer["error"]
    monkeypatch.setattr(service, "RECEIVE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_many_at_once_are_answered_right_or_refused_at_once(shipped):
    names = ("5.png", "7.png", "number.jpg")
    bodies = [(PROJECT / "samples" / name).read_bytes() for name in names]
    with serving(service.make_app(shipped, max_in_flight=8)) as port, ThreadPoolExecutor(200) as clients:
        answers = list(clients.map(lambda place: ask(port, body=bodies[place % 3]), range(200)))
        right = 0
        for place, (status, headers, answer) in enumerate(answers):
            assert status in (200, 503)
            if status == 200:
                right += 1
                assert answer["number"] == ("5", "7", "40628")[place % 3]
            else:
                assert headers["retry-after"] == "1" and "busy" in answer["error"]
        assert 8 <= right < 200
        assert ask(port, body=FIVE)[0] == 200


@pytest.mark.slow
def test_a_killed_process_is_replaced(shipped):
    others = multiprocessing.active_children()
    with serving(service.make_app(shipped)) as port:
        before = ask(port, body=FIVE)[2]
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
        time.sleep(0.5)
        assert ask(port, body=FIVE)[0] == 503
        assert ask(port, body=FIVE)[2] == before


@pytest.fixture
def started(shipped):
    """The program itself; gives (process, port)."""
    command = [sys.executable, str(PROJECT / "draw.py"), "--no-browser", "--port", "0", "--model", str(shipped)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == f"Model: {shipped}\n"
        line = process.stdout.readline()
        assert line.startswith("Draw at http://127.0.0.1:")
        yield process, int(line.split(":")[2].split("/")[0])
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_ends_it_in_good_order(started, how):
    process, port = started
    stop = threading.Event()
    statuses = []

    def client():
        while not stop.is_set():
            try:
                statuses.append(ask(port, body=FIVE)[0])
            except OSError:  # the program has ended
                return

    with ThreadPoolExecutor(8) as clients:
        for _ in range(8):
            clients.submit(client)
        end = time.monotonic() + 60
        while len(statuses) < 20 and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(how)
        assert process.wait(20) == 0
        stop.set()
    assert statuses and set(statuses) == {200}
    assert process.stdout.read() == "Ended\n"
    assert process.stderr.read() == ""


def test_a_port_in_use_is_one_line(shipped, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert draw.main(["--model", str(shipped), "--port", str(port), "--no-browser"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"port {port}" in error and "--port" in error


def test_missing_packages_and_models_are_one_line(shipped, capsys, monkeypatch):
    assert draw.main(["--model", "nowhere.keras"]) == 2
    assert "nowhere.keras" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert draw.main(["--model", str(shipped)]) == 2
    assert capsys.readouterr().err.endswith("pip install -r requirements-draw.txt\n")


def test_the_factory_takes_its_settings_from_the_environment(shipped, capsys, monkeypatch):
    monkeypatch.setenv("DRAW_MODEL", str(shipped))
    monkeypatch.setenv("DRAW_ALLOW_HOST", "digits.example.org other.example.org")
    monkeypatch.setenv("DRAW_ALLOW_ORIGIN", "https://forms.example.org")
    with serving(draw.create_app()) as port:
        asked = {"Host": "other.example.org", "Origin": "https://forms.example.org"}
        assert ask(port, body=FIVE, **asked)[2]["number"] == "5"
        assert ask(port, body=FIVE, Host="third.example.org")[0] == 403
        here = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}
        assert ask(port, path="/quit", **here)[0] == 403  # it belongs to whoever started it
    for name, value in (("DRAW_MODEL", "nowhere.keras"), ("DRAW_ALLOW_ORIGIN", "forms.example.org")):
        monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit, match="2"):
            draw.create_app()
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and value in error


@pytest.mark.slow
def test_the_model_may_be_gone_for_a_while(shipped, workplace):
    for suffix in (".keras", ".json"):
        shutil.copy(shipped.with_suffix(suffix), f"model{suffix}")
    with serving(service.make_app(workplace / "model.keras")) as port:
        os.rename("model.keras", "away.keras")
        status, _, answer = ask(port, body=FIVE)
        assert status == 503 and answer == {"error": "the model cannot be read just now"}
        os.rename("away.keras", "model.keras")
        assert ask(port, body=FIVE)[0] == 200


def test_the_page_is_opened_where_there_is_a_screen(monkeypatch):
    opened = []
    monkeypatch.setattr(draw.webbrowser, "open", opened.append)
    monkeypatch.setattr(draw.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    draw.open_browser("http://127.0.0.1:8000/")
    monkeypatch.setenv("DISPLAY", ":0")
    draw.open_browser("http://127.0.0.1:8001/")
    time.sleep(0.1)
    assert opened == ["http://127.0.0.1:8001/"]
