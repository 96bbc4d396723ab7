"""uvicorn for the service, with limits for connections that send no request: on their time and on their number.

uvicorn waits for ever for the headers of a request. Its option `http` takes another protocol class, and the one below
closes such connections. Other servers have such limits built in; docs/results.md compares them.
"""

import json

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 5  # in which the headers of a request must have arrived
IDLE_SECONDS = 5  # for which a connection is kept after an answer
CONNECTIONS = 500  # at a time, besides those whose requests are being answered; further ones get status 503


def make_config(app, in_flight=64):
    """The uvicorn.Config of the service: an ASGI application that answers `in_flight` requests at a time."""
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        limit_concurrency=CONNECTIONS + in_flight,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=5,
        log_level="error",
        server_header=False,
    )


class LimitedConnection(H11Protocol):
    """A connection that is closed if no request arrives in time, or at once if there are too many others."""

    waiting = None  # timer

    def connection_made(self, transport):
        super().connection_made(transport)
        if len(self.connections) >= self.limit_concurrency:
            self.refuse(503, "too many connections; try again in a second")
        else:
            self.wait_for_headers()

    def data_received(self, data):
        super().data_received(data)
        self.wait_for_headers()

    def connection_lost(self, exc):
        self.stop_waiting()
        super().connection_lost(exc)

    def wait_for_headers(self):
        """Start the timer, or let it run on, unless the headers of a request are here."""
        if self.conn.their_state is not h11.IDLE:
            self.stop_waiting()
        elif not self.waiting:
            self.waiting = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def stop_waiting(self):
        if self.waiting:
            self.waiting.cancel()
            self.waiting = None

    def send_400_response(self, msg):
        """uvicorn calls this for what is no HTTP."""
        self.refuse(400, "this is not a request in HTTP/1.1")

    def refuse(self, status, reason):
        body = json.dumps({"error": reason}).encode()
        head = f"HTTP/1.1 {status} \r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
