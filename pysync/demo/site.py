"""The demo's servers and databases: a portal, a server of courses, a database per course."""

import secrets
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, LiteralString

from psycopg import sql
from psycopg.conninfo import make_conninfo

from pysync.db.connections import connect, fetch_value
from pysync.db.queries import load
from pysync.demo.servers import Installation, Server, find_installation, readable, temporary_folder
from pysync.diagnosis.grants import GRANTS
from pysync.errors import PysyncError
from pysync.lifecycle import courses
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import CourseId, Progress

ADMINISTRATOR: Final = "dba"
"""The role that pysync connects as: it has what ``pysync grants`` prints."""

SUBSCRIBER: Final = "courses"
"""The role that the courses' server logs in as."""

APPLICATION: Final = "portal_application"
"""The role the demo writes as: it has rights on the portal's tables and on none of pysync's."""

_APPLICATION: Final[tuple[LiteralString, ...]] = (
    "create role {role} login",
    "grant select, insert, update, delete on {tables} to {role}",
    "grant usage on schema student to {role}",
    "grant execute on all functions in schema student to {role}",
    "grant select on all tables in schema student to {role}",
    "grant select, insert, update on public.student_testcenteruser to {role}",
    "grant select, insert, update on public.student_testcenterregistration to {role}",
)

_SYNC_WORKERS: Final = 4

_QUERIES: Final = load(__file__)


@dataclass
class Site:
    """Two running servers, a portal, and the course databases by course."""

    folder: Path
    portal_server: Server
    course_server: Server
    databases: dict[CourseId, str] = field(default_factory=dict)
    password: str = field(default_factory=secrets.token_hex, repr=False)

    @property
    def portal(self) -> str:
        """Return the portal's conninfo, as its administrator."""
        return make_conninfo(self.portal_server.conninfo("portal"), user=ADMINISTRATOR)

    @property
    def application(self) -> str:
        """Return the portal's conninfo, as the application."""
        return make_conninfo(self.portal, user=APPLICATION)

    @property
    def stop_script(self) -> Path:
        """Return the script that ends a demo that was kept."""
        return self.folder / "stop"


@contextmanager
def open_site(wanted: list[CourseId], progress: Progress, *, keep: bool) -> Iterator[Site]:
    """Start the servers, migrate the portal, add the courses; stop and remove all at the end.

    :param wanted: the courses; their databases are called like them.
    :param keep: leave everything running when the block ends well.
    :raises PysyncError: if no server is found, doesn't start, or can't be set up.
    """
    installation = find_installation()
    folder = temporary_folder("pysync-demo-")
    site: Site | None = None
    try:
        progress.step("starting two servers")
        installation = readable(installation, folder)
        settings = _settings(installation, len(wanted))
        site = Site(
            folder,
            Server(installation, folder / "portal", settings, asks_for_password=SUBSCRIBER),
            Server(installation, folder / "courses", settings),
        )
        with _interrupts_deferred(), ThreadPoolExecutor() as threads:
            list(threads.map(Server.start, (site.portal_server, site.course_server)))
        _create_portal(site)
        _add_courses(site, wanted, progress)
        yield site
        if keep:
            _write_stop_script(site)
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            _remove(folder, site)


def _settings(installation: Installation, course_count: int) -> dict[str, str]:
    # While a course is added, each of its tables has a worker, slot and origin of its own.
    slots = course_count + 2 * _SYNC_WORKERS
    return installation.replication_slots(slots) | {
        # These servers are thrown away: what a power cut would do to them is of no interest.
        "fsync": "off",
        "full_page_writes": "off",
        "max_wal_senders": str(slots),
        "max_logical_replication_workers": str(slots),
        "max_worker_processes": str(course_count + 4 * _SYNC_WORKERS),
        "max_sync_workers_per_subscription": str(_SYNC_WORKERS),
        "wal_retrieve_retry_interval": "200ms",
        "wal_writer_delay": "10ms",
        # Tables grow from nothing to their size within seconds: look at them as often.
        "autovacuum_naptime": "5s",
        "timezone": "UTC",
    }


def _create_portal(site: Site) -> None:
    for server in (site.portal_server, site.course_server):
        with closing(connect(server.conninfo())) as superuser:
            superuser.execute(_QUERIES["administrator"])
    with closing(connect(site.portal_server.conninfo())) as superuser:
        make = sql.SQL("create role {} login replication password {}")
        superuser.execute(make.format(sql.Identifier(SUBSCRIBER), sql.Literal(site.password)))
    _create_database(site.portal_server, "portal", "portal")
    migrate(site.portal, PORTAL, "portal")
    places = {
        "role": sql.Identifier(APPLICATION),
        "tables": sql.SQL(", ").join(sql.Identifier("public", each) for each in REPLICATED_TABLES),
    }
    with closing(connect(site.portal)) as portal:
        for statement in _APPLICATION:
            portal.execute(sql.SQL(statement).format(**places))


def _create_database(server: Server, side: str, name: str) -> str:
    """Create a database of the administrator's; returns how that connects."""
    conninfo = server.conninfo(name)
    with closing(connect(server.conninfo())) as superuser:
        create = sql.SQL("create database {} owner {}")
        superuser.execute(create.format(sql.Identifier(name), sql.Identifier(ADMINISTRATOR)))
    with closing(connect(conninfo)) as superuser:
        if not fetch_value(superuser, _QUERIES["is_superuser"], role=ADMINISTRATOR):
            for each in GRANTS[side]:
                superuser.execute(each.to(ADMINISTRATOR, name).encode())
    return make_conninfo(conninfo, user=ADMINISTRATOR)


def _add_courses(site: Site, wanted: list[CourseId], progress: Progress) -> None:
    """Add the courses one by one, while a thread goes ahead and creates their databases."""
    progress.step("adding courses", len(wanted))
    ahead = ThreadPoolExecutor(max_workers=1)
    try:
        create = partial(_create_database, site.course_server, "course")
        databases = ahead.map(create, wanted)
        subscriber = make_conninfo("", user=SUBSCRIBER, password=site.password)
        for number, (course_id, conninfo) in enumerate(zip(wanted, databases, strict=True), 1):
            courses.add(
                site.portal,
                course_id,
                conninfo,
                _Quiet(progress),
                portal_conninfo_for_course=subscriber,
            )
            site.databases[course_id] = conninfo
            progress.advance(number)
    finally:
        ahead.shutdown(cancel_futures=True)


class _Quiet:
    """Pass on warnings only: a course's own steps are too small to be shown."""

    def __init__(self, progress: Progress) -> None:
        self.warn = progress.warn

    def step(self, *_: object, **__: object) -> None:
        """Ignore a step, or how far it is."""

    advance = step


def _remove(folder: Path, site: Site | None) -> None:
    with _interrupts_deferred():
        if site is not None:
            # Courses first: a portal waits for those who still listen to it.
            for server in (site.course_server, site.portal_server):
                try:
                    server.stop()
                except PysyncError:
                    with suppress(PysyncError):
                        server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _write_stop_script(site: Site) -> None:
    """Write a script that stops the servers and removes the folder; see :func:`_remove`."""
    folder = shlex.quote(str(site.folder))
    site.stop_script.write_text(
        f"""#!/bin/sh
# Stop the demo's servers and remove their folder.
for server in courses portal; do
    pid_file={folder}/$server/data/postmaster.pid
    [ -e "$pid_file" ] || continue
    kill -INT "$(head -n 1 "$pid_file")" || continue
    while [ -e "$pid_file" ]; do sleep 0.1; done
done
rm -rf {folder}
"""
    )


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Let an interrupt wait until the block has ended: half-started servers can't be stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    caught: list[int] = []
    previous = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if caught:
            raise KeyboardInterrupt
