"""``pysync guard``."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Annotated

import typer

from pysync.cli.output import bytes_text, say, say_aside
from pysync.cli.parameters import DryRunOption, Portal, size_bytes
from pysync.errors import PysyncError
from pysync.watching import guard as service
from pysync.watching.guard import Judged, Verdict


def guard(
    portal: Portal,
    max_retained: Annotated[
        str,
        typer.Option(
            "--max-retained",
            metavar="SIZE",
            help="WAL that one dead course may make the portal keep, such as 500MB or 10GB.",
        ),
    ] = "10GB",
    once: Annotated[bool, typer.Option("--once", help="Look twice, then end.")] = False,
    interval: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=0.1, max=86400, help="Between looks."),
    ] = service.DEFAULT_INTERVAL_SECONDS,
    dry_run: DryRunOption = False,
) -> None:
    """Drop the slots of dead courses that retain too much WAL.

    Dead is a course whose subscription wasn't connected at two looks in a row and whose slot didn't
    move between them; a healthy one is never touched. A course sacrificed so is lost until 'pysync
    resync'.
    """
    budget = size_bytes(max_retained, "--max-retained")

    def failed(error: PysyncError) -> None:
        say_aside(f"{_now()} {error}", style="red")

    said: dict[str, str] = {}
    for judged in service.watch(
        portal, budget, interval, once=once, dry_run=dry_run, failed=failed
    ):
        for each in judged:
            if said.get(each.course_id) != each.reason:  # not every round anew
                say(f"{_now()} {_sentence(each, budget)}")
        said = {each.course_id: each.reason for each in judged}
        if once and not judged:
            say(f"{_now()} no course retains more than {bytes_text(budget)}")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _sentence(judged: Judged, budget: int) -> str:
    done = {
        Verdict.SACRIFICED: "slot dropped",
        Verdict.CONDEMNED: "slot would be dropped",
        Verdict.SPARED: "left alone",
        Verdict.BUSY: "left alone",
    }[judged.verdict]
    remedy = (
        f"; run 'pysync resync {shlex.quote(judged.course_id)}' once its database is back"
        if judged.verdict is Verdict.SACRIFICED
        else ""
    )
    return (
        f"course '{judged.course_id}' retains {bytes_text(judged.retained_bytes)} of WAL, more "
        f"than {bytes_text(budget)}: {done}, {judged.reason}{remedy}"
    )
