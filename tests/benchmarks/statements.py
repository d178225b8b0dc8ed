"""(b) and (d): statements about every user of a portal, who are enrolled in one course.

Every user has a profile, as a portal's users do, so with pysync an enrollment copies a user, a
profile and itself. (b) and what follows it have no subscription attached: each statement alone, with
and without pysync's triggers. (d) has a course attached: from the statement's start until all its
rows are visible in the course database, against the bare statement.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from psycopg import sql

from pysync.db.connections import Connection, connect
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import marks
from pysync.types import CourseId
from tests.benchmarks.measure import SECONDS, Comparison, Effort, Row, interleave
from tests.benchmarks.pair import (
    QUERIES,
    Pair,
    Triggers,
    add_course,
    await_row,
    count,
    new_portal,
    register_only,
    set_triggers,
    tidy,
)

COURSE = CourseId("Bench/Enrolling/1")
DELETED = 3
"""Every third user is deleted."""


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """(b) Return seconds per statement without and with the triggers."""
    members = effort.members
    conninfo = new_portal(pair, "enrolling", members, profiles=True)
    enrolling = Comparison(f"(b) one statement enrolling {members:,}", SECONDS, at_most=3.0)
    roles = Comparison(
        "      the same, giving discussion roles, too",
        SECONDS,
        at_most=3.0,
        beside=enrolling.beside,
    )
    profiles = Comparison(f"one statement updating {members:,} profiles", SECONDS)
    deleting = Comparison(f"deleting {members // DELETED:,} of these users", SECONDS)
    unenrolling = Comparison(f"one statement unenrolling {members:,}", SECONDS)
    with closing(connect(conninfo)) as portal:
        register_only(portal, [COURSE])

        def all_of_them(enabled: Triggers, side: Callable[[Comparison], list[float]]) -> None:
            set_triggers(portal, enabled)
            side(enrolling).append(_enroll(portal))
            side(profiles).append(_update_profiles(portal))
            side(deleting).append(_delete_users(portal))
            side(unenrolling).append(_unenroll(portal))
            _undo(portal, None)

        def enroll_with_roles() -> None:
            set_triggers(portal, Triggers.ALL)
            roles.pysync.append(_enroll(portal))
            _undo(portal, None)

        # The first statement finds pages as they are after loading, all later ones as after an undo.
        all_of_them(Triggers.FAN_OUT, lambda _: [])
        for done in interleave(
            effort.rounds,
            lambda: all_of_them(Triggers.NONE, lambda comparison: comparison.beside),
            lambda: all_of_them(Triggers.FAN_OUT, lambda comparison: comparison.pysync),
            enroll_with_roles,
        ):
            pair.say(f"{enrolling.title}, and other statements: round {done} of {effort.rounds}")
    return [
        enrolling.row(),
        roles.row(),
        unenrolling.row_no_slower(enrolling),
        profiles.row_no_slower(enrolling),
        deleting.row_no_slower(enrolling, DELETED),
    ]


def measure_until_visible(pair: Pair, effort: Effort) -> list[Row]:
    """(d) Return seconds per bare statement, and from its start until the course has it all."""
    members = effort.members
    conninfo = new_portal(pair, "bulk", members, profiles=True)
    visible = Comparison(
        f"(d) {members:,} enrollments until visible, beside the bare statement",
        SECONDS,
        at_most=4.5,
    )
    roles = Comparison(
        "      the same, giving discussion roles, too", SECONDS, at_most=4.5, beside=visible.beside
    )
    with (
        closing(connect(conninfo)) as portal,
        closing(add_course(pair, conninfo, COURSE, "bulk")) as database,
    ):

        def side(values: list[float], enabled: Triggers) -> None:
            set_triggers(portal, enabled)
            until = None if enabled is Triggers.NONE else database
            values.append(_enroll(portal, until, members))
            _undo(portal, database)

        side([], Triggers.FAN_OUT)
        for done in interleave(
            effort.rounds,
            lambda: side(visible.beside, Triggers.NONE),
            lambda: side(visible.pysync, Triggers.FAN_OUT),
            lambda: side(roles.pysync, Triggers.ALL),
        ):
            pair.say(f"{visible.title}: round {done} of {effort.rounds}")
    return [visible.row(), roles.row()]


def _enroll(portal: Connection, database: Connection | None = None, members: int = 0) -> float:
    begin = time.perf_counter()
    portal.execute(QUERIES["enroll_all"], {"course": COURSE})
    if database is None:
        return time.perf_counter() - begin
    # One transaction on the portal is one in the course: whoever sees a row sees all of them.
    await_row(database, "select from course.student_courseenrollment limit 1")
    seconds = time.perf_counter() - begin
    for table in REPLICATED_TABLES:
        if (found := count(database, table)) != members:
            raise RuntimeError(f"course.{table} holds {found:,} rows instead of {members:,}")
    return seconds


def _update_profiles(portal: Connection) -> float:
    begin = time.perf_counter()
    portal.execute("update public.auth_userprofile set goals = 'Goal ' || random()")
    return time.perf_counter() - begin


def _delete_users(portal: Connection) -> float:
    """Delete users, and come back from it: what would be done at the commit is done before."""
    with portal.transaction(force_rollback=True):
        begin = time.perf_counter()
        portal.execute("delete from public.auth_user where id %% %s = 0", (DELETED,))
        portal.execute("set constraints all immediate")
        return time.perf_counter() - begin


def _unenroll(portal: Connection) -> float:
    begin = time.perf_counter()
    portal.execute("delete from public.student_courseenrollment")
    return time.perf_counter() - begin


def _undo(portal: Connection, database: Connection | None) -> None:
    """Take a statement back, without the triggers, and leave the tables vacuumed."""
    set_triggers(portal, Triggers.NONE)
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
        tidy(database)
    tidy(portal)
