"""A copy of the code that a test can change: the next version of pysync."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

# Starting Python and importing everything costs seconds: each command is a fork of one process.
FORKS = """
import importlib, json, os, sys, traceback
for name in ("alembic.command", "rich.progress", "pysync.cli.app", "pysync.cli.migrate",
             "pysync.cli.verify", "pysync.cli.status", "pysync.migrate.plan", "pysync.verification",
             "pysync.watching.status.document", "migrations.revise"):
    importlib.import_module(name)
for line in sys.stdin:
    request = json.loads(line)
    if not (pid := os.fork()):
        for number in (1, 2):
            os.dup2(os.open(request["out"][number - 1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.environ.update(request["environment"])
        sys.argv, code = request["argv"], 0
        try:
            exec(request["code"])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1 if error.code else 0
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

REVISE = "from migrations import revise; import sys; revise.main(sys.argv[1:])"


class Tree:
    """A copy of the code that can be changed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._forks: subprocess.Popen[str] | None = None
        for name in ("pysync", "sql", "migrations"):
            shutil.copytree(ROOT / name, root / name)

    def run(self, code: str, *arguments: str, portal: str = "") -> subprocess.CompletedProcess[str]:
        """Run Python code in a process of its own, with what is imported already."""
        if self._forks is None:
            kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYSYNC_"))}
            self._forks = subprocess.Popen(
                [sys.executable, "-c", FORKS],
                cwd=self.root,
                env=kept | {"PYTHONPATH": str(self.root)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._forks.stdin is not None
        assert self._forks.stdout is not None
        out = [self.root / name for name in ("stdout", "stderr")]
        request = {
            "code": code,
            "argv": ["pysync", *arguments],
            "environment": {"PYSYNC_PORTAL": portal},
            "out": [str(file) for file in out],
        }
        print(json.dumps(request), file=self._forks.stdin, flush=True)
        returncode = int(self._forks.stdout.readline())
        said = [file.read_text(encoding="utf-8") for file in out]
        return subprocess.CompletedProcess(arguments, returncode, *said)

    def pysync(self, portal: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return self.run("from pysync.cli import main; main()", *arguments, portal=portal)

    def stop(self) -> None:
        """End the process with what is imported: the code changes."""
        if self._forks is not None:
            self._forks.communicate()
            self._forks = None

    def make(self, *arguments: str) -> str:
        result = self.run(REVISE, *arguments)
        assert result.returncode == 0, result.stderr
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
