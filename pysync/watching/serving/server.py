"""Listen, and serve until told to stop."""

import ipaddress
import logging
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass

import uvicorn

from pysync.errors import PysyncError
from pysync.watching.serving.app import app
from pysync.watching.serving.connections import (
    MAX_REQUEST_BYTES,
    REQUEST_SECONDS,
    BoundedProtocol,
)
from pysync.watching.serving.watch import Watch

_LOG = logging.getLogger(__name__)
_STOP_SECONDS = 2
_BACKLOG = 64
"""Connections that are accepted at once, before any can give way."""


@dataclass(frozen=True)
class Address:
    """Where to listen; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine reaches it; known of numeric addresses."""
        return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback


def listen(address: Address) -> tuple[socket.socket, Address]:
    """Listen on an address; returns the socket, and the address that it has.

    :raises PysyncError: if the address isn't ours or is in use.
    """
    try:
        family, *_, where = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(where[:2], family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise PysyncError(
            f"address '{address}' can't be listened on: {reason}",
            "name another with --listen HOST:PORT",
        ) from None
    host, port = listener.getsockname()[:2]
    _LOG.info("listening on %s", Address(host, port))
    return listener, Address(host, port)


def serve(watch: Watch, listener: socket.socket, names: Collection[str]) -> None:
    """Serve until SIGTERM or SIGINT, which is raised again afterwards.

    :param names: host names by which it is reached, see :class:`pysync.watching.serving.gate.Gate`.
    """
    config = uvicorn.Config(
        app(watch, names),
        loop="asyncio",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=MAX_REQUEST_BYTES,
        timeout_keep_alive=REQUEST_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listener])
