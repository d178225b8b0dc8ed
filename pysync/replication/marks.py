"""Wait until what is committed on the portal is visible in a course database."""

import time
from contextlib import closing

import psycopg

from pysync.db.connections import CONNECT_TIMEOUT_SECONDS, Connection, fetch_value
from pysync.db.errors import said, translated
from pysync.errors import ChangesMissingError, WaitTimeoutError
from pysync.replication import identities, registry
from pysync.replication.databases import connect_course
from pysync.texts import word
from pysync.types import CourseId, subject

NOT_ARRIVED = "PY001"
UNKNOWN_COURSE = "PY005"
CHANGES_MISSING = "PY007"


def wait(portal_conninfo: str, course_id: CourseId, timeout_seconds: float) -> None:
    """Wait until everything committed on the portal so far is visible in a course database.

    :raises UnknownCourseError: if the course isn't registered.
    :raises WaitTimeoutError: if it isn't within the timeout.
    :raises ChangesMissingError: if the course has lost changes.
    :raises UnclaimedError: if the portal is a copy: its marks don't arrive anywhere.
    :raises ForeignDatabaseError: if the database is another portal's, or a copy.
    """
    deadline = time.monotonic() + timeout_seconds
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        course = registry.get(portal, course_id)
        identities.require_claimed(portal)
        sent = mark(portal, course_id)
    patience = max(int(min(timeout_seconds, CONNECT_TIMEOUT_SECONDS)), 1)
    with closing(connect_course(course.conninfo, connect_timeout_seconds=patience)) as database:
        identities.require_ours(database, course_id, course.portal_id)
        try:
            wait_for(database, course_id, sent, max(deadline - time.monotonic(), 0))
        except WaitTimeoutError:
            raise too_late(course_id, timeout_seconds) from None


def mark(portal: Connection, course: CourseId) -> int:
    """Send a mark to a course and return it.

    :raises UnknownCourseError: if the course isn't registered.
    """
    with translated(subject(course)):
        try:
            return int(fetch_value(portal, "select pysync.mark(%s)", course))
        except psycopg.Error as error:
            if error.sqlstate == UNKNOWN_COURSE:
                raise registry.unknown(course) from None
            raise


def wait_for(database: Connection, course: CourseId, mark: int, timeout_seconds: float) -> None:
    """Wait in a course database until a mark is visible there.

    :raises WaitTimeoutError: if it isn't within the timeout.
    :raises ChangesMissingError: if it is, and changes before it were lost.
    """
    with translated(subject(course)):
        try:
            database.execute(
                "call course.wait_for(%s, make_interval(secs => %s))", (mark, timeout_seconds)
            )
        except psycopg.Error as error:
            if error.sqlstate == NOT_ARRIVED:
                raise too_late(course, timeout_seconds) from None
            if error.sqlstate == CHANGES_MISSING:
                raise _missing(course, error) from None
            raise


def _missing(course: CourseId, error: psycopg.Error) -> ChangesMissingError:
    return ChangesMissingError(
        f"{subject(course)} has lost changes: {said(error)}", f"run 'pysync resync {word(course)}'"
    )


def fence(
    portal: Connection, database: Connection, course: CourseId, timeout_seconds: float
) -> None:
    """Wait until a course database has all that is committed on the portal by now.

    :raises WaitTimeoutError: if it isn't within the timeout.
    :raises ChangesMissingError: if it has, but for some that it lost.
    """
    wait_for(database, course, mark(portal, course), timeout_seconds)


def require_confirmed(portal: Connection, database: Connection, course: CourseId) -> None:
    """See that a course has the marks that its slot has confirmed.

    :raises ChangesMissingError: if it hasn't: the slot has passed over changes.
    """
    query = "select confirmed_mark from pysync.subscription_status where course_id = %s"
    confirmed = fetch_value(portal, query, course) or 0
    if (fetch_value(database, "select max(number) from course.mark") or 0) < confirmed:
        raise ChangesMissingError(
            f"{subject(course)} has lost changes: its slot has passed over marks that never "
            "arrived",
            f"run 'pysync resync {word(course)}'",
        )


def too_late(course: CourseId, timeout_seconds: float) -> WaitTimeoutError:
    """Return the error for a mark that didn't arrive in time."""
    return WaitTimeoutError(
        f"{subject(course)} is behind: what was committed on the portal is not all "
        f"visible there after {timeout_seconds:g} s",
        "run 'pysync status' to see why",
    )
