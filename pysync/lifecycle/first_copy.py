"""Wait for the first copy of a course, or give it up with its cause."""

from __future__ import annotations

import time
from typing import Final, NoReturn

import psycopg
from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.diagnosis.trial import attempt_copy
from pysync.errors import PysyncError, ReplicationError, WaitTimeoutError
from pysync.findings import Finding
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import marks, registry, slots, subscriptions
from pysync.replication.registry import Course
from pysync.types import Progress

FAILURES_TO_GIVE_UP: Final = 5
"""Failed tries to copy, without a table getting ready in between: one may be bad luck."""

_TRIAL_SECONDS: Final = 5


def wait(
    portal_conninfo: str,
    portal: Connection,
    database: Connection,
    course: Course,
    progress: Progress,
) -> None:
    """Wait until all tables are copied and the stream has caught up.

    A copy that fails is given up, once a trial tells the cause or it has failed often enough:
    subscription and slots go, so that nothing fills a disk.

    :raises ReplicationError: if it was given up.
    """
    before = subscriptions.copy_state(database, course)
    errors = before.errors
    total = int(
        fetch_value(
            portal,
            "select (select count(*) from course.auth_user where course_id = %s)"
            " + (select count(*) from course.auth_userprofile where course_id = %s)"
            " + (select count(*) from course.student_courseenrollment where course_id = %s)",
            *[course.course_id] * 3,
        )
    )
    progress.step("first copy", max(total, 1))
    pause_seconds = 0.02
    while True:
        state = subscriptions.copy_state(database, course)
        if state.complete:
            break
        if state.ready > before.ready:
            before = state
        if not course.ready and state.errors > errors:
            errors = state.errors
            cause = _cause(portal_conninfo, course, state)
            if cause is not None or errors - before.errors >= FAILURES_TO_GIVE_UP:
                _give_up(portal, database, course, cause)
        progress.advance(min(_copied(database, state), total))
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, 0.25)
    progress.advance(max(total, 1))
    try:
        marks.wait_for(database, course.course_id, marks.mark(portal, course.course_id), 30)
    except WaitTimeoutError:
        raise ReplicationError(
            f"course '{course.course_id}' is copied, but a change made now doesn't arrive",
            "run 'pysync status' to see why",
        ) from None


def _copied(database: Connection, state: subscriptions.CopyState) -> int:
    done = (
        sum(
            int(
                fetch_value(
                    database,
                    sql.SQL("select count(*) from {}").format(sql.Identifier("course", table)),
                )
            )
            for table in REPLICATED_TABLES
        )
        if state.ready
        else 0
    )
    return done + state.rows


def _cause(portal_conninfo: str, course: Course, state: subscriptions.CopyState) -> Finding | None:
    deadline = time.monotonic() + _TRIAL_SECONDS
    try:
        return attempt_copy(portal_conninfo, course, state.uncopied, deadline).finding
    except (PysyncError, psycopg.Error):
        return None


def _give_up(
    portal: Connection, database: Connection, course: Course, cause: Finding | None
) -> NoReturn:
    subscriptions.drop(database, course)
    slots.drop(portal, registry.get(portal, course.course_id))
    subject = f"course '{course.course_id}' can't be copied"
    if cause is None:
        raise ReplicationError(
            f"{subject}: its server reports an error for each try",
            "see the course server's log for the cause, mend it and run the command again",
        )
    raise ReplicationError(f"{subject}: {cause}", f"{cause.remedy}, and run the command again")
