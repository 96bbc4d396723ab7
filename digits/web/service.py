"""The service behind draw.py: pictures in by HTTP, readings out as JSON.

A page elsewhere on the web can send requests to any address that the browser reaches, this machine's own included. So
requests are answered only under known host names (which stops DNS rebinding) and, if the browser says from which page
they come, only from the service's own page or an allowed one.
"""

import asyncio
import base64
import re
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from digits import model
from digits.cli import UsageError
from digits.reading import answers
from digits.reading.image_file import PictureError
from digits.web.batch_reader import BatchReader
from digits.web.page import make_page

MAX_BYTES = 10_000_000  # of a request's body
RECEIVE_SECONDS = 10  # in which the body must have arrived
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {  # of every answer, besides the policy of the page
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
ERRORS = {  # type of exception -> status and reason; None: its own message
    PictureError: (400, None),
    ClientDisconnect: (400, "the picture is not complete"),
    TimeoutError: (408, f"the picture did not arrive within {RECEIVE_SECONDS} seconds"),
    RequestValidationError: (422, "image must be true or false, digits a number from 1 to 100, page one from 1"),
    BrokenProcessPool: (503, "a process that reads pictures was killed; try again"),
    UsageError: (503, "the model cannot be read just now"),  # its file was replaced or removed
    Exception: (500, "the picture could not be read because of a bug in the program"),
}


class Digit(BaseModel):
    digit: str
    confidence: float  # 0-1
    probabilities: dict[str, float]
    digit_score: float  # 0-1, how surely this is a digit at all
    box: tuple[int, int, int, int]  # x, y, width, height in pixels of the picture
    image: str | None = None  # the 28×28 grey levels, a byte each, row by row, in base64


class Answer(BaseModel):
    """What predict.py --json says of a picture."""

    prediction: str | None
    confidence: float
    probabilities: dict[str, float]
    is_digit: bool
    digit_score: float
    box: tuple[int, int, int, int] | None  # of the main digit
    number: str
    text: str
    digits: list[Digit]
    refused: list[Digit]
    pages: int | None = None  # of a TIFF with several, of which one was read
    review: bool | None = None  # with the number of digits: whether no reading has as many
    image: str | None = None  # of the main digit, as in Digit


class Refusal(BaseModel):
    error: str


def make_app(model_path, hosts=(), origins=(), max_in_flight=64, on_quit=None):
    """The service as an ASGI application.

    hosts: host names that it answers to, besides this machine's own. origins: other pages that may send requests, such
    as "https://forms.example.org". max_in_flight: requests at a time; beyond, the answer is 503. on_quit: called when
    the page's key q asks to end the program. Raises UsageError if the model cannot be used, RunError.
    """
    origins = [origin.lower().rstrip("/") for origin in origins]
    pictures, in_flight = BatchReader(model_path), asyncio.Semaphore(max_in_flight)
    page, policy = make_page(model.load(model_path).classes)
    headers = HEADERS | {"content-security-policy": f"{policy}; connect-src 'self'; frame-ancestors 'none'"}

    @asynccontextmanager
    async def lifespan(app):
        yield
        pictures.pool.shutdown(cancel_futures=True)

    # FastAPI's pages of documentation load scripts from elsewhere.
    app = FastAPI(title="Handwritten digits", lifespan=lifespan, redirect_slashes=False, docs_url=None, redoc_url=None)

    @app.get("/", include_in_schema=False)
    async def drawing_page():
        return HTMLResponse(page)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    refusals = {status: {"model": Refusal} for status in (400, 403, 408, 413, 415, 422, 503)}
    body = {"required": True, "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}

    @app.post("/predict", openapi_extra={"requestBody": body}, responses={200: {"model": Answer}} | refusals)
    async def predict(
        request: Request,
        image: bool = False,
        digits: Annotated[int | None, Query(ge=1, le=100)] = None,
        page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    ) -> JSONResponse:
        """What is in this picture? The body is its bytes.

        image: also send what the network saw. digits: how many digits each line has. page: of a TIFF.
        """
        if in_flight.locked():
            raise HTTPException(503, "busy; try again in a second")
        try:
            async with in_flight:
                reading, pages = await pictures.read(await receive_body(request), digits, page - 1)
        except asyncio.CancelledError:  # uvicorn ends, and waits no longer
            raise HTTPException(503, "the program is ending") from None
        answer = answers.as_json(reading)
        if pages > 1:
            answer["pages"] = pages
        if digits:
            answer["review"] = answers.needs_review(reading, digits=digits)
        if image:
            answer["image"] = in_base64(reading.image)
            for name in ("digits", "refused"):
                for mark, about in zip(getattr(reading, name), answer[name], strict=True):
                    about["image"] = in_base64(mark.image)
        return JSONResponse(answer)

    @app.post("/quit", include_in_schema=False)
    async def quit_program(request: Request):
        host, origin = request.headers["host"], request.headers.get("origin")
        local = request.client and request.client.host in ("127.0.0.1", "::1") and host_name(host) in LOOPBACK
        if not (on_quit and local and origin == f"http://{host}"):
            raise HTTPException(403, "only the page on the machine that runs the program can end it")
        on_quit()
        return {"status": "ending"}

    for kind in (HTTPException, *ERRORS):
        app.add_exception_handler(kind, error_as_json)
    if origins:
        allow = {"allow_origins": origins, "allow_methods": ["POST"], "allow_headers": ["Content-Type"]}
        app.add_middleware(CORSMiddleware, **allow)
    return Guard(app, hosts, origins, headers)


def in_base64(image):
    return "" if image is None else base64.b64encode(image.tobytes()).decode()


async def receive_body(request):
    """The body of a request, bytes. Raises HTTPException, ClientDisconnect, TimeoutError."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        raise HTTPException(415, "send the bytes of the picture as they are: curl --data-binary @digit.png …/predict")
    body, too_large = bytearray(), HTTPException(413, f"a picture may have at most {MAX_BYTES // 1_000_000} MB")
    if int(request.headers.get("content-length", 0)) > MAX_BYTES:
        raise too_large
    with anyio.fail_after(RECEIVE_SECONDS):
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                raise too_large
    if not body:
        raise HTTPException(400, "the body is empty; send the bytes of a picture")
    return bytes(body)


async def error_as_json(request, error):
    """Any error as JSON, without internals."""
    if isinstance(error, HTTPException):
        status, reason = error.status_code, error.detail
    else:
        status, reason = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    return JSONResponse({"error": reason or str(error)}, status, {"Retry-After": "1"} if status == 503 else None)


def host_name(host):
    """The host name in a Host header, without the port; an IPv6 address has brackets, or gets them."""
    host = f"[{host}]" if host.count(":") > 1 and "[" not in host else host
    return re.sub(r":\d+$", "", host).lower()


class Guard:
    """Refuses requests under unknown host names and from other pages; adds the security headers to all answers."""

    def __init__(self, app, hosts, origins, headers):
        self.app, self.origins, self.headers = app, origins, headers
        self.hosts = {*LOOPBACK, *map(host_name, hosts)}

    async def __call__(self, scope, receive, send):
        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self.headers)
            await send(message)

        reason = self.reason_to_refuse(Headers(scope=scope)) if scope["type"] == "http" else None
        answer = JSONResponse({"error": reason}, 403) if reason else self.app
        await answer(scope, receive, send_with_headers)

    def reason_to_refuse(self, headers):
        """Why a request with these headers is refused, or None."""
        host, origin = headers.get("host", "").lower(), headers.get("origin", "").lower()
        if host_name(host) not in self.hosts:
            return "this host name is not served; --allow-host or DRAW_ALLOW_HOST adds it"
        if origin:
            foreign = origin not in (f"http://{host}", f"https://{host}", *self.origins)
        else:
            foreign = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        return "the page's origin is not allowed; --allow-origin or DRAW_ALLOW_ORIGIN adds it" if foreign else None
