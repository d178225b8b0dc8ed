"""The ``pysync`` command: its options, and how errors end."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import psycopg
import typer
from typer.core import TyperGroup

from pysync import __version__
from pysync.cli.output import say, say_aside
from pysync.cli.parameters import PortalOption
from pysync.db.errors import meaning
from pysync.errors import PysyncError

INTERRUPTED: Final = 130

# Typer brings a copy of Click with it, or builds on the installed one: where it is depends on its
# version, that its own error is a usage error doesn't.
UsageError: Final[type[Any]] = typer.BadParameter.__mro__[1]

COMMANDS: Final = {
    "migrate": "migrate:app",
    "course": "course:app",
    "user": "user:app",
    "group": "group:app",
    "account": "account:app",
    "testcenter": "testcenter:app",
    "discussion": "discussion:app",
    "status": "status:status",
    "doctor": "doctor:doctor",
    "serve": "serve:serve",
    "wait": "wait:wait",
    "verify": "verify:verify",
    "repair": "verify:repair",
    "rebuild": "verify:rebuild",
    "resync": "resync:resync",
    "guard": "guard:guard",
    "erase": "erase:erase",
    "demo": "demo:demo",
}
"""Where each command is: a module here, and a function or a group of commands in it."""


class _Commands(TyperGroup):
    """Imports a command when it is called: none has to wait for what others need."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            self.commands = {name: _load(name) for name in COMMANDS}  # to suggest one of them
        return super().resolve_command(ctx, args)


def _load(name: str) -> Any:
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(import_module(f"pysync.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(name)(found)
        found = alone
    command = typer.main.get_command(found)
    command.name = name
    return command


app = typer.Typer(
    name="pysync",
    cls=_Commands,
    help="Carry portal users into exactly the course databases they are enrolled in.\n\n"
    "PostgreSQL moves the data; pysync sets it up, migrates it and reports on it.",
    epilog="The portal is named by --portal or PYSYNC_PORTAL: a libpq conninfo string or URI. "
    "Passwords come from it, from PGPASSWORD or from a password file.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


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
