"""Parameters that several commands share."""

import re
from typing import Annotated, Any, Final

import typer

from pysync.cli.output import Format
from pysync.errors import PysyncError
from pysync.types import CourseId, course_id


def group(help: str, *, runs: bool = False) -> typer.Typer:
    """Return a group of commands: called without one it explains itself, unless it `runs`."""
    return typer.Typer(
        help=help,
        invoke_without_command=runs,
        no_args_is_help=not runs,
        add_completion=False,
        rich_markup_mode=None,
    )


def _named(context: typer.Context, conninfo: str | None) -> str | None:
    """Remember the portal, wherever on the command line it was named; the last one counts."""
    root = context.find_root()
    source = context.get_parameter_source("portal")
    if not root.obj or (source is not None and source.name == "COMMANDLINE"):
        root.obj = conninfo
    return root.obj or None


def required(portal: str | None) -> str:
    """Return how to reach the portal.

    :raises PysyncError: if nobody said.
    """
    if not portal:
        raise PysyncError(
            "portal isn't named", "set PYSYNC_PORTAL or --portal to its conninfo string or URI"
        )
    return portal


def _portal_option(callback: Any) -> Any:
    return typer.Option(
        "--portal",
        metavar="CONNINFO",
        envvar="PYSYNC_PORTAL",
        help="The portal database: a libpq conninfo string or URI.",
        callback=callback,
        default_factory=str,
        show_default=False,
    )


def _required(context: typer.Context, conninfo: str | None) -> str:
    return required(_named(context, conninfo))


Portal = Annotated[str, _portal_option(_required)]
"""How to reach the portal: named before or after the command, or by the environment."""

OptionalPortal = Annotated[str | None, _portal_option(_named)]
"""The same for whatever can do without: a group, whose command may name the portal."""

UsernameArgument = Annotated[str, typer.Argument(metavar="USERNAME", help="The user's name.")]
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
FormatOption = Annotated[
    Format, typer.Option("--format", help="Print a table for people or JSON for programs.")
]

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
