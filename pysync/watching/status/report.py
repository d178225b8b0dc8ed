"""Ask the portal and all its courses, and judge each."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import datetime

import psycopg

from pysync.db.connections import Connection, connect
from pysync.diagnosis.drift import portal_findings, publication_findings
from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.migrate import current_revision, head_revision
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.replication import identities, registry
from pysync.replication.polling import ask_each
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status import failover, hops
from pysync.watching.status import portal as portal_side
from pysync.watching.status.causes import REPORT_SECONDS, with_causes
from pysync.watching.status.crowd import with_samples
from pysync.watching.status.failover import Ready
from pysync.watching.status.hops import Publishers
from pysync.watching.status.judge import judge, unverified_since
from pysync.watching.status.model import CourseStatus, Report, Revision, State, Verdict
from pysync.watching.status.observation import Observation
from pysync.watching.status.observe import observe
from pysync.watching.status.orphans import find_orphans, subscriptions_without_course
from pysync.watching.status.portal import Clock


def status(portal_conninfo: str, course_id: CourseId | None = None) -> list[CourseStatus]:
    """Report on one course, or on all; see :func:`report`."""
    return report(portal_conninfo, course_id).courses


def report(portal_conninfo: str, course_id: CourseId | None = None) -> Report:
    """Report on one course, or on all, and on what belongs to none.

    Each course is sent a mark (``course.mark``): whether it arrives tells what no position in the
    WAL can, also across relays and while the portal is idle.

    :raises UnknownCourseError: if the course isn't registered.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    end = time.monotonic() + REPORT_SECONDS
    with (
        ThreadPoolExecutor(2) as portals,
        closing(registry.connect_portal(portal_conninfo)) as portal,
        ExitStack() as stack,
    ):
        registered = registry.subscribers(portal)
        wanted = registered
        if course_id:
            asked = registry.get(portal, course_id)
            wanted = [asked, *([registry.get(portal, asked.relay)] if asked.relay else [])]
        publishers = stack.enter_context(Publishers(portal, wanted))
        clock = portal_side.read_clock(portal)
        own = wanted[0].carried if wanted else registry.carried(portal)
        drifting = portals.submit(_portals_drift, portal_conninfo, wanted)
        names = [each.replication_name for each in registered]
        direct = [each.replication_name for each in registered if each.relay is None]
        looking = portals.submit(failover.look, portal_conninfo, direct)
        unclaimed = identities.unclaimed(portal)
        orphans = [] if course_id or unclaimed else find_orphans(portal)
        verifications = portal_side.read_verifications(portal)
        looks = portal_side.read_looks(portal)
        looked = observe(portal, publishers, wanted, names, looks)
        common, publications = drifting.result()
        publications |= publishers.drift()
        outlook = failover.outlook(portal, looking.result())
        observed = [
            replace(
                seen,
                drift=(*seen.drift, *publications.get(seen.course.course_id, ()), *common),
                verified=verifications.get(seen.course.course_id),
            )
            for seen in looked
        ]
        copied = [_copied_percent(portal, seen) for seen in observed]
    verdicts = [judge(seen) for seen in observed]
    if unclaimed:
        # What would mend the original's courses isn't this one's to do, nor to try.
        verdicts = [replace(each, remedy=None) for each in verdicts]
    else:
        verdicts = with_causes(portal_conninfo, observed, verdicts, end)
        verdicts = with_samples(observed, verdicts)
        # What a relay lacks, and so its courses, they are sent once it is merged.
        _record(portal_conninfo, observed, verdicts, clock.read_at)
        verdicts = hops.through(observed, verdicts)
        orphans += [] if course_id else subscriptions_without_course(observed)
    relays = {seen.course.course_id: seen for seen in observed if seen.course.is_relay}
    courses = [
        _status(
            seen,
            verdict,
            clock,
            percent,
            (None, None)
            if unclaimed
            else outlook.of(relays.get(seen.course.relay or seen.course.course_id, seen)),
        )
        for seen, verdict, percent in zip(observed, verdicts, copied, strict=True)
        if not course_id or seen.course.course_id == course_id
    ]
    carried = [f"{each.table_name}.{each.column_name}" for each in own]
    return Report(clock.read_at, courses, orphans, unclaimed, len(outlook.named), carried)


def _portals_drift(
    portal_conninfo: str, wanted: Sequence[Course]
) -> tuple[list[Finding], dict[str, list[Finding]]]:
    """Return what isn't as it should be on the portal, and of each course's publication."""
    ids = {each.course_id for each in wanted}
    with closing(connect(portal_conninfo)) as portal:
        found = portal_findings(portal)
        with portal.transaction():
            # What a relay carries is registered and published in one transaction.
            portal.execute("set transaction isolation level repeatable read")
            now = [each for each in registry.subscribers(portal) if each.course_id in ids]
            direct = [each for each in now if each.relay is None]
            return found, publication_findings(portal, direct)


def _record(
    portal_conninfo: str,
    observed: Sequence[Observation],
    verdicts: Sequence[Verdict],
    at: datetime,
) -> None:
    """Have the portal remember what it may need next time.

    That is which courses lack changes, whose catalogs are as made, and into whom it looked.

    Whoever may not tell it goes on.
    """
    as_made = {
        seen.course.course_id: seen.fingerprint
        for seen in observed
        if seen.fingerprint not in (None, seen.course.catalog_fingerprint)
    }
    lost = [
        seen.course
        for seen, verdict in zip(observed, verdicts, strict=True)
        if verdict.state is State.LOST and seen.course.lost_at is None
    ]
    # Where all are looked into, nobody needs to know.
    some = any(seen.by_hearsay for seen in observed)
    looked = [seen.course.course_id for seen in observed if some and _was_looked_into(seen)]
    if lost or as_made or looked:
        with suppress(PysyncError, psycopg.Error), closing(connect(portal_conninfo)) as portal:
            if lost:
                registry.record_losses(portal, lost)
            registry.record_fingerprints(portal, as_made)
            if looked:
                portal_side.record_looks(portal, looked, at)


def _was_looked_into(seen: Observation) -> bool:
    return seen.last is not None and not seen.by_hearsay


def revisions(portal_conninfo: str) -> list[Revision]:
    """Return where the portal and every course database are in their lineages."""
    with closing(connect(portal_conninfo)) as portal:
        current = current_revision(portal, PORTAL)
        found = [Revision("portal", current, head_revision(PORTAL))]
        wanted = registry.subscribers(portal) if current else []
    head = head_revision(COURSE)
    answers = ask_each(wanted, lambda database, _: current_revision(database, COURSE))
    for course, answer in zip(wanted, answers, strict=True):
        told = (None, head, answer.message) if isinstance(answer, PysyncError) else (answer, head)
        found.append(Revision(course.course_id, *told))
    return found


def _copied_percent(portal: Connection, seen: Observation) -> float | None:
    facts = seen.last
    if facts is None or facts.tables_ready == facts.tables_total:
        return None
    totals = portal_side.count_rows(portal, seen.course.course_id)
    if not totals:
        return None
    done = sum(
        min(facts.rows_copied.get(name, 0), total) if name in facts.tables_uncopied else total
        for name, total in totals.items()
    )
    return round(100 * done / sum(totals.values()), 1)


def _status(
    seen: Observation,
    verdict: Verdict,
    clock: Clock,
    copied_percent: float | None,
    ready: Ready,
) -> CourseStatus:
    slot, facts = seen.slots[1], seen.last
    subscribed = facts if facts and facts.subscription_exists and not facts.altered else None
    verified_at, differences = seen.verified or (None, None)
    counts = facts or (seen.told and seen.told[1])
    return CourseStatus(
        course_id=seen.course.course_id,
        slot_name=seen.course.replication_name,
        state=verdict.state,
        cause=verdict.cause,
        remedy=verdict.remedy,
        slot_active=slot.slot_active if slot.slot_exists else None,
        slot_status=slot.wal_status,
        lag_bytes=slot.lag_bytes,
        lag_seconds=_lag_seconds(seen, clock),
        retained_wal_bytes=slot.retained_wal_bytes,
        seconds_to_loss=slot.seconds_to_loss,
        tables_ready=subscribed and subscribed.tables_ready,
        tables_total=subscribed and subscribed.tables_total,
        copied_percent=copied_percent,
        apply_errors=counts.apply_errors if counts else None,
        sync_errors=counts.sync_errors if counts else None,
        conflicts=facts and facts.conflicts,
        verified_at=verified_at,
        differences=differences,
        unverified_since=unverified_since(seen),
        looked_into_at=clock.read_at if _was_looked_into(seen) else seen.looked_at,
        durable=seen.course.durable,
        relay=seen.course.relay,
        drift=seen.drift if facts else (),
        sample=verdict.sample,
        spill_bytes=slot.spill_bytes,
        failover_ready=ready[0],
        failover_cause=ready[1],
    )


def _lag_seconds(seen: Observation, clock: Clock) -> float | None:
    """Return the age of the newest mark that the course has; see :class:`CourseStatus`."""
    if seen.last is None or seen.ahead:
        return None
    if seen.arrived and seen.mark is not None:
        return round(clock.age_seconds(seen.mark.marked_at, seen.seen_at), 3)
    if seen.last.marked_at is None:
        return None
    if seen.mark is None and seen.last.mark == seen.slots[1].mark:
        return None  # nothing newer was sent that could be late
    return round(clock.age_seconds(seen.last.marked_at, seen.seen_at), 3)
