"""``pysync relay``: add, remove, list."""

import sys
from typing import Annotated

import typer

from pysync.cli.comparison import way_back
from pysync.cli.output import (
    Format,
    bytes_text,
    print_rows,
    say,
    say_aside,
    seconds_text,
    steps,
)
from pysync.cli.parameters import (
    DryRunOption,
    FormatOption,
    PasswordFileOption,
    Portal,
    PortalForCourseOption,
    course_without_password,
    group,
    with_password,
)
from pysync.lifecycle import courses
from pysync.types import RELAY_PREFIX, relay_id

app = group("Add, remove and list relays, from which courses stream.")

RelayArgument = Annotated[str, typer.Argument(metavar="NAME", help="The relay's name.")]


@app.command()
def add(
    name: RelayArgument,
    conninfo: Annotated[
        str,
        typer.Argument(
            metavar="CONNINFO",
            help="Its database as pysync and the courses' servers reach it, without a password.",
            callback=course_without_password,
        ),
    ],
    *,
    portal_for_relay: PortalForCourseOption = None,
    password_file: PasswordFileOption = None,
    dry_run: DryRunOption = False,
    portal: Portal,
) -> None:
    """Make an empty database a relay.

    It holds what the portal holds for the courses that are added, or moved, with --via NAME, and
    nothing else; these stream from it, and the portal decodes once for all of them. After an
    interruption the same command goes on.
    """
    relay = relay_id(name)
    with steps() as progress:
        added = courses.add(
            portal,
            relay,
            conninfo,
            progress,
            portal_conninfo_for_course=with_password(portal_for_relay, password_file),
            dry_run=dry_run,
        )
    say_aside(way_back(added.course.portal_conninfo))
    if dry_run:
        done = "is there already; it would be checked" if added.already_there else "would be added"
        say(f"dry run: {added.course.subject} {done}; nothing was changed")
        return
    say(f"{added.course.subject} {'is streaming already' if added.already_there else 'added'}")


@app.command()
def remove(
    name: RelayArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on though its database is gone for ever.")
    ] = False,
    dry_run: DryRunOption = False,
    portal: Portal,
) -> None:
    """End a relay that carries no courses any more."""
    relay = relay_id(name)
    if not yes and not dry_run:
        if not sys.stdin.isatty():
            raise typer.BadParameter("confirm with --yes", param_hint="--yes")
        typer.confirm(f"End relay '{name}'?", abort=True)
    removed = courses.remove(portal, relay, force=force, dry_run=dry_run)
    done = "would be removed; nothing was changed" if dry_run else "removed"
    left = "" if removed.released else "; its database can't be reached and is left as it is"
    say(f"{'dry run: ' if dry_run else ''}{removed.course.subject} {done}{left}")


@app.command("list")
def list_relays(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """List the relays, how each is, and how many courses stream from it."""
    from pysync.watching.status import report

    courses_of: dict[str | None, list[str]] = {}
    found = report(portal).courses
    for each in found:
        courses_of.setdefault(each.relay, []).append(each.course_id)
    relays = [each for each in found if each.course_id.startswith(RELAY_PREFIX)]
    rows = [
        (
            each.course_id.removeprefix(RELAY_PREFIX),
            each.state.value,
            len(courses_of.get(each.course_id, ())),
            bytes_text(each.lag_bytes),
            seconds_text(each.lag_seconds),
        )
        for each in relays
    ]
    print_rows(
        format,
        {
            "relays": [
                {
                    "name": each.course_id.removeprefix(RELAY_PREFIX),
                    "state": each.state.value,
                    "cause": each.cause,
                    "remedy": each.remedy,
                    "courses": courses_of.get(each.course_id, []),
                    "lag_bytes": each.lag_bytes,
                    "lag_seconds": each.lag_seconds,
                }
                for each in relays
            ]
        },
        ("relay", "state", "courses", "lag", "behind"),
        rows,
        right=("courses", "lag", "behind"),
        none="no relays registered",
        notes=[f"{each.course_id}: {each.cause}; {each.remedy}" for each in relays if each.cause],
    )
