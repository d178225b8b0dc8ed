"""``pysync discussion``: turn the feature on, deliver, and look at what is queued."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Final

import typer

from pysync.cli.output import Format, escape, new_table, print_json, print_table, say, say_aside
from pysync.cli.parameters import FormatOption, PortalOption, portal_conninfo
from pysync.db.sessions import portal_session
from pysync.errors import PysyncError
from pysync.students import discussion

API_KEY: Final = "PYSYNC_DISCUSSION_API_KEY"

app = typer.Typer(
    help="Tell the discussion service about users.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def enable(context: typer.Context, _portal: PortalOption = None) -> None:
    """Queue users from now on, as they are added or get another username or e-mail address."""
    with portal_session(portal_conninfo(context)) as session:
        discussion.set_enabled(session, True)
    say("discussion service is on; 'pysync discussion queue-all' queues the users there are")


@app.command()
def disable(context: typer.Context, _portal: PortalOption = None) -> None:
    """Queue and deliver nothing from now on; what is queued stays."""
    with portal_session(portal_conninfo(context)) as session:
        discussion.set_enabled(session, False)
    say("discussion service is off")


@app.command()
def push(
    context: typer.Context,
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
    _portal: PortalOption = None,
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
    pushed = asyncio.run(
        delivery.push(
            portal_conninfo(context),
            Service(url, key, timeout),
            say_aside,
            follow=follow,
            lease_seconds=lease,
        )
    )
    say(f"{_users(pushed.delivered)} delivered")
    if follow:
        return
    if pushed.stopped:
        say_aside("stopped before the end; the same command goes on")
        raise typer.Exit(1)
    if pushed.failing:
        raise PysyncError(
            f"discussion service hasn't got the newest state of {_users(pushed.failing)}",
            "see 'pysync discussion status'",
        )


@app.command()
def status(
    context: typer.Context,
    format: FormatOption = Format.TABLE,
    limit: Annotated[
        int, typer.Option("--limit", min=0, help="How many failing users to list.")
    ] = 20,
    _portal: PortalOption = None,
) -> None:
    """Report how many users are queued, and which of them fail."""
    with portal_session(portal_conninfo(context)) as session:
        found = discussion.status(session)
        failing = discussion.failing(session, limit)
    if format is Format.JSON:
        document = {
            **asdict(found),
            "oldest_queued_at": _iso(found.oldest_queued_at),
            "failing_users": [
                {
                    **asdict(each),
                    "queued_at": _iso(each.queued_at),
                    "next_attempt_at": _iso(each.next_attempt_at),
                    "claimed_until": _iso(each.claimed_until),
                }
                for each in failing
            ],
        }
        print_json(document)
        return
    say(
        f"discussion service is {'on' if found.enabled else 'off'}: {_users(found.queued)} queued, "
        f"{found.due:,} due, {found.delivering:,} being delivered, {found.failing:,} failing"
    )
    if found.oldest_queued_at:
        say(f"oldest queued {_iso(found.oldest_queued_at)}")
    if not failing:
        return
    table = new_table("user", "username", "failed", "next attempt", "last error", right=("failed",))
    for each in failing:
        table.add_row(
            str(each.user_id),
            escape(each.username),
            str(each.attempts),
            _iso(each.next_attempt_at),
            escape(each.last_error or ""),
        )
    print_table(table)
    if found.failing > len(failing):
        say(f"and {found.failing - len(failing):,} more; --limit lists them")


@app.command()
def retry(
    context: typer.Context,
    username: Annotated[
        str | None,
        typer.Argument(metavar="USERNAME", help="Whose; all if left out."),
    ] = None,
    _portal: PortalOption = None,
) -> None:
    """Make failed deliveries due now."""
    with portal_session(portal_conninfo(context)) as session:
        retried = discussion.retry(session, username)
    say(f"{_users(retried)} due now")


@app.command("queue-all")
def queue_all(context: typer.Context, _portal: PortalOption = None) -> None:
    """Queue every user, as after the service lost its data."""
    with portal_session(portal_conninfo(context)) as session:
        queued = discussion.queue_all(session)
    say(f"{_users(queued)} queued")


def _users(count: int) -> str:
    return f"{count:,} user{'' if count == 1 else 's'}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
