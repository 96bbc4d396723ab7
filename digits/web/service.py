"""The service behind draw.py: pictures in by HTTP, readings out as JSON. FastAPI, made safe for a browser nearby.

A page elsewhere on the web can send requests to any address that the browser reaches, this machine's own included. So
requests are answered only under known host names (which stops DNS rebinding) and, if the browser says from which page
they come, only from the service's own page or an allowed one.
"""

import asyncio
import base64
import hashlib
import html
import json
import re
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from digits import model
from digits.cli import RunError, UsageError
from digits.reading import answers, reader, worker_pool
from digits.reading.image_file import PictureError

FOLDER = Path(__file__).parent  # of the page
MAX_BYTES = 10_000_000  # of a request's body
MAX_PIXELS = 55_000_000  # of a picture, which a phone may take; larger ones would take too much memory
BATCH_SECONDS = 0.02  # that the network waits for pictures that are being segmented just then
RECEIVE_SECONDS = 10  # in which the body must have arrived
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
STROKE = b"P5 64 64 255\n" + bytes(1024) + 32 * (bytes(28) + 8 * b"\xff" + bytes(28)) + bytes(1024)  # as a PGM file


class Health(BaseModel):
    status: str


class Digit(BaseModel):
    digit: str
    confidence: float  # 0-1
    digit_score: float  # 0-1, how surely this is a digit at all
    box: tuple[int, int, int, int]  # x, y, width, height in pixels of the picture


class Answer(BaseModel):
    """What predict.py --json says of a picture."""

    prediction: str | None
    confidence: float
    probabilities: dict[str, float]
    is_digit: bool
    digit_score: float
    number: str
    digits: list[Digit]
    image: str | None = None  # the 28×28 grey levels of the main digit, a byte each, row by row, in base64


class Refusal(BaseModel):
    error: str


BYTES = {"schema": {"type": "string", "format": "binary"}}
ANY_PICTURE = {"requestBody": {"required": True, "content": {"*/*": BYTES}}}
REFUSALS = {status: {"model": Refusal} for status in (400, 403, 408, 413, 415, 422, 503)}


class BatchReader:
    """Reads pictures for many requests at once: processes segment them, and the network classifies all that wait."""

    def __init__(self, model_path):
        """Raises UsageError if the model cannot be used, RunError if the processes cannot be started."""
        self.model_path, self.whole = model_path, not model.describe(model_path).segment
        self.segmenting, self.waiting, self.classifier = 0, [], None
        self.pool, self.thread = worker_pool.pool(), ThreadPoolExecutor(1)
        try:
            strokes = [self.pool.submit(reader.segment, STROKE) for _ in range(worker_pool.count())]
            reader.classify([one.result() for one in strokes], model_path)  # so that the first request need not wait
        except BaseException as error:
            self.close()
            if isinstance(error, BrokenProcessPool):
                raise RunError("a process that reads pictures was killed, probably out of memory") from None
            raise

    def close(self):
        self.pool.shutdown(cancel_futures=True)
        self.thread.shutdown(cancel_futures=True)

    async def read(self, picture):
        """The Reading of a picture, bytes. Raises PictureError, or HTTPException if a process was killed meanwhile."""
        loop, pool = asyncio.get_running_loop(), self.pool
        self.segmenting += 1
        try:
            segmented = await loop.run_in_executor(pool, reader.segment, picture, None, 0, MAX_PIXELS, self.whole)
        except BrokenProcessPool:  # probably out of memory
            if pool is self.pool:
                self.pool = worker_pool.pool()
            raise HTTPException(503, "a process that reads pictures was killed; try again") from None
        finally:
            self.segmenting -= 1
        answer = loop.create_future()
        self.waiting.append((segmented, answer))
        if self.classifier is None:
            self.classifier = loop.create_task(self._classify_waiting())
        return await answer

    async def _classify_waiting(self):
        loop = asyncio.get_running_loop()
        while self.waiting:
            if self.segmenting:  # those that are nearly there share the batch
                await asyncio.sleep(BATCH_SECONDS)
            batch, self.waiting = self.waiting, []
            segmented, futures = zip(*batch, strict=True)
            try:
                readings = await loop.run_in_executor(self.thread, reader.classify, segmented, self.model_path)
            except UsageError:  # its file was replaced or removed meanwhile
                readings = [HTTPException(503, "the model cannot be read just now")] * len(batch)
            except Exception as error:
                readings = [error] * len(batch)
            for future, reading in zip(futures, readings, strict=True):
                if future.cancelled():  # the client has gone
                    continue
                if isinstance(reading, Exception):
                    future.set_exception(reading)
                else:
                    future.set_result(reading)
        self.classifier = None


def make_app(model_path, hosts=(), origins=(), max_in_flight=64, on_quit=None):
    """The service as an ASGI application.

    hosts: host names that it answers to, besides this machine's own. origins: other pages that may send requests, such
    as "https://forms.example.org". max_in_flight: requests at a time; beyond, the answer is 503. on_quit: called when
    the page's key q asks to end the program. Raises UsageError if the model cannot be used, RunError.
    """
    origins = [origin.lower().rstrip("/") for origin in origins]
    pictures, in_flight = BatchReader(model_path), 0
    page, policy = load_page(model.load(model_path).classes)

    @asynccontextmanager
    async def lifespan(app):
        yield
        pictures.close()

    # FastAPI's pages of documentation load scripts from elsewhere.
    app = FastAPI(title="Handwritten digits", lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None)

    @app.get("/", include_in_schema=False)
    async def drawing_page():
        return HTMLResponse(page)

    @app.get("/health")
    async def health() -> Health:
        return Health(status="ok")

    @app.post("/predict", openapi_extra=ANY_PICTURE, responses={200: {"model": Answer}} | REFUSALS)
    async def predict(request: Request, image: bool = False) -> JSONResponse:
        """What is in this picture? The body is its bytes; image: also send what the network saw."""
        nonlocal in_flight
        if in_flight >= max_in_flight:
            raise HTTPException(503, "busy; try again in a second")
        in_flight += 1
        try:
            reading = await pictures.read(await body_of(request))
        except PictureError as error:
            raise HTTPException(400, str(error)) from None
        except asyncio.CancelledError:  # uvicorn ends, and waits no longer
            raise HTTPException(503, "the program is ending") from None
        finally:
            in_flight -= 1
        answer = answers.as_json(reading)
        if image:
            pixels = b"" if reading.image is None else reading.image.tobytes()
            answer["image"] = base64.b64encode(pixels).decode()
        return JSONResponse(answer)

    @app.post("/quit", include_in_schema=False)
    async def end(request: Request):
        host, origin = request.headers["host"], request.headers.get("origin")
        local = request.client and request.client.host in ("127.0.0.1", "::1") and name_of(host) in LOOPBACK
        if not (on_quit and local and origin == f"http://{host}"):
            raise HTTPException(403, "only the page on the machine that runs the program can end it")
        on_quit()
        return {"status": "ending"}

    for kind in (HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, error_as_json)
    if origins:
        headers = ["Content-Type"]
        app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["POST"], allow_headers=headers)
    return Guard(app, hosts, origins, policy)


def load_page(classes):
    """Return (the page for these class names, its content security policy).

    Style and script are put into the page, since the hash of an inline script is understood by every browser: nothing
    but these very texts can run.
    """
    files = {"style": (FOLDER / "page.css").read_text("utf-8"), "script": (FOLDER / "page.js").read_text("utf-8")}
    page = (FOLDER / "page.html").read_text("utf-8")
    page = page.replace('data-classes=""', f'data-classes="{html.escape(json.dumps(classes))}"')
    page = page.replace('<link rel="stylesheet" href="page.css">', f"<style>{files['style']}</style>")
    page = page.replace('<script src="page.js"></script>', f"<script>{files['script']}</script>")
    hashes = {kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in files.items()}
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


async def body_of(request):
    """The body of a request, bytes. Raises HTTPException if it is too large, too slow, or empty."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "send the bytes of the picture as they are: curl --data-binary @digit.png …/predict")
    too_large = HTTPException(413, f"a picture may have at most {MAX_BYTES // 1_000_000} MB")
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:
        raise too_large

    async def receive():
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                raise too_large
        return bytes(body)

    try:
        body = await asyncio.wait_for(receive(), RECEIVE_SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the picture did not arrive within {RECEIVE_SECONDS} seconds") from None
    except ClientDisconnect:
        raise HTTPException(400, "the picture is not complete") from None
    if not body:
        raise HTTPException(400, "the body is empty; send the bytes of a picture")
    return body


async def error_as_json(request, error):
    """Any error as JSON, without internals."""
    if isinstance(error, HTTPException):
        status, reason = error.status_code, error.detail
    elif isinstance(error, RequestValidationError):
        status, reason = 422, "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    else:
        status, reason = 500, "the picture could not be read because of a mistake in the program"
    return JSONResponse({"error": reason}, status, {"Retry-After": "1"} if status == 503 else None)


def name_of(host):
    """The host name in a Host header, without the port; an IPv6 address has brackets, or gets them."""
    host = f"[{host}]" if host.count(":") > 1 and "[" not in host else host
    return re.sub(r":\d+$", "", host).lower()


class Guard:
    """Refuses requests under unknown host names and from other pages; adds the security headers to all answers."""

    def __init__(self, app, hosts, origins, policy):
        self.app, self.origins = app, origins
        self.hosts = {*LOOPBACK, *map(name_of, hosts)}
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cache-control", b"no-store"),
        ]

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.headers]
            await send(message)

        reason = self.objection({name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]})
        answer = JSONResponse({"error": reason}, 403) if reason else self.app
        await answer(scope, receive, send_with_headers)

    def objection(self, headers):
        """Why a request with these headers is refused, or None."""
        host = headers.get("host", "")
        if name_of(host) not in self.hosts:
            return "this host name is not served; --allow-host or DRAW_ALLOW_HOST adds it"
        own = f"http://{host.lower()}", f"https://{host.lower()}"
        origin = headers.get("origin", "").lower()
        if origin and origin not in (*own, *self.origins):
            return "pages of this origin are not served; --allow-origin or DRAW_ALLOW_ORIGIN adds it"
        if headers.get("sec-fetch-site") == "cross-site" and not origin and headers.get("sec-fetch-mode") != "navigate":
            return "pages of other origins are not served; --allow-origin or DRAW_ALLOW_ORIGIN adds one"
        return None
