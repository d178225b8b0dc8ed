"""The ``pysync`` command: its options, and how errors end."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any, Final

import psycopg
import typer

from pysync import __version__
from pysync.cli import (
    account,
    course,
    demo,
    discussion,
    doctor,
    erase,
    group,
    guard,
    migrate,
    resync,
    serve,
    status,
    testcenter,
    user,
    verify,
    wait,
)
from pysync.cli.output import say, say_aside
from pysync.cli.parameters import PortalOption
from pysync.db.errors import meaning
from pysync.errors import PysyncError

INTERRUPTED: Final = 130

# Typer brings a copy of Click with it, or builds on the installed one: where it is depends on its
# version, that its own error is a usage error doesn't.
UsageError: Final[type[Any]] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="pysync",
    help="Carry portal users into exactly the course databases they are enrolled in.\n\n"
    "PostgreSQL moves the data; pysync sets it up, migrates it and reports on it.",
    epilog="The portal is named by --portal or PYSYNC_PORTAL: a libpq conninfo string or URI. "
    "Passwords come from it, from PGPASSWORD or from a password file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(migrate.app, name="migrate")
app.add_typer(course.app, name="course")
app.add_typer(user.app, name="user")
app.add_typer(group.app, name="group")
app.add_typer(account.app, name="account")
app.add_typer(testcenter.app, name="testcenter")
app.add_typer(discussion.app, name="discussion")
app.command("status")(status.status)
app.command("doctor")(doctor.doctor)
app.command("serve")(serve.serve)
app.command("wait")(wait.wait)
app.command("verify")(verify.verify)
app.command("repair")(verify.repair)
app.command("rebuild")(verify.rebuild)
app.command("resync")(resync.resync)
app.command("guard")(guard.guard)
app.command("erase")(erase.erase)
app.command("demo")(demo.demo)


def _version(value: bool) -> None:
    if value:
        say(f"pysync {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _portal: PortalOption = None,
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = None,
) -> None:
    pass


def _without_values(message: str) -> str:
    """Leave out of a usage error what may hold a password: a connection string without quotes."""
    for word in sys.argv[1:]:
        if "=" in word or "://" in word:
            message = message.replace(word, "…")
    return message


def _run() -> int:
    status: int | None = app(standalone_mode=False)
    if status == INTERRUPTED:  # Typer catches it on the way and says nothing
        raise KeyboardInterrupt
    return status or 0


def main() -> None:
    """Run the command line; a PysyncError is one line on standard error and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(_run())
    except UsageError as error:
        error.message = _without_values(error.message)
        error.show()
        sys.exit(error.exit_code)
    except typer.Abort:
        say_aside("pysync: not confirmed, nothing was changed")
        sys.exit(1)
    except PysyncError as error:
        say_aside(f"pysync: {error}".replace("\n", " "), style="red")
        sys.exit(1)
    except psycopg.Error as error:
        say_aside(f"pysync: {meaning(error, 'database')}".replace("\n", " "), style="red")
        sys.exit(1)
    except KeyboardInterrupt:
        say_aside("pysync: interrupted; the same command goes on where it stopped")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; closing it again must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
