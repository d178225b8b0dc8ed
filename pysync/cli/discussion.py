"""``pysync discussion``: turn the feature on, deliver, and look at what is queued."""

import asyncio
import logging
import os
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

import typer

from pysync.cli.logs import VerboseOption, log_events
from pysync.cli.output import Format, counted, print_json, print_rows, say, say_aside
from pysync.cli.parameters import FormatOption, Portal, group
from pysync.db.sessions import portal_session
from pysync.errors import PysyncError
from pysync.students import discussion
from pysync.students.discussion import DiscussionStatus, QueuedUser

API_KEY: Final = "PYSYNC_DISCUSSION_API_KEY"
_LOG: Final = logging.getLogger(__name__)

app = group("Tell the discussion service about users.")


@app.command()
def enable(portal: Portal) -> None:
    """Queue users that are added or changed, from now on.

    What counts as a change is another username or e-mail address.
    """
    with portal_session(portal, meets_users=False) as session:
        discussion.set_enabled(session, True)
    say("discussion service is on; 'pysync discussion queue-all' queues the users there are")


@app.command()
def disable(portal: Portal) -> None:
    """Queue and deliver nothing from now on; the queue stays."""
    with portal_session(portal, meets_users=False) as session:
        discussion.set_enabled(session, False)
    say("discussion service is off")


@app.command()
def push(
    portal: Portal,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            envvar="PYSYNC_DISCUSSION_URL",
            help="Where the service is, without /api/v1.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until SIGTERM or Ctrl-C.")
    ] = False,
    timeout: Annotated[float, typer.Option("--timeout", min=0.01, hidden=True)] = 5,
    lease: Annotated[float, typer.Option("--lease", min=0.02, hidden=True)] = 30,
    verbose: VerboseOption = False,
) -> None:
    """Deliver queued users to the discussion service.

    Its key comes from the environment variable PYSYNC_DISCUSSION_API_KEY. Ends with status 1 if the
    service didn't take some of them: those are due again later. Any number of these may run.
    """
    # httpx takes a while to import.
    from pysync.students import delivery
    from pysync.students.service import Service

    if not url:
        raise PysyncError("discussion service isn't named", "set PYSYNC_DISCUSSION_URL or --url")
    key = os.environ.get(API_KEY)
    if not key:
        raise PysyncError("discussion service's API key isn't known", f"set {API_KEY}")
    if lease <= timeout:
        raise typer.BadParameter("must be longer than --timeout", param_hint="--lease")
    log_events(verbose=verbose)
    with portal_session(portal):
        pass  # not as a superuser who would run others' code
    pushed = asyncio.run(
        delivery.push(
            portal,
            Service(url, key, timeout),
            partial(_LOG.warning, "%s") if follow else say_aside,
            follow=follow,
            lease_seconds=lease,
        )
    )
    say(f"{counted(pushed.delivered, 'user')} delivered")
    if follow:
        return
    if pushed.stopped:
        say_aside("stopped before the end; the same command goes on")
        raise typer.Exit(1)
    if pushed.failing:
        raise PysyncError(
            f"discussion service hasn't got the newest state of {counted(pushed.failing, 'user')}",
            "see 'pysync discussion status'",
        )


@app.command()
def status(
    portal: Portal,
    format: FormatOption = Format.TABLE,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="How many failing users to list.")
    ] = 20,
) -> None:
    """Report how many users are queued, and which of them fail."""
    with portal_session(portal) as session:
        found = discussion.status(session)
        failing = discussion.failing(session, limit)
    if format is Format.JSON:
        print_json({**_plain(found), "failing_users": [_plain(each) for each in failing]})
        return
    say(
        f"discussion service is {'on' if found.enabled else 'off'}: "
        f"{counted(found.queued, 'user')} queued, {found.due:,} due, "
        f"{found.delivering:,} being delivered, {found.failing:,} failing"
    )
    if found.oldest_queued_at:
        say(f"oldest queued {_iso(found.oldest_queued_at)}")
    if not failing:
        return
    columns = ("user", "username", "failed", "next attempt", "last error")
    rows = [
        (each.user_id, each.username, each.attempts, _iso(each.next_attempt_at), each.last_error)
        for each in failing
    ]
    print_rows(format, {}, columns, [map(str, row) for row in rows], right=("failed",))
    if found.failing > len(failing):
        say(f"and {found.failing - len(failing):,} more; --limit lists them")


@app.command()
def retry(
    portal: Portal,
    username: Annotated[
        str | None, typer.Argument(metavar="USERNAME", help="Whose; all if left out.")
    ] = None,
) -> None:
    """Make failed deliveries due now."""
    with portal_session(portal) as session:
        retried = discussion.retry(session, username)
    say(f"{counted(retried, 'user')} due now")


@app.command("queue-all")
def queue_all(portal: Portal) -> None:
    """Queue every user, as after the service lost its data."""
    with portal_session(portal) as session:
        queued = discussion.queue_all(session)
    say(f"{counted(queued, 'user')} queued")


def _plain(row: DiscussionStatus | QueuedUser) -> dict[str, Any]:
    return {k: _iso(v) if isinstance(v, datetime) else v for k, v in vars(row).items()}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
