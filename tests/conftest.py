"""Real servers, started by pytest-postgresql: a portal server and a course server per version.

A test that takes a server is marked with the major versions that it runs on, and why, or its module
is; the test's own mark counts before the module's. Of the supported ones that are installed:

``every_major(reason)``
    what PostgreSQL does for us, and did differently in one version or another;
``oldest_and_newest(reason)``
    what depends on the server, but takes long: if it holds on both ends, it does between;
``newest(reason)``
    what no server's version changes.

A single case may be marked, too: it is left out on the others of its test's versions. With
``PYSYNC_TEST_EVERYWHERE`` marks don't count, and everything runs on all of them.

A test that is marked ``also_granted`` runs twice: with :func:`rights` of a superuser on the oldest
of its versions, and on the newest with those of a role that has what ``pysync grants`` prints. One
that is marked ``granted`` runs as such a role only, on the oldest version whose subscriptions don't
take a superuser: on the newest one others do.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pysync.demo.servers import (
    Installation,
    free_port,
    identity,
    installations,
    make_folder,
    temporary_folder,
)
from pysync.diagnosis.grants import GRANTS
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.types import SUPPORTED_MAJORS
from tests.servers import Executor, lay_data, runnable
from tests.support import (
    PORTAL_TEMPLATE,
    TEMPLATED_COURSES,
    Cluster,
    GrantedSite,
    Site,
    enroll,
    grant,
    insert_user,
)

REQUIRED_MAJORS = "PYSYNC_TEST_MAJORS"
"""Environment variable: majors that must be there, such as ``15,18``, or ``all`` supported ones.

The newest always must.
"""

EVERYWHERE = "PYSYNC_TEST_EVERYWHERE"
"""Environment variable: anything but empty runs each test on every version, whatever its mark."""

MAJORS_OF_MARK: dict[str, Callable[[list[int]], list[int]]] = {
    "every_major": lambda majors: majors,
    "oldest_and_newest": lambda majors: sorted({majors[0], majors[-1]}, reverse=True),
    "newest": lambda majors: majors[:1],
    "oldest": lambda majors: majors[-1:],
}
"""Which of the majors that are there, newest first, a test with a mark runs on."""

_SINCE = max(each.since for each in GRANTS["course"])
"""The first version on which others than superusers make subscriptions."""

SLOTS = 100

SUPERUSER = "superuser"
GRANTED = "granted"
"""Which rights pysync has in a test: a superuser's, or what ``pysync grants`` prints."""

ROOM_BYTES = 8 * 2**30
"""What servers may need for their data, all together."""

SETTINGS = {
    "wal_level": "logical",
    "max_connections": "200",
    "max_wal_senders": "100",
    "max_worker_processes": "120",
    "max_logical_replication_workers": "100",
    "max_sync_workers_per_subscription": "4",
    "wal_retrieve_retry_interval": "100ms",
    "wal_writer_delay": "10ms",
    "shared_buffers": "64MB",
    "max_wal_size": "128MB",
    # Many databases that live for seconds: a worker for each in turn costs more than it cleans.
    "autovacuum_naptime": "5min",
    "lc_messages": "C",
    # Only some of the servers are built with it.
    "jit": "off",
}


def _found() -> dict[int, Installation]:
    found: dict[int, Installation] = {}
    for installation in installations():
        found.setdefault(installation.major, installation)
    return {major: found[major] for major in reversed(SUPPORTED_MAJORS) if major in found}


INSTALLATIONS = _found()

MADE = "pysync-made-"
_made = Path("/nowhere")
"""What one process has made for all that run tests: servers' data, and programs they can read."""


def pytest_report_header() -> str:
    versions = [f"{each.version} ({each.origin})" for each in INSTALLATIONS.values()]
    return f"PostgreSQL: {', '.join(versions) or 'none'}"


def pytest_configure(config: pytest.Config) -> None:
    global _made  # noqa: PLW0603 - what starts servers knows no configuration
    # Where a shell runs us in the background it has us ignore SIGINT, and what we start as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    asked = os.environ.get(REQUIRED_MAJORS, "")
    named = SUPPORTED_MAJORS if asked == "all" else [int(m) for m in asked.split(",") if m]
    required = {SUPPORTED_MAJORS[-1], *named}
    if missing := required - set(INSTALLATIONS):
        raise pytest.UsageError(
            f"PostgreSQL {', '.join(map(str, sorted(missing)))} asked for and not found: "
            "install it, or set PG_BINDIR"
        )
    shared = getattr(config, "workerinput", {}).get("made")
    _made = Path(shared) if shared else temporary_folder(MADE, _parent())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["made"] = str(_made)


def pytest_unconfigure(config: pytest.Config) -> None:
    # Whoever was refused has made nothing.
    if not hasattr(config, "workerinput") and _made.name.startswith(MADE):
        shutil.rmtree(_made, ignore_errors=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs a server on the versions that its mark says."""
    if "major" in metafunc.fixturenames:
        majors = _majors(metafunc.definition)
        cases = [(major, SUPERUSER) for major in majors]
        if metafunc.definition.get_closest_marker("also_granted"):
            cases = [*(cases[1:] or cases), (majors[0], GRANTED)]
        if metafunc.definition.get_closest_marker("granted"):
            able = [major for major in majors[1:] if major >= _SINCE]
            cases = [(major, GRANTED) for major in (able if _everywhere() else able[-1:])]
        ids = [f"pg{major}" + f"-{who}" * (who != SUPERUSER) for major, who in cases]
        names = ("major", "rights") if "rights" in metafunc.fixturenames else ("major",)
        values = [case[: len(names)] for case in cases]
        metafunc.parametrize(names, values, scope="session", ids=ids)


def _majors(definition: pytest.Item) -> list[int]:
    """Return the versions that a test, or a case of it, runs on."""
    mark = _mark(definition)
    found = list(INSTALLATIONS)
    return found if _everywhere() else MAJORS_OF_MARK[mark.name](found)


def _everywhere() -> bool:
    return bool(os.environ.get(EVERYWHERE))


def _mark(definition: pytest.Item) -> pytest.Mark:
    """Return the mark that says which versions a test runs on."""
    # From the test outwards, to its module: the nearest one counts.
    for mark in definition.iter_markers():
        if mark.name in MAJORS_OF_MARK:
            if len(mark.args) == 1 and isinstance(mark.args[0], str) and not mark.kwargs:
                return mark
            break
    raise pytest.UsageError(
        f"{definition.nodeid} takes a server and doesn't say of which versions, and why: mark it, "
        f"or its module, with one of {', '.join(MAJORS_OF_MARK)}, as in newest('texts of ours')"
    )


def _runs(item: pytest.Item) -> bool:
    """Tell whether a case runs on the version that it has."""
    call = getattr(item, "callspec", None)
    return call is None or "major" not in call.params or call.params["major"] in _majors(item)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out cases, and begin with what takes longest: no process is to be alone with it.

    That is what has a timeout of its own.
    """
    config.hook.pytest_deselected(items=[item for item in items if not _runs(item)])
    items[:] = filter(_runs, items)
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def _parent() -> str:
    """Return where servers keep their data: in memory, where there is room.

    Each test makes and drops databases, a thousand files each time.
    """
    memory = "/dev/shm"
    with suppress(OSError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(int(each.split()[1]) for each in lines if each.startswith("MemAvailable"))
        status = os.statvfs(memory)
        room = min(available * 1024, status.f_bavail * status.f_frsize)
        if room >= ROOM_BYTES and not status.f_flag & os.ST_NOEXEC and os.access(memory, os.W_OK):
            return memory
    return "/tmp"


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    path = temporary_folder("pysync-test-", _parent())
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
    command = shlex.join([sys.executable, "-IS", "-c", drop, program])
    launcher.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    launcher.chmod(0o755)
    return str(launcher)


PORTALS = "portals"
COURSES = "courses"
"""What a server has when it starts: a migrated portal, or migrated databases of courses, to copy."""


def _fill(holds: str, cluster: Cluster) -> None:
    if holds == PORTALS:
        migrate(cluster.create(PORTAL_TEMPLATE), PORTAL, "portal")
    else:
        for course_id in TEMPLATED_COURSES:
            cluster.course_template(course_id)


def prepared(major: int, data: Path, holds: str = "") -> Installation:
    """Lay a server's data; returns what to start it with.

    :param holds: ``PORTALS``, ``COURSES``, or nothing.
    """
    installation = runnable(INSTALLATIONS[major], _made)
    shutil.rmtree(data, ignore_errors=True)

    def fill(making: Path) -> None:
        executor = executor_of(installation, making, SLOTS, {}).ready()
        _fill(holds, Cluster(executor, major))
        executor.stop()

    lay_data(installation, _made, data, holds, fill if holds else None)
    return installation


def executor_of(
    installation: Installation, data: Path, slots: int, settings: dict[str, str]
) -> Executor:
    home = data.parent
    values = SETTINGS | installation.replication_slots(slots) | settings
    # What is said here no ALTER SYSTEM changes.
    options = " ".join(f"-c {k}={v}" for k, v in values.items() if v)
    return Executor(
        executable=_pg_ctl(installation, home),
        host="127.0.0.1",
        port=free_port(),
        datadir=str(data),
        unixsocketdir=str(home),
        logfile=str(home / "server.log"),
        startparams="-w",
        dbname="tests",
        postgres_options=options,
    )


def start_server(
    major: int,
    folder: Path,
    name: str,
    settings: dict[str, str] | None = None,
    *,
    slots: int = SLOTS,
    holds: str = "",
) -> Cluster:
    """Start a server through pytest-postgresql; the caller stops its executor.

    :param settings: beside ours; one without a value is left to the server.
    :param holds: see :func:`prepared`.
    """
    data = make_folder(folder / f"{name}-{major}") / "data"
    executor = executor_of(prepared(major, data, holds), data, slots, settings or {})
    cluster = Cluster(executor.ready(), major)
    if holds == COURSES:
        cluster.has_course_templates()
    return cluster


def _cluster(major: int, folder: Path, name: str, holds: str, **settings: str) -> Iterator[Cluster]:
    cluster = start_server(major, folder, name, settings, holds=holds)
    yield cluster
    cluster.executor.stop()


@pytest.fixture(scope="session")
def portal_server(major: int, folder: Path) -> Iterator[Cluster]:
    """The server that portals live on, one per version and session."""
    yield from _cluster(major, folder, "portal", PORTALS)


@pytest.fixture(scope="session")
def course_server(major: int, folder: Path) -> Iterator[Cluster]:
    """The server that course databases live on, one per version and session."""
    yield from _cluster(major, folder, "courses", COURSES, max_prepared_transactions="10")


@pytest.fixture(scope="session")
def preparing_server(major: int, folder: Path) -> Iterator[Cluster]:
    """A server for portals where transactions may be prepared, and so nobody is notified."""
    yield from _cluster(major, folder, "preparing", PORTALS, max_prepared_transactions="10")


@pytest.fixture(scope="session")
def portal_template(portal_server: Cluster) -> str:
    """A migrated portal database: tests get copies of it."""
    return PORTAL_TEMPLATE


@pytest.fixture(scope="session")
def granted_template(portal_server: Cluster, course_server: Cluster, folder: Path) -> str:
    """A portal database migrated by a role that is no superuser and has what pysync prints."""
    for cluster in (portal_server, course_server):
        cluster.admit_granted(folder / "granted.pgpass")
    name = "granted_template"
    migrate(grant(portal_server, "portal", portal_server.create(name)), PORTAL, "portal")
    return name


@pytest.fixture(scope="session")
def rights() -> str:
    """Whose rights pysync has, see ``also_granted``."""
    return SUPERUSER


@pytest.fixture
def site(
    portal_server: Cluster, course_server: Cluster, rights: str, request: pytest.FixtureRequest
) -> Iterator[Site]:
    """A migrated portal without courses; courses and databases are cleared away afterwards."""
    if rights == GRANTED:
        template = request.getfixturevalue("granted_template")
        site: Site = GrantedSite(portal_server, course_server, template)
    else:
        template = request.getfixturevalue("portal_template")
        site = Site(portal_server, course_server, portal_server.create(template=template))
    yield site
    site.close()


@pytest.fixture
def course(site: Site) -> psycopg.Connection[Any]:
    """Course A of a site, which streams, with one user."""
    site.add("A")
    enroll(site, insert_user(site, "first"), "A")
    site.wait()
    return site.course("A")
