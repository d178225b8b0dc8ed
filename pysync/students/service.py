"""The discussion service over HTTP: where it is, and how a user's state gets there."""

import asyncio
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlsplit

import httpx

from pysync import __version__
from pysync.errors import InvalidValueError
from pysync.texts import quoted

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
    timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            httpx.URL(self.user_url(0))
            usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
            usable = usable and not (parts.query or parts.fragment)
        except (ValueError, httpx.InvalidURL):
            usable = False
        # Either may hold a password: not repeated.
        if not usable:
            raise InvalidValueError(
                "discussion service's URL can't be used",
                "give one such as https://comments.example.org, without ? and #",
            )
        if not self.api_key or self.api_key.encode(errors="ignore").decode() != self.api_key:
            raise InvalidValueError(
                "discussion service's API key can't be used", "give it as text that isn't empty"
            )

    def user_url(self, user_id: int) -> str:
        """Return where a user's state goes."""
        return f"{self.url.rstrip('/')}/api/v1/users/{user_id}"


def client(service: Service, concurrency: int) -> httpx.AsyncClient:
    """Return so many connections to the service."""
    return httpx.AsyncClient(
        timeout=service.timeout_seconds,
        limits=httpx.Limits(max_connections=concurrency),
        headers={"User-Agent": f"pysync/{__version__}", "Accept-Encoding": "identity"},
    )


async def put(
    http: httpx.AsyncClient, service: Service, user_id: int, username: str, email: str
) -> str | None:
    """Tell the service of a user; return what went wrong, in one line and without secrets."""
    form = {
        "external_id": str(user_id),
        "username": username,
        "email": email,
        "api_key": service.api_key,
    }
    answer = b""
    try:
        # httpx's own timeouts are for each step: an answer in drops would last for ever.
        async with (
            asyncio.timeout(service.timeout_seconds),
            http.stream("PUT", service.user_url(user_id), data=form) as response,
        ):
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > _MAX_ANSWER_BYTES:
                    break
    except (TimeoutError, httpx.TimeoutException):
        return f"no answer within {service.timeout_seconds:g} s"
    except Exception as error:  # noqa: BLE001 - a user nobody can deliver mustn't end a pusher
        what, words = type(error).__name__, str(error)
    else:
        if response.is_success:
            return None
        phrase = httpx.codes.get_reason_phrase(response.status_code)
        what = f"HTTP {response.status_code} {phrase}".rstrip()
        words = answer.decode(errors="replace")
    for secret in (service.api_key, email):
        if secret:
            words = words.replace(secret, "…").replace(quote_plus(secret), "…")
    words = " ".join(words.split())
    return f"{what}: {quoted(words, _MAX_SHOWN)}" if words else what
