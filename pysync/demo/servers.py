"""PostgreSQL servers of our own: found, started and stopped, for the demo and for tests.

A wheel that brings a server lays it into a folder ``pginstall`` of its package, or one that begins
so: whichever are installed are found, newest first.

PostgreSQL refuses to run as root. Where we are root, servers run as an unprivileged user that
exists already (``postgres``, else ``nobody``), and installations that this user couldn't read
(a virtual environment below ``/root``) are copied to where it can.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pysync.errors import UnsuitableServerError

START_TIMEOUT_SECONDS: Final = 60
_UNPRIVILEGED_USERS: Final = ("postgres", "nobody")


@dataclass(frozen=True)
class Installation:
    """A PostgreSQL server installation: its ``bin`` folder and where it was found."""

    bindir: Path
    origin: str

    @property
    def version(self) -> str:
        """Return the server's version, such as ``18.6`` or ``15.18``."""
        output = self._ask("--version")
        match = re.search(r"\d+(\.\d+|\w+)?", output)
        if match is None:
            raise UnsuitableServerError(f"server '{self.bindir}' names no version: {output!r}")
        return match.group()

    @property
    def major(self) -> int:
        """Return the server's major version, such as 18."""
        return int(re.split(r"\D", self.version)[0])

    def replication_slots(self, number: int) -> dict[str, str]:
        """Return the settings for so many slots and, as a subscriber, replication origins."""
        described = self._ask("--describe-config").splitlines()
        known = {line.split("\t", 1)[0] for line in described}
        # Where origins have no setting of their own, that of the slots is theirs as well.
        names = {"max_replication_slots", "max_active_replication_origins"} & known
        return dict.fromkeys(sorted(names), str(number))

    def _ask(self, option: str) -> str:
        return subprocess.run(
            [self.bindir / "postgres", option], check=True, capture_output=True, text=True
        ).stdout


def installations() -> Iterator[Installation]:
    """Find server installations: ``PG_BINDIR``, wheels, ``pg_config``, Debian's folders.

    :returns: each at most once, the preferred one first.
    """
    seen: set[Path] = set()
    for origin, bindir in _candidates():
        whole = (bindir / "postgres").exists() and (bindir / "initdb").exists()
        if whole and bindir.resolve() not in seen:
            seen.add(bindir.resolve())
            yield Installation(bindir, origin)


def find_installation() -> Installation:
    """Return the preferred installation.

    :raises UnsuitableServerError: if there is none.
    """
    for installation in installations():
        return installation
    raise UnsuitableServerError(
        "PostgreSQL server not found: neither a wheel nor an installed one",
        "run 'pip install \"pysync[embedded]\"', or set PG_BINDIR to a server's bin folder",
    )


def _candidates() -> Iterator[tuple[str, Path]]:
    if bindir := os.environ.get("PG_BINDIR"):
        yield "PG_BINDIR", Path(bindir)
    folders = [
        folder
        for entry in sys.path
        for folder in Path(entry).glob("*/pginstall*/bin")
        if (folder / "postgres").exists()
    ]
    for folder in sorted(folders, key=_by_version, reverse=True):
        yield "wheel", folder
    if program := shutil.which("pg_config"):
        ran = subprocess.run([program, "--bindir"], check=False, capture_output=True, text=True)
        if ran.returncode == 0:
            yield "pg_config", Path(ran.stdout.strip())
    debian = Path("/usr/lib/postgresql")
    for folder in sorted(debian.glob("[0-9]*/bin"), key=lambda p: -int(p.parent.name)):
        yield "Debian", folder


def _by_version(bindir: Path) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", Installation(bindir, "wheel").version)]


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user servers must run as: ``None`` unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in _UNPRIVILEGED_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise UnsuitableServerError(
        "PostgreSQL refuses to run as root, and neither user 'postgres' nor 'nobody' exists",
        "create one, or run pysync as an ordinary user",
    )


def identity() -> dict[str, Any]:
    """Return the :mod:`subprocess` arguments that make a child run as the unprivileged user."""
    user = _unprivileged_user()
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def make_folder(path: Path) -> Path:
    """Make a folder that servers may write to, reachable for the user they run as."""
    path.mkdir(parents=True, exist_ok=True)
    user = _unprivileged_user()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)
    return path


def temporary_folder(prefix: str, parent: str = "/tmp") -> Path:  # noqa: S108
    """Make a folder with a short path (Unix sockets allow 107 bytes) that servers may write to."""
    return make_folder(Path(tempfile.mkdtemp(prefix=prefix, dir=parent)))


def readable(installation: Installation, folder: Path) -> Installation:
    """Return the installation, or a copy of it in `folder` if its user couldn't read it there."""
    if _can_run(installation.bindir / "postgres"):
        return installation
    root = installation.bindir.parent
    target = folder / "installation" / root.parent.name / root.name
    if not target.exists():
        shutil.copytree(root, target, symlinks=True)
        libraries = root.parent.parent / f"{root.parent.name}.libs"
        if libraries.exists():
            copied = folder / "installation" / libraries.name
            shutil.copytree(libraries, copied, dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "a+rX", folder / "installation"], check=True)  # noqa: S607
    return Installation(target / "bin", f"{installation.origin}, copied")


def _can_run(program: Path) -> bool:
    """Tell whether the user that servers run as can reach a program, and run it."""
    if _unprivileged_user() is not None and not all(
        parent.stat().st_mode & 0o001 for parent in program.parent.resolve().parents
    ):
        return False
    ran = subprocess.run([program, "--version"], check=False, capture_output=True, **identity())
    return ran.returncode == 0


def free_port() -> int:
    """Return a TCP port on the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One PostgreSQL server on the loopback interface, with ``trust`` authentication.

    :param installation: what to run; see :func:`readable`.
    :param folder: where its data, socket and log go; see :func:`make_folder`.
    :param settings: parameters on top of what logical replication needs.
    :param asks_for_password: a role that isn't trusted.
    """

    installation: Installation
    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    asks_for_password: str | None = None

    @property
    def data(self) -> Path:
        """Return the data directory."""
        return self.folder / "data"

    def conninfo(self, dbname: str = "postgres") -> str:
        """Return a conninfo string for a database of this server, as its superuser."""
        return make_conninfo("", host="127.0.0.1", port=self.port, user="postgres", dbname=dbname)

    def start(self) -> None:
        """Start the server and wait until it accepts connections.

        :raises UnsuitableServerError: if it doesn't within 60 s; its log's end is in the message.
        """
        if not self.data.exists():
            make_folder(self.folder)
            # Whether to sync is left to the settings.
            how = "--username=postgres --auth=trust --encoding=UTF8 --locale=C --no-sync"
            self._run("initdb", "--pgdata", self.data, "--no-instructions", *how.split())
            if self.asks_for_password:
                hba = self.data / "pg_hba.conf"
                rule = f"host all {self.asks_for_password} 127.0.0.1/32 scram-sha-256\n"
                hba.write_text(rule + hba.read_text(encoding="utf-8"), encoding="utf-8")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "wal_level": "logical",
            **self.settings,
        }
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        start = ("start", "--wait", f"--timeout={START_TIMEOUT_SECONDS}")
        log = self.folder / "server.log"
        try:
            self._run("pg_ctl", *start, "-D", self.data, "-l", log, "-o", options)
        except UnsuitableServerError:
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            raise UnsuitableServerError(f"server '{self.data}' did not start: {tail}") from None

    def stop(self, mode: str = "fast") -> None:
        """Stop the server, rolling back what is open; nothing happens if it isn't running.

        :param mode: ``immediate`` where its data doesn't matter any more.
        """
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", "-D", self.data)

    def create_database(self, name: str) -> str:
        """Create a database and return its conninfo."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self.conninfo(name)

    def _run(self, program: str, *arguments: str | Path) -> None:
        # pg_ctl's children inherit its standard output: a pipe would never be closed.
        with tempfile.TemporaryFile() as output:
            result = subprocess.run(
                [self.installation.bindir / program, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                **identity(),
            )
            if result.returncode != 0:
                output.seek(0)
                message = output.read().decode(errors="replace").strip()
                raise UnsuitableServerError(f"program '{program}' failed: {message}")
