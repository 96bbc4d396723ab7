"""Draw a digit in the browser and watch it being read; or let other programs send pictures.

    python draw.py                                  # opens the page; its keys: p predict, c clear, u undo, q quit
    curl --data-binary @samples/5.png http://127.0.0.1:8000/predict
    python draw.py --host 0.0.0.0 --allow-host 192.168.1.5      # for a phone in the same network, too
    uvicorn draw:create_app --factory --workers 2   # several processes, behind a reverse proxy

The page and the service need two more packages: pip install -r requirements-draw.txt
"""

import dataclasses
import os
import re
import signal
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from digits import model
from digits.cli import Parser, RunError, UsageError, fail, number, option, run


@dataclasses.dataclass
class Settings:  # each is also a flag
    host: str = option("127.0.0.1", "address to listen at; 0.0.0.0: all of this machine's addresses")
    port: int = option(8000, "0: any free one", number(int, least=0, most=65535))
    model: Path = option(Path("mnist_cnn.keras"), "model file", Path)
    no_browser: bool = option(False, "do not open the page")
    allow_host: tuple = option((), "another name or address under which to answer; may be repeated")
    allow_origin: tuple = option((), "another page that may send requests, such as https://a.org; may be repeated")
    in_flight: int = option(64, "requests at a time; beyond, the answer is 503", number(int, least=1, most=10_000))

    def __post_init__(self):
        for name in (self.host, *self.allow_host):
            if not re.fullmatch(r"[^/\s*]+", name):
                raise UsageError(f"'{name}' is not a host name or address such as 192.168.1.5")
        for origin in self.allow_origin:
            if not re.fullmatch(r"https?://[^/\s*]+/?", origin):
                raise UsageError(f"'{origin}' is not an origin such as https://forms.example.org")


def make_app(settings, on_quit=None):
    """The service of these Settings. Raises UsageError, also if a package is missing, and RunError."""
    try:
        import uvicorn  # noqa: F401

        from digits.web import service
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing: pip install -r requirements-draw.txt") from None
    hosts = [settings.host, *settings.allow_host]
    return service.make_app(settings.model, hosts, settings.allow_origin, settings.in_flight, on_quit)


def create_app():
    """For uvicorn: DRAW_MODEL, DRAW_ALLOW_HOST, DRAW_ALLOW_ORIGIN (lists with spaces) in the environment set it."""
    parsers = {"model": Path, "allow_host": str.split, "allow_origin": str.split}
    variables = {name: os.environ.get(f"DRAW_{name.upper()}") for name in parsers}
    try:
        settings = Settings(**{name: parsers[name](text) for name, text in variables.items() if text is not None})
        model.check(settings.model)
        return make_app(settings)
    except (UsageError, RunError) as error:
        raise SystemExit(fail(error, 2 if isinstance(error, UsageError) else 1)) from None


def listen(host, port):
    """A socket that listens at host and port. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tcp = socket.IPPROTO_TCP  # else asyncio keeps Nagle's algorithm, which holds answers back for 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, tcp)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, TypeError, UnicodeError) as error:  # the latter two for an invalid address
        listener.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"cannot listen at {host} port {port} ({reason}); choose another --port or --host") from None
    return listener


def open_browser(address):
    """Open the page if there is a screen: without one, Python would open a browser in the terminal."""
    if sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def draw(settings):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends cleanly while it starts, too
    model.check(settings.model)
    with listen(settings.host, settings.port) as listener:
        print(f"Model: {settings.model}", flush=True)
        app = make_app(settings, on_quit=lambda: signal.raise_signal(signal.SIGTERM))
        import uvicorn

        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/"
        print(f"Draw at {address}  (Ctrl-C, or the key q in the page, ends it)", flush=True)
        if settings.host in ("0.0.0.0", "::") and not settings.allow_host:
            print("Other machines are refused until --allow-host names the address that they reach this one by")
        if not settings.no_browser:
            open_browser(address)
        config = uvicorn.Config(app, log_level="error", server_header=False, timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        server.handle_exit = lambda *_: setattr(server, "should_exit", True)  # a second Ctrl-C would not end it cleanly
        signal.signal(signal.SIGINT, server.handle_exit)  # as uvicorn does a little later
        signal.signal(signal.SIGTERM, server.handle_exit)
        server.run(sockets=[listener])
    print("Ended", flush=True)


def main(argv=None):
    return run(draw, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
