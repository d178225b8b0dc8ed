"""What the portal knows of its courses: true also while they can't be asked."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load
from pysync.models.replicated import PUBLISHED
from pysync.types import CourseId

_QUERIES: Final = load(__file__)
_STATUS: Final = sql.SQL("pysync.subscription_status")
_COUNT_TIMEOUT_MILLISECONDS: Final = 800
_COUNTS: Final = sql.SQL(" union all ").join(
    sql.SQL("select {}, count(*) from {} where course_id = %(course_id)s").format(
        sql.Literal(table.name), table.identifier
    )
    for table in PUBLISHED
)


@dataclass(frozen=True)
class Slot:
    """A course's row of ``pysync.subscription_status``; positions are bytes of WAL.

    ``confirmed_mark`` is one that the course has unless it has lost changes, ``connected_seconds``
    how long its apply worker has been connected, ``spill_bytes`` what decoding for it wrote to
    disk since the slot, or its statistics, began, ``failover`` whether it is one that fails over
    (``None`` where the server has none such).
    """

    course_id: str
    slot_exists: bool
    slot_active: bool | None
    wal_status: str | None
    confirmed_at: int | None
    sent_at: int | None
    replayed_at: int | None
    connected_seconds: float | None
    lag_bytes: int | None
    retained_wal_bytes: int | None
    seconds_to_loss: float | None
    mark: int | None
    marked_at: datetime | None
    confirmed_mark: int | None
    spill_bytes: int | None
    failover: bool | None


@dataclass(frozen=True)
class Mark:
    """A mark that was sent to a course."""

    number: int
    marked_at: datetime


@dataclass(frozen=True)
class Clock:
    """A server's clock, as read once."""

    read_at: datetime
    monotonic_seconds: float

    def age_seconds(self, moment: datetime, seen_at: float) -> float:
        """Return how old a moment of this clock's was when `seen_at` was our monotonic time."""
        since_read = (self.read_at - moment).total_seconds()
        return max(since_read + seen_at - self.monotonic_seconds, 0.0)


def read_clock(connection: Connection) -> Clock:
    """Read a server's clock, to half a round trip."""
    before = time.monotonic()
    read_at = fetch_value(connection, "select clock_timestamp()")
    return Clock(read_at, (before + time.monotonic()) / 2)


def read_slots(
    publisher: Connection,
    status: sql.SQL = _STATUS,
    names: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Slot]:
    """Return what the portal, or a relay, knows of each course, by course id.

    :param status: what has a row for each: the portal's view.
    :param names: what that depends on.
    """
    query = _QUERIES["slots"].format(status=status)
    with publisher.cursor(row_factory=class_row(Slot)) as cursor:
        return {each.course_id: each for each in cursor.execute(query, names)}


def send_marks(portal: Connection, course_ids: Sequence[str]) -> dict[str, Mark]:
    """Send a mark to each of these courses, in one statement.

    :returns: those sent: none, if our role may not or the portal is read-only.
    """
    with suppress(psycopg.Error):
        rows = portal.execute(
            "select course_id, mark, marked_at from pysync.send_marks(%s)", (list(course_ids),)
        ).fetchall()
        return {course_id: Mark(mark, marked_at) for course_id, mark, marked_at in rows}
    return {}


def read_marks(portal: Connection, course_ids: Sequence[str]) -> dict[str, int | None]:
    """Return the newest mark of each of these courses on the portal."""
    query = "select course_id, mark from pysync.subscription_status where course_id = any (%s)"
    return dict(portal.execute(query, (list(course_ids),)).fetchall())


def read_wal_position(portal: Connection) -> int:
    """Return the end of the portal's WAL, in bytes."""
    return int(fetch_value(portal, _QUERIES["wal_position"]))


def read_verifications(portal: Connection) -> Mapping[str, tuple[datetime, int]]:
    """Return when each course was last verified and how many differences there were."""
    privilege = "pg_catalog.has_table_privilege('pysync.verification', 'select')"
    if not fetch_value(portal, f"select {privilege}"):
        return {}
    rows = portal.execute(_QUERIES["verifications"]).fetchall()
    return {course_id: (at, differences) for course_id, at, differences in rows}


def read_looks(portal: Connection) -> Mapping[CourseId, datetime]:
    """Return when reports last looked into courses of which not all are looked into."""
    # Our role may not read it, or this is a standby, where it has no rows.
    with suppress(psycopg.Error):
        return dict(portal.execute(_QUERIES["looks"]).fetchall())
    return {}


def record_looks(portal: Connection, courses: Sequence[CourseId], at: datetime) -> None:
    """Remember into which courses a report looked."""
    portal.execute(_QUERIES["record_looks"], {"courses": list(courses), "at": at})


def count_rows(portal: Connection, course_id: CourseId) -> dict[str, int]:
    """Return how many rows each table of a course has, or nothing if that takes too long."""
    with suppress(psycopg.errors.QueryCanceled), portal.transaction():
        portal.execute(
            "select pg_catalog.set_config('statement_timeout', %s, true)",
            (f"{_COUNT_TIMEOUT_MILLISECONDS}ms",),
        )
        return dict(portal.execute(_COUNTS, {"course_id": course_id}).fetchall())
    return {}
