"""What the portal knows of its courses: true also while they can't be asked."""

from __future__ import annotations

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
from pysync.db.transactions import as_owner
from pysync.models.replicated import PUBLISHED
from pysync.types import CourseId

_COUNT_TIMEOUT_MILLISECONDS: Final = 800


@dataclass(frozen=True)
class Slot:
    """A course's row of ``pysync.subscription_status``; positions are bytes of WAL.

    ``connected_seconds`` is how long its apply worker has been connected.
    """

    course_id: str
    slot_exists: bool
    slot_active: bool | None
    wal_status: str | None
    wal_at: int
    confirmed_at: int | None
    sent_at: int | None
    replayed_at: int | None
    connected_seconds: float | None
    lag_bytes: int | None
    retained_wal_bytes: int | None
    seconds_to_loss: float | None
    mark: int | None
    marked_at: datetime | None

    @property
    def lost(self) -> bool:
        """Return whether the portal gave up the WAL that the course needs."""
        return self.wal_status == "lost"


@dataclass(frozen=True)
class Mark:
    """A mark that was sent to a course."""

    number: int
    marked_at: datetime


@dataclass(frozen=True)
class Clock:
    """The portal's clock, as read once."""

    read_at: datetime
    monotonic_seconds: float

    def age_seconds(self, moment: datetime, seen_at: float) -> float:
        """Return how old a moment of the portal's was when `seen_at` was our monotonic time."""
        since_read = (self.read_at - moment).total_seconds()
        return max(since_read + seen_at - self.monotonic_seconds, 0.0)


def read_clock(portal: Connection) -> Clock:
    """Read the portal's clock, to half a round trip."""
    before = time.monotonic()
    read_at = fetch_value(portal, "select clock_timestamp()")
    return Clock(read_at, (before + time.monotonic()) / 2)


def read_slots(portal: Connection) -> dict[str, Slot]:
    """Return what the portal knows of each course, by course id."""
    query = """
        select course_id, slot_exists, slot_active, wal_status,
               (wal_lsn - '0/0')::bigint as wal_at,
               (confirmed_lsn - '0/0')::bigint as confirmed_at,
               (sent_lsn - '0/0')::bigint as sent_at,
               (replay_lsn - '0/0')::bigint as replayed_at,
               connected_seconds, lag_bytes, retained_wal_bytes, seconds_to_loss,
               mark, marked_at
          from pysync.subscription_status"""
    with portal.cursor(row_factory=class_row(Slot)) as cursor:
        return {each.course_id: each for each in cursor.execute(query)}


def send_marks(portal: Connection, course_ids: Sequence[str]) -> dict[str, Mark]:
    """Send a mark to each of these courses, in one statement.

    :returns: those sent: none, if our role may not or the portal is read-only.
    """
    with suppress(psycopg.Error), as_owner(portal):
        rows = portal.execute(
            "select course_id, mark, marked_at from pysync.send_marks(%s)", (list(course_ids),)
        ).fetchall()
        return {course_id: Mark(mark, marked_at) for course_id, mark, marked_at in rows}
    return {}


def read_marks(portal: Connection) -> dict[str, int | None]:
    """Return the newest mark given out for each course, if any was."""
    return dict(portal.execute("select course_id, mark from pysync.subscription_status").fetchall())


def read_verifications(portal: Connection) -> Mapping[str, tuple[datetime, int]]:
    """Return when each course was last verified and how many differences there were."""
    privilege = "pg_catalog.has_table_privilege('pysync.verification', 'select')"
    if not fetch_value(portal, f"select {privilege}"):
        return {}
    rows = portal.execute(
        "select course_id, verified_at, differences from pysync.verification"
    ).fetchall()
    return {course_id: (at, differences) for course_id, at, differences in rows}


def count_rows(portal: Connection, course_id: CourseId) -> dict[str, int]:
    """Return how many rows each table of a course has, or nothing if that takes too long."""
    counts = sql.SQL(" union all ").join(
        sql.SQL("select {}, count(*) from {} where course_id = {}").format(
            sql.Literal(table.name), table.identifier, sql.Literal(str(course_id))
        )
        for table in PUBLISHED
    )
    with suppress(psycopg.errors.QueryCanceled), portal.transaction():
        portal.execute(
            "select pg_catalog.set_config('statement_timeout', %s, true)",
            (f"{_COUNT_TIMEOUT_MILLISECONDS}ms",),
        )
        return dict(portal.execute(counts).fetchall())
    return {}


def read_wal_position(portal: Connection) -> int:
    """Return the end of the portal's WAL, in bytes."""
    return int(
        fetch_value(
            portal,
            "select (case when pg_catalog.pg_is_in_recovery()"
            " then pg_catalog.pg_last_wal_receive_lsn()"
            " else pg_catalog.pg_current_wal_insert_lsn() end - '0/0')::bigint",
        )
    )
