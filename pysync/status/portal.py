"""What the portal knows of its courses: true also while they can't be asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

import psycopg
from psycopg.rows import class_row, dict_row

from pysync.db.connections import Connection, fetch_value
from pysync.db.sql_files import folder, statements
from pysync.registry import as_owner
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
    beat_token: int | None
    beat_marked_at: datetime | None

    @property
    def lost(self) -> bool:
        """Return whether the portal gave up the WAL that the course needs."""
        return self.wal_status == "lost"


@dataclass(frozen=True)
class Beat:
    """A mark that was sent to a course."""

    token: int
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


def _view(portal: Connection) -> str:
    """Return the view, or its query: a portal that isn't migrated yet has no such view."""
    name = "pysync.subscription_status"
    if fetch_value(portal, "select pg_catalog.to_regclass(%s)", name) is not None:
        return name
    return f"({_view_query()})"


@cache
def _view_query() -> str:
    file = folder("sql") / "portal" / "monitoring" / "subscription_status.sql"
    definition = statements(file)[0].partition("\nselect ")[2]
    return f"select {definition}"


def read_slots(portal: Connection) -> dict[str, Slot]:
    """Return what the portal knows of each course, by course id."""
    query = f"""
        select course_id, slot_exists, slot_active, wal_status,
               (wal_lsn - '0/0')::bigint as wal_at,
               (confirmed_lsn - '0/0')::bigint as confirmed_at,
               (sent_lsn - '0/0')::bigint as sent_at,
               (replay_lsn - '0/0')::bigint as replayed_at,
               connected_seconds, lag_bytes, retained_wal_bytes, seconds_to_loss,
               beat_token, beat_marked_at
          from {_view(portal)} as known"""  # noqa: S608 - a file of ours
    with portal.cursor(row_factory=class_row(Slot)) as cursor:
        return {each.course_id: each for each in cursor.execute(query.encode())}


def send_beats(portal: Connection, course_ids: Sequence[str]) -> dict[str, Beat]:
    """Send a mark to each of these courses, in one statement.

    :returns: those sent: none, if our role may not or the portal is read-only.
    """
    with suppress(psycopg.Error), as_owner(portal):
        rows = portal.execute(
            "select course_id, token, marked_at from pysync.send_beats(%s)", (list(course_ids),)
        ).fetchall()
        return {course_id: Beat(token, marked_at) for course_id, token, marked_at in rows}
    return {}


def read_beats(portal: Connection) -> dict[str, int | None]:
    """Return the newest token given out for each course, if any was."""
    query = f"select course_id, beat_token from {_view(portal)} as known"  # noqa: S608
    return dict(portal.execute(query.encode()).fetchall())


def read_verifications(portal: Connection) -> Mapping[str, tuple[datetime, int]]:
    """Return when each course was last verified and how many differences there were."""
    table = "pg_catalog.to_regclass('pysync.verification')"
    if not fetch_value(portal, f"select pg_catalog.has_table_privilege({table}, 'select')"):
        return {}
    rows = portal.execute(
        "select course_id, verified_at, differences from pysync.verification"
    ).fetchall()
    return {course_id: (at, differences) for course_id, at, differences in rows}


def count_rows(portal: Connection, course_id: CourseId) -> dict[str, int]:
    """Return how many rows each table of a course has, or nothing if that takes too long."""
    counts = (
        "select (select count(*) from course.auth_user where course_id = %(id)s) as auth_user,"
        " (select count(*) from course.auth_userprofile where course_id = %(id)s)"
        "   as auth_userprofile,"
        " (select count(*) from course.student_courseenrollment where course_id = %(id)s)"
        "   as student_courseenrollment, 1 as beat"
    )
    with suppress(psycopg.errors.QueryCanceled), portal.transaction():
        portal.execute(
            "select pg_catalog.set_config('statement_timeout', %s, true)",
            (f"{_COUNT_TIMEOUT_MILLISECONDS}ms",),
        )
        with portal.cursor(row_factory=dict_row) as cursor:
            row: dict[str, Any] | None = cursor.execute(counts, {"id": course_id}).fetchone()
            return dict(row or {})
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
