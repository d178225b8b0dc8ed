"""Those who carry a portal's rows into courses, each on servers of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from psycopg import sql

from pysync.db.connections import Connection, connect
from pysync.db.queries import load
from pysync.models.course import CourseDatabaseBase
from pysync.models.portal import PortalBase
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import publications
from pysync.replication.registry import Course
from pysync.types import CourseId
from tests.benchmarks.pair import QUERIES as BENCH
from tests.benchmarks.pair import (
    Pair,
    add_course,
    await_row,
    create_tables,
    enroll_in_three,
    fill_portal,
    new_portal,
)

USERS = 20_000
SENTINEL = USERS + 1
STEM = "Bench/Peers"
COURSES = [CourseId(f"{STEM}/{number}") for number in range(8)]

QUERIES = load(__file__)

_sentinels = count()


@dataclass
class Contender:
    """A portal whose rows are carried to eight courses, and open connections to all of them."""

    name: str
    pair: Pair
    conninfo: str
    portal: Connection
    databases: list[Connection] = field(default_factory=list)

    def settle(self) -> None:
        """Wait until every course has what the portal has committed."""
        email = f"sentinel{next(_sentinels)}@example.org"
        self.portal.execute(
            "update public.auth_user set email = %s where id = %s", (email, SENTINEL)
        )
        for database in self.databases:
            await_row(database, QUERIES["show_sentinel"], user=SENTINEL, email=email)

    def check(self) -> None:
        """Compare all courses with what the portal's own tables say.

        :raises RuntimeError: if any of the three tables differs anywhere.
        """
        self.settle()
        for table in REPLICATED_TABLES:
            columns = PortalBase.metadata.tables[f"public.{table}"].columns.keys()
            owner = ("id", "id") if table.startswith("student") else ("user_id", "user_id")
            key, of = ("user_id", "id") if table == "auth_user" else owner
            here = QUERIES["digest_of_source"].format(
                columns=sql.SQL(", ").join(sql.Identifier("source", name) for name in columns),
                table=sql.Identifier(table),
                key=sql.Identifier(key),
                of=sql.Identifier(of),
            )
            there = QUERIES["digest_of_copy"].format(
                columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
                table=sql.Identifier(table),
            )
            for course, database in zip(COURSES, self.databases, strict=True):
                wanted = self.portal.execute(here, {"course": course}).fetchone()
                if (found := database.execute(there).fetchone()) != wanted:
                    raise RuntimeError(
                        f"{self.name}: {table} of {course} is {found} instead of {wanted}"
                    )


def pysync(pair: Pair, stack: ExitStack) -> Contender:
    """Make a portal of pysync's, with courses."""
    conninfo = new_portal(pair, "peers", SENTINEL, profiles=True)
    portal = stack.enter_context(closing(connect(conninfo)))
    contender = Contender("pysync", pair, conninfo, portal)
    for number, course in enumerate(COURSES):
        database = add_course(pair, conninfo, course, f"peers_{number}")
        contender.databases.append(stack.enter_context(closing(database)))
    _enroll(portal)
    return contender


def native(pair: Pair, stack: ExitStack) -> Contender:
    """Make a portal with the simplest triggers, a publication per course, and subscriptions."""
    contender = _plain("native", pair, stack)
    for number, course in enumerate(COURSES):
        name, database = f"peer_{number}", _course_database(contender, number, stack)
        listed = publications.published(
            Course(course, name, "", "", ""),
            {table: _columns(table) for table in REPLICATED_TABLES},
        )
        contender.portal.execute(
            sql.SQL("create publication {} for table {}").format(sql.Identifier(name), listed)
        )
        database.execute(
            sql.SQL("create subscription {name} connection {conninfo} publication {name}").format(
                name=sql.Identifier(name), conninfo=sql.Literal(contender.conninfo)
            )
        )
        await_row(database, BENCH["all_copied"])
    return contender


def pglogical(pair: Pair, stack: ExitStack) -> Contender:
    """Make a portal with the same triggers, a replication set per course, and subscriptions."""
    contender = _plain("pglogical", pair, stack)
    portal = contender.portal
    portal.execute("create extension pglogical")
    portal.execute(QUERIES["create_node"], {"name": "portal", "conninfo": contender.conninfo})
    for number, course in enumerate(COURSES):
        name, database = f"peer_{number}", _course_database(contender, number, stack)
        portal.execute(QUERIES["create_set"], {"name": name})
        for table in REPLICATED_TABLES:
            filtered = sql.SQL("course_id = {}").format(sql.Literal(course)).as_string(portal)
            portal.execute(
                QUERIES["add_to_set"],
                {"name": name, "table": f"course.{table}", "filter": filtered},
            )
        database.execute("create extension pglogical")
        here = pair.courses.conninfo(f"peers_{number}")
        database.execute(QUERIES["create_node"], {"name": name, "conninfo": here})
        database.execute(QUERIES["subscribe"], {"name": name, "conninfo": contender.conninfo})
        await_row(database, QUERIES["all_copied_by_pglogical"])
    return contender


Builder = Callable[[Pair, ExitStack], Contender]


def _plain(name: str, pair: Pair, stack: ExitStack) -> Contender:
    """Make a portal's own tables as pysync's models declare them, the triggers, and the rows."""
    pair.say(f"making a portal of {SENTINEL:,} users: {name}")
    conninfo = pair.portal.create_database("peers")
    portal = stack.enter_context(closing(connect(conninfo)))
    create_tables(portal, PortalBase, "public")
    portal.execute(Path(__file__).with_name("fan_out.sql").read_bytes())
    fill_portal(portal, SENTINEL, profiles=True)
    _enroll(portal)
    return Contender(name, pair, conninfo, portal)


def _course_database(contender: Contender, number: int, stack: ExitStack) -> Connection:
    """Make a database with the tables that a course's applications have."""
    database = connect(contender.pair.courses.create_database(f"peers_{number}"))
    contender.databases.append(stack.enter_context(closing(database)))
    database.execute("create schema course")
    create_tables(database, CourseDatabaseBase, "course")
    return database


def _columns(table: str) -> list[str]:
    return list(CourseDatabaseBase.metadata.tables[f"course.{table}"].columns.keys())


def _enroll(portal: Connection) -> None:
    enroll_in_three(portal, COURSES)
    portal.execute(QUERIES["join_sentinel"], {"user": SENTINEL, "courses": COURSES})
    portal.execute("vacuum analyze")
