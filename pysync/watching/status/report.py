"""Ask the portal and all its courses, and judge each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from pysync.db.connections import Connection, connect
from pysync.diagnosis.drift import portal_findings, publication_findings
from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.migrate import current_revision, head_revision
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.replication import registry
from pysync.replication.polling import ask_each
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status import portal as portal_side
from pysync.watching.status.causes import REPORT_SECONDS, with_causes
from pysync.watching.status.course import Facts
from pysync.watching.status.judge import Look, Verdict, judge
from pysync.watching.status.looking import Looking, Seen
from pysync.watching.status.model import CourseStatus, Report, Revision, State
from pysync.watching.status.orphans import find_orphans, subscriptions_without_course
from pysync.watching.status.portal import Clock, Mark, Slot


def status(portal_conninfo: str, course_id: CourseId | None = None) -> list[CourseStatus]:
    """Report on one course, or on all.

    :raises UnknownCourseError: if the course isn't registered.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    return report(portal_conninfo, course_id).courses


def report(portal_conninfo: str, course_id: CourseId | None = None) -> Report:
    """Report on one course, or on all, and on what belongs to none.

    Each course that answers is sent a mark (``course.mark``): whether it arrives tells what no
    position in the WAL can, also across relays and while the portal is idle.

    :raises UnknownCourseError: if the course isn't registered.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    end = time.monotonic() + REPORT_SECONDS
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        registered = registry.courses(portal)
        wanted = [registry.get(portal, course_id)] if course_id else registered
        clock = portal_side.read_clock(portal)
        slots_before = portal_side.read_slots(portal)
        asked = [course for course in wanted if course.fans_out and course.conninfo]
        ahead: set[str] = set()

        def send(answers: Mapping[str, Facts]) -> Mapping[str, Mark]:
            ahead.update(_ahead(portal, answers, slots_before))
            return portal_side.send_marks(portal, [i for i in answers if i not in ahead])

        active = frozenset(i for i, slot in slots_before.items() if slot.slot_active)
        known = [course.replication_name for course in registered]
        looking = Looking(asked, known, active)
        common = tuple(portal_findings(portal))
        publications = publication_findings(portal, wanted)
        orphans = [] if course_id else find_orphans(portal)
        seen = {each.course.course_id: each for each in looking.finish(send)}

        verifications = portal_side.read_verifications(portal)
        slots = slots_before | portal_side.read_slots(portal)
        looks = [
            _look(
                course,
                (slots_before[course.course_id], slots[course.course_id]),
                seen.get(course.course_id),
                (*publications[course.course_id], *common),
                ahead=course.course_id in ahead,
            )
            for course in wanted
        ]
        copied = {
            look.course.course_id: _copied_percent(portal, look)
            for look in looks
            if look.facts and look.facts[1].tables_ready < len(look.facts[1].tables)
        }
    verdicts = with_causes(portal_conninfo, looks, [judge(look) for look in looks], end)
    orphans += [] if course_id else subscriptions_without_course(asked, seen)
    return Report(
        clock.read_at,
        [
            _status(look, verdict, clock, copied.get(look.course.course_id), verifications)
            for look, verdict in zip(looks, verdicts, strict=True)
        ],
        orphans,
    )


def revisions(portal_conninfo: str) -> list[Revision]:
    """Return where the portal and every course database are in their lineages."""
    with closing(connect(portal_conninfo)) as portal:
        current = current_revision(portal, PORTAL)
        found = [Revision("portal", current, head_revision(PORTAL))]
        wanted = registry.courses(portal) if current else []
    head = head_revision(COURSE)
    answers = ask_each(wanted, lambda database, _: current_revision(database, COURSE))
    for course, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, PysyncError):
            found.append(Revision(course.course_id, None, head, answer.message))
        else:
            found.append(Revision(course.course_id, answer, head))
    return found


def _ahead(
    portal: Connection, answers: Mapping[str, Facts], slots: Mapping[str, Slot]
) -> list[str]:
    """Return the courses that know more than the portal does: it was restored from a backup.

    Tokens are read after the courses', so a course can't know a newer one otherwise; its position
    is compared with the end of the portal's WAL.
    """
    marks = portal_side.read_marks(portal)
    wal_at = portal_side.read_wal_position(portal)
    return [
        course_id
        for course_id, facts in answers.items()
        if (facts.mark or 0) > (marks.get(course_id) or 0)
        or (slots[course_id].slot_exists and (facts.applied_at or 0) > wal_at)
    ]


def _look(
    course: Course,
    slots: tuple[Slot, Slot],
    seen: Seen | None,
    on_portal: tuple[Finding, ...],
    *,
    ahead: bool,
) -> Look:
    if seen is None:
        return Look(course, slots, PysyncError("it isn't known where its database is"))
    facts = (seen.first, seen.last) if seen.first and seen.last else None
    return Look(
        course,
        slots,
        error=seen.error,
        facts=facts,
        drift=(*seen.drift, *on_portal),
        blocker=seen.blocker,
        mark=seen.mark,
        arrived=seen.arrived,
        seen_at=seen.seen_at,
        database_is_gone=seen.database_is_gone,
        ahead=ahead,
    )


def _copied_percent(portal: Connection, look: Look) -> float | None:
    assert look.facts is not None  # noqa: S101 - asked for courses that answered
    facts = look.facts[1]
    totals = portal_side.count_rows(portal, look.course.course_id)
    total = sum(totals.values())
    if not total:
        return None
    done = sum(
        min(facts.copied_rows.get(name, 0), totals.get(name, 0))
        if state in ("i", "d")
        else totals.get(name, 0)
        for name, state in facts.tables.items()
    )
    return round(100 * done / total, 1)


def _status(
    look: Look,
    verdict: Verdict,
    clock: Clock,
    copied_percent: float | None,
    verifications: Mapping[str, Any],
) -> CourseStatus:
    slot = look.slots[1]
    facts = look.facts[1] if look.facts else None
    verified_at, differences = verifications.get(look.course.course_id, (None, None))
    return CourseStatus(
        course_id=look.course.course_id,
        slot_name=look.course.replication_name,
        state=verdict.state,
        cause=verdict.cause,
        remedy=verdict.remedy,
        slot_active=slot.slot_active if slot.slot_exists else None,
        slot_status=slot.wal_status,
        lag_bytes=slot.lag_bytes,
        lag_seconds=_lag_seconds(look, clock),
        retained_wal_bytes=slot.retained_wal_bytes,
        seconds_to_loss=slot.seconds_to_loss,
        tables_ready=facts.tables_ready if facts and facts.subscription_oid else None,
        tables_total=len(facts.tables) if facts and facts.subscription_oid else None,
        copied_percent=copied_percent,
        apply_errors=facts.apply_errors if facts else None,
        sync_errors=facts.sync_errors if facts else None,
        conflicts=facts.conflicts if facts else None,
        verified_at=verified_at,
        differences=differences,
        drift=look.drift if look.facts else (),
    )


def _lag_seconds(look: Look, clock: Clock) -> float | None:
    """Return the age of the newest mark that the course has; see :class:`CourseStatus`."""
    if look.facts is None or look.ahead:
        return None
    if look.arrived and look.mark is not None:
        return round(clock.age_seconds(look.mark.marked_at, look.seen_at), 3)
    facts = look.facts[1]
    if facts.marked_at is None:
        return None
    if look.mark is None and facts.mark == look.slots[1].mark:
        return None  # nothing newer was sent that could be late
    return round(clock.age_seconds(facts.marked_at, look.seen_at), 3)


__all__ = ["State", "report", "revisions", "status"]
