"""Real servers, started by pytest-postgresql: a portal server and a course server per version."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_postgresql.executors import PostgreSQLExecutor

from pysync.demo.servers import (
    Installation,
    free_port,
    identity,
    installations,
    make_folder,
    readable,
    temporary_folder,
)
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from tests.support import Cluster, Site

REQUIRED_MAJORS = "PYSYNC_TEST_MAJORS"
"""Environment variable: majors that must be there, such as ``15,18``; 18 always must."""

SETTINGS = {
    "wal_level": "logical",
    "max_connections": "200",
    "max_wal_senders": "100",
    "max_replication_slots": "100",
    "max_worker_processes": "120",
    "max_logical_replication_workers": "100",
    "max_sync_workers_per_subscription": "4",
    "wal_retrieve_retry_interval": "100ms",
    "wal_writer_delay": "10ms",
    "shared_buffers": "64MB",
    "lc_messages": "C",
}


def _found() -> dict[int, Installation]:
    found: dict[int, Installation] = {}
    for installation in installations():
        found.setdefault(installation.major, installation)
    return {major: found[major] for major in sorted(found, reverse=True) if major >= 15}


INSTALLATIONS = _found()


def pytest_report_header() -> str:
    versions = [f"{each.version} ({each.origin})" for each in INSTALLATIONS.values()]
    return f"PostgreSQL: {', '.join(versions) or 'none'}"


def pytest_configure(config: pytest.Config) -> None:
    # Where a shell runs us in the background it has us ignore SIGINT, and what we start as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    required = {18} | {int(m) for m in os.environ.get(REQUIRED_MAJORS, "").split(",") if m}
    if missing := required - set(INSTALLATIONS):
        raise pytest.UsageError(
            f"PostgreSQL {', '.join(map(str, sorted(missing)))} asked for and not found: "
            "install it, or set PG_BINDIR"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a server on every version found; the newest only where a test says so."""
    if "major" in metafunc.fixturenames:
        majors = list(INSTALLATIONS)
        if metafunc.definition.get_closest_marker("newest"):
            majors = majors[:1]
        metafunc.parametrize("major", majors, scope="session", ids=[f"pg{m}" for m in majors])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: no process is to be left alone with it at the end.

    That is what has a timeout of its own.
    """
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    path = temporary_folder("pysync-test-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _pg_ctl(installation: Installation, folder: Path) -> str:
    """Return a pg_ctl that runs as the unprivileged user where we are root."""
    run_as = identity()
    program = str(installation.bindir / "pg_ctl")
    if not run_as:
        return program
    launcher = folder / f"pg_ctl-{installation.major}"
    drop = (
        f"import os, sys; os.setgroups([]); os.setgid({run_as['group']}); "
        f"os.setuid({run_as['user']}); os.chdir('/'); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = shlex.join([sys.executable, "-c", drop, program])
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    launcher.chmod(0o755)
    return str(launcher)


def start_server(
    installation: Installation, folder: Path, name: str, settings: dict[str, str] | None = None
) -> PostgreSQLExecutor:
    """Start a server through pytest-postgresql; the caller stops it."""
    home = make_folder(folder / f"{name}-{installation.major}")
    values = SETTINGS | (settings or {})
    if installation.major >= 18:
        values = {"max_active_replication_origins": values["max_replication_slots"]} | values
    options = " ".join(f"-c {k}={v}" for k, v in values.items())
    executor = PostgreSQLExecutor(
        executable=_pg_ctl(readable(installation, folder), folder),
        host="127.0.0.1",
        port=free_port(),
        datadir=str(home / "data"),
        unixsocketdir=str(home),
        logfile=str(home / "server.log"),
        startparams="-w",
        dbname="tests",
        postgres_options=options,
    )
    executor.start()
    executor.wait_for_postgres()
    return executor


def _cluster(major: int, folder: Path, name: str) -> Iterator[Cluster]:
    executor = start_server(INSTALLATIONS[major], folder, name)
    cluster = Cluster(executor, major)
    yield cluster
    executor.stop()


@pytest.fixture(scope="session")
def portal_server(major: int, folder: Path) -> Iterator[Cluster]:
    """The server that portals live on, one per version and session."""
    yield from _cluster(major, folder, "portal")


@pytest.fixture(scope="session")
def course_server(major: int, folder: Path) -> Iterator[Cluster]:
    """The server that course databases live on, one per version and session."""
    yield from _cluster(major, folder, "courses")


@pytest.fixture(scope="session")
def portal_template(portal_server: Cluster) -> str:
    """A migrated portal database: tests get copies of it."""
    migrate(portal_server.create("portal_template"), PORTAL, "portal")
    return "portal_template"


@pytest.fixture
def site(portal_server: Cluster, course_server: Cluster, portal_template: str) -> Iterator[Site]:
    """A migrated portal without courses; courses and databases are cleared away afterwards."""
    site = Site(portal_server, course_server, portal_server.create(template=portal_template))
    yield site
    site.close()
