"""The ``pysync`` command: its options, and how errors end."""

import io
import os
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from pysync import __version__
from pysync.cli.output import say, say_aside
from pysync.cli.parameters import OptionalPortal
from pysync.errors import PysyncError
from pysync.texts import Text, visible

INTERRUPTED: Final = 130

# Typer brings a copy of Click with it, or builds on the installed one: where it is depends on its
# version, that its own error is a usage error doesn't.
UsageError: Final[type[Any]] = typer.BadParameter.__mro__[1]

COMMANDS: Final = {
    "grants": "Print what a role needs, for a superuser to run once.",
    "migrate": "Bring databases to a revision of their lineage.",
    "portal": "Claim a database as the portal, after a move or a copy.",
    "course": "Add, remove, pause, move and list courses.",
    "relay": "Add, remove and list relays, from which courses stream.",
    "column": "Have columns of the portal's own carried to courses.",
    "membership": "Decide which enrollments count: whose users a course has.",
    "user": "Look at users and change them.",
    "group": "Create groups, and add and remove users.",
    "account": "Register accounts, activate them, approve their changes.",
    "testcenter": "Check, create and register test-center users.",
    "discussion": "Tell the discussion service about users.",
    "status": "Report how replication is, with cause and remedy.",
    "doctor": "Examine servers, roles and tables; name what to mend.",
    "upgrade": "Look at what an upgrade of a server takes along.",
    "serve": "Serve a page for people, and metrics for Prometheus.",
    "wait": "Wait until what the portal committed is in a course.",
    "verify": "Compare courses with the portal, row by row.",
    "repair": "Mend the rows that differ, while the course streams.",
    "rebuild": "Make the fan-out what the portal's own tables say.",
    "resync": "Make courses equal to the portal again, by a merge.",
    "guard": "Drop the slots of dead courses that retain too much WAL.",
    "erase": "Delete a user, and see that every course has forgotten it.",
    "demo": "Replay a university's registrations on its own servers.",
}
"""What each command is for, as its own help begins: the list needs no command to be imported."""

_MODULES: Final = {"repair": "verify", "rebuild": "verify"}
"""Where commands are that don't lie in a module of their name."""


class _Commands(TyperGroup):
    """Imports a command when it is called: none has to wait for what others need."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        self.commands: Any = dict.fromkeys(COMMANDS)  # names are enough to suggest one of them
        return super().resolve_command(ctx, args)


def load(name: str) -> Any:
    """Import a command, or a group of commands, by its name."""
    module = import_module(f"pysync.cli.{_MODULES.get(name, name)}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False, rich_markup_mode=None)
        group.command(name)(getattr(module, name))
    command = typer.main.get_command(group)
    command.name = name
    return command


app = typer.Typer(
    name="pysync",
    cls=_Commands,
    help="Carry portal users into exactly the course databases they are enrolled in.\n\n"
    "PostgreSQL moves the data; pysync sets it up, migrates it and reports on it.",
    epilog="The portal is named by --portal or PYSYNC_PORTAL: a libpq conninfo string or URI. "
    "Passwords come from PYSYNC_PORTAL, from PGPASSWORD or from a password file.",
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
    portal: OptionalPortal,
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
    sys.stdout.flush()
    return status or 0


def main() -> None:
    """Run the command line; a PysyncError is one line on standard error and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(_run())
    except UsageError as error:
        error.message = visible(_without_values(error.message))
        error.show()
        sys.exit(error.exit_code)
    except typer.Abort:
        say_aside("pysync: not confirmed, nothing was changed")
        sys.exit(1)
    except KeyboardInterrupt:
        say_aside("pysync: interrupted; the same command goes on where it stopped")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; closing it again must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        known = error
        # It isn't imported to find out.
        if (psycopg := sys.modules.get("psycopg")) and isinstance(error, psycopg.Error):
            from pysync.db.errors import meaning

            known = meaning(error, "database")
        if not isinstance(known, PysyncError):
            raise
        say_aside(Text.plain("pysync: ") + known.text, style="red")
        sys.exit(1)
