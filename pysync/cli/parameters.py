"""Parameters that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from pysync.cli.output import FORMAT_OPTION, Format
from pysync.errors import PysyncError
from pysync.types import CourseId, course_id

CourseArgument = Annotated[str, typer.Argument(metavar="COURSE_ID", help="The course's id.")]
OptionalCourseArgument = Annotated[
    str | None, typer.Argument(metavar="[COURSE_ID]", help="The course's id; all if left out.")
]
FormatOption = Annotated[Format, FORMAT_OPTION]


def portal_conninfo(context: typer.Context) -> str:
    """Return how to reach the portal.

    :raises PysyncError: if nobody said.
    """
    conninfo = context.obj
    if not conninfo:
        raise PysyncError(
            "portal isn't named", "set PYSYNC_PORTAL or --portal to its conninfo string or URI"
        )
    return str(conninfo)


def checked(course: str | None) -> CourseId | None:
    """Return a course id from the command line, checked; ``None`` stays so."""
    return None if course is None else course_id(course)
