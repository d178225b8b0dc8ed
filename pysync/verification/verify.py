"""Verify courses, some at a time."""

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime
from itertools import count
from typing import Final

import psycopg

from pysync.db.connections import Connection, fetch_value
from pysync.db.errors import meaning
from pysync.errors import PysyncError
from pysync.migrate import require_head
from pysync.models.replicated import REPLICATED
from pysync.replication import registry, witness
from pysync.replication.polling import JOBS, ask
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress
from pysync.verification import portal as portal_leg
from pysync.verification import relay as relay_leg
from pysync.verification.compare import compare, sides
from pysync.verification.dangling import dangling
from pysync.verification.rows import QUERIES
from pysync.verification.settle import settle
from pysync.verification.types import Verification

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

    A relay whose courses are all compared is compared with them.

    :param course_ids: which courses, or a relay for those that it carries; all if empty.
    :param jobs: how many at a time; each takes two connections to the portal and one more.
    :param with_values: keep the values of columns that differ.
    :returns: one verification per course, in the order of their ids, and one per relay that has
        rows of nobody's or couldn't be asked.
    :raises UnknownCourseError: if a course isn't registered.
    :raises MigrationError: if the portal is at an older revision.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        registered = registry.subscribers(portal)
        asked = [registry.get(portal, each) for each in dict.fromkeys(course_ids)]
    named = {course_id for each in asked for course_id in each.sent}
    wanted = [c for c in registered if not c.is_relay and (not asked or c.course_id in named)]
    concerned = {course.course_id for course in wanted}
    relays = [
        each
        for each in registered
        if each.is_relay and (not asked or each in asked or each.carries)
        if {*each.carries} <= concerned
    ]
    before = ask(relays, relay_leg.look)
    progress.step("verifying", len(wanted) * STEPS)
    done, one_at_a_time = count(1), threading.Lock()

    def step() -> None:
        with one_at_a_time:
            progress.advance(next(done))

    def work(course: Course) -> Verification:
        return verify_course(portal_conninfo, course, step, with_values=with_values)

    answers = ask(wanted, work, at_once=jobs)
    verifications = [
        Verification(course.course_id, error=answer) if isinstance(answer, PysyncError) else answer
        for course, answer in zip(wanted, answers, strict=True)
    ]
    clean = {each.course_id for each in verifications if each.equal}
    for relay, looked in zip(relays, before, strict=True):
        found = relay_leg.conclude(portal_conninfo, relay, looked, clean)
        verifications += [] if found is None else [found]
    return sorted(verifications, key=lambda each: each.course_id)


def verify_course(
    portal_conninfo: str, course: Course, step: Callable[[], None], *, with_values: bool = False
) -> Verification:
    """Compare one course with the portal and record the outcome there.

    :param step: is called after each part of the work.
    """
    verification = Verification(course.course_id, course.relay)
    try:
        with sides(portal_conninfo, course) as both:
            # What the course loses from here on is another verification's.
            began_at = fetch_value(both.portal, "select clock_timestamp()")
            seen = witness.read(both.database, course)
            verification.differences += portal_leg.differences(
                both.portal, course.course_id, with_values=with_values
            )
            step()
            for table in course.replicated:
                compared = compare(both, table)
                settled = settle(both, table, compared.ids, with_values=with_values)
                verification.rows[table.name] = compared.rows
                verification.logins += compared.logins
                verification.differences += settled.differences
                verification.kept += settled.kept
                verification.unsettled += settled.unsettled
                step()
            verification.dangling = dangling(both.database)
            recorded = record(both.portal, verification, began_at)
            if recorded and verification.equal:
                witness.record_whole(both.portal, course.course_id, seen)
    except PysyncError as error:
        verification.error = error
    except psycopg.Error as error:
        verification.error = meaning(error, course.subject)
    return verification


def record(portal: Connection, verification: Verification, began_at: datetime) -> bool:
    """Write to the portal since when a course was verified and how much differed.

    :returns: whether it counts: a course that was merged or repaired meanwhile is another one.
    """
    differences = len(verification.differences) + verification.unsettled
    differences += sum(each.rows for each in verification.dangling)
    found = {
        "course_id": verification.course_id,
        "began_at": began_at,
        "differences": differences,
    }
    return fetch_value(portal, QUERIES["record"], **found) is not None
