"""The portal's registry of courses, and the fan-out that follows from it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import errors, sql
from psycopg.rows import class_row

from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.errors import translated
from pysync.errors import LockedError, MigrationError, ReplicationError, UnknownCourseError
from pysync.types import CourseId

BACKFILL_BATCH: Final = 2000
"""Members whose users are locked at a time."""

_COURSE_LOCK: Final = 0x7079_6372  # first key of the advisory lock on a course
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
    adopts: bool = False
    sacrificed_at: datetime | None = None


_COLUMNS: Final = sql.SQL(
    "course_id, replication_name, conninfo, portal_conninfo, replication_role, fans_out,"
    " course_system_identifier, subscription_oid::bigint as subscription_oid,"
    " ready_at is not null as ready, adopts, sacrificed_at"
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


def get_ready(portal: Connection, course: CourseId) -> Course:
    """Return a registered course whose addition is complete and whose removal hasn't begun.

    :raises UnknownCourseError: if it isn't registered.
    :raises ReplicationError: if it is incomplete.
    """
    found = get(portal, course)
    if not found.fans_out or not found.ready:
        command = "add" if found.fans_out else "remove"
        raise ReplicationError(
            f"course '{course}' is incomplete: 'course {command}' was interrupted",
            f"run 'pysync course {command} {shlex.quote(course)} …' again to finish that",
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
            " replication_role, course_system_identifier, adopts)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            (
                course.course_id,
                course.replication_name,
                course.conninfo,
                course.portal_conninfo,
                course.replication_role,
                course.course_system_identifier,
                course.adopts,
            ),
        )
        portal.execute(
            "insert into course.mark (course_id, number, marked_at) values (%s, 0, now())",
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
    """Remember that the course database is complete and streams."""
    portal.execute(
        "update pysync.course set ready_at = coalesce(ready_at, now()), sacrificed_at = null"
        " where course_id = %s",
        (course,),
    )


def record_sacrificed(portal: Connection, course: CourseId) -> None:
    """Remember that a course's slot was dropped on purpose, to save the portal's disk."""
    portal.execute("update pysync.course set sacrificed_at = now() where course_id = %s", (course,))


@contextmanager
def locked(portal: Connection, course: CourseId) -> Iterator[None]:
    """Let one process at a time change how a course is replicated.

    :raises LockedError: if another one does.
    """
    keys = (_COURSE_LOCK, course)
    try:
        # Briefly: the server may take a moment to notice that a command was killed.
        portal.execute("select pg_catalog.pg_advisory_lock(%s, pg_catalog.hashtext(%s))", keys)
    except errors.LockNotAvailable:
        raise LockedError(
            f"course '{course}' is being worked on by another process",
            "wait until it has finished and run the command again",
        ) from None
    try:
        yield
    finally:
        if not portal.closed:
            portal.execute(
                "select pg_catalog.pg_advisory_unlock(%s, pg_catalog.hashtext(%s))", keys
            )


def keep_scrubbed(portal: Connection, course: CourseId, user_ids: list[int]) -> None:
    """Enter users that a course can't let go, though nobody enrolled them, as scrubbed copies.

    Rows of the course point at them. Being in the fan-out they are known to the portal: whoever
    gets such an id or name later is resolved here, and never meets them in the course.
    """
    with translated(f"course '{course}'"), as_owner(portal):
        portal.execute(
            "insert into course.auth_user"
            " (id, course_id, live, password, username, is_active)"
            " select gone.id, gone.course_id, false, '!',"
            "        case when exists (select from course.auth_user as other"
            "                           where other.course_id = gone.course_id"
            "                             and other.username = scrubbed.username)"
            "             then course.free_username(gone.course_id, scrubbed.username, gone.id)"
            "             else scrubbed.username end,"
            "        false"
            " from (select unnest(%s::bigint[]), %s::text) as gone (id, course_id)"
            " cross join lateral (select 'deleted-' || gone.id) as scrubbed (username)"
            " on conflict (id, course_id) do nothing",
            (user_ids, course),
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
        for table in ("student_courseenrollment", "auth_user", "mark"):
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
