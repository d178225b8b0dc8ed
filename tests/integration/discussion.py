"""A discussion service to deliver to: a real HTTP server that does what a test tells it to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

API_KEY = "s3cret+key/ä"


@dataclass(frozen=True)
class Put:
    """A request as it came."""

    path: str
    form: dict[str, str]
    content_type: str

    @property
    def user_id(self) -> int:
        return int(self.form["external_id"])


Answer = int | str | tuple[int, str]
"""A status, a status with a body, or what goes wrong: ``drop`` or ``drip``."""


@dataclass
class DiscussionServer:
    """A running service.

    :ivar behave: decides on each request, in a thread of its own: it may wait.
    """

    url: str = ""
    behave: Callable[[Put], Answer] = lambda _: 200
    begun: list[Put] = field(default_factory=list)
    """Requests in the order in which they came."""
    overlaps: list[int] = field(default_factory=list)
    """Users of whom a request came while another was being answered."""
    closing: threading.Event = field(default_factory=threading.Event)
    _open: list[int] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, timeout_seconds: float = 20) -> list[Put]:
        """Wait until so many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.begun) >= count, timeout_seconds), (
                f"{len(self.begun)} requests came, not {count}"
            )
            return list(self.begun)

    def handle(self, put: Put) -> Answer:
        with self._changed:
            if put.user_id in self._open:
                self.overlaps.append(put.user_id)
            self._open.append(put.user_id)
            self.begun.append(put)
            self._changed.notify_all()
        try:
            return self.behave(put)
        finally:
            with self._changed:
                self._open.remove(put.user_id)


@contextmanager
def discussion_server() -> Iterator[DiscussionServer]:
    """Start a service on a free port."""
    service = DiscussionServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {k: v for k, [v] in parse_qs(body, keep_blank_values=True).items()}
            answer = service.handle(Put(self.path, form, self.headers["Content-Type"]))
            if answer == "drop":
                self.close_connection = True
                return
            status, text = (
                (200, "")
                if isinstance(answer, str)
                else ((answer, "") if isinstance(answer, int) else answer)
            )
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"{service.url}/elsewhere")
            length = len(text.encode()) if answer != "drip" else 1_000_000
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(text.encode())
            while answer == "drip" and not service.closing.wait(0.02):
                try:
                    self.wfile.write(b".")
                except OSError:
                    break
            if answer == "drip":
                self.close_connection = True

        do_GET = do_PUT  # noqa: N815 - http.server's name

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that went away is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        service.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
