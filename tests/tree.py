"""A copy of the code that a test can change: the next version of pysync."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pysync.models.replicated import FROZEN
from tests.forks import Forks

ROOT = Path(__file__).parents[1]

# Starting Python and importing everything costs seconds: what others wrote is imported once, and each
# command is a fork of a process that has imported ours.
THEIRS = (
    "alembic.command",
    "pglast.stream",
    "psycopg.types.json",
    "pydantic.type_adapter",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.orm",
    "typer.main",
)
IMPORTED = (
    "alembic.command",
    "rich.progress",
    "pysync.cli.app",
    "pysync.cli.migrate",
    "pysync.cli.verify",
    "pysync.cli.status",
    "pysync.migrate.plan",
    "pysync.verification",
    "pysync.watching.status.document",
    "migrations.revise",
)

REVISE = "from migrations import revise; import sys; revise.main(sys.argv[1:])"


@cache
def _theirs() -> Forks:
    """Return the process that has imported nothing of ours."""
    forks = Forks(THEIRS, Path(os.path.sep), without=("PG", "PYSYNC_"))
    atexit.register(forks.stop)
    return forks


class Tree:
    """A copy of the code that can be changed.

    :param imported: what a process has imported before it is forked for each command.
    """

    def __init__(self, root: Path, imported: Iterable[str] = IMPORTED) -> None:
        self.root = root
        self._imported = imported
        self._forks: Forks | None = None
        for name in ("pysync", "sql", "migrations"):
            shutil.copytree(ROOT / name, root / name)

    def run(self, code: str, *arguments: str, portal: str = "") -> subprocess.CompletedProcess[str]:
        """Run Python code in a process of its own, with what is imported already."""
        if self._forks is None:
            self._forks = _theirs().fork(self._imported, self.root)
        return self._forks.run(code, "pysync", *arguments, PYSYNC_PORTAL=portal)

    def pysync(self, portal: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return self.run("from pysync.cli import main; main()", *arguments, portal=portal)

    def stop(self) -> None:
        """End the process with what is imported: the code changes."""
        if self._forks is not None:
            self._forks.stop()
            self._forks = None

    def make(self, *arguments: str) -> str:
        frozen = self.root / "pysync/models" / FROZEN.name
        before = frozen.read_text(encoding="utf-8")
        result = self.run(REVISE, *arguments)
        assert result.returncode == 0, result.stderr
        if frozen.read_text(encoding="utf-8") != before:
            self.stop()  # it has read what columns there were
        return result.stdout

    def refused(self, *arguments: str) -> str:
        result = self.run(REVISE, *arguments)
        assert result.returncode == 1, result.stdout
        assert "Traceback" not in result.stderr
        return result.stderr

    def migrate(self, conninfo: str, *arguments: str) -> None:
        result = self.pysync(conninfo, "migrate", "portal", *arguments)
        assert result.returncode == 0, result.stderr

    def edit(self, path: str, old: str, new: str) -> None:
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        if path.startswith("pysync/"):
            self.stop()
        (self.root / path).write_text(text.replace(old, new), encoding="utf-8")

    def lists(self, script: str) -> dict[str, Any]:
        names: dict[str, Any] = {"__file__": str(self.root / script)}
        exec((self.root / script).read_text(encoding="utf-8"), names)
        return {k: names[k] for k in ("DROPPED", "UP_DROPS", "DOWN_REPLAYS", "DOWN_DROPS")}

    def copies(self, revision: str) -> list[str]:
        folder = self.root / "migrations" / revision
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*.sql"))
