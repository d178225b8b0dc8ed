"""The portal's registry of courses, and the fan-out that follows from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from psycopg import errors, sql
from psycopg.rows import class_row

from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.errors import translated
from pysync.errors import MigrationError, UnknownCourseError
from pysync.types import CourseId

BACKFILL_BATCH: Final = 2000
"""Members whose users are locked at a time."""

LOCK_TRIES: Final = 10
LOCK_PAUSE_SECONDS: Final = 0.5
"""Between tries to lock the enrollment table, so that applications get their turn."""


@dataclass(frozen=True)
class Course:
    """A row of ``pysync.course``; the connection strings hold no password."""

    course_id: CourseId
    replication_name: str
    conninfo: str
    portal_conninfo: str
    replication_role: str
    fans_out: bool = True
    course_system_identifier: int | None = None
    subscription_oid: int | None = None
    ready: bool = False


_COLUMNS: Final = sql.SQL(
    "course_id, replication_name, conninfo, portal_conninfo, replication_role, fans_out,"
    " course_system_identifier, subscription_oid::bigint as subscription_oid,"
    " ready_at is not null as ready"
)


def connect_portal(conninfo: str) -> Connection:
    """Connect to a portal database.

    :raises DatabaseUnreachableError: if it can't be reached.
    :raises MigrationError: if pysync isn't installed in it.
    """
    connection = connect(conninfo)
    try:
        require(connection)
    except MigrationError:
        connection.close()
        raise
    return connection


def require(connection: Connection) -> None:
    """Refuse a database without a registry.

    :raises MigrationError: if it isn't a portal.
    """
    if fetch_value(connection, "select pg_catalog.to_regclass('pysync.course')") is None:
        raise MigrationError(
            f"database '{connection.info.dbname}' isn't a portal: it has no registry",
            "run 'pysync migrate portal' first, or point PYSYNC_PORTAL elsewhere",
        )


def courses(portal: Connection) -> list[Course]:
    """Return the registered courses in the order of their ids."""
    with portal.cursor(row_factory=class_row(Course)) as cursor:
        return cursor.execute(
            sql.SQL("select {} from pysync.course order by course_id").format(_COLUMNS)
        ).fetchall()


def find(portal: Connection, course: CourseId) -> Course | None:
    """Return a registered course, or ``None``."""
    with portal.cursor(row_factory=class_row(Course)) as cursor:
        return cursor.execute(
            sql.SQL("select {} from pysync.course where course_id = %s").format(_COLUMNS),
            (course,),
        ).fetchone()


def get(portal: Connection, course: CourseId) -> Course:
    """Return a registered course.

    :raises UnknownCourseError: if it isn't registered.
    """
    found = find(portal, course)
    if found is None:
        raise UnknownCourseError(
            f"course '{course}' is not registered", "run 'pysync course list' for those that are"
        )
    return found


def register(portal: Connection, course: Course) -> None:
    """Enter a course, so that triggers copy its members from now on.

    A trigger on the registry waits for enrollments under way. Applications that come meanwhile wait
    behind us, so we wait briefly and let them go between tries.

    :raises LockedError: if no try succeeds; nothing is changed then.
    """
    with translated(f"course '{course.course_id}'"):
        _patiently(lambda: _register(portal, course))


def _register(portal: Connection, course: Course) -> None:
    with portal.transaction():
        portal.execute(
            "insert into pysync.course (course_id, replication_name, conninfo, portal_conninfo,"
            " replication_role, course_system_identifier) values (%s, %s, %s, %s, %s, %s)",
            (
                course.course_id,
                course.replication_name,
                course.conninfo,
                course.portal_conninfo,
                course.replication_role,
                course.course_system_identifier,
            ),
        )
        portal.execute(
            "insert into course.beat (course_id, token, marked_at) values (%s, 0, now())",
            (course.course_id,),
        )


def _patiently(action: Callable[[], object]) -> None:
    for _ in range(LOCK_TRIES - 1):
        try:
            action()
        except errors.LockNotAvailable:
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return
    action()


def reregister(portal: Connection, course: Course) -> None:
    """Update how an entered course and its server are reached."""
    portal.execute(
        "update pysync.course set conninfo = %s, portal_conninfo = %s, replication_role = %s,"
        " course_system_identifier = %s where course_id = %s",
        (
            course.conninfo,
            course.portal_conninfo,
            course.replication_role,
            course.course_system_identifier,
            course.course_id,
        ),
    )


def record_subscription(portal: Connection, course: CourseId, subscription_oid: int) -> None:
    """Remember a subscription's oid: its synchronization slots are named after it."""
    portal.execute(
        "update pysync.course set subscription_oid = %s where course_id = %s",
        (subscription_oid, course),
    )


def record_ready(portal: Connection, course: CourseId) -> None:
    """Remember that the first copy is complete."""
    portal.execute(
        "update pysync.course set ready_at = coalesce(ready_at, now()) where course_id = %s",
        (course,),
    )


def count_members(portal: Connection, course: CourseId) -> int:
    """Return how many users are enrolled in a course on the portal."""
    return int(
        fetch_value(
            portal,
            "select count(*) from public.student_courseenrollment where course_id = %s",
            course,
        )
    )


def backfill(portal: Connection, course: CourseId, advance: Callable[[int], None]) -> None:
    """Copy the members a course had when it was registered, a batch per transaction.

    :param advance: is told how many members each batch had.
    """
    after_user_id = -(2**63)
    with translated(f"course '{course}'"):
        while row := _next_batch(portal, course, after_user_id):
            after_user_id, members = row
            advance(members)


def _next_batch(portal: Connection, course: CourseId, after_user_id: int) -> tuple[int, int] | None:
    with as_owner(portal):
        return portal.execute(
            "select last_user_id, members from pysync.backfill(%s, %s, %s)",
            (course, after_user_id, BACKFILL_BATCH),
        ).fetchone()


@contextmanager
def as_owner(portal: Connection) -> Iterator[None]:
    """Run the block's statements in a transaction with no more rights than the triggers have.

    Functions of the triggers' role could be altered by an application's trigger that runs as it; an
    administrator must not lend them more. Others than superusers have nothing to lend.
    """
    with portal.transaction():
        portal.execute(
            "select pg_catalog.set_config('role', 'pysync_owner', true)"
            " from pg_catalog.pg_roles where rolname = session_user and rolsuper"
        )
        yield


def stop_fan_out(portal: Connection, course: CourseId) -> None:
    """Stop copying a course's members: the first step of its removal."""
    with translated(f"course '{course}'"):
        _patiently(
            lambda: portal.execute(
                "update pysync.course set fans_out = false where course_id = %s and fans_out",
                (course,),
            )
        )


def unregister(portal: Connection, course: CourseId) -> None:
    """Delete a course's fan-out rows, then its entry."""
    with translated(f"course '{course}'"):
        for table in ("student_courseenrollment", "auth_user", "beat"):
            _delete_fan_out(portal, table, course)
        # A profile's change under way may have seen the enrollment, and copies it still.
        _patiently(lambda: _wait_for_profiles(portal))
        _delete_fan_out(portal, "auth_userprofile", course)
        _patiently(
            lambda: portal.execute("delete from pysync.course where course_id = %s", (course,))
        )


def _delete_fan_out(portal: Connection, table: str, course: CourseId) -> None:
    portal.execute(
        sql.SQL("delete from {} where course_id = %s").format(sql.Identifier("course", table)),
        (course,),
    )


def _wait_for_profiles(portal: Connection) -> None:
    with portal.transaction():
        portal.execute("lock table public.auth_userprofile in share row exclusive mode")
