"""Tell of many courses of one server that fail alike, and look into a few of them.

To look into a course takes a session in its database. What a server's shared catalogs say of all
its subscriptions takes one: that a worker failed between two looks, while the portal saw its slot
stay where it was, is enough to call a course stuck. Why it is is looked for in a sample, and told
as what it is: the cause of others that fail like it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.errors import PysyncError
from pysync.replication.polling import Databases, ask
from pysync.replication.registry import Course
from pysync.texts import word
from pysync.types import CourseId
from pysync.watching.status.model import State, Verdict
from pysync.watching.status.observation import Observation, Told
from pysync.watching.status.portal import Slot
from pysync.watching.status.standstill import RESTARTED_SECONDS, grew

SAMPLE: Final = 2
"""Courses of a server that are looked into, of those that fail."""

_APART_SECONDS: Final = 0.8
"""Between two looks: workers that fail are started anew a few times a second."""

_ANSWER_SECONDS: Final = 2.5
_SPOKESMEN: Final = 2
"""Courses through whose databases their server is asked: one may be gone."""

_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Crowd:
    """Courses of one server of which many seem to fail.

    :param courses: all of them.
    :param told: what it said of those that seem to fail, ``at`` a time of our monotonic clock.
    :param spared: those of them into which nobody looks unless they turn out to get on.
    """

    courses: Sequence[Course]
    told: Mapping[CourseId, Told]
    at: float
    spared: Sequence[CourseId]

    def has_still_to_ask(self, seen: Observation) -> bool:
        """Return whether nothing is known of one of its courses."""
        unknown = seen.first is None and seen.told is None and not seen.database_is_gone
        return unknown and seen.course in self.courses


def spared(
    databases: Databases, courses: Sequence[Course], slots: Mapping[str, Slot]
) -> list[Crowd]:
    """Return whom to spare: all that seem to fail but a sample, on servers with many courses."""
    found = []
    for crowd in databases.crowds:
        wanted = [course for course in courses if course in crowd]
        told = ask_server(databases, wanted)
        at = time.monotonic()
        failing = {
            course.course_id: told[course.replication_name]
            for course in wanted
            if _seems_to_fail(course, told.get(course.replication_name), slots)
        }
        if len(failing) > 4 * SAMPLE:  # else it isn't worth it
            found.append(Crowd(wanted, failing, at, [*failing][SAMPLE:]))
    return found


def _seems_to_fail(course: Course, told: Told | None, slots: Mapping[str, Slot]) -> bool:
    slot = slots[course.course_id]
    return (
        told is not None
        and told.place == course.place
        and told.enabled
        and told.apply_errors > 0
        and course.ready
        and course.fans_out
        and slot.slot_exists
        and bool(slot.lag_bytes)
    )


def settle(
    databases: Databases,
    crowd: Crowd,
    seen: Mapping[CourseId, Observation],
    before: Mapping[str, Slot],
    after: Mapping[str, Slot],
) -> dict[CourseId, Observation]:
    """Look once more, and return those that are stuck of the courses into which nobody looked."""
    time.sleep(max(crowd.at + _APART_SECONDS - time.monotonic(), 0))
    told = ask_server(databases, crowd.courses)
    stuck = {}
    for course_id, first in crowd.told.items():
        if seen[course_id].first is not None:
            continue
        last = told.get(seen[course_id].course.replication_name)
        was, now = before[course_id], after[course_id]
        gets_on = grew(was.confirmed_at, now.confirmed_at) or grew(was.replayed_at, now.replayed_at)
        if last is None or gets_on:
            continue
        if (
            last.apply_errors > first.apply_errors
            or not (was.slot_active or now.slot_active)
            or (now.connected_seconds or 0) < RESTARTED_SECONDS
        ):
            stuck[course_id] = replace(seen[course_id], told=(first, last))
    return stuck


def ask_server(databases: Databases, courses: Sequence[Course]) -> dict[str, Told]:
    """Return what the server of these courses says of its subscriptions, by name."""

    def question(course: Course) -> dict[str, Told]:
        with databases.connection(course) as database:
            return _read(database)

    answers = ask(courses[:_SPOKESMEN], question, seconds=_ANSWER_SECONDS)
    return next((each for each in answers if not isinstance(each, PysyncError)), {})


def _read(database: Connection) -> dict[str, Told]:
    with database.cursor(row_factory=class_row(Told)) as cursor:
        return {each.name: each for each in cursor.execute(_QUERIES["servers_subscriptions"])}


def judge(seen: Observation, first: Told, last: Told) -> Verdict:
    """Return the verdict on a course into which nobody looked."""
    why = (
        f"its apply worker fails again and again ({last.apply_errors} errors)"
        if last.apply_errors > first.apply_errors
        else f"nothing moves, after {last.apply_errors} errors of its apply worker"
    )
    return Verdict(State.STUCK, why, f"run 'pysync status {word(seen.course.course_id)}'")


def with_samples(observed: Sequence[Observation], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Tell what was found in others that fail like the courses into which nobody looked."""
    causes: dict[str, list[CourseId]] = {}
    for seen, verdict in zip(observed, verdicts, strict=True):
        if seen.told is None and verdict.state is State.STUCK and verdict.why:
            causes.setdefault(verdict.why, []).append(seen.course.course_id)
    return [
        _as_others(verdict, causes) if seen.told is not None else verdict
        for seen, verdict in zip(observed, verdicts, strict=True)
    ]


def _as_others(verdict: Verdict, causes: Mapping[str, Sequence[CourseId]]) -> Verdict:
    if verdict.state is not State.STUCK:
        return verdict
    found = ["as course '" + "', '".join(ids) + f"': {why}" for why, ids in causes.items()]
    cause = f"{verdict.cause}; it wasn't looked into"
    cause += f", perhaps {', or '.join(found)}" if found else ""
    sample = tuple(course_id for ids in causes.values() for course_id in ids)
    return replace(verdict, cause=cause, sample=sample)
