"""A headless Firefox, driven by WebDriver BiDi: Debian has no geckodriver, which Selenium needs."""

import contextlib
import itertools
import json
import re
import shutil
import subprocess

import pytest


class Firefox:
    """One page of a Firefox whose WebSocket is open."""

    def __init__(self, socket):
        self.socket, self.ids = socket, itertools.count(1)
        self.call("session.new", capabilities={})
        self.context = self.call("browsingContext.getTree")["contexts"][0]["context"]

    def call(self, method, **parameters):
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := json.loads(self.socket.recv())).get("id") != number:  # events come in between
            pass
        assert message["type"] == "success", message
        return message["result"]

    def open(self, address, width, height):
        self.call("browsingContext.setViewport", context=self.context, viewport={"width": width, "height": height})
        self.call("browsingContext.navigate", context=self.context, url=address, wait="complete")

    def run(self, expression):
        """The value of a JavaScript expression, by way of JSON."""
        where = {"target": {"context": self.context}, "awaitPromise": True}
        found = self.call("script.evaluate", expression=f"JSON.stringify({expression})", **where)
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])

    def draw(self, *strokes, kind="mouse"):
        """Draw with pointer events; points are in the paper's 800×600 pixels."""
        left, top, width = self.run("(({left, top, width}) => [left, top, width])(paper.getBoundingClientRect())")
        scale = width / 800
        for stroke in strokes:
            moves = [
                {"type": "pointerMove", "x": round(left + x * scale), "y": round(top + y * scale)} for x, y in stroke
            ]
            actions = [moves[0], {"type": "pointerDown", "button": 0}, *moves[1:], {"type": "pointerUp", "button": 0}]
            self._act({"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions})

    def press(self, key):
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._act({"type": "key", "id": "keyboard", "actions": actions})

    def _act(self, source):
        self.call("input.performActions", context=self.context, actions=[source])


@contextlib.contextmanager
def firefox(folder):
    """Start Firefox with its profile in a folder; the test is skipped where there is none."""
    websocket = pytest.importorskip("websocket", reason="pip install -r requirements-dev.txt")
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    if not program:
        pytest.skip("no Firefox here")
    command = [program, "--headless", "--no-remote", "--profile", str(folder), "--remote-debugging-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            found = (re.search(r"WebDriver BiDi listening on (ws://\S+)", line) for line in process.stderr)
            address = next(match[1] for match in found if match)
            with contextlib.closing(
                websocket.create_connection(f"{address}/session", 60, suppress_origin=True)
            ) as socket:
                yield Firefox(socket)
        finally:
            process.terminate()
