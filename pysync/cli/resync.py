"""``pysync resync``."""

from enum import StrEnum
from typing import Annotated

import typer

from pysync.cli.comparison import print_comparison
from pysync.cli.output import Format, steps
from pysync.cli.parameters import (
    CourseArgument,
    DryRunOption,
    FormatOption,
    PasswordFileOption,
    Portal,
    PortalForCourseOption,
    with_password,
)
from pysync.lifecycle import resync as service
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import course_id

Table = StrEnum("Table", {name: name for name in REPLICATED_TABLES})  # type: ignore[misc]


def resync(
    course: CourseArgument,
    portal: Portal,
    *,
    table: Annotated[
        Table | None,
        typer.Option("--table", help="Only this table, of a course that is streaming."),
    ] = None,
    dry_run: DryRunOption = False,
    portal_for_course: PortalForCourseOption = None,
    password_file: PasswordFileOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Make a course equal to the portal again, by a merge.

    Its replicated tables are made equal, and stream on. Nothing is emptied, readers aren't
    disturbed, columns and tables of the course's own survive. Recovers a course that has lost its
    slot, too. After an interruption run it again.
    """
    portal_for_course = with_password(portal_for_course, password_file)
    checked, name = course_id(course), None if table is None else str(table.value)
    with steps() as progress:
        found = (
            service.preview(portal, checked, progress, table=name)
            if dry_run
            else service.resync(
                portal, checked, progress, table=name, portal_conninfo_for_course=portal_for_course
            )
        )
    ending = "dry run: nothing was changed" if dry_run else f"course '{course}' resynchronised"
    print_comparison(found, format, course=course, done=not dry_run, ending=ending)
