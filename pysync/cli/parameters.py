"""Parameters that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from pysync.cli.output import FORMAT_OPTION, Format
from pysync.errors import PysyncError
from pysync.types import CourseId, course_id


def _name_portal(context: typer.Context, conninfo: str | None) -> None:
    """Remember the portal, wherever on the command line it was named; the last one counts."""
    root = context.find_root()
    source = context.get_parameter_source("_portal")
    from_environment = source is not None and source.name == "ENVIRONMENT"
    if conninfo is not None and not (from_environment and root.obj):
        root.obj = conninfo


PortalOption = Annotated[
    str | None,
    typer.Option(
        "--portal",
        metavar="CONNINFO",
        envvar="PYSYNC_PORTAL",
        help="The portal database: a libpq conninfo string or URI.",
        callback=_name_portal,
        expose_value=False,
    ),
]
CourseArgument = Annotated[str, typer.Argument(metavar="COURSE_ID", help="The course's id.")]
OptionalCourseArgument = Annotated[
    str | None, typer.Argument(metavar="COURSE_ID", help="The course's id; all if left out.")
]
FormatOption = Annotated[Format, FORMAT_OPTION]


def portal_conninfo(context: typer.Context) -> str:
    """Return how to reach the portal.

    :raises PysyncError: if nobody said.
    """
    conninfo = context.find_root().obj
    if not conninfo:
        raise PysyncError(
            "portal isn't named", "set PYSYNC_PORTAL or --portal to its conninfo string or URI"
        )
    return str(conninfo)


def checked(course: str | None) -> CourseId | None:
    """Return a course id from the command line, checked; ``None`` stays so."""
    return None if course is None else course_id(course)
