"""Who is answered: people, Prometheus and programs, and no page of another site's.

There is no login, so a browser on this machine is the way in for strangers: a page from elsewhere
can have it ask any address that the browser reaches, and reads the answers if its own name leads
there (DNS rebinding).
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

METHODS: Final = ("GET", "HEAD")

_HOST: Final = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@\s]+))(?::[0-9]{1,5})?", re.ASCII)
_OWN_SITES: Final = ("same-origin", "none")
"""Of ``Sec-Fetch-Site``: a page of ours asks, or a person who typed the address."""


class Gate:
    """Lets through what reads, by a name that is ours, for nobody but ourselves.

    :param names: host names that lead here; addresses and ``localhost`` always do, since no name of
        a stranger's is among them.
    """

    def __init__(self, inner: ASGIApp, names: Collection[str] = ()) -> None:
        self._inner = inner
        self._names = {"localhost", *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application inside does, or refuse."""
        refusal = self._refusal(scope["method"], scope["path"], Headers(scope=scope))
        await (refusal or self._inner)(scope, receive, send)

    def _refusal(self, method: str, path: str, headers: Headers) -> Response | None:
        if method not in METHODS:
            allowed = ", ".join(METHODS)
            return PlainTextResponse(f"only {allowed}\n", 405, headers={"Allow": allowed})
        host = headers.get("host", "").lower()
        if not self._is_ours(host):
            told = "nothing is served by this Host; name it with --host if it is yours\n"
            return PlainTextResponse(told, 421)
        origin = headers.get("origin")
        foreign = origin is not None and origin.lower().partition("://")[2] != host
        site = headers.get("sec-fetch-site", "none")
        if foreign or (site not in _OWN_SITES and not _is_link(path, headers)):
            return PlainTextResponse("another site's page may not ask\n", 403)
        return None

    def _is_ours(self, host: str) -> bool:
        if not (found := _HOST.fullmatch(host)):
            return False
        try:
            ipaddress.ip_address(found[1] or found[2])
        except ValueError:
            return found[2] in self._names
        return True


def _is_link(path: str, headers: Headers) -> bool:
    """Return whether somebody followed a link to the page: who made it sees nothing of it."""
    where = headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")
    return path == "/" and where == ("navigate", "document")
