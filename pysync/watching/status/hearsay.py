"""Tell of many courses of one server by what their apply workers say, and look into some in turn.

To look into a course takes a session in its database. But an apply worker says by its name, which
one session reads of all of them, which mark it has, and says nothing while anything is missing (see
``course.note_missing_marks``). What that can't tell, whether anything was altered there, is looked
at in turn: by each report in those whose last look is oldest. Whoever doesn't say it in
time, or of whom anything else isn't as it should be, is looked into.
"""

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pysync.models.replicated import PUBLISHED_TABLES
from pysync.replication.polling import Databases, LateError
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status.course import Facts
from pysync.watching.status.crowd import ask_server
from pysync.watching.status.observation import Observation, Told
from pysync.watching.status.portal import Mark, Slot

LOOKS: Final = 20
"""Courses of a server that a report looks into though they say that they are well."""

HEARD_SECONDS: Final = 1.0
"""How long a mark may take until its worker says that it has it, and longer while others say so."""

_PAUSE_SECONDS: Final = 0.25
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

Ask = Callable[[], Mapping[str, Told]]
"""Asks a server what it says of its subscriptions, by name."""


@dataclass(frozen=True)
class Hearsay:
    """Courses of one server of which nothing suspicious is seen, those first that wait for a look.

    :param ask: asks that server.
    """

    courses: Sequence[Course]
    ask: Ask

    @property
    def spared(self) -> Sequence[Course]:
        """Return those into which a report need not look."""
        return self.courses[LOOKS:]

    def unseen(self, seen: Mapping[CourseId, Observation]) -> list[CourseId]:
        """Return those of which nothing is known: these, and whoever didn't answer in time."""
        ids = [each.course_id for each in self.courses if seen[each.course_id].first is None]
        return [i for i in ids if isinstance(seen[i].error, LateError | None)]

    def unheard(self, seen: Mapping[CourseId, Observation]) -> list[CourseId]:
        """Return those that have still to be looked into."""
        return [each.course_id for each in self.spared if seen[each.course_id].first is None]


def gathered(
    databases: Databases,
    seen: Mapping[CourseId, Observation],
    spared: Collection[CourseId],
    looks: Mapping[CourseId, datetime],
) -> list[Hearsay]:
    """Ask each server with many courses which of them needn't be looked into.

    :param spared: courses into which nobody looks anyway.
    :param looks: when reports last looked into them.
    """
    found = []
    for of_server in databases.crowds:
        here = {i: each for i, each in seen.items() if each.course in of_server and i not in spared}
        courses = [each.course for each in here.values()]
        if len(courses) > LOOKS:
            ask = partial(ask_server, databases, courses)
            slots = {i: each.slots[0] for i, each in here.items()}
            found.append(Hearsay(_well(courses, ask(), slots, looks), ask))
    return found


def _well(
    courses: Sequence[Course],
    told: Mapping[str, Told],
    slots: Mapping[CourseId, Slot],
    looks: Mapping[CourseId, datetime],
) -> list[Course]:
    well = [
        course
        for course in courses
        if _is_well(course, told.get(course.replication_name), slots[course.course_id])
    ]
    # Where nobody may note it chance has each course looked into.
    well.sort(key=lambda each: (looks.get(each.course_id, _NEVER), random.random()))  # noqa: S311
    return well


def _is_well(course: Course, told: Told | None, slot: Slot) -> bool:
    return (
        told is not None
        and told.place == course.place
        and told.enabled
        and told.slot_name == course.replication_name
        and told.two_phase == "d"  # else it says what it has prepared
        and told.has_mark is not None
        and course.ready
        and course.fans_out
        and course.lost_at is None
        and course.paused_position is None
        and not course.awaits
        and course.catalog_fingerprint is not None
        and slot.slot_exists
        and bool(slot.slot_active)
        and slot.wal_status != "lost"
    )


def heard(
    hearsay: Hearsay,
    seen: Mapping[CourseId, Observation],
    marks: Mapping[str, Mark],
    sent_at: float,
    looks: Mapping[CourseId, datetime],
) -> dict[CourseId, Observation]:
    """Return those of the courses whose workers say in time that they have the marks."""
    found: dict[CourseId, Observation] = {}
    unseen = {*hearsay.unseen(seen)}
    before, end = -1, sent_at + HEARD_SECONDS
    while len(found) < len(unseen) and (len(found) > before or time.monotonic() < end):
        if before >= 0:
            time.sleep(_PAUSE_SECONDS)
        before, told, at = len(found), hearsay.ask(), time.monotonic()
        for course in hearsay.courses:
            mark, of_course = marks.get(course.course_id), told.get(course.replication_name)
            slot = seen[course.course_id].slots[0]
            if (
                course.course_id in unseen - found.keys()
                and mark is not None
                and of_course is not None
                and _is_well(course, of_course, slot)
                and (of_course.has_mark or 0) >= mark.number
            ):
                found[course.course_id] = replace(
                    _observed(seen[course.course_id], of_course, mark, at),
                    by_hearsay=True,
                    looked_at=looks.get(course.course_id),
                )
    return found


def _observed(seen: Observation, told: Told, mark: Mark, at: float) -> Observation:
    tables = len(PUBLISHED_TABLES)
    facts = Facts(
        subscription_exists=True,
        subscription_enabled=True,
        owner=seen.course.course_id,
        mark=told.has_mark,
        marked_at=mark.marked_at,
        tables_ready=tables,
        tables_total=tables,
        apply_errors=told.apply_errors,
        sync_errors=told.sync_errors,
        conflicts=told.conflicts,
        missed_changes=told.missed_changes,
        server_started_at=told.server_started_at,
    )
    return replace(seen, error=None, first=facts, last=facts, mark=mark, arrived=True, seen_at=at)
