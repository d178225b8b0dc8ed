"""The portal's registry of courses."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg import errors, sql
from psycopg.rows import class_row

from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.db.transactions import patiently
from pysync.errors import LockedError, MigrationError, ReplicationError, UnknownCourseError
from pysync.types import CourseId

_COURSE_LOCK: Final = 0x7079_6372  # first key of the advisory lock on a course


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
    unfilled: tuple[str, ...] | list[str] = ()
    withdrawn: bool = False


_COLUMNS: Final = sql.SQL(
    "course_id, replication_name, conninfo, portal_conninfo, replication_role, fans_out,"
    " course_system_identifier, subscription_oid::bigint as subscription_oid,"
    " ready_at is not null as ready, adopts, sacrificed_at, unfilled, withdrawn"
)

QUERIES = load(__file__)


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
        patiently(lambda: _register(portal, course))


def _register(portal: Connection, course: Course) -> None:
    with portal.transaction():
        portal.execute(QUERIES["register"], vars(course))
        portal.execute(
            "insert into course.mark (course_id, number, marked_at) values (%s, 0, now())",
            (course.course_id,),
        )


def reregister(portal: Connection, course: Course) -> None:
    """Update how an entered course and its server are reached."""
    portal.execute(QUERIES["reregister"], vars(course))


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


def unregister(portal: Connection, course: CourseId) -> None:
    """Delete a course's entry, once its rows in the fan-out are deleted."""
    statement = "delete from pysync.course where course_id = %s"
    with translated(f"course '{course}'"):
        patiently(lambda: portal.execute(statement, (course,)))
