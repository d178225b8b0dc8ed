"""Verify courses, some at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Final

import psycopg

from pysync.db.connections import Connection
from pysync.db.errors import meaning
from pysync.errors import PysyncError
from pysync.migrate import require_head
from pysync.models.replicated import REPLICATED, ReplicatedTable
from pysync.replication import registry
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress
from pysync.verification import portal as portal_leg
from pysync.verification.compare import Sides, compare, sides
from pysync.verification.rows import QUERIES
from pysync.verification.settle import settle
from pysync.verification.types import Verification

JOBS: Final = 4
"""Courses verified at a time by default; each takes two connections to the portal and one more."""

STEPS: Final = 1 + len(REPLICATED)
"""What the progress counts for each course."""


def verify(
    portal_conninfo: str,
    course_ids: Sequence[CourseId],
    progress: Progress,
    *,
    jobs: int = JOBS,
    with_values: bool = False,
) -> list[Verification]:
    """Compare courses with the portal; a course that can't be compared doesn't stop the others.

    :param course_ids: which courses; all if empty.
    :param jobs: how many at a time.
    :param with_values: keep the values of columns that differ.
    :returns: one verification per course, in the order of their ids.
    :raises UnknownCourseError: if a course isn't registered.
    :raises MigrationError: if the portal is at an older revision.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        wanted = [registry.get(portal, each) for each in dict.fromkeys(course_ids)]
        wanted = wanted or registry.courses(portal)
    progress.step("verifying", len(wanted) * STEPS)
    found = _each(
        wanted,
        jobs,
        lambda course, step: verify_course(portal_conninfo, course, step, with_values=with_values),
        progress,
    )
    return sorted(found, key=lambda each: each.course_id)


Work = Callable[[Course, Callable[[], None]], Verification]
_Told = queue.SimpleQueue[Verification | BaseException | None]


def _each(
    wanted: list[Course], jobs: int, work: Work, progress: Progress
) -> Iterator[Verification]:
    """Do the work for each course, `jobs` at a time."""
    waiting: queue.SimpleQueue[Course] = queue.SimpleQueue()
    for course in wanted:
        waiting.put(course)
    told: _Told = queue.SimpleQueue()
    # Daemons: an interrupted command doesn't wait for what its servers still compute.
    for _ in range(min(jobs, len(wanted))):
        threading.Thread(target=_work_off, args=(waiting, told, work), daemon=True).start()
    steps = found = 0
    while found < len(wanted):
        match told.get():
            case None:
                steps += 1
                progress.advance(steps)
            case Verification() as verification:
                found += 1
                yield verification
            case BaseException() as error:
                raise error


def _work_off(waiting: queue.SimpleQueue[Course], told: _Told, work: Work) -> None:
    """Take courses until there are none; ``None`` tells of a part that is done."""
    try:
        while True:
            told.put(work(waiting.get_nowait(), lambda: told.put(None)))
    except queue.Empty:
        pass
    except BaseException as error:  # noqa: BLE001 - raised again by the main thread
        told.put(error)


def verify_course(
    portal_conninfo: str,
    course: Course,
    step: Callable[[], None],
    *,
    with_values: bool = False,
) -> Verification:
    """Compare one course with the portal and record the outcome there.

    :param step: is called after each part of the work.
    """
    verification = Verification(course.course_id)
    try:
        with sides(portal_conninfo, course) as both:
            verification.differences += portal_leg.differences(
                both.portal, course.course_id, with_values=with_values
            )
            step()
            for table in REPLICATED:
                _compare_table(both, table, verification, with_values=with_values)
                step()
            record(both.portal, verification)
    except PysyncError as error:
        verification.error = error
    except psycopg.Error as error:
        verification.error = meaning(error, f"course '{course.course_id}'")
    return verification


def _compare_table(
    both: Sides, table: ReplicatedTable, verification: Verification, *, with_values: bool
) -> None:
    compared = compare(both, table)
    settled = settle(both, table, compared.ids, with_values=with_values)
    verification.rows[table.name] = compared.rows
    verification.logins += compared.logins
    verification.differences += settled.differences
    verification.kept += settled.kept
    verification.unsettled += settled.unsettled


def record(portal: Connection, verification: Verification) -> None:
    """Write to the portal when a course was verified and how much differed."""
    portal.execute(
        QUERIES["record"],
        {
            "course_id": verification.course_id,
            "differences": len(verification.differences) + verification.unsettled,
        },
    )
