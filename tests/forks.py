"""Python code in processes of its own that have imported what takes long: forks of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

PROGRAM = """
import gc, importlib, json, os, sys, traceback
for name in sys.argv[1:]:
    importlib.import_module(name)
gc.collect()
gc.freeze()
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


class Forks:
    """A process that has imported modules, and runs code in forks of itself, one after the other.

    :param modules: what it imports; nothing of them may hold what a fork is to change.
    :param root: where its own modules lie.
    :param options: the interpreter's.
    :param without: how the names of environment variables begin that it hasn't.
    """

    def __init__(
        self, modules: Iterable[str], root: Path, *options: str, without: tuple[str, ...]
    ) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(without)}
        self._process = subprocess.Popen(
            [sys.executable, *options, "-c", PROGRAM, *modules],
            cwd=root,
            env=kept | {"PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, code: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run code; `arguments` are its :data:`sys.argv`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            out = [Path(folder, name) for name in ("stdout", "stderr")]
            request = {
                "code": code,
                "argv": arguments,
                "environment": environment,
                "out": [str(file) for file in out],
            }
            print(json.dumps(request), file=self._process.stdin, flush=True)
            returncode = int(self._process.stdout.readline())
            said = [file.read_text(encoding="utf-8") for file in out]
        return subprocess.CompletedProcess(arguments, returncode, *said)

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()
