"""(b) and (d): one statement that enrolls every user of a portal in one course.

Every user has a profile, as a portal's users do, so with pysync the statement copies a user, a
profile and an enrollment per row. (b) has no subscription attached: the statement alone, with and
without the fan-out triggers, and with the triggers that give roles. (d) has a course attached: from the statement's start until all its
rows are visible in the course database, against the bare statement.
"""

from __future__ import annotations

import time
from contextlib import closing

from psycopg import sql

from pysync.db.connections import Connection, connect, fetch_value
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import marks
from pysync.types import CourseId
from tests.benchmarks.measure import SECONDS, Comparison, Effort, interleave
from tests.benchmarks.pair import (
    Pair,
    add_course,
    count,
    new_portal,
    register_only,
    set_triggers,
)
from tests.support import eventually

COURSE = CourseId("Bench/Enrolling/1")

_ENROLL = (
    "insert into public.student_courseenrollment (user_id, course_id)"
    " select id, %s from public.auth_user order by id"
)


def measure_statement(pair: Pair, effort: Effort) -> list[Comparison]:
    """(b) Return seconds per statement without and with the triggers."""
    conninfo = new_portal(pair, "enrolling", effort.members, profiles=True)
    comparison = Comparison(
        f"(b) one statement enrolling {effort.members:,} users", SECONDS, at_most=4.0
    )
    roles = Comparison("      the same, giving roles instead of copying", SECONDS)
    with closing(connect(conninfo)) as portal:
        register_only(portal, [COURSE])
        _compare(pair, effort, comparison, portal, None)
        _compare(pair, effort, roles, portal, None, triggers="student")
    return [comparison, roles]


def measure_until_visible(pair: Pair, effort: Effort) -> list[Comparison]:
    """(d) Return seconds per bare statement, and from its start until the course has it all."""
    conninfo = new_portal(pair, "bulk", effort.members, profiles=True)
    comparison = Comparison(
        f"(d) {effort.members:,} enrollments in one transaction, until visible in the course",
        SECONDS,
    )
    with (
        closing(connect(conninfo)) as portal,
        closing(add_course(pair, conninfo, COURSE, "bulk")) as database,
    ):
        _compare(pair, effort, comparison, portal, database)
    return [comparison]


def _compare(
    pair: Pair,
    effort: Effort,
    comparison: Comparison,
    portal: Connection,
    database: Connection | None,
    *,
    triggers: str = "course",
) -> None:
    def side(values: list[float], *, enabled: bool) -> None:
        set_triggers(portal, "student_courseenrollment", enabled=triggers if enabled else None)
        values.append(_time_statement(portal, database if enabled else None, effort.members))
        _undo(portal, database)

    # The first statement finds pages as they are after loading, all later ones as after an undo.
    side([], enabled=True)
    for done in interleave(
        effort.rounds,
        lambda: side(comparison.without, enabled=False),
        lambda: side(comparison.with_pysync, enabled=True),
    ):
        pair.say(f"{comparison.title}: round {done} of {effort.rounds}")


def _time_statement(portal: Connection, database: Connection | None, members: int) -> float:
    begin = time.perf_counter()
    portal.execute(_ENROLL, (COURSE,))
    if database is not None:
        # One transaction on the portal is one in the course: whoever sees a row sees all of them.
        eventually(lambda: _any_row(database), timeout_seconds=60)
    seconds = time.perf_counter() - begin
    for table in REPLICATED_TABLES if database is not None else ():
        if database is not None and (found := count(database, table)) != members:
            raise RuntimeError(f"course.{table} holds {found:,} rows instead of {members:,}")
    return seconds


def _any_row(database: Connection) -> bool:
    return bool(
        fetch_value(database, "select exists (select from course.student_courseenrollment)")
    )


def _undo(portal: Connection, database: Connection | None) -> None:
    """Take a statement back, without the triggers, and leave the tables vacuumed."""
    set_triggers(portal, "student_courseenrollment", enabled=None)
    tables = [
        sql.Identifier("public", "student_courseenrollment"),
        *(sql.Identifier("course", table) for table in reversed(REPLICATED_TABLES)),
    ]
    with portal.transaction():
        for table in tables:
            portal.execute(sql.SQL("delete from {} where course_id = %s").format(table), (COURSE,))
        portal.execute("delete from public.django_comment_client_role_users")
    if database is not None:
        marks.wait_for(database, COURSE, marks.mark(portal, COURSE), 60)
        database.execute("vacuum analyze")
        database.execute("checkpoint")
    portal.execute("vacuum analyze")
    portal.execute("checkpoint")
