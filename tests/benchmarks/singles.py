"""What single changes cost the server alone: pgbench, prepared statements, no subscription attached.

20,000 users with profiles, three enrollments each in eight registered courses. Enrollments come in
pairs of user and course that weren't there, and are taken back between rounds.
"""

from __future__ import annotations

from contextlib import closing

from pysync.db.connections import Connection, connect, fetch_value
from pysync.types import CourseId
from tests.benchmarks import pgbench
from tests.benchmarks.measure import PER_SECOND, Comparison, Effort, Row, interleave
from tests.benchmarks.pair import (
    QUERIES,
    Pair,
    Triggers,
    enroll_in_three,
    new_portal,
    register_only,
    set_triggers,
)

USERS = 20_000
STEM = "Bench/Singles"
COURSES = [CourseId(f"{STEM}/{number}") for number in range(8)]


def enroll_variables(users: int, stem: str, courses: int) -> dict[str, int | str]:
    """Return the variables of pgbench/enroll.sql, where users are in three courses already."""
    return {
        "users": users,
        "stem": stem,
        "courses": courses,
        "members": min(3, courses),
        "clients": pgbench.CLIENTS,
        "done": 0,
        "first": 0,
    }


def measure(pair: Pair, effort: Effort) -> list[Row]:
    """Return updates of users and profiles, and enrollments, per second."""
    conninfo = new_portal(pair, "singles", USERS, profiles=True)
    updates = Comparison("user updates, server alone", PER_SECOND, at_least=0.60)
    profiles = Comparison("profile updates, server alone", PER_SECOND)
    enrollments = Comparison("single enrollments, server alone", PER_SECOND, at_least=0.20)
    roles = Comparison(
        "      the same, giving discussion roles, too",
        PER_SECOND,
        at_least=0.20,
        beside=enrollments.beside,
    )
    with closing(connect(conninfo)) as portal:
        register_only(portal, COURSES)
        enroll_in_three(portal, COURSES)
        portal.execute("vacuum analyze")
        last = last_enrollment(portal)
        variables = enroll_variables(USERS, STEM, len(COURSES))

        def update(script: str, values: list[float], enabled: Triggers) -> None:
            set_triggers(portal, enabled)
            portal.execute(QUERIES["vacuum_updated"])
            ran = pgbench.run(
                pair.installation, conninfo, script, {"users": USERS}, seconds=effort.rate_seconds
            )
            values.append(ran.per_second)

        def enroll(values: list[float], enabled: Triggers) -> None:
            set_triggers(portal, enabled)
            ran = pgbench.run(
                pair.installation, conninfo, "enroll", variables, seconds=effort.rate_seconds
            )
            values.append(ran.per_second)
            take_back(portal, last)

        for script, comparison in ("update_user", updates), ("update_profile", profiles):
            update(script, [], Triggers.ALL)  # Brings every page to where it is in the long run.
            for done in interleave(
                effort.rate_rounds,
                lambda: update(script, comparison.beside, Triggers.NONE),  # noqa: B023
                lambda: update(script, comparison.pysync, Triggers.ALL),  # noqa: B023
            ):
                pair.say(f"{comparison.title}: round {done} of {effort.rate_rounds}")

        enroll([], Triggers.ALL)
        for done in interleave(
            effort.rate_rounds,
            lambda: enroll(enrollments.beside, Triggers.NONE),
            lambda: enroll(enrollments.pysync, Triggers.FAN_OUT),
            lambda: enroll(roles.pysync, Triggers.ALL),
        ):
            pair.say(f"{enrollments.title}: round {done} of {effort.rate_rounds}")
    return [updates.row(), enrollments.row(), roles.row(), profiles.row_no_slower(enrollments)]


def last_enrollment(portal: Connection) -> int:
    return int(fetch_value(portal, "select max(id) from public.student_courseenrollment"))


def take_back(portal: Connection, last: int) -> None:
    """Take back the enrollments after the `last` one to be kept, with all that they brought."""
    set_triggers(portal, Triggers.NONE)
    with portal.transaction():
        portal.execute(QUERIES["take_back_enrollments"], {"last": last})
        portal.execute(QUERIES["take_back_roles"])
    portal.execute("vacuum analyze")
    portal.execute("checkpoint")
