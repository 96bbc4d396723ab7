"""The service: over real sockets, with the network that comes with the project."""

import base64
import contextlib
import http.client
import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

import draw
import predict
from digits.web import connections, service
from tests.conftest import PROJECT, one_line, serving

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


def test_a_picture_is_read_as_predict_reads_it(service_port, capsys, monkeypatch):
    monkeypatch.chdir(PROJECT)
    assert predict.main(["--json", "samples/5.png"]) == 0
    expected = json.loads(capsys.readouterr().out)
    del expected["path"]
    status, headers, answer = ask(service_port, body=FIVE)
    assert (status, headers.get_content_type()) == (200, "application/json")
    assert answer["probabilities"] == pytest.approx(expected.pop("probabilities"), abs=1e-6)
    assert answer["prediction"] == expected["prediction"] == "5"
    keys = "prediction confidence probabilities is_digit digit_score box number text digits refused"
    assert " ".join(answer) == keys
    shown = ask(service_port, path="/predict?image=true", body=FIVE)[2]
    seen = base64.b64decode(shown["image"])
    assert len(seen) == 28 * 28 and max(seen) == 255
    assert shown["digits"][0]["image"] == shown["image"]


def test_blank_paper_and_non_digits(service_port, workplace):
    Image.new("L", (50, 50), 255).save("blank.png")
    blank = ask(service_port, body=(workplace / "blank.png").read_bytes())[2]
    assert (blank["prediction"], blank["number"], blank["is_digit"]) == (None, "", False)
    tick = ask(service_port, body=(PROJECT / "samples" / "tick.png").read_bytes())[2]
    assert tick["is_digit"] is False and tick["digits"] == []


def test_a_known_number_of_digits(service_port):
    number = (PROJECT / "samples" / "number.jpg").read_bytes()
    for count, review in ((5, False), (4, True)):
        answer = ask(service_port, path=f"/predict?digits={count}", body=number)[2]
        assert (answer["number"], answer["review"]) == ("40628", review)


def test_health_openapi_and_the_page(service_port):
    assert ask(service_port, "GET", "/health")[2] == {"status": "ok"}
    assert set(ask(service_port, "GET", "/openapi.json")[2]["paths"]) == {"/health", "/predict"}
    status, headers, page = ask(service_port, "GET", "/")
    assert status == 200 and "<canvas" in page and "http://" not in page and "https://" not in page
    policy = r"default-src 'none'; script-src( 'sha256-[^ ;]+')+; style-src 'sha256-[^ ]+'; img-src 'self' data: "
    assert re.match(policy, headers["content-security-policy"])
    assert headers["x-content-type-options"] == "nosniff"
    assert ask(service_port, "GET", "/docs")[0] == 404  # its page loads scripts from elsewhere


@pytest.mark.parametrize(
    ("status", "reason", "request_"),
    [
        (400, "empty", {"body": b""}),
        (400, "not a picture", {"body": b"<html>"}),
        (400, "damaged", {"body": FIVE[:300]}),
        (415, "curl --data-binary", {"body": b"--x", "Content_Type": "multipart/form-data; boundary=x"}),
        (422, "image", {"path": "/predict?image=perhaps", "body": FIVE}),
        (422, "digits", {"path": "/predict?digits=0", "body": FIVE}),
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
def test_a_wrong_request_gets_a_reason(service_port, status, reason, request_):
    found, headers, answer = ask(service_port, **request_)
    assert found == status
    assert set(answer) == {"error"} and reason in answer["error"] and "/" not in answer["error"].replace("…/", "")
    assert "default-src 'none'" in headers["content-security-policy"]


def test_known_hosts_and_origins_are_served(service_port):
    for headers in (
        {"Host": f"localhost:{service_port}"},
        {"Host": "digits.example.org"},
        {"Origin": f"http://127.0.0.1:{service_port}"},
        {"Origin": "https://forms.example.org"},
    ):
        assert ask(service_port, body=FIVE, **headers)[0] == 200
    preflight = {"Origin": "https://forms.example.org", "Access_Control_Request_Method": "POST"}
    status, headers, _ = ask(service_port, "OPTIONS", **preflight)
    assert status == 200 and headers["access-control-allow-origin"] == "https://forms.example.org"


def test_limits(service_port, monkeypatch, workplace):
    for body in (bytes(10_000_001), iter([bytes(6_000_000), bytes(6_000_000)])):  # with its length said first, without
        assert ask(service_port, body=body)[0] == 413
    Image.new("1", (8000, 8000)).save("large.png")
    status, _, answer = ask(service_port, body=(workplace / "large.png").read_bytes())
    assert status == 400 and "8,000×8,000" in answer["error"]
    monkeypatch.setattr(service, "RECEIVE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", service_port), timeout=30) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_connections_without_a_request_are_closed(service_port, monkeypatch):
    """Neither those that send nothing nor those that send bytes for ever keep others out."""
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service_port), timeout=5)) for _ in range(20)
        ]
        for index, connection in enumerate(idle[:10]):
            connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"[: 4 * index])
        assert ask(service_port, body=FIVE)[0] == 200
        for _ in range(8):
            time.sleep(0.1)
            for connection in idle[5:10]:
                with contextlib.suppress(OSError):
                    connection.sendall(b"a")
        for connection in idle:
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""


def test_idle_connections_do_not_keep_others_out(service_port, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_CONNECTIONS", 20)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connected(service_port)) for _ in range(30)]
        assert ask(service_port, body=FIVE)[0] == 200
        assert [connection.recv(10) for connection in held[:10]] == 10 * [b""]  # those that waited longest
        held[-1].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert held[-1].recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("text", [b"\0\1\2\3\r\n\r\n", b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"a" * 100_000])
def test_what_is_no_http_gets_a_reason(service_port, text):
    with connected(service_port) as connection:
        connection.sendall(text)
        head, _, body = connection.recv(1000).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400") and set(json.loads(body)) == {"error"}


def test_a_page_of_a_tiff(service_port, workplace):
    pages = [Image.open(PROJECT / "samples" / name).convert("L") for name in ("5.png", "7.png")]
    pages[0].save("scan.tif", save_all=True, append_images=pages[1:])
    scan = (workplace / "scan.tif").read_bytes()
    answers = [ask(service_port, path=f"/predict{query}", body=scan) for query in ("", "?page=2", "?page=3", "?page=0")]
    assert [status for status, *_ in answers] == [200, 200, 400, 422]
    assert [(answer["number"], answer["pages"]) for _, _, answer in answers[:2]] == [("5", 2), ("7", 2)]


def test_many_at_once_are_answered_right_or_refused_at_once(shipped):
    bodies = [(PROJECT / "samples" / name).read_bytes() for name in ("5.png", "7.png", "number.jpg")]
    with serving(service.make_app(shipped, max_in_flight=8)) as port, ThreadPoolExecutor(200) as clients:
        answers = list(clients.map(lambda index: ask(port, body=bodies[index % 3]), range(200)))
        for index, (status, headers, answer) in enumerate(answers):
            if status == 200:
                assert answer["number"] == ("5", "7", "40628")[index % 3]
            else:
                assert status == 503 and headers["retry-after"] == "1" and "busy" in answer["error"]
        assert 8 <= sum(status == 200 for status, *_ in answers) < 200
        assert ask(port, body=FIVE)[0] == 200


@pytest.mark.slow
def test_a_killed_process_is_replaced(shipped):
    others = multiprocessing.active_children()
    with serving(service.make_app(shipped)) as port:
        before = ask(port, body=FIVE)[2]
        for worker in set(multiprocessing.active_children()) - set(others):
            worker.kill()
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
def test_a_signal_under_load_ends_the_program_cleanly(started, how):
    process, port = started
    statuses, end = [], time.monotonic() + 60

    def client():
        with contextlib.suppress(OSError):  # the program has ended
            while time.monotonic() < end:
                statuses.append(ask(port, body=FIVE)[0])

    with ThreadPoolExecutor(8) as clients:
        for _ in range(8):
            clients.submit(client)
        while len(statuses) < 20 and time.monotonic() < end:
            time.sleep(0.01)
        process.send_signal(how)
        assert process.wait(20) == 0
    assert statuses and set(statuses) == {200}
    assert process.stdout.read() == "Ended\n"
    assert process.stderr.read() == ""


def test_a_port_in_use_and_missing_models_and_packages_are_one_line(shipped, capsys, monkeypatch):
    flags = ["--model", str(shipped), "--no-browser", "--port"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        one_line(capsys, draw.main([*flags, port]), f"port {port}", "--port")
    one_line(capsys, draw.main(["--model", "nowhere.keras"]), "nowhere.keras")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    one_line(capsys, draw.main([*flags, "0"]), "pip install -r requirements-draw.txt")


def test_the_factory_takes_its_settings_from_the_environment(shipped, capsys, monkeypatch):
    monkeypatch.setenv("DRAW_MODEL", str(shipped))
    monkeypatch.setenv("DRAW_ALLOW_HOST", "digits.example.org other.example.org")
    monkeypatch.setenv("DRAW_ALLOW_ORIGIN", "https://forms.example.org")
    with serving(draw.create_app()) as port:
        asked = {"Host": "other.example.org", "Origin": "https://forms.example.org"}
        assert ask(port, body=FIVE, **asked)[2]["number"] == "5"
        assert ask(port, body=FIVE, Host="third.example.org")[0] == 403
        own_page = {"Host": f"127.0.0.1:{port}", "Origin": f"http://127.0.0.1:{port}"}
        assert ask(port, path="/quit", **own_page)[0] == 403  # only draw.py ends by a key in the page
    for name, value in (("DRAW_MODEL", "nowhere.keras"), ("DRAW_ALLOW_ORIGIN", "forms.example.org")):
        monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as end:
            draw.create_app()
        one_line(capsys, end.value.code, value)


@pytest.mark.slow
def test_a_model_that_is_missing_for_a_while(shipped, workplace):
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
