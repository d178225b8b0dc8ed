"""The server pair that everything is measured on, and what is in its databases."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from pysync.db.connections import Connection, connect, fetch_value
from pysync.demo.servers import Installation, Server, find_installation, make_folder, readable
from pysync.lifecycle import courses
from pysync.migrate import migrate
from pysync.migrate.lineage import PORTAL
from pysync.replication import registry
from pysync.replication.registry import Course
from pysync.types import CourseId

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


@dataclass(frozen=True)
class Pair:
    """Two running servers, and how to tell what goes on."""

    portal: Server
    courses: Server
    say: Say

    @property
    def installation(self) -> Installation:
        return self.portal.installation


@contextmanager
def server_pair(say: Say) -> Iterator[Pair]:
    """Start a portal server and a course server; they and their data go away afterwards."""
    # Not /tmp, which may be memory: there, fsync costs nothing.
    folder = make_folder(Path(tempfile.mkdtemp(prefix="pysync-bench-", dir="/var/tmp")))
    try:
        installation = readable(find_installation(), folder)
        settings = SETTINGS | installation.replication_slots(40)
        portal = Server(installation, folder / "portal", settings)
        courses_server = Server(installation, folder / "courses", settings)
        try:
            portal.start()
            courses_server.start()
            yield Pair(portal, courses_server, say)
        finally:
            courses_server.stop()
            portal.stop()
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
        portal.execute(
            "insert into public.auth_user (username, password, first_name, last_name, email)"
            " select 'user' || n, 'pbkdf2_sha256$1000000$' || repeat(md5(n::text), 2),"
            "        'First' || n, 'Last' || n, 'user' || n || '@example.org'"
            "   from generate_series(1, %s) as n",
            (users,),
        )
        if profiles:
            portal.execute(
                "insert into public.auth_userprofile"
                " (user_id, name, language, location, year_of_birth, gender, level_of_education,"
                "  mailing_address, goals)"
                " select id, first_name || ' ' || last_name, 'English', 'Town ' || id % 500,"
                "        1950 + id % 55, 'f', 'b', id || ' Long Street', 'To learn'"
                "   from public.auth_user order by id"
            )
        portal.execute("update public.auth_user set last_login = now()")
        portal.execute("vacuum analyze")
        portal.execute("checkpoint")
    return conninfo


def register_only(portal: Connection, course_ids: list[CourseId]) -> None:
    """Register courses that nobody subscribes to: the triggers copy, nothing is sent."""
    for number, course_id in enumerate(course_ids):
        name = f"bench_{portal.info.dbname}_{number}"
        registry.register(portal, Course(course_id, name, "", "", ""))


def enroll_in_three(portal: Connection, course_ids: list[CourseId]) -> None:
    """Enroll each user in three of the courses, the same number in each."""
    portal.execute(
        "insert into public.student_courseenrollment (user_id, course_id)"
        " select id, (%s::text[])[1 + (id + step) %% %s]"
        "   from public.auth_user cross join generate_series(0, 2) as step",
        (course_ids, len(course_ids)),
    )


def set_triggers(portal: Connection, table: str, *, enabled: str | None) -> None:
    """Switch pysync's triggers on a table off, but for those of one schema's functions.

    :param enabled: ``course`` for the fan-out, ``student`` for what else follows, or ``None``.
    """
    triggers = portal.execute(
        "select tgname::text, pronamespace = pg_catalog.to_regnamespace(%s)"
        " from pg_trigger join pg_proc on pg_proc.oid = tgfoid"
        " where tgrelid = pg_catalog.to_regclass(%s) and not tgisinternal",
        (enabled, f"public.{table}"),
    ).fetchall()
    for name, wanted in triggers:
        portal.execute(
            sql.SQL("alter table {} {} trigger {}").format(
                sql.Identifier("public", table),
                sql.SQL("enable" if wanted else "disable"),
                sql.Identifier(name),
            )
        )


def add_course(pair: Pair, portal_conninfo: str, course_id: CourseId, database: str) -> Connection:
    """Add a course with a fresh database, and return a connection to it."""
    conninfo = pair.courses.create_database(database)
    courses.add(portal_conninfo, course_id, conninfo, _Quiet(pair.say))
    return connect(conninfo)


def count(connection: Connection, table: str) -> int:
    """Return how many rows a table of schema ``course`` has."""
    return int(
        fetch_value(
            connection, sql.SQL("select count(*) from {}").format(sql.Identifier("course", table))
        )
    )


@dataclass(frozen=True)
class _Quiet:
    """Progress of which only warnings are passed on."""

    say: Say

    def step(self, description: str, total: int | None = None) -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}")
