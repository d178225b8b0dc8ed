"""Parameters that several commands share."""

from __future__ import annotations

import re
from typing import Annotated, Final

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
PortalForCourseOption = Annotated[
    str | None,
    typer.Option(
        "--portal-conninfo",
        metavar="CONNINFO",
        help="The portal as the course's server reaches it, if differently.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
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


_UNITS: Final = {"": 1, "B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}


def size_bytes(text: str, option: str) -> int:
    """Return a size such as ``500MB`` in bytes, in PostgreSQL's units.

    :raises typer.BadParameter: if it is none.
    """
    found = re.fullmatch(r"([0-9]+)\s*([A-Z]*)", text.strip().upper())
    if found is None or found[2] not in _UNITS:
        raise typer.BadParameter(
            f"'{text}' is no size: write a number and kB, MB, GB or TB", param_hint=option
        )
    return int(found[1]) * _UNITS[found[2]]


def checked(course: str | None) -> CourseId | None:
    """Return a course id from the command line, checked; ``None`` stays so."""
    return None if course is None else course_id(course)
