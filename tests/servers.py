"""Servers' data: made once per version, and copied for each server that a test starts.

`initdb` and migrations take most of a second each, and every process that runs tests needs servers of
two versions at least. What one of them has made the others copy.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo
from pytest_postgresql.executors import PostgreSQLExecutor

from pysync.demo.servers import Installation, Server, identity, make_folder, readable
from tests.support import eventually

INITDB: Final = "--username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync"

_CASTAGNOLI: Final = 0x82F63B78


class Executor(PostgreSQLExecutor):
    """A server whose data directory is there when it is started, and stays when it is not needed."""

    def init_directory(self) -> None:
        pass

    def clean_directory(self) -> None:
        pass

    def ready(self) -> Executor:
        """Start it, and wait until it takes connections."""
        self.start()
        eventually(self._takes_connections, 60)  # it listens before
        return self

    def _takes_connections(self) -> bool:
        target = make_conninfo(
            "", host=self.host, port=self.port, user=self.user, dbname="postgres"
        )
        with suppress(psycopg.OperationalError):
            psycopg.connect(target).close()
            return True
        return False


@contextmanager
def _alone(folder: Path, name: str) -> Iterator[None]:
    """Keep other processes' hands off what is made under a name."""
    with (folder / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def runnable(installation: Installation, folder: Path) -> Installation:
    """Return an installation that servers' user can read, in a folder that processes share."""
    with _alone(folder, "installations"):
        return readable(installation, folder)


def lay_data(
    installation: Installation,
    folder: Path,
    target: Path,
    name: str = "",
    fill: Callable[[Path], Any] | None = None,
) -> None:
    """Lay a server's data where it is to be started.

    :param installation: see :func:`runnable`.
    :param folder: where what is made is kept, for all processes.
    :param name: of what `fill` makes: it starts a server on the data directory it is given, and
        stops it.
    """
    version = f"{installation.version}-{name}"
    made = folder / version / "data"
    with _alone(folder, version):
        if not made.exists():
            making = make_folder(folder / f"{version}-making") / "data"
            shutil.rmtree(making, ignore_errors=True)
            if fill is None:
                _run(installation, "initdb", "--pgdata", making, *INITDB.split())
            else:
                lay_data(installation, folder, making)
                fill(making)
            making.parent.rename(made.parent)
    subprocess.run(["cp", "-a", made, target], check=True)
    _identify(installation, target)


def _run(installation: Installation, program: str, *arguments: str | Path) -> None:
    command = [installation.bindir / program, *arguments]
    subprocess.run(command, check=True, capture_output=True, **identity())


def _identify(installation: Installation, data: Path) -> None:
    """Give a copy an identity of its own, the way pg_createsubscriber does."""
    file = data / "global" / "pg_control"
    content = bytearray(file.read_bytes())
    # The last field is the checksum of all before it: where that is depends on the version.
    end = next(n for n, each in _checksums(content) if content[n : n + 4] == each)
    content[:8] = (int(time.time()) << 32 | secrets.randbits(32)).to_bytes(8, sys.byteorder)
    content[end : end + 4] = dict(_checksums(content))[end]
    file.write_bytes(content)
    _run(installation, "pg_resetwal", data)


def _checksums(content: bytearray) -> Iterator[tuple[int, bytes]]:
    """Return where a checksum (CRC-32C) may be, and what it is then of all before it."""
    crc = 0xFFFFFFFF
    for number, byte in enumerate(content[:512]):
        if number and number % 4 == 0:
            yield number, (crc ^ 0xFFFFFFFF).to_bytes(4, sys.byteorder)
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_CASTAGNOLI if crc & 1 else 0)


@contextmanager
def standby_of(original: Server, folder: Path, name: str) -> Iterator[Server]:
    """Start a standby of a server, with nothing set that it doesn't need to follow."""
    home = make_folder(folder / f"{name}-{original.installation.major}")
    server = Server(original.installation, home, original.settings)
    way = f"host=127.0.0.1 port={original.port} user=postgres"
    options = ("--checkpoint=fast", "--write-recovery-conf", "--no-sync", "--no-manifest")
    original._run("pg_basebackup", "-D", server.data, "-d", way, *options)
    server.start()
    yield server
    server.stop("immediate")
