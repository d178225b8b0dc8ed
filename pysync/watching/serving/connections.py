"""Connections that slow or silent peers can't hold for long, nor keep others from having."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.h11_impl import H11Protocol

REQUEST_SECONDS: Final = 5
"""How long a request may take to arrive, from connecting or from the answer before; whole, so that
one byte a second gains nothing."""

ANSWER_SECONDS: Final = 20
"""How long an answer may take, from the request's arrival until its peer has taken all of it."""

MAX_CONNECTIONS: Final = 200
"""Of one more, the one that has waited for its peer longest gives way."""

MAX_REQUEST_BYTES: Final = 16_384
"""Of a request's line and headers; a browser sends the cookies of all that it has from a host."""


class BoundedProtocol(H11Protocol):
    """HTTP as uvicorn has it, with a deadline for the request and one for its answer."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._since = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; where there are too many, make room."""
        super().connection_made(transport)
        self._within(REQUEST_SECONDS)
        if len(self.connections) > MAX_CONNECTIONS:
            others = [each for each in self.connections if isinstance(each, BoundedProtocol)]
            slow = [each for each in others if each.waits_for_peer]
            min(slow, key=lambda each: each._since).give_up()  # noqa: SLF001

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Give the answer its time once a request has arrived."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._within(ANSWER_SECONDS)

    def on_response_complete(self) -> None:
        """Wait for the next request, unless the answer isn't taken yet."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.get_write_buffer_size():
            self._within(REQUEST_SECONDS)

    @property
    def waits_for_peer(self) -> bool:
        """Return whether it is the peer's turn: to ask, or to take an answer."""
        asked = self.cycle is not None and not self.cycle.response_complete
        return not asked or self.transport.get_write_buffer_size() > 0

    def give_up(self) -> None:
        """End the connection at once, whatever the peer has not taken."""
        self.connections.discard(self)  # it counts no longer, though its end is told later
        self.transport.abort()

    def _within(self, seconds: float) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._since = self.loop.time()
        self._deadline = self.loop.call_later(seconds, self.give_up)
