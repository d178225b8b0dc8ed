"""``pysync resync``."""

from enum import StrEnum
from typing import Annotated

import typer

from pysync.cli.comparison import print_comparison
from pysync.cli.many import Told
from pysync.cli.output import Format, plain, say, steps
from pysync.cli.parameters import (
    DryRunOption,
    FormatOption,
    JobsOption,
    PasswordFileOption,
    Portal,
    PortalForCourseOption,
    with_password,
)
from pysync.errors import PysyncError
from pysync.lifecycle import many
from pysync.lifecycle import resync as service
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication.merge import Outcome
from pysync.replication.polling import JOBS
from pysync.types import CourseId, subscriber_id

Table = StrEnum("Table", {name: name for name in REPLICATED_TABLES})  # type: ignore[misc]


def resync(
    portal: Portal,
    courses: Annotated[
        list[str] | None,
        typer.Argument(metavar="COURSE_ID", help="The courses' ids."),
    ] = None,
    *,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All courses that 'pysync status' doesn't call well, the worst first; those that "
            "'pysync course pause' stopped stay so, unless they have lost changes.",
        ),
    ] = False,
    jobs: JobsOption = JOBS,
    table: Annotated[
        Table | None,
        typer.Option("--table", help="Only this table, of a course that is streaming."),
    ] = None,
    dry_run: DryRunOption = False,
    portal_for_course: PortalForCourseOption = None,
    password_file: PasswordFileOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Make courses equal to the portal again, by a merge.

    Their replicated tables are made equal, and stream on. Nothing is emptied, readers aren't
    disturbed, columns and tables of a course's own survive. Recovers a course that has lost its
    slot, too: after a promotion of the portal's standby that is all of them, by --all. One that
    fails doesn't stop the others. After an interruption run it again.
    """
    if every == bool(courses):
        raise typer.BadParameter("name courses, or give --all")
    if every and table:
        raise typer.BadParameter("takes all tables", param_hint="--all")
    wanted = list(dict.fromkeys(map(subscriber_id, courses or ())))
    way, name = with_password(portal_for_course, password_file), table and str(table.value)
    if len(wanted) == 1:
        _resync_one(portal, wanted[0], format, way, name, dry_run=dry_run)
        return
    if every and not (wanted := _all_that_need_it(portal)) and format is Format.TABLE:
        say("all courses are well, or paused: nothing to resynchronise")
        return
    told = Told(format)

    def heard(course: CourseId, answer: Outcome | PysyncError) -> None:
        found = None if isinstance(answer, PysyncError) else answer
        told.tell(
            course,
            answer,
            lambda outcome: _line(course, outcome, dry_run=dry_run),
            differences=plain(found.differences) if found else [],
        )

    with steps() as progress:
        many.resync(
            portal,
            wanted,
            progress,
            heard,
            jobs=jobs,
            table=name,
            portal_conninfo_for_course=way,
            dry_run=dry_run,
        )
    if dry_run and format is Format.TABLE:
        say("dry run: nothing was changed")
    told.end("couldn't be resynchronised", done=not dry_run)


def _all_that_need_it(portal: str) -> list[CourseId]:
    """Return the courses that aren't well, the worst first, but those that are meant to stand."""
    from pysync.watching.status import Level, State, status

    found = [each for each in status(portal) if each.state.level is not Level.OK]
    paused = many.paused(portal) if any(each.state is State.PAUSED for each in found) else set()
    order = list(State)
    return [
        each.course_id
        for each in sorted(found, key=lambda each: order.index(each.state))
        if each.state is not State.PAUSED or each.course_id not in paused
    ]


def _resync_one(
    portal: str,
    course: CourseId,
    format: Format,
    way: str | None,
    table: str | None,
    *,
    dry_run: bool,
) -> None:
    with steps() as progress:
        found = (
            service.preview(portal, course, progress, table=table)
            if dry_run
            else service.resync(
                portal, course, progress, table=table, portal_conninfo_for_course=way
            )
        )
    ending = "dry run: nothing was changed" if dry_run else f"course '{course}' resynchronised"
    print_comparison(found, format, course=course, done=not dry_run, ending=ending)


def _line(course: CourseId, outcome: Outcome, *, dry_run: bool) -> str:
    sums = {
        what: sum(getattr(each, name) for each in outcome.differences)
        for name, what in (
            ("insert", "inserted"),
            ("update", "updated"),
            ("remove", "removed"),
            ("scrub", "scrubbed"),
        )
    }
    rows = ", ".join(f"{count:,} {what}" for what, count in sums.items() if count)
    done = "would be resynchronised" if dry_run else "resynchronised"
    return f"course '{course}' {done}: {rows or 'it was equal'}"
