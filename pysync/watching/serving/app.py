"""What is served where."""

import json
import re
from collections.abc import Collection
from importlib import resources
from typing import Any, Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pysync.types import JSON_VERSION
from pysync.watching.serving.gate import Gate
from pysync.watching.serving.page import live_data, live_page, policy
from pysync.watching.serving.watch import Watch
from pysync.watching.status.document import document
from pysync.watching.status.metrics import prometheus_text

UNAVAILABLE: Final = 503

SHIPPED: Final = {
    "/grafana-dashboard.json": "application/json",
    "/alert-rules.yml": "application/yaml",
}
"""Files of :mod:`pysync.watching.serving.monitoring`, with their media types."""

_PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


def app(watch: Watch, names: Collection[str]) -> Starlette:
    """Return the application; its handlers are plain functions, which run in threads.

    :param names: host names by which it is reached.
    """

    def page(_: Request) -> Response:
        return HTMLResponse(live_page(watch.known))

    def page_data(request: Request) -> Response:
        asked = request.query_params.get("since", "")
        since = int(asked) if re.fullmatch("[0-9]{1,18}", asked) else 0
        return _json(live_data(watch.known, since))

    def status(_: Request) -> Response:
        known = watch.known
        trouble = known.trouble
        if known.report is None or trouble is not None:
            return _json({"error": str(trouble)}, UNAVAILABLE)
        return _json(document(known.report))

    def health(_: Request) -> Response:
        trouble = watch.known.trouble
        return PlainTextResponse(f"{trouble or 'ok'}\n", UNAVAILABLE if trouble else 200)

    def metrics(_: Request) -> Response:
        # A report that is old would pass for the present: its series are left out.
        known, up = watch.known, watch.known.trouble is None
        text = prometheus_text(known.report if up else None, up=up)
        return Response(text, media_type=_PROMETHEUS)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/page", page_data),
            Route("/api/status", status),
            Route("/healthz", health),
            Route("/metrics", metrics),
            *(Route(path, _shipped) for path in SHIPPED),
        ],
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(Gate, names=names),
            Middleware(GZipMiddleware, minimum_size=2000),
        ],
    )


class SecurityHeaders:
    """Adds to every response what keeps browsers from doing more than show it."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self._headers = {
            "Content-Security-Policy": f"{policy()}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application inside does, with more headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._inner(scope, receive, send_with_headers)


def _shipped(request: Request) -> Response:
    path = request.url.path
    file = resources.files("pysync.watching.serving.monitoring").joinpath(path.removeprefix("/"))
    return Response(file.read_bytes(), media_type=SHIPPED[path])


def _json(content: dict[str, Any], status_code: int = 200) -> Response:
    text = json.dumps({"version": JSON_VERSION, **content}, indent=2) + "\n"
    return Response(text, status_code, media_type="application/json")
