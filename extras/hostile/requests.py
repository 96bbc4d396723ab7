"""Bad requests for the service behind draw.py."""

import json
import select
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from digits.cli import RunError
from extras.hostile.workplace import command_of, environment, make_template

SECONDS = 5  # in which the answer must be here, or the connection closed


def post(body, path="/predict", **headers):
    """The bytes of a request; underscores in header names become hyphens."""
    headers = {"Host": "127.0.0.1", "Content-Length": len(body), "Connection": "close"} | headers
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def bad_request(rng, good):
    """Return (what is bad, bytes to send, whether a connection that is closed without an answer will do)."""
    junk = rng.bytes(rng.integers(1, 2000))
    kinds = {
        "no picture": post(junk),
        "half a picture": post(good[: rng.integers(1, len(good) // 2)]),
        "nothing": post(b""),
        "too much": post(bytes(10_000_001)),
        "a form": post(good, Content_Type="multipart/form-data; boundary=x"),
        "another host": post(good, Host="evil.example.org"),
        "another page": post(good, Origin="https://evil.example.org"),
        "a wrong query": post(good, "/predict?" + rng.choice(["digits=0", "digits=x", "image=maybe", "page=0"])),
        "no such page": post(good, rng.choice(["/nothing", "/predict/", "/../etc/passwd", "/%00"])),
        "another method": post(good).replace(b"POST", rng.choice([b"PUT", b"DELETE", b"PATCH"]), 1),
        "no length": post(good, Content_Length=rng.choice(["-1", "x", "1e3", ""])),
        "the end from elsewhere": post(b"", "/quit"),
        "no HTTP": junk + b"\r\n\r\n",
        "long headers": post(good, X="a" * 200_000),
        "headers that do not end": b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        + b"X-A: b\r\n" * rng.integers(1, 50),
        "silence": b"",
    }
    what = str(rng.choice(list(kinds)))
    return what, kinds[what], what in ("headers that do not end", "silence")


def try_out(count, rng):
    """Try bad requests; print what was not handled as it should be. Returns how many."""
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        make_template(folder := Path(name) / "template")
        good = (folder / "5.png").read_bytes()
        with running_service(folder) as port:
            for _ in range(count):
                what, request, may_be_closed = bad_request(rng, good)
                status, reason, seconds = send(port, request)
                answered = 400 <= (status or 0) < 500 and reason
                if not (answered or (may_be_closed and status is None)) or seconds > SECONDS:
                    failed += 1
                    print(f"request, {what}: status {status}, reason {reason!r}, {seconds:.1f} s", flush=True)
                status, *_ = send(port, post(good))
                if status != 200:
                    raise RunError(f"after this request the service answers no others: {what}")
    return failed


@contextmanager
def running_service(folder):
    """draw.py in a folder; yield its port. Raises RunError if it wrote an error."""
    command = command_of("draw.py", ["--no-browser", "--port", "0"])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, cwd=folder, env=environment()) as process:
        try:
            yield next(int(line.split(":")[2].split("/")[0]) for line in process.stdout if "http://" in line)
        finally:
            process.terminate()
            _, errors = process.communicate()
        if errors:
            raise RunError(f"the service wrote: {errors[-500:]}")


def send(port, request):
    """Return (status or None, reason in the answer, seconds until the connection was closed)."""
    start, answer = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.setblocking(False)
        try:
            while time.monotonic() - start < 30:
                readable, writable, _ = select.select([connection], [connection] if request else [], [], 0.1)
                if readable:
                    if not (part := connection.recv(65536)):
                        break
                    answer, request = answer + part, b""  # the service may answer before all has been sent
                elif writable:
                    request = request[connection.send(request[:65536]) :]
        except ConnectionError:
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        return int(head.split()[1]), json.loads(body).get("error", ""), time.monotonic() - start
    except (ValueError, IndexError, AttributeError):
        return None, "", time.monotonic() - start
