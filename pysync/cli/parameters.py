"""Parameters that several commands share."""

import os
import re
import sys
from contextlib import nullcontext
from typing import Annotated, Any, Final

import typer

from pysync.cli.output import Format
from pysync.errors import PysyncError
from pysync.types import CourseId, subscriber_id

SUBSCRIPTION_PASSWORD: Final = "PYSYNC_SUBSCRIPTION_PASSWORD"  # noqa: S105 - its name


def group(help: str, *, runs: bool = False) -> typer.Typer:
    """Return a group of commands: called without one it explains itself, unless it `runs`."""
    return typer.Typer(
        help=help,
        invoke_without_command=runs,
        no_args_is_help=not runs,
        add_completion=False,
        rich_markup_mode=None,
    )


def _refuse_password(conninfo: str | None, name: str, instead: str) -> str | None:
    """Refuse a password among a command's arguments, which everybody on a machine can list."""
    if conninfo:
        from pysync.db.connections import has_secrets

        if has_secrets(conninfo):
            raise PysyncError(
                f"connection string '{name}' refused: it has a password, and every user of this "
                "machine can read the command line",
                f"leave it out there, and {instead}",
            )
    return conninfo


def _named(context: typer.Context, conninfo: str | None) -> str | None:
    """Remember the portal, wherever on the command line it was named; the last one counts."""
    root = context.find_root()
    source = context.get_parameter_source("portal")
    given = source is not None and source.name == "COMMANDLINE"
    if given:
        _refuse_password(conninfo, "--portal", "give it by PYSYNC_PORTAL, PGPASSWORD or ~/.pgpass")
    if not root.obj or given:
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


def course_without_password(conninfo: str | None) -> str | None:
    """Refuse a password in how a course database is reached."""
    return _refuse_password(conninfo, "CONNINFO", "give it by PGPASSWORD, PGPASSFILE or ~/.pgpass")


def _portal_without_password(conninfo: str | None) -> str | None:
    instead = f"give it by --password-file, by {SUBSCRIPTION_PASSWORD} or when you are asked"
    return _refuse_password(conninfo, "--portal-conninfo", instead)


PortalForCourseOption = Annotated[
    str | None,
    typer.Option(
        "--portal-conninfo",
        metavar="CONNINFO",
        help="The portal as the course's server reaches it, if differently.",
        callback=_portal_without_password,
    ),
]
ViaOption = Annotated[
    str | None,
    typer.Option(
        "--via",
        metavar="RELAY",
        help="Stream from this relay (see 'pysync relay'); --portal-conninfo is how to reach it.",
    ),
]
PasswordFileOption = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="Begins with the password that the course's server gives the portal; '-' is standard "
        f"input. Else {SUBSCRIPTION_PASSWORD} has it, or you are asked.",
    ),
]


def with_password(conninfo: str | None, password_file: str | None) -> str | None:
    """Return how the course's server reaches the portal, with a password if there is one.

    :param conninfo: as given on the command line, without.
    """
    password = _password(conninfo, password_file)
    if not password:
        return conninfo
    from psycopg.conninfo import make_conninfo

    return make_conninfo(conninfo or "", password=password)


def _password(conninfo: str | None, password_file: str | None) -> str | None:
    if password_file is not None:
        try:
            with nullcontext(sys.stdin) if password_file == "-" else open(password_file) as file:  # noqa: PTH123, S105
                password = file.readline().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it isn't text"
            message = f"password file '{password_file}' can't be read: {reason}"
            raise PysyncError(message, "name a file that begins with the password") from None
        if not password:
            message = f"password file '{password_file}' refused: its first line is empty"
            raise PysyncError(message, "write the password there")
        return password
    if password := os.environ.get(SUBSCRIPTION_PASSWORD):
        return password
    if not conninfo or not sys.stdin.isatty() or not sys.stderr.isatty():
        return None
    from pysync.db.connections import parse

    parameters = parse(conninfo)
    if "user" not in parameters or parameters.keys() & {"passfile", "service", "sslcert"}:
        return None
    asked = f"Password of '{parameters['user']}' on the portal, for the course's server (or none)"
    return str(typer.prompt(asked, default="", show_default=False, hide_input=True, err=True))


JobsOption = Annotated[
    int, typer.Option("--jobs", metavar="N", min=1, max=64, help="Courses at a time.")
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
    """Return a course's or relay's id from the command line, checked; ``None`` stays so."""
    return None if course is None else subscriber_id(course)
