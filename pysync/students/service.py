"""The discussion service over HTTP: where it is, and how a user's state gets there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote_plus, urlsplit

import httpx

from pysync import __version__
from pysync.errors import InvalidValueError

TIMEOUT_SECONDS: Final = 5.0
"""How long the service may take for one user, all in all."""

_MAX_ANSWER_BYTES: Final = 65_536
_MAX_SHOWN: Final = 200


@dataclass(frozen=True)
class Service:
    """The discussion service: where it is, and its key. Neither is shown anywhere.

    :param url: with http or https and a host; ``/api/v1/users/…`` is appended.
    :param timeout_seconds: for one user, from connecting to the end of the answer.
    :raises InvalidValueError: if the URL isn't one, or the key is empty.
    """

    url: str = field(repr=False)
    api_key: str = field(repr=False)
    timeout_seconds: float = TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
            usable = usable and not (parts.query or parts.fragment) and parts.port != 0
            httpx.URL(self.user_url(0))
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            # It may hold a password: not repeated.
            raise InvalidValueError(
                "discussion service's URL can't be used",
                "give one such as https://comments.example.org, without ? and #",
            )
        try:
            usable = bool(self.api_key.encode())
        except UnicodeEncodeError:
            usable = False
        if not usable:
            raise InvalidValueError(
                "discussion service's API key can't be used", "give it as text that isn't empty"
            )

    def user_url(self, user_id: int) -> str:
        """Return where a user's state goes."""
        return f"{self.url.rstrip('/')}/api/v1/users/{user_id}"


class Client:
    """Connections to the service.

    :param concurrency: how many there may be at a time.
    """

    def __init__(self, service: Service, concurrency: int) -> None:
        self._service = service
        self._http = httpx.AsyncClient(
            timeout=service.timeout_seconds,
            limits=httpx.Limits(max_connections=concurrency),
            headers={"User-Agent": f"pysync/{__version__}", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.__aexit__(kind, error, traceback)

    async def put(self, user_id: int, username: str, email: str) -> str | None:
        """Tell the service of a user; return what went wrong, in one line and without secrets."""
        url = self._service.user_url(user_id)
        form = {
            "external_id": str(user_id),
            "username": username,
            "email": email,
            "api_key": self._service.api_key,
        }
        answer = b""
        try:
            # httpx's own timeouts are for each step: an answer in drops would last for ever.
            async with (
                asyncio.timeout(self._service.timeout_seconds),
                self._http.stream("PUT", url, data=form) as response,
            ):
                async for piece in response.aiter_raw():
                    answer += piece
                    if len(answer) > _MAX_ANSWER_BYTES:
                        break
        except (TimeoutError, httpx.TimeoutException):
            return f"no answer within {self._service.timeout_seconds:g} s"
        except Exception as error:  # noqa: BLE001 - a user nobody can deliver mustn't end a pusher
            what = f"{type(error).__name__}: {error}"
        else:
            if response.is_success:
                return None
            what = f"HTTP {response.status_code} {_phrase(response.status_code)}: "
            what += answer.decode(errors="replace")
        for secret in (self._service.api_key, email):
            if secret:
                what = what.replace(secret, "…").replace(quote_plus(secret), "…")
        return one_line(what)[:_MAX_SHOWN].rstrip(": ")


def one_line(text: str) -> str:
    """Return text with blanks for whatever would leave the line or move a terminal's cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""
