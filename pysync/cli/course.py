"""``pysync course``: add, remove, list."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from pysync import courses
from pysync.cli.output import Format, say, say_aside, steps
from pysync.cli.parameters import CourseArgument, FormatOption, PortalOption, portal_conninfo
from pysync.cli.status import print_report
from pysync.status import report
from pysync.types import course_id

app = typer.Typer(help="Add, remove and list courses.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def add(
    context: typer.Context,
    course: CourseArgument,
    conninfo: Annotated[
        str,
        typer.Argument(
            metavar="CONNINFO",
            help="The course database as pysync reaches it; its password isn't stored.",
        ),
    ],
    portal_for_course: Annotated[
        str | None,
        typer.Option(
            "--portal-conninfo",
            metavar="CONNINFO",
            help="The portal as the course's server reaches it, if differently.",
        ),
    ] = None,
    _portal: PortalOption = None,
) -> None:
    """Make a database a course's database and fill it.

    Checks both servers, migrates the course database, copies the members, subscribes and waits for
    the first copy. After an interruption the same command goes on.
    """
    with steps() as progress:
        added = courses.add(
            portal_conninfo(context),
            course_id(course),
            conninfo,
            progress,
            portal_conninfo_for_course=portal_for_course,
        )
    if added.password_dropped:
        say_aside(
            "note: passwords aren't stored; give later commands this one by PGPASSWORD or a "
            "password file"
        )
    done = "is streaming already" if added.already_there else "added"
    say(f"course '{course}' {done}: {added.users:,} users there")


@app.command()
def remove(
    context: typer.Context,
    course: CourseArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on though the course database is gone for ever.")
    ] = False,
    conninfo: Annotated[
        str | None,
        typer.Option(
            "--conninfo",
            metavar="CONNINFO",
            help="The course database, if it isn't where it was added.",
        ),
    ] = None,
    _portal: PortalOption = None,
) -> None:
    """End a course's replication; its database keeps its data and becomes writable."""
    checked = course_id(course)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("confirm with --yes", param_hint="--yes")
        typer.confirm(f"End replication to course '{course}'?", abort=True)
    released = courses.remove(portal_conninfo(context), checked, conninfo=conninfo, force=force)
    if released:
        say(f"course '{course}' removed: its database keeps its data and is writable")
    else:
        say(f"course '{course}' removed on the portal; its database wasn't reached")


@app.command("list")
def list_courses(
    context: typer.Context, format: FormatOption = Format.TABLE, _portal: PortalOption = None
) -> None:
    """List the courses with the state of their replication, as 'pysync status' does."""
    print_report(report(portal_conninfo(context)), format)
