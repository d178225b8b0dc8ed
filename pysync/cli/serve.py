"""``pysync serve``."""

import re
import signal
import sys
from contextlib import ExitStack, closing
from functools import partial
from typing import Annotated, Final

import typer

from pysync.cli.logs import VerboseOption, log_events
from pysync.cli.output import say, say_aside
from pysync.cli.parameters import Portal
from pysync.db.connections import parse
from pysync.types import CourseId, Unwatched

DEFAULT_LISTEN: Final = "127.0.0.1:9543"

_LAST_PORT: Final = 65535


def _split(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (host and port.isascii() and port.isdecimal() and int(port) <= _LAST_PORT):
        raise typer.BadParameter(
            f"{listen!r} isn't HOST:PORT, such as {DEFAULT_LISTEN} or [::1]:9543",
            param_hint="--listen",
        )
    return host, int(port)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,6})([smhd]?)", text)
    if not found:
        raise typer.BadParameter(f"{text!r} isn't a time such as 90s, 15m, 1h, 7d or 0")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


def _verify(portal: str, course_id: CourseId) -> str | None:
    """Verify a course, or a relay's, which records the outcome; returns why that failed, if so."""
    from pysync import verification

    found = verification.verify(portal, [course_id], Unwatched(), jobs=1)
    return next((str(each.error) for each in found if each.error is not None), None)


def serve(
    portal: Portal,
    *,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.")
    ] = DEFAULT_LISTEN,
    interval: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=0.5, max=3600, help="Report this often."),
    ] = 5.0,
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host", metavar="NAME", help="A name that it is reached by, such as a proxy's."
        ),
    ] = None,
    verify_every: Annotated[
        str,
        typer.Option(
            "--verify-every",
            metavar="TIME",
            help="Verify each course so often, such as 15m, 1h, 7d; 0 for never.",
        ),
    ] = "1h",
    verify_share: Annotated[
        float,
        typer.Option(
            "--verify-share",
            metavar="SHARE",
            min=0.01,
            max=1,
            help="Verify during this share of the time.",
        ),
    ] = 0.1,
    verbose: VerboseOption = False,
) -> None:
    """Serve a page for people, and metrics for Prometheus.

    / is the page, /metrics what Prometheus reads, /api/status the JSON of 'pysync status',
    /healthz says whether reports come, /grafana-dashboard.json and /alert-rules.yml are for
    Grafana and Prometheus. They are there until it is stopped. There is no login.

    In the background it verifies every course in turn, one at a time.

    It answers by its addresses, as localhost, and by names that --listen and --host give: by no
    other, since a page of a stranger's may have one that leads here.
    """
    # Costly to import, and no other command needs it.
    from pysync.watching.serving import server
    from pysync.watching.serving.scrub import Scrub
    from pysync.watching.serving.watch import Watch

    log_events(verbose=verbose)
    every = _seconds(verify_every)
    asked = server.Address(*_split(listen))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        parse(portal)  # what can't be a portal is told before anything is listened on
        listener, address = server.listen(asked)
        with listener, ExitStack() as stack:
            watch = stack.enter_context(closing(Watch(portal, interval)))
            if every:
                scrub = Scrub(watch, partial(_verify, portal), every, verify_share)
                stack.enter_context(closing(scrub))
            if not address.is_loopback:
                say_aside(
                    f"warning: whoever reaches {address} can read course ids, causes and remedies: "
                    "there is no login; a proxy with one should stand before it",
                    style="yellow",
                )
            say(f"serving http://{address}/ until stopped")
            sys.stdout.flush()
            server.serve(watch, listener, [asked.host, *(host or ())])
    except KeyboardInterrupt:
        pass
