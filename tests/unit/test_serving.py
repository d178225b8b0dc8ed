"""What slow peers and other sites' pages get of ``pysync serve``; real sockets, shorter deadlines."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection, HTTPResponse

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pysync.watching.serving import connections
from pysync.watching.serving.app import SecurityHeaders
from pysync.watching.serving.connections import MAX_CONNECTIONS, BoundedProtocol
from pysync.watching.serving.gate import Gate
from tests.support import eventually

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
LARGE = 16 * 1024 * 1024
DEADLINE = 1.0


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("x" * (LARGE if scope["path"] == "/large" else 2))(scope, receive, send)


@pytest.fixture(scope="module")
def serving() -> Iterator[tuple[int, uvicorn.Server]]:
    """A server with the connections, the gate and the headers of ours."""
    app: ASGIApp = SecurityHeaders(Gate(answer, ["Pysync.example.org"]))
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None, loop="asyncio"
    )
    server = uvicorn.Server(config)
    with (
        pytest.MonkeyPatch.context() as patch,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        for name in ("REQUEST_SECONDS", "ANSWER_SECONDS"):
            patch.setattr(connections, name, DEADLINE)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1], server
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def port(serving: tuple[int, uvicorn.Server]) -> int:
    return serving[0]


def ask(port: int, method: str = "GET", **headers: str) -> HTTPResponse:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(
            method, "/", headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        response = connection.getresponse()
        response.read()
        return response


def begun(port: int, data: bytes = HALF) -> socket.socket:
    """Connect, send what isn't all, and fail rather than wait for ever."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=10)
    peer.sendall(data)
    return peer


def ended(peer: socket.socket) -> bool:
    """Wait for the end of a connection; returns whether it came without an answer."""
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True


def test_half_requests_keep_nobody_out_and_end(port: int) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(begun(port)) for _ in range(MAX_CONNECTIONS + 30)]
        began = time.monotonic()
        assert ask(port).status == 200
        assert time.monotonic() - began < DEADLINE + 2
        # The oldest gave way to those that came after them, without an answer.
        assert all(ended(peer) for peer in peers[:30])
        assert all(ended(peer) for peer in peers)
    assert ask(port).status == 200


@pytest.mark.parametrize(
    "begin", [HALF, b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"]
)
def test_a_request_in_drops_ends_at_the_deadline(port: int, begin: bytes) -> None:
    began = time.monotonic()
    with begun(port, begin) as peer:
        peer.settimeout(0.1)  # a byte as often
        with suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() - began < 10:
                try:
                    if not peer.recv(100_000):
                        break
                except TimeoutError:
                    peer.sendall(b"x")
    assert DEADLINE * 0.9 < time.monotonic() - began < 10


def test_a_peer_that_takes_no_answer_is_given_up(serving: tuple[int, uvicorn.Server]) -> None:
    port, server = serving
    with begun(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n") as peer:
        taken = len(peer.recv(1))
        eventually(lambda: not server.server_state.connections)
        with suppress(ConnectionResetError):
            while piece := peer.recv(100_000):
                taken += len(piece)
    assert taken < LARGE


def test_a_connection_serves_one_request_after_the_other(port: int) -> None:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        end = time.monotonic() + 1.5 * DEADLINE
        while time.monotonic() < end:  # a deadline is a request's, not a connection's
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"xx"
    assert ask(port, "HEAD").status == 200


def test_a_request_without_end_is_refused(port: int) -> None:
    with begun(port, HALF + b"x" * 100_000) as peer:
        assert peer.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("status", "method", "headers"),
    [
        *(
            (200, "GET", {"Host": host})
            for host in (
                *("localhost", "LocalHost:9543", "127.0.0.1:1", "[::1]:9543", "10.0.0.7"),
                *("pysync.example.org", "PYSYNC.example.org:443"),
            )
        ),
        *(
            (421, "GET", {"Host": host})
            for host in (
                *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[x]"),
                *("user@localhost", "localhost:9543:1", "evil.example:9543", "pysync.example.org."),
            )
        ),
        (200, "GET", {"Host": "localhost:1", "Origin": "http://localhost:1"}),
        (200, "GET", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}),
        (200, "GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
        (
            200,
            "GET",
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
        ),
        (403, "GET", {"Host": "localhost:1", "Origin": "http://localhost:2"}),
        (403, "GET", {"Origin": "null"}),
        (403, "GET", {"Origin": "http://evil.example"}),
        (403, "GET", {"Sec-Fetch-Site": "cross-site"}),
        (403, "GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}),
        (
            403,
            "GET",
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "iframe",
            },
        ),
        *((405, method, {}) for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE")),
    ],
    ids=str,
)
def test_no_other_site_makes_a_browser_ask(
    port: int, status: int, method: str, headers: dict[str, str]
) -> None:
    response = ask(port, method, **headers)
    assert response.status == status
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
