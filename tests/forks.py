"""Python code in processes of its own that have imported what takes long: forks of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Self

PROGRAM = """
import gc, importlib, json, os, sys, traceback

def serve(names, requests, answers):
    for name in names:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in requests:
        request = json.loads(line)
        if pid := os.fork():
            # One that serves others lives on.
            code = 0 if "names" in request else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print(code, file=answers, flush=True)
            continue
        for number in (1, 2):
            os.dup2(os.open(request["out"][number - 1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.environ.update(request["environment"])
        code = 0
        try:
            if "names" in request:
                os.chdir(request["root"])
                sys.path.insert(0, request["root"])
                with open(request["pipes"][0]) as requests, open(request["pipes"][1], "w") as answers:
                    serve(request["names"], requests, answers)
            else:
                sys.argv = request["argv"]
                exec(request["code"], {"__name__": "__main__"})
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

serve(sys.argv[1:], sys.stdin, sys.stdout)
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
        self._process: subprocess.Popen[str] | None = subprocess.Popen(
            [sys.executable, *options, "-c", PROGRAM, *modules],
            cwd=root,
            env=kept | {"PYTHONPATH": str(root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def fork(self, modules: Iterable[str], root: Path) -> Self:
        """Return a fork that serves others in turn, and has imported more, which lies elsewhere."""
        new = object.__new__(type(self))
        new._process = None
        with tempfile.TemporaryDirectory() as folder:
            pipes = [Path(folder, name) for name in ("requests", "answers")]
            for pipe in pipes:
                os.mkfifo(pipe)
            self._ask(
                names=[*modules],
                root=str(root),
                pipes=[str(pipe) for pipe in pipes],
                out=[os.devnull, f"/proc/{os.getpid()}/fd/2"],
                environment={"PYTHONPATH": str(root)},
            )
            new._requests, new._answers = pipes[0].open("w"), pipes[1].open()
        return new

    def run(
        self, code: str, *arguments: str, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run code; `arguments` are its :data:`sys.argv`."""
        with tempfile.TemporaryDirectory() as folder:
            out = [Path(folder, name) for name in ("stdout", "stderr")]
            returncode = self._ask(
                code=code,
                argv=arguments,
                environment=environment,
                out=[str(file) for file in out],
            )
            said = [file.read_text(encoding="utf-8") for file in out]
        return subprocess.CompletedProcess(arguments, returncode, *said)

    def _ask(self, **request: object) -> int:
        print(json.dumps(request), file=self._requests, flush=True)
        return int(self._answers.readline())

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()
        self._requests.close()
        self._answers.close()
