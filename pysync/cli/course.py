"""``pysync course``: add, remove, pause, resume, move, list."""

import sys
from typing import Annotated

import typer

from pysync.cli import many
from pysync.cli.comparison import print_comparison, print_move, taken_over, way_back
from pysync.cli.output import Format, bytes_text, say, say_aside, steps
from pysync.cli.parameters import (
    CourseArgument,
    DryRunOption,
    FormatOption,
    JobsOption,
    PasswordFileOption,
    Portal,
    PortalForCourseOption,
    ViaOption,
    course_without_password,
    group,
    with_password,
)
from pysync.lifecycle import courses, durability
from pysync.lifecycle import move as relocation
from pysync.lifecycle import pause as pausing
from pysync.lifecycle.reroute import prepare, reroute
from pysync.replication.polling import JOBS
from pysync.types import course_id, relay_id, subscriber_id

app = group("Add, remove, pause, move and list courses.")


@app.command()
def add(
    course: Annotated[
        str | None, typer.Argument(metavar="COURSE_ID", help="The course's id.")
    ] = None,
    conninfo: Annotated[
        str | None,
        typer.Argument(
            metavar="CONNINFO",
            help="The course database as pysync reaches it, without a password.",
            callback=course_without_password,
        ),
    ] = None,
    *,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Many at once: a CSV file with columns course_id, conninfo and, where a course's "
            "server needs its own, portal_conninfo; '-' is standard input.",
        ),
    ] = None,
    jobs: JobsOption = JOBS,
    portal_for_course: PortalForCourseOption = None,
    password_file: PasswordFileOption = None,
    adopt: Annotated[
        bool,
        typer.Option(
            "--adopt",
            help="The database holds users already: show what merging would change, and do it "
            "with --yes.",
        ),
    ] = False,
    keep_owner: Annotated[
        bool,
        typer.Option(
            "--keep-owner",
            help="Leave tables that are there already to their owner, not to pysync's role.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --adopt: do it.")] = False,
    durable: Annotated[
        bool,
        typer.Option("--durable", help="Flush each change there before it is confirmed: slower."),
    ] = False,
    via: ViaOption = None,
    dry_run: DryRunOption = False,
    format: FormatOption = Format.TABLE,
    portal: Portal,
) -> None:
    """Make a database a course's database and fill it.

    Checks both servers, migrates the course database, copies the members, subscribes and waits for
    the first copy. After an interruption the same command goes on. A database that holds users, by
    an older way of copying them, is merged with --adopt; without --yes that is a dry run.

    With --file for many courses: one that fails doesn't stop the others, and the other options
    hold for all. Run again it goes on with those that aren't there.
    """
    relay = None if via is None else relay_id(via)
    if file is not None:
        if course is not None or adopt:
            raise typer.BadParameter("takes neither a course nor --adopt", param_hint="--file")
        if file == password_file == "-":
            raise typer.BadParameter("standard input has the password", param_hint="--file")
        many.add(
            portal,
            many.read_courses(file, with_password(portal_for_course, password_file)),
            format,
            jobs=jobs,
            keep_owner=keep_owner,
            durable=durable,
            relay=relay,
            dry_run=dry_run,
        )
        return
    if course is None or conninfo is None:
        raise typer.BadParameter("name a course and its database, or give --file")
    named = (portal, course_id(course), conninfo)
    portal_for_course = with_password(portal_for_course, password_file)
    if adopt and (dry_run or not yes):
        from pysync.lifecycle import adopt as adoption

        with steps() as progress:
            found = adoption.preview(
                *named,
                progress,
                portal_conninfo_for_course=portal_for_course,
                keep_owner=keep_owner,
            )
        ending = "dry run: nothing was changed; confirm with --yes"
        print_comparison(found, format, course=course, done=False, ending=ending)
        return
    with steps() as progress:
        added = courses.add(
            *named,
            progress,
            portal_conninfo_for_course=portal_for_course,
            adopt=adopt,
            keep_owner=keep_owner,
            durable=durable,
            relay=relay,
            dry_run=dry_run,
        )
    if dry_run:
        name = added.course.replication_name
        for line in taken_over(added.taken_over):
            say(line)
        say_aside(way_back(added.course.portal_conninfo))
        say(
            f"dry run: course '{course}' is there already; it would be checked and finished"
            if added.already_there
            else f"dry run: course '{course}' would be added, with {added.users:,} users, and "
            f"publication, slot and subscription '{name}'; nothing was changed"
        )
        return
    say_aside(way_back(added.course.portal_conninfo))
    done = "is streaming already" if added.already_there else "added"
    say(f"course '{course}' {done}: {added.users:,} users there")


@app.command()
def remove(
    course: CourseArgument,
    *,
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
            callback=course_without_password,
        ),
    ] = None,
    dry_run: DryRunOption = False,
    portal: Portal,
) -> None:
    """End a course's replication; its database becomes writable."""
    checked = course_id(course)
    if not yes and not dry_run:
        if not sys.stdin.isatty():
            raise typer.BadParameter("confirm with --yes", param_hint="--yes")
        typer.confirm(f"End replication to course '{course}'?", abort=True)
    removed = courses.remove(portal, checked, conninfo=conninfo, force=force, dry_run=dry_run)
    if dry_run:
        name = removed.course.replication_name
        there = (
            "its database would keep its data and be writable"
            if removed.released
            else "its database can't be reached and would be left as it is"
        )
        say(
            f"dry run: publication, slot and subscription '{name}' and the fan-out of "
            f"{removed.members:,} users would be dropped; {there}; nothing was changed"
        )
    elif removed.released:
        say(f"course '{course}' removed: its database keeps its data and is writable")
    else:
        say(f"course '{course}' removed on the portal; its database wasn't reached")


@app.command()
def pause(course: CourseArgument, portal: Portal, dry_run: DryRunOption = False) -> None:
    """Stop a course's replication; the portal keeps WAL meanwhile."""
    done = pausing.switch(portal, subscriber_id(course), on=False, dry_run=dry_run)
    limit = (
        f"max_slot_wal_keep_size loses the course beyond {bytes_text(done.limit_bytes)}"
        if done.limit_bytes is not None
        else "max_slot_wal_keep_size sets no limit, so watch the portal's disk"
    )
    state = "is paused already" if not done.changed else "would be paused" if dry_run else "paused"
    say(
        f"course '{course}' {state}: the portal keeps WAL for it from now on, "
        f"{bytes_text(done.retained_bytes)} so far; {limit}"
    )


@app.command()
def durable(
    course: CourseArgument,
    *,
    off: Annotated[bool, typer.Option("--off", help="Don't any more.")] = False,
    portal: Portal,
) -> None:
    """Flush each change of a course before it is confirmed."""
    durability.switch(portal, subscriber_id(course), on=not off)
    say(f"course '{course}' is {'no longer durable' if off else 'durable'}")


@app.command()
def resume(course: CourseArgument, portal: Portal, dry_run: DryRunOption = False) -> None:
    """Go on with a course's replication."""
    done = pausing.switch(portal, subscriber_id(course), on=True, dry_run=dry_run)
    if not done.changed:
        say(f"course '{course}' isn't paused")
        return
    say(
        f"course '{course}' {'would be resumed' if dry_run else 'resumed'}: "
        f"{bytes_text(done.retained_bytes)} of WAL to catch up with at most"
    )


@app.command()
def move(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="COURSE_ID CONNINFO",
            help="The course, and its new database as pysync reaches it, without a password; with "
            "--via one or more courses.",
        ),
    ],
    *,
    via: Annotated[
        str | None,
        typer.Option(
            "--via",
            metavar="RELAY",
            help="Stay in this database, and stream from a relay, or from the 'portal'; "
            "--portal-conninfo is how to reach that.",
        ),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="The new database is empty, no copy of the old one.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Go on though the old database, or relay, is gone for ever."),
    ] = False,
    dry_run: DryRunOption = False,
    portal_for_course: PortalForCourseOption = None,
    password_file: PasswordFileOption = None,
    format: FormatOption = Format.TABLE,
    portal: Portal,
) -> None:
    """Have a course go on in another database, or by way of a relay.

    A new database is usually one on another server. Restore a dump of the old one there first, or
    give --fresh: a merge brings it up to date. The old database keeps its data and becomes
    writable. With --via courses stay where they are. After an interruption run it again.
    """
    portal_for_course = with_password(portal_for_course, password_file)
    if via is not None:
        if fresh or dry_run:
            raise typer.BadParameter("takes neither --fresh nor --dry-run", param_hint="--via")
        relay = None if via == "portal" else relay_id(via)
        courses_to_move = list(dict.fromkeys(map(course_id, names)))
        with steps() as progress:
            if relay is not None:
                prepare(portal, relay, courses_to_move, progress)
        for each in courses_to_move:
            with steps() as progress:
                found = reroute(
                    portal,
                    each,
                    relay,
                    progress,
                    portal_conninfo_for_course=portal_for_course,
                    force=force,
                )
            print_move(found, format, course=each, dry_run=False, via=via)
        return
    if len(names) != 2:  # noqa: PLR2004
        raise typer.BadParameter("name a course and its new database, or give --via")
    course, conninfo = names
    course_without_password(conninfo)
    with steps() as progress:
        found = relocation.move(
            portal,
            subscriber_id(course),
            conninfo,
            progress,
            fresh=fresh,
            force=force,
            portal_conninfo_for_course=portal_for_course,
            dry_run=dry_run,
        )
    print_move(found, format, course=course, dry_run=dry_run)


@app.command("list")
def list_courses(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """List the courses and their states, as 'pysync status' does."""
    from pysync.cli.status import print_report
    from pysync.watching.status import report

    print_report(report(portal), format)
