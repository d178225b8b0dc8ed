"""Let pgbench run one of the scripts in folder pgbench: the server's share alone."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pysync.demo.servers import Installation

CLIENTS = 4

_SCRIPTS = Path(__file__).with_name("pgbench")


@dataclass(frozen=True)
class Ran:
    """What pgbench reported: how many transactions, and how many of them a second."""

    transactions: int
    per_second: float


def run(
    installation: Installation,
    conninfo: str,
    script: str,
    variables: Mapping[str, int | str],
    *,
    seconds: float | None = None,
    transactions: int | None = None,
    per_second: int | None = None,
) -> Ran:
    """Run a script for some time, or for so many transactions, prepared and in autocommit.

    :param variables: the script's.
    :param seconds: pgbench counts whole ones.
    :param transactions: of all clients.
    :param per_second: how many are begun a second; as many as go by default.
    """
    options = [f"--define={name}={value}" for name, value in variables.items()]
    if seconds is not None:
        options.append(f"--time={max(round(seconds), 1)}")
    if transactions is not None:
        options.append(f"--transactions={transactions // CLIENTS}")
    if per_second is not None:
        options.append(f"--rate={per_second}")
    ran = subprocess.run(
        [
            installation.bindir / "pgbench",
            "--no-vacuum",
            "--protocol=prepared",
            f"--client={CLIENTS}",
            "--jobs=2",
            f"--file={_SCRIPTS / script}.sql",
            *options,
            conninfo,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    # A client that meets an error ends, and pgbench goes on without it.
    if ran.returncode != 0:
        raise RuntimeError(f"pgbench failed: {ran.stderr[-2000:]}")
    return Ran(
        int(_found(r"^number of transactions actually processed: (\d+)", ran.stdout)),
        float(_found(r"^tps = ([0-9.]+)", ran.stdout)),
    )


def _found(pattern: str, output: str) -> str:
    found = re.search(pattern, output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pgbench printed no {pattern!r}: {output}")
    return found.group(1)
