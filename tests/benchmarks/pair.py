"""The server pair that everything is measured on, and what is in its databases."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from pysync.db.connections import Connection, Query, connect, fetch_value
from pysync.db.queries import load
from pysync.demo.servers import Installation, Server, find_installation, make_folder, readable
from pysync.errors import PysyncError
from pysync.lifecycle import courses, many
from pysync.lifecycle.many import Wanted
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.models.course import CourseDatabaseBase
from pysync.models.portal import PortalBase
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import registry
from pysync.replication.registry import Course
from pysync.types import CourseId, relay_id

SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    # Checkpoints and vacuum come between rounds, by hand, so that none falls into one side only.
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "max_wal_senders": "40",
    "max_worker_processes": "40",
    "max_logical_replication_workers": "30",
    "max_sync_workers_per_subscription": "4",
    "wal_retrieve_retry_interval": "200ms",
    "wal_writer_delay": "10ms",
}
"""Of both servers; what isn't named has PostgreSQL's default (but ``wal_level = logical``)."""

Say = Callable[[str], None]

QUERIES = load(__file__)


@dataclass(frozen=True)
class Pair:
    """Two running servers, and how to tell what goes on."""

    portal: Server
    courses: Server
    say: Say

    @property
    def installation(self) -> Installation:
        return self.portal.installation


@dataclass(frozen=True)
class Relay:
    """A relay on a server of its own."""

    relay_id: CourseId
    server: Server
    conninfo: str


SMALL = {"shared_buffers": "32MB"}


@contextmanager
def server_pair(
    say: Say, installation: Installation | None = None, more: Mapping[str, str] | None = None
) -> Iterator[Pair]:
    """Start a portal server and a course server; they and their data go away afterwards.

    :param more: settings beside :data:`SETTINGS`, or instead of them.
    """
    # Not /tmp, which may be memory: there, fsync costs nothing.
    folder = make_folder(Path(tempfile.mkdtemp(prefix="pysync-bench-", dir="/var/tmp")))
    try:
        installation = readable(installation or find_installation(), folder)
        settings = SETTINGS | dict(more or {})
        settings |= installation.replication_slots(int(settings["max_wal_senders"]))
        portal = Server(installation, folder / "portal", settings)
        courses_server = Server(installation, folder / "courses", settings)
        try:
            portal.start()
            courses_server.start()
            yield Pair(portal, courses_server, say)
        finally:
            # Nobody needs the data: a last checkpoint of a hundred databases takes its time.
            courses_server.stop("immediate")
            portal.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(pair: Pair) -> str:
    """Return the servers and their settings in two lines."""
    settings = ", ".join(f"{name} = {value}" for name, value in pair.portal.settings.items())
    return (
        f"PostgreSQL {pair.installation.version} ({pair.installation.origin}), portal server and "
        f"course server on one machine, whose {os.cpu_count()} processors they share with the "
        f"clients.\nSettings: {settings}."
    )


def new_portal(pair: Pair, name: str, users: int, *, profiles: bool) -> str:
    """Create a migrated portal with users as a portal that has run for a while has them.

    Each user has logged in once and the table was vacuumed, so its pages have room for an update.

    :returns: the conninfo.
    """
    pair.say(f"making a portal of {users:,} users")
    conninfo = pair.portal.create_database(name)
    migrate(conninfo, PORTAL, "portal")
    with closing(connect(conninfo)) as portal:
        fill_portal(portal, users, profiles=profiles)
    return conninfo


def fill_portal(portal: Connection, users: int, *, profiles: bool) -> None:
    """Bring users into a portal's own tables, whoever made them; see :func:`new_portal`."""
    portal.execute(QUERIES["insert_users"], {"users": users})
    if profiles:
        portal.execute(QUERIES["insert_profiles"])
    portal.execute("update public.auth_user set last_login = now()")
    tidy(portal)


def create_tables(
    database: Connection, base: type[PortalBase | CourseDatabaseBase], schema: str
) -> None:
    """Create the replicated tables with their indexes, as the models declare them in a schema."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for name in REPLICATED_TABLES:
        table = base.metadata.tables[f"{schema}.{name}"]
        definitions: list[ExecutableDDLElement] = [CreateTable(table)]
        for definition in [*definitions, *map(CreateIndex, table.indexes)]:
            database.execute(str(definition.compile(dialect=dialect)).encode())


def tidy(*databases: Connection) -> None:
    """Vacuum, analyze and checkpoint, so that none of it falls into what is measured next."""
    for database in databases:
        database.execute("vacuum analyze")
    for server in {database.info.port: database for database in databases}.values():
        server.execute("checkpoint")


def await_row(
    database: Connection, query: Query, timeout_seconds: float = 120, **named: Any
) -> None:
    """Wait until a query returns a row; looks often, but leaves the processor to who is asked about.

    :raises RuntimeError: if it doesn't within so many seconds.
    """
    deadline = time.monotonic() + timeout_seconds
    while database.execute(query, named or None, prepare=True).fetchone() is None:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"nothing in {database.info.dbname} after {timeout_seconds} s: {query}"
            )
        time.sleep(0.002)


def register_only(portal: Connection, course_ids: list[CourseId]) -> None:
    """Register courses that nobody subscribes to: the triggers copy, nothing is sent."""
    for number, course_id in enumerate(course_ids):
        name = f"bench_{portal.info.dbname}_{number}"
        registry.register(portal, Course(course_id, name, "", "", ""))


def enroll_in_three(portal: Connection, course_ids: list[CourseId]) -> None:
    """Enroll each user in three of the courses, the same number in each."""
    portal.execute(QUERIES["enroll_in_three"], {"courses": course_ids})


class Triggers(Enum):
    """Which of pysync's triggers on the portal's own tables are enabled."""

    NONE = auto()
    FAN_OUT = auto()
    """Without those that give discussion roles, which nobody does whom pysync is compared with."""
    ALL = auto()


def set_triggers(portal: Connection, enabled: Triggers) -> None:
    """Switch pysync's triggers on the portal's own tables on or off."""
    for table, name, wanted in portal.execute(
        QUERIES["find_triggers"],
        {"fan_out": enabled is not Triggers.NONE, "roles": enabled is Triggers.ALL},
    ).fetchall():
        portal.execute(
            sql.SQL("alter table public.{} {} trigger {}").format(
                sql.Identifier(table),
                sql.SQL("enable" if wanted else "disable"),
                sql.Identifier(name),
            )
        )


def add_courses(
    pair: Pair,
    portal_conninfo: str,
    course_ids: Sequence[CourseId],
    stem: str,
    relay: CourseId | None = None,
) -> None:
    """Add courses with fresh databases, some at a time.

    :param stem: what their databases' names begin with.
    :param relay: what they stream from, if not from the portal.
    """
    wanted = [
        Wanted(course_id, pair.courses.create_database(f"{stem}_{number}"))
        for number, course_id in enumerate(course_ids)
    ]

    def heard(course_id: CourseId, answer: courses.Added | PysyncError) -> None:
        if isinstance(answer, PysyncError):
            raise answer

    many.add(portal_conninfo, wanted, Quiet(pair.say), heard, relay=relay)


@contextmanager
def relays(pair: Pair, portal_conninfo: str, number: int) -> Iterator[list[Relay]]:
    """Start a server for each relay, small ones, and add the relays."""
    folder = make_folder(Path(tempfile.mkdtemp(prefix="pysync-bench-", dir="/var/tmp")))
    servers = [
        Server(pair.installation, folder / str(each), {**pair.portal.settings, **SMALL})
        for each in range(number)
    ]
    try:
        for server in servers:
            server.start()
        found = [
            Relay(relay_id(f"r{each}"), server, server.create_database("relay"))
            for each, server in enumerate(servers)
        ]
        for relay in found:
            courses.add(portal_conninfo, relay.relay_id, relay.conninfo, Quiet(pair.say))
        yield found
    finally:
        for server in servers:
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def add_course(pair: Pair, portal_conninfo: str, course_id: CourseId, database: str) -> Connection:
    """Add a course with a fresh database, and return a connection to it."""
    conninfo = pair.courses.create_database(database)
    courses.add(portal_conninfo, course_id, conninfo, Quiet(pair.say))
    return connect(conninfo)


def count(connection: Connection, table: str) -> int:
    """Return how many rows a table of schema ``course`` has."""
    return int(
        fetch_value(
            connection, sql.SQL("select count(*) from {}").format(sql.Identifier("course", table))
        )
    )


@dataclass(frozen=True)
class Quiet:
    """Progress of which only warnings are passed on."""

    say: Say

    def step(self, description: str, total: int | None = None) -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}")
