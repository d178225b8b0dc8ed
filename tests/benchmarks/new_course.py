"""A new course of 20,000 users: the whole command, beside PostgreSQL's own first copy of its rows.

The portal has two courses with the same members. One is added by ``pysync course add`` as a process,
to an empty database, which it migrates; its members aren't in the fan-out before. The other is in the
fan-out already, and a plain subscription copies its rows of the same three tables, to a database that
has these tables and their indexes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing

from psycopg import sql

from pysync.db.connections import Connection, connect
from pysync.models.course import CourseDatabaseBase
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import publications
from pysync.replication.registry import Course
from pysync.types import CourseId
from tests.benchmarks.measure import SECONDS, Comparison, Effort, Figure, Row, interleave
from tests.benchmarks.pair import (
    QUERIES,
    Pair,
    Triggers,
    await_row,
    count,
    create_tables,
    new_portal,
    register_only,
    set_triggers,
    tidy,
)

USERS = 20_000
ADDED = CourseId("Bench/New/added")
KNOWN = CourseId("Bench/New/known")
_PLAIN = "new_plain"
_DATABASE = "new_course"


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return the seconds of the command, of a native first copy, and of one that only connects."""
    conninfo = new_portal(pair, "new", USERS, profiles=True)
    whole = Comparison(
        f"a new course of {USERS:,} users, beside a native first copy", SECONDS, at_most=4.0
    )
    work = Figure("      the same command, by itself", 1.2)
    start = Figure("      of which its start (course add --help)", 0.6)

    def command() -> None:
        with closing(connect(conninfo)) as portal:
            tidy(portal)
        course = pair.courses.create_database(_DATABASE)
        start.values.append(_pysync(conninfo, "course", "add", "--help"))
        seconds = _pysync(conninfo, "course", "add", ADDED, course)
        with closing(connect(course)) as database:
            _require_all(database)
        whole.pysync.append(seconds)
        work.values.append(seconds)
        _pysync(conninfo, "course", "remove", "--yes", ADDED)
        with closing(connect(pair.courses.conninfo())) as server:
            server.execute("drop database new_course with (force)")
        # As if it had never been there.
        with closing(connect(conninfo)) as portal, portal.transaction():
            for table in reversed(REPLICATED_TABLES):
                identifier = sql.Identifier("course", table)
                portal.execute(
                    sql.SQL("delete from {} where course_id = %s").format(identifier), (ADDED,)
                )

    def native() -> None:
        with closing(connect(conninfo)) as portal:
            tidy(portal)
        whole.beside.append(_first_copy(pair, conninfo))

    with closing(connect(conninfo)) as portal:
        register_only(portal, [KNOWN])
        set_triggers(portal, Triggers.FAN_OUT)
        for course in ADDED, KNOWN:
            portal.execute(QUERIES["enroll_all"], {"course": course})
        set_triggers(portal, Triggers.ALL)
        columns = {
            table: CourseDatabaseBase.metadata.tables[f"course.{table}"].columns.keys()
            for table in REPLICATED_TABLES
        }
        listed = publications.published(Course(KNOWN, _PLAIN, "", "", ""), columns)
        portal.execute(sql.SQL("create publication new_plain for table {}").format(listed))
    for done in interleave(effort.rounds, native, command):
        pair.say(f"{whole.title}: round {done} of {effort.rounds}")
    return [whole.row(), work.row(), start.row()]


def _first_copy(pair: Pair, conninfo: str) -> float:
    """Subscribe a database that has the tables; returns the seconds until all rows are there."""
    with closing(connect(pair.courses.create_database(_PLAIN))) as database:
        database.execute("create schema course")
        create_tables(database, CourseDatabaseBase, "course")
        begin = time.perf_counter()
        database.execute(
            sql.SQL("create subscription new_plain connection {} publication new_plain").format(
                sql.Literal(conninfo)
            )
        )
        await_row(database, QUERIES["all_copied"])
        seconds = time.perf_counter() - begin
        _require_all(database)
        database.execute("drop subscription new_plain")
    with closing(connect(pair.courses.conninfo())) as server:
        server.execute("drop database new_plain with (force)")
    return seconds


def _require_all(database: Connection) -> None:
    for table in REPLICATED_TABLES:
        if (found := count(database, table)) != USERS:
            raise RuntimeError(f"course.{table} holds {found:,} rows instead of {USERS:,}")


def _pysync(portal: str, *arguments: str) -> float:
    """Run a command as a process and return its seconds."""
    begin = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "pysync", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYSYNC_PORTAL": portal},
    )
    if ran.returncode != 0:
        raise RuntimeError(f"pysync {' '.join(arguments)} failed: {ran.stderr}")
    return time.perf_counter() - begin
