"""Draw a digit in the browser and watch it being read; or let other programs ask.

    python draw.py                                  # opens the page; its keys: p predict, c clear, u undo, q quit
    curl --data-binary @samples/5.png http://127.0.0.1:8000/predict
    python draw.py --host 0.0.0.0 --allow-host 192.168.1.5      # for a phone in the same network, too
    uvicorn draw:create_app --factory --workers 2   # several processes, behind a reverse proxy

The page and the service need two more packages: pip install -r requirements-draw.txt
"""

import argparse
import os
import re
import signal
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from digits.cli import Parser, RunError, UsageError, check_model_file, fail, number, run

HOST = "127.0.0.1"  # the address to listen at; 0.0.0.0: all of this machine's, so that others can reach it
PORT = 8000  # 0: any free one
MODEL = "mnist_cnn.keras"  # model file
ALLOW_HOST = ()  # host names, besides this machine's own, under which the service answers
ALLOW_ORIGIN = ()  # pages elsewhere that may ask it, such as "https://forms.example.org"
IN_FLIGHT = 64  # requests at a time; beyond, the answer is 503


def make_app(model, hosts, origins, in_flight, on_quit=None):
    """The service of digits.web.service.make_app(). Raises UsageError if a package is missing."""
    try:
        import uvicorn  # noqa: F401

        from digits.web import service
    except ModuleNotFoundError as error:
        raise UsageError(f"the package {error.name} is missing: pip install -r requirements-draw.txt") from None
    return service.make_app(model, hosts, origins, in_flight, on_quit)


def create_app():
    """The service for `uvicorn draw:create_app --factory`.

    The environment variables DRAW_MODEL, DRAW_ALLOW_HOST and DRAW_ALLOW_ORIGIN (lists with spaces between) set it.
    """
    hosts, origins = os.environ.get("DRAW_ALLOW_HOST"), os.environ.get("DRAW_ALLOW_ORIGIN")
    try:
        hosts = ALLOW_HOST if hosts is None else [host(one) for one in hosts.split()]
        origins = ALLOW_ORIGIN if origins is None else [origin(one) for one in origins.split()]
        model = os.environ.get("DRAW_MODEL", MODEL)
        check_model_file(model)
        return make_app(model, hosts, origins, IN_FLIGHT)
    except argparse.ArgumentTypeError as error:
        raise SystemExit(fail(f"DRAW_ALLOW_HOST or DRAW_ALLOW_ORIGIN: {error}", 2)) from None
    except UsageError as error:
        raise SystemExit(fail(error, 2)) from None
    except RunError as error:
        raise SystemExit(fail(error, 1)) from None


def listen(host, port):
    """A socket that listens at host and port. Raises UsageError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    tcp = socket.IPPROTO_TCP  # named, for else asyncio keeps Nagle's algorithm, which holds answers back for 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, tcp)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, TypeError, UnicodeError) as error:  # those of an address that is none
        listener.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise UsageError(f"cannot listen at {host} port {port} ({reason}); choose another --port or --host") from None
    return listener


def open_browser(address):
    """Open the page, where there is a screen: without one, Python would open a browser in the terminal."""
    if sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY", "BROWSER"} & os.environ.keys():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def host(text):
    """The host name or address that a flag names."""
    if not re.fullmatch(r"[^/\s*]+", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a host name or address such as 192.168.1.5")
    return text


def origin(text):
    """The origin that a flag names."""
    if not re.fullmatch(r"https?://[^/\s*]+/?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not an origin such as https://forms.example.org")
    return text


def parse_args(argv):
    parser = Parser(__doc__)
    listen_at = "address to listen at (default: %(default)s, this machine alone)"
    parser.add_argument("--host", type=host, default=HOST, help=listen_at)
    parser.add_argument("--port", type=number(int, 0, 65535), default=PORT, help="0: any (default: %(default)s)")
    parser.add_argument("--model", type=Path, default=Path(MODEL), help="model file (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    name = "a host name or address, besides this machine's own, under which to answer; may be repeated"
    parser.add_argument("--allow-host", action="append", type=host, default=list(ALLOW_HOST), metavar="NAME", help=name)
    page = "a page elsewhere that may ask, such as https://forms.example.org; may be repeated"
    parser.add_argument(
        "--allow-origin", action="append", type=origin, default=list(ALLOW_ORIGIN), metavar="ORIGIN", help=page
    )
    busy = "requests answered at a time; beyond, the answer is 503 (default: %(default)s)"
    parser.add_argument("--in-flight", type=number(int, 1, 10_000), default=IN_FLIGHT, metavar="N", help=busy)
    return parser.parse_args(argv)


def work(args):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # in good order while it starts, too
    check_model_file(args.model)
    with listen(args.host, args.port) as listener:
        print(f"Model: {args.model}", flush=True)
        names = [args.host, *args.allow_host]
        app = make_app(
            args.model, names, args.allow_origin, args.in_flight, lambda: signal.raise_signal(signal.SIGTERM)
        )
        import uvicorn

        config = uvicorn.Config(app, log_level="error", server_header=False, timeout_graceful_shutdown=5)
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(args.host, args.host)
        address = f"http://{f'[{shown}]' if ':' in shown else shown}:{listener.getsockname()[1]}/"
        print(f"Draw at {address}  (Ctrl-C, or the key q in the page, ends it)", flush=True)
        if args.host in ("0.0.0.0", "::") and not args.allow_host:
            print("Other machines are refused until --allow-host names the address that they reach this one by")
        if not args.no_browser:
            open_browser(address)
        server = uvicorn.Server(config)
        server.handle_exit = lambda *_: setattr(server, "should_exit", True)  # a second Ctrl-C would not end it cleanly
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, server.handle_exit)  # as uvicorn does a little later
        server.run(sockets=[listener])
    print("Ended", flush=True)


def main(argv=None):
    return run(work, parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
