"""(c) How long after a commit on the portal a course sees it, against plain replication.

Both sides run on the same portal database, one after the other in every round, and are measured in
the same way: an update of one user commits on the portal, and an open connection to the other
server polls, without a pause, with a prepared statement, until it sees the new value.

- With pysync: eight courses attached, every user enrolled in three of them; the poll looks into one
  of the three, a different one from user to user. The plain subscription is disabled.
- Plain: one native subscription to ``public.auth_user``, without a row filter, into a database of
  its own. As on a server without pysync, the courses' subscriptions and the triggers are disabled.

Updates come one at a time with a short pause: this is latency, not throughput.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import LiteralString

from psycopg import sql
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from pysync.db.connections import Connection, connect, fetch_value
from pysync.models.portal import User
from pysync.replication import marks
from pysync.types import CourseId, replication_name
from tests.benchmarks.measure import MILLISECONDS, Comparison, Effort, Row, interleave, percentile
from tests.benchmarks.pair import (
    Pair,
    Triggers,
    add_course,
    enroll_in_three,
    new_portal,
    set_triggers,
)
from tests.support import eventually

USERS = 8_000
COURSES = [CourseId(f"Bench/Latency/{number}") for number in range(8)]
WARM_UP = 30
PAUSE_SECONDS = 0.003

_PORTAL = "latency"
_PLAIN = "plain"
_UPDATE: LiteralString = "update public.auth_user set email = %s where id = %s"
_IN_COURSE: LiteralString = "select true from course.auth_user where id = %s and email = %s"
_IN_PLAIN: LiteralString = "select true from public.auth_user where id = %s and email = %s"


@dataclass(frozen=True)
class Attached:
    """What is attached to the portal on one side: subscriptions, by the database they are in."""

    subscriptions: dict[str, Connection]
    triggers: bool
    query: LiteralString

    def start(self, portal: Connection) -> None:
        set_triggers(portal, Triggers.ALL if self.triggers else Triggers.NONE)
        self._alter("enable")
        eventually(lambda: self._active_slots(portal) == len(self.subscriptions))

    def stop(self, portal: Connection) -> None:
        self._alter("disable")
        eventually(lambda: self._active_slots(portal) == 0)

    def _alter(self, verb: LiteralString) -> None:
        for name, database in self.subscriptions.items():
            database.execute(
                sql.SQL("alter subscription {} {}").format(sql.Identifier(name), sql.SQL(verb))
            )

    def _active_slots(self, portal: Connection) -> int:
        return int(
            fetch_value(
                portal,
                "select count(*) from pg_replication_slots where active and slot_name = any(%s)",
                list(self.subscriptions),
            )
        )


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return the seconds from commit to visible: the median, and the slowest hundredth."""
    conninfo = new_portal(pair, _PORTAL, USERS, profiles=False)
    p50 = Comparison(
        "(c) commit to visible, 8 courses beside a plain subscription, p50",
        MILLISECONDS,
        at_most=1.4,
    )
    p99 = Comparison("      the same, p99", MILLISECONDS, at_most=1.5)
    with ExitStack() as stack:
        portal = stack.enter_context(closing(connect(conninfo)))
        pair.say("attaching a plain subscription and eight courses")
        plain = stack.enter_context(closing(_attach_plain(pair, portal)))
        databases = [
            stack.enter_context(closing(add_course(pair, conninfo, course, f"latency_{number}")))
            for number, course in enumerate(COURSES)
        ]
        names = [replication_name(_PORTAL, course) for course in COURSES]
        natively = Attached({_PLAIN: plain}, triggers=False, query=_IN_PLAIN)
        pysync = Attached(dict(zip(names, databases, strict=True)), triggers=True, query=_IN_COURSE)
        enroll_in_three(portal, COURSES)
        for course, database in zip(COURSES, databases, strict=True):
            marks.wait_for(database, course, marks.mark(portal, course), 60)
        for attached in (natively, pysync):
            attached.stop(portal)

        values = count()

        def side(attached: Attached, p50s: list[float], p99s: list[float]) -> None:
            attached.start(portal)
            seconds = list(_latencies(portal, attached, values, WARM_UP + effort.changes))[WARM_UP:]
            attached.stop(portal)
            p50s.append(median(seconds))
            p99s.append(percentile(seconds, 0.99))

        for done in interleave(
            effort.rounds,
            lambda: side(natively, p50.beside, p99.beside),
            lambda: side(pysync, p50.pysync, p99.pysync),
        ):
            pair.say(f"{p50.title}: round {done} of {effort.rounds}")
    return [p50.row(), p99.row()]


def _latencies(
    portal: Connection, attached: Attached, values: Iterator[int], changes: int
) -> Iterator[float]:
    databases = list(attached.subscriptions.values())
    for value in (next(values) for _ in range(changes)):
        user_id = 1 + value * 37 % USERS
        # Of the three courses of a user the first, the second and the third in turn.
        database = databases[(user_id + value % 3) % len(databases)]
        email = f"changed{value}@example.org"
        time.sleep(PAUSE_SECONDS)
        portal.execute(_UPDATE, (email, user_id), prepare=True)
        committed = time.perf_counter()
        while not database.execute(attached.query, (user_id, email), prepare=True).fetchone():
            pass
        yield time.perf_counter() - committed


def _attach_plain(pair: Pair, portal: Connection) -> Connection:
    """Subscribe a database to ``public.auth_user`` as one does without pysync."""
    portal.execute(
        sql.SQL("create publication {} for table public.auth_user").format(sql.Identifier(_PLAIN))
    )
    database = connect(pair.courses.create_database(_PLAIN))
    definition = CreateTable(User.metadata.tables["public.auth_user"])
    database.execute(str(definition.compile(dialect=postgresql.dialect())).encode())  # type: ignore[no-untyped-call]
    database.execute(
        sql.SQL("create subscription {name} connection {conninfo} publication {name}").format(
            name=sql.Identifier(_PLAIN), conninfo=sql.Literal(pair.portal.conninfo(_PORTAL))
        )
    )
    eventually(
        lambda: (
            fetch_value(database, "select count(*) from pg_subscription_rel where srsubstate = 'r'")
            == 1
        )
    )
    return database
