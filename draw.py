"""Draw a digit in the browser and watch the network read it, or let other programs send pictures.

    pip install -r requirements-draw.txt            # the two packages that only this script needs
    python draw.py                                  # opens the page; its keys: p predict, c clear, u undo, q quit
    curl --data-binary @samples/5.png http://127.0.0.1:8000/predict
    python draw.py --host 0.0.0.0 --allow-host 192.168.1.5      # for a phone in the same network, too

Behind a reverse proxy, `uvicorn draw:create_app --factory --workers 2` runs the service in several processes.
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
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: all addresses of this machine")
    port: int = option(8000, "port to listen on; 0: any free one", number(int, least=0, most=65535))
    model: str = option(None, "path of the model file to read with (default: mnist_cnn.keras)")
    no_browser: bool = option(False, "do not open the page")
    allow_host: tuple = option((), "additional name or address of this machine; may be repeated")
    allow_origin: tuple = option((), "origin of a page that may send requests, such as https://a.org; may be repeated")
    in_flight: int = option(
        64, "requests answered at a time; further ones get status 503", number(int, least=1, most=10_000)
    )

    def __post_init__(self):
        self.model = self.model or str(model.find_default())
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
    """The service for uvicorn, with settings from environment variables; lists are separated by spaces."""
    parsers = {"DRAW_MODEL": str, "DRAW_ALLOW_HOST": str.split, "DRAW_ALLOW_ORIGIN": str.split}
    given = {name[5:].lower(): parse(os.environ[name]) for name, parse in parsers.items() if name in os.environ}
    try:
        return make_app(Settings(**given))
    except (UsageError, RunError) as error:
        raise SystemExit(fail(error, 2 if isinstance(error, UsageError) else 1)) from None


def listen(host, port):
    """A socket that listens at host and port. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else Nagle's algorithm delays answers
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, TypeError, UnicodeError) as error:  # the latter two for an invalid address
        listener.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"cannot listen on {host} port {port} ({reason}); choose another --port or --host") from None
    return listener


def open_browser(address):
    """Open the page if there is a screen; without one, Python would open a browser in the terminal."""
    if sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def draw(settings):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends cleanly while it starts, too
    model.check(settings.model)
    with listen(settings.host, settings.port) as listener:
        print(f"Model: {settings.model}", flush=True)
        app = make_app(settings, on_quit=lambda: signal.raise_signal(signal.SIGTERM))
        if warning := model.warning(Path(settings.model)):
            print(warning, file=sys.stderr)
        from uvicorn import Server

        from digits.web.connections import make_config

        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/"
        print(f"Draw at {address}  (Ctrl-C, or the key q in the page, ends it)", flush=True)
        if shown != settings.host and not settings.allow_host:
            print("Other machines are refused; give --allow-host the address that they use for this one")
        if not settings.no_browser:
            open_browser(address)
        server = Server(make_config(app))
        server.handle_exit = lambda *_: setattr(server, "should_exit", True)  # a second Ctrl-C would not end it cleanly
        signal.signal(signal.SIGINT, server.handle_exit)  # as uvicorn does a little later
        signal.signal(signal.SIGTERM, server.handle_exit)
        server.run(sockets=[listener])
    print("Ended", flush=True)


def main(argv=None):
    return run(draw, Parser(__doc__, Settings).settings(argv), keep_going=True)


if __name__ == "__main__":
    sys.exit(main())
