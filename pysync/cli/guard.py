"""``pysync guard``."""

import logging
from typing import Annotated, Final

import typer

from pysync.cli.logs import VerboseOption, log_events
from pysync.cli.output import bytes_text, say
from pysync.cli.parameters import DryRunOption, Portal, size_bytes
from pysync.texts import Text, word
from pysync.watching import guard as service
from pysync.watching.guard import Action, Excess

_LOG: Final = logging.getLogger(__name__)


def guard(
    portal: Portal,
    *,
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
    verbose: VerboseOption = False,
) -> None:
    """Drop the slots of dead courses that retain too much WAL.

    Dead is a course whose subscription wasn't connected at two looks in a row and whose slot didn't
    move between them; a healthy one is never touched. A course sacrificed so is lost until 'pysync
    resync'.
    """
    budget = size_bytes(max_retained, "--max-retained")
    log_events(verbose=verbose)
    _LOG.info("watching for courses that retain more than %s", bytes_text(budget))
    said: dict[str, str] = {}
    for found in service.watch(portal, budget, interval, once=once, dry_run=dry_run):
        for each in found:
            if once:
                say(_sentence(each, budget))
            elif said.get(each.course_id) != each.reason:  # not every round anew
                _LOG.warning("%s", _sentence(each, budget))
        said = {each.course_id: each.reason for each in found}
        if once and not found:
            say(f"no course retains more than {bytes_text(budget)}")


def _sentence(excess: Excess, budget: int) -> Text:
    told = Text.plain(
        f"course '{excess.course_id}' retains {bytes_text(excess.retained_bytes)} of WAL, more "
        f"than {bytes_text(budget)}: {excess.action.value}, {excess.reason}"
    )
    if excess.action is not Action.DROPPED:
        return told
    resync = f"; run 'pysync resync {word(excess.course_id)}' once its database is back"
    return told + Text(resync)
