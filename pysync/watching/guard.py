"""Keep dead courses from filling the portal's disk: a WAL budget, and what is done beyond it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Final

from psycopg import errors

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.errors import LockedError, PysyncError
from pysync.replication import registry
from pysync.replication.registry import Course
from pysync.types import CourseId

DEFAULT_MAX_RETAINED_BYTES: Final = 10 * 1024**3
DEFAULT_INTERVAL_SECONDS: Final = 30.0


class Verdict(Enum):
    """What the guard did about a course beyond the budget."""

    SACRIFICED = "sacrificed"
    CONDEMNED = "condemned"
    """It would be sacrificed, were this no dry run."""
    SPARED = "spared"
    """Its subscription is connected, or moves: it is left alone."""
    BUSY = "busy"
    """Another command works on it."""


@dataclass(frozen=True)
class Judged:
    """A course beyond the budget: what was done, and the WAL that its slot retained."""

    course_id: CourseId
    verdict: Verdict
    retained_bytes: int
    reason: str


@dataclass(frozen=True)
class _Look:
    """A slot as it was at a look: a position that changes is a sign of life."""

    active: bool
    position: str
    retained_bytes: int


def watch(
    portal_conninfo: str,
    max_retained_bytes: int,
    interval_seconds: float,
    *,
    once: bool,
    dry_run: bool = False,
    failed: Callable[[PysyncError], None] = lambda _: None,
) -> Iterator[list[Judged]]:
    """Look at all slots again and again, and drop those of dead courses beyond the budget.

    Dead is a course whose slot was inactive at two looks in a row and didn't move between them. Its
    slot is dropped, which makes the course lost; ``resync`` brings it back.

    :param max_retained_bytes: WAL that a dead course may make the portal keep.
    :param interval_seconds: between looks.
    :param once: end after the second look, and raise what goes wrong.
    :param failed: is told of a round that failed; the next one is tried all the same.
    :returns: after each round, what was done about each course beyond the budget.
    """
    before: dict[CourseId, _Look] = {}
    first = True
    while True:
        try:
            with translated("portal"), closing(registry.connect_portal(portal_conninfo)) as portal:
                now, judged = _round(portal, before, max_retained_bytes, dry_run=dry_run)
        except PysyncError as error:
            if once:
                raise
            failed(error)
        else:
            if not first:
                yield judged
                if once:
                    return
            before, first = now, False
        time.sleep(interval_seconds)


def _round(
    portal: Connection, before: dict[CourseId, _Look], max_retained_bytes: int, *, dry_run: bool
) -> tuple[dict[CourseId, _Look], list[Judged]]:
    now, judged = {}, []
    for course, look in _looks(portal):
        now[course.course_id] = look
        if look.retained_bytes <= max_retained_bytes or course.course_id not in before:
            continue
        earlier = before[course.course_id]
        if look.active or earlier.active:
            verdict, reason = Verdict.SPARED, "its subscription is or was just connected"
        elif look.position != earlier.position:
            verdict, reason = Verdict.SPARED, "its slot moves"
        elif dry_run:
            verdict, reason = Verdict.CONDEMNED, "nobody has been connected since the last look"
        else:
            verdict, reason = _sacrifice(portal, course)
        judged.append(Judged(course.course_id, verdict, look.retained_bytes, reason))
    return now, judged


def _looks(portal: Connection) -> list[tuple[Course, _Look]]:
    # What is lost already retains nothing.
    rows = portal.execute(
        "select slot_name::text, active, (restart_lsn, confirmed_flush_lsn)::text,"
        " pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint"
        " from pg_catalog.pg_replication_slots"
        " where slot_type = 'logical' and database = current_database()"
        " and restart_lsn is not null and wal_status is distinct from 'lost'"
    ).fetchall()
    slots = {name: _Look(*look) for name, *look in rows}
    return [
        (course, slots[course.replication_name])
        for course in registry.courses(portal)
        if course.replication_name in slots
    ]


def _sacrifice(portal: Connection, course: Course) -> tuple[Verdict, str]:
    try:
        # Recorded first: who finds the slot missing is told why.
        with registry.locked(portal, course.course_id), portal.transaction():
            registry.record_sacrificed(portal, course.course_id)
            portal.execute(
                "select pg_catalog.pg_drop_replication_slot(%s)", (course.replication_name,)
            )
    except errors.ObjectInUse:
        return Verdict.SPARED, "its subscription has just connected"
    except LockedError:
        return Verdict.BUSY, "another command works on it"
    return Verdict.SACRIFICED, "nobody has been connected since the last look"
