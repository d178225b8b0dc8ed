"""What a course's server says that tells whether a course that was whole may have lost anything."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.replication.registry import Course
from pysync.types import CourseId

COUNTED_SECONDS: Final = 1.5

QUERIES = load(__file__)


@dataclass(frozen=True)
class Witness:
    """What a course's server says that tells whether anything may have been lost since.

    :param server_started_at: a server that was started anew may have lost what it hadn't flushed,
        or be another one, or an earlier copy.
    :param missed_changes: how many changes met no row, counted since 18.
    """

    server_started_at: datetime | None
    missed_changes: int | None


def read(database: Connection, course: Course) -> Witness:
    """Return what a course's server says now."""
    with database.cursor(row_factory=class_row(Witness)) as cursor:
        found = cursor.execute(QUERIES["witness"], {"name": course.replication_name}).fetchone()
    assert found is not None  # noqa: S101 - it has one row
    return found


def record_whole(portal: Connection, course: CourseId, seen: Witness) -> None:
    """Remember that a course was known to hold all that it must, and what its server said then."""
    statement = (
        "update pysync.course set server_started_at = %s, missed_changes = %s where course_id = %s"
    )
    portal.execute(statement, (seen.server_started_at, seen.missed_changes, course))


def await_counts(database: Connection, course: Course) -> Witness:
    """Return what a course's server says once it has counted what was applied until now.

    A worker tells what it counted when it has had nothing to do for a second.
    """
    found, since = read(database, course), time.monotonic()
    while found.missed_changes is not None and time.monotonic() < since + COUNTED_SECONDS:
        time.sleep(0.1)
        if (now := read(database, course)) != found:
            found, since = now, time.monotonic()
    return found
