"""The pages of ``--help``: whole, in 80 columns, and the first of them at once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pysync.cli.app import COMMANDS, app, load


def commands() -> Iterator[tuple[str, Any]]:
    for name in COMMANDS:
        command = load(name)
        yield name, command
        for part, inner in getattr(command, "commands", {}).items():
            yield f"{name} {part}", inner


def test_the_list_of_commands_says_what_their_own_pages_say() -> None:
    said = {name: load(name).help.partition("\n\n")[0].replace("\n", " ") for name in COMMANDS}
    assert said == COMMANDS, "write the first line of the command's help into pysync/cli/app.py"


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_pages_are_whole_in_80_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    pages = [each for each, _ in commands() if each.split()[0] == name] or [name]
    for page in pages:
        app([*page.split(), "--help"], standalone_mode=False)
        usage, _, shown = capsys.readouterr().out.partition("\n\n")
        lines = shown.splitlines()
        assert max(map(len, (usage.splitlines() + lines))) <= 80
        cut = [line for line in lines if line.rstrip().endswith(("...", "…"))]
        assert not cut, f"shorten the first line of the help: {cut}"
        assert (
            page in {"", "demo", "testcenter check", "grants"}
            or "--portal" in "".join(lines)
            or ("Commands:" in lines)
        )


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--version", 0), ("stauts", 2)])
def test_what_needs_no_command_imports_none(argument: str, status: int) -> None:
    script = """
import sys
from pysync.cli import main
try:
    main()
finally:
    commands = {"app", "output", "parameters"}
    costly = ("rich", "psycopg", "sqlalchemy", "alembic", "pglast", "httpx")
    print(*(name for name in sys.modules if name.startswith("pysync.cli.")
            and name.rpartition(".")[2] not in commands or name in costly), file=sys.stderr)
"""
    result = subprocess.run(
        [sys.executable, "-c", script, argument], capture_output=True, text=True, check=False
    )
    assert result.returncode == status
    *said, imported = result.stderr.splitlines()
    assert not imported
    assert not said or "Did you mean 'status'?" in said[-1]


def test_a_report_needs_no_models() -> None:
    """To import them takes longer than to ask ten courses."""
    script = "import pysync.cli.status, sys; print({'sqlalchemy', 'alembic'} & {*sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "set()\n"
