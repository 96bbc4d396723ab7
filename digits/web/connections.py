"""uvicorn for the service, with limits for connections that send no request: on their time and on their number.

uvicorn waits for ever for the headers of a request. Its option `http` takes another protocol class, and the one below
closes such connections. Other servers have such limits built in; docs/results.md compares them.
"""

import json

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

IDLE_SECONDS = 4  # in which the headers of a request must have arrived, after connecting or after the last answer
IDLE_CONNECTIONS = 500  # that have sent no headers yet; one more, and the one that has waited longest is closed


def make_config(app):
    """The uvicorn.Config of the service, an ASGI application."""
    return uvicorn.Config(
        app,
        http=LimitedConnection,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=5,
        log_level="error",
        server_header=False,
    )


class LimitedConnection(H11Protocol):
    """A connection that is closed if no request arrives in time."""

    timer = None  # runs while it is idle

    def connection_made(self, transport):
        super().connection_made(transport)
        self.watch()

    def data_received(self, data):
        super().data_received(data)
        self.watch()

    def on_response_complete(self):
        super().on_response_complete()
        self.watch()

    def connection_lost(self, exc):
        self.stop_timer()
        super().connection_lost(exc)

    def watch(self):
        """Start the timer, or let it run on, unless the headers of a request are here."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self.stop_timer()
        elif not self.timer:
            self.timer = self.loop.call_later(IDLE_SECONDS, self.transport.close)
            idle = [connection for connection in self.connections if connection.timer]
            if len(idle) > IDLE_CONNECTIONS:
                oldest = min(idle, key=lambda connection: connection.timer.when())
                oldest.stop_timer()
                oldest.transport.close()

    def stop_timer(self):
        if self.timer:
            self.timer.cancel()
            self.timer = None

    def send_400_response(self, msg):
        """uvicorn calls this for what is no HTTP; its own answer is not JSON."""
        body = json.dumps({"error": "this is not a request in HTTP/1.1"}).encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
