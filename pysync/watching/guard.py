"""Keep dead courses from filling the portal's disk: a WAL budget, and what is done beyond it."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import Final

from psycopg import errors

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.errors import LockedError, PysyncError
from pysync.replication import registry
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status.hops import Publishers

DEFAULT_INTERVAL_SECONDS: Final = 30.0

_LOG: Final = logging.getLogger(__name__)
_QUERIES: Final = load(__file__)
_DEAD: Final = "nobody has been connected since the last look"


class Action(Enum):
    """What the guard did about a course beyond the budget."""

    DROPPED = "slot dropped"
    WOULD_DROP = "slot would be dropped"
    NONE = "left alone"


@dataclass(frozen=True)
class Excess:
    """A course beyond the budget: the WAL that its slot retained, what was done, and why."""

    course_id: CourseId
    action: Action
    retained_bytes: int
    reason: str


@dataclass(frozen=True)
class _Slot:
    """A slot as it was in a round: a position that changes is a sign of life."""

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
) -> Iterator[list[Excess]]:
    """Look at all slots again and again, and drop those of dead courses beyond the budget.

    Dead is a course whose slot was inactive at two looks in a row and didn't move between them. Its
    slot is dropped, which makes the course lost; ``resync`` brings it back.

    :param max_retained_bytes: WAL that a dead course may make the portal keep.
    :param interval_seconds: between looks.
    :param once: end after the second look, and raise what goes wrong; else a round that fails is
        logged, and the next one tried all the same.
    :returns: after each round, what was done about each course beyond the budget.
    """
    before: dict[CourseId, _Slot] = {}
    first = True
    while True:
        try:
            with (
                translated("portal"),
                closing(registry.connect_portal(portal_conninfo)) as portal,
                Publishers(portal, registry.subscribers(portal)) as publishers,
            ):
                now = _read_slots(publishers)
                found = [
                    _judge(portal, sender, course, slot, before[course.course_id], dry_run=dry_run)
                    for sender, course, slot in now
                    if slot.retained_bytes > max_retained_bytes and course.course_id in before
                ]
        except PysyncError as error:
            if once:
                raise
            _LOG.error("%s", error)
        else:
            if not first:
                yield found
                if once:
                    return
            before, first = {course.course_id: slot for _, course, slot in now}, False
        time.sleep(interval_seconds)


def _judge(
    portal: Connection,
    sender: Connection,
    course: Course,
    slot: _Slot,
    earlier: _Slot,
    *,
    dry_run: bool,
) -> Excess:
    if slot.active or earlier.active:
        action, reason = Action.NONE, "its subscription is or was just connected"
    elif slot.position != earlier.position:
        action, reason = Action.NONE, "its slot moves"
    elif dry_run:
        action, reason = Action.WOULD_DROP, _DEAD
    else:
        action, reason = _sacrifice(portal, sender, course)
    return Excess(course.course_id, action, slot.retained_bytes, reason)


def _read_slots(publishers: Publishers) -> list[tuple[Connection, Course, _Slot]]:
    """Return the slots of all courses and relays, each with the connection to where it is."""
    found = []
    for sender, courses in publishers.courses():
        rows = sender.execute(_QUERIES["retaining_slots"]).fetchall()
        slots = {name: _Slot(*slot) for name, *slot in rows}
        found += [
            (sender, course, slots[course.replication_name])
            for course in courses
            if course.replication_name in slots
        ]
    return found


def _sacrifice(portal: Connection, sender: Connection, course: Course) -> tuple[Action, str]:
    drop = "select pg_catalog.pg_drop_replication_slot(%s)"
    try:
        # Recorded first: who finds the slot missing is told why.
        with registry.locked(portal, course.course_id), portal.transaction():
            registry.record_sacrificed(portal, course.course_id)
            sender.execute(drop, (course.replication_name,))
    except errors.ObjectInUse:
        return Action.NONE, "its subscription has just connected"
    except LockedError:
        return Action.NONE, "another command works on it"
    return Action.DROPPED, _DEAD
