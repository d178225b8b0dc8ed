"""Fill a course database by a merge and have its subscription go on exactly where that ends.

A temporary slot gives a snapshot and the position in the stream that follows it. Right before the
merge is committed, a slot is made at that position under a name of its own, and the transaction
names it as the subscription's: rows and position change together or not at all. A worker that asks
for an earlier position, as ours will, is sent on from where its slot stands. Then the slot takes
the course's name. So we may be killed anywhere: before the commit the course has its old slot and
what belongs to it, afterwards the new one and what belongs to that; :func:`settle` tidies up.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Final

import psycopg

from pysync.db.connections import Connection, parse, without_secrets
from pysync.db.holders import waiting
from pysync.db.transactions import patiently
from pysync.diagnosis import checks, grants
from pysync.errors import (
    ChangesMissingError,
    LockedError,
    PysyncError,
    ReplicationError,
    WaitTimeoutError,
)
from pysync.findings import IN_COURSE
from pysync.lifecycle.work import Work
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import (
    failover,
    fan_out,
    marks,
    merge,
    positions,
    registry,
    settings,
    slots,
    snapshots,
    subscriptions,
    witness,
)
from pysync.replication.databases import connect_course
from pysync.replication.merge import Changes
from pysync.replication.publishers import Publisher
from pysync.replication.registry import Course
from pysync.replication.settings import AS_MADE, Settings
from pysync.replication.snapshots import Point
from pysync.texts import word

TRIES: Final = 5
"""How often a merge is begun anew that meets locks, deadlocks or new rows of the course's own."""

PAUSE_SECONDS: Final = 0.2

CATCH_UP_SECONDS: Final = 60

RELAY_SECONDS: Final = 10
"""How long a relay may take to have what the portal has before a course is merged from it."""


def subscribe(work: Work, chosen: Settings = AS_MADE) -> None:
    """See to it that a course has a subscription, stopped, that copies no tables itself.

    :param chosen: what is to be set on it if there is none yet.
    """
    database, course, portal = work.database, work.course, work.publisher.connection
    grants.require_merging(database, work.subject)
    found = subscriptions.find(database, course.replication_name)
    if found is not None:
        subscriptions.stop(database, course)
        settle(work.portal, work.publisher, work.database, work.course)
        # Positions of a portal that was restored or replaced may be past all that it has now.
        if found.copied and not positions.is_past(database, course, slots.position(portal)):
            return
        checks.check_reachable(portal, database, course.replication_name, work.subscriber)
        chosen = settings.read(database, course.replication_name)
        subscriptions.drop(database, course)
        # The positions that its slots kept for it are gone with it.
        slots.drop(portal, course)
    subscriptions.create(database, course, work.subscriber, copy_data=False, settings=chosen)


def fence(work: Work) -> None:
    """Wait until the relay that a course streams from has what the portal has.

    Else what the course has already would be taken back until it comes once more.

    :raises ReplicationError: if the relay has lost changes, or doesn't get there in time.
    """
    relay, course = work.publisher.relay, work.course
    if relay is None:
        return
    # One that is being added has no rows that it could lack.
    lacks = course.ready and course.course_id not in {*relay.carries} - {*relay.awaits}
    if relay.lost_at is not None or lacks:
        raise ReplicationError(
            f"{work.subject} streams from {relay.subject}, which lacks rows",
            f"run 'pysync resync {word(relay.course_id)}' first",
        )
    try:
        marks.fence(work.portal, work.publisher.connection, relay.course_id, RELAY_SECONDS)
    except (ChangesMissingError, WaitTimeoutError) as error:
        raise ReplicationError(
            f"{work.subject} streams from {relay.subject}, which isn't well: {error.message}",
            error.remedy,
        ) from None


def is_settled(database: Connection, course: Course) -> bool:
    """Return whether a course has its subscription in a database: no move there was interrupted."""
    found = subscriptions.find(database, course.replication_name)
    return (
        found is not None
        and found.slot_name == course.replication_name
        and (found.enabled or course.paused_position is not None)
    )


def readdress(work: Work, registered: Course, *, probe: bool = False) -> None:
    """Have a course's subscription reach the portal as it is to, if it does so otherwise.

    :param registered: the course as it was until now: where we may not read what its subscription
        says, it is known from there, and a password counts as another one.
    :param probe: make sure that its server arrives also where nothing is changed.
    :raises ReplicationError: if the course's server doesn't arrive at this portal by it.
    """
    database, name = work.database, work.course.replication_name
    if subscriptions.find(database, name) is None:
        return
    before = subscriptions.connection_string(database, name)
    if before is not None:
        is_new = parse(before) != parse(work.subscriber)
    else:
        is_new = registered.portal_conninfo != without_secrets(work.subscriber)
        is_new |= "password" in parse(work.subscriber)
    if is_new or (probe and before is not None):
        checks.check_reachable(work.publisher.connection, database, name, work.subscriber)
    if is_new:
        subscriptions.reconnect(database, work.course, work.subscriber)


def record(work: Work) -> Work:
    """Remember a course's subscription; returns the work on the course as registered now."""
    oid = subscriptions.get(work.database, work.course).oid
    course = registry.get(work.portal, work.course.course_id)
    if course.subscription_oid != oid:
        registry.record_subscription(work.portal, course.course_id, oid)
        course = registry.get(work.portal, course.course_id)
    return replace(work, course=course)


@contextmanager
def merged(work: Work, turn: Callable[[], None] = lambda: None) -> Iterator[list[Changes]]:
    """Merge what the portal holds for a course into its database, whose subscription is stopped.

    :param turn: is called once nothing is left to do but to have the subscription go on from here:
        it may be another one from then on. Perhaps more than once.
    :returns: what was done, committed when the block begins.
    :raises LockedError: if sessions in the course keep rows locked.
    """
    scrubbed: set[int] = set()
    for _ in range(TRIES):
        work.progress.step(f"taking a snapshot of {work.publisher.name}")
        with (
            snapshots.consistent_point(work.publisher) as point,
            closing(connect_course(work.conninfo)) as session,
            waiting(session, work.subject, IN_COURSE),
        ):
            _stage(work, point, session)
            work.progress.step("merging")
            try:
                differences = _merge_at(work, session, point, turn)
            except merge.ReferencedError as error:
                # The portal gets to know them, and the next snapshot holds them, scrubbed.
                fan_out.keep_scrubbed(work.portal, work.course.course_id, error.user_ids)
                scrubbed.update(error.user_ids)
                fence(work)
                continue
            session.close()
            yield [_with_scrubbed(each, len(scrubbed)) for each in differences]
            return
    raise LockedError(
        f"{work.subject} is busy: its own tables begin to point at users that must go",
        "run the command again",
    )


def _with_scrubbed(changes: Changes, scrubbed: int) -> Changes:
    """Count users that were scrubbed as such, not as updated."""
    if changes.table != "auth_user":
        return changes
    return replace(changes, update=max(changes.update - scrubbed, 0), scrub=scrubbed)


def _stage(work: Work, point: Point, session: Connection) -> None:
    many = work.course.is_relay
    for table, query in snapshots.fan_out(work.course).items():
        rows = snapshots.count(point.reader, query)
        work.progress.step(f"copying {table.name}", rows)
        merge.stage(point.reader, session, table, query, work.progress.advance, many=many)


def _merge_at(
    work: Work, session: Connection, point: Point, turn: Callable[[], None]
) -> list[Changes]:
    course = work.course
    chosen = settings.read(session, course.replication_name)

    def attempt() -> list[Changes]:
        with session.transaction():
            done = merge.apply(session, course.published, many=course.is_relay)
            # What was missing is here now; marks that the merge passed over are, too.
            session.execute("delete from course.missing_mark")
            turn()
            # From here on it would keep WAL if we were killed: no sooner than it is needed.
            snapshots.keep_slot(
                work.publisher,
                point.slot,
                slots.merged(course.replication_name),
                like=course.replication_name,
                wanted=chosen.of_slot,
            )
            subscriptions.choose(
                session, course, "slot_name", slots.merged(course.replication_name)
            )
            return [each for each in done if each.table in REPLICATED_TABLES]

    try:
        # The course's own sessions get their turn in between.
        return patiently(attempt, TRIES, PAUSE_SECONDS)
    except BaseException:
        with suppress(PysyncError, psycopg.Error):
            settle(work.portal, work.publisher, work.database, work.course)
        raise


def settle(portal: Connection, publisher: Publisher, database: Connection, course: Course) -> None:
    """Give a course the slot of its last merge, should it not have it; nothing is done otherwise.

    What its subscription names is what it goes by. A course that is left without a slot has lost
    changes, and needs another merge.
    """
    name, merged_slot = course.replication_name, slots.merged(course.replication_name)
    if subscriptions.get(database, course).slot_name == merged_slot:
        # Its own is at the position before the merge.
        slots.drop_one(publisher.connection, name)
        if slots.is_usable(publisher.connection, merged_slot):
            snapshots.keep_slot(publisher, merged_slot, name)
            registry.record_merged(portal, course.course_id)
        subscriptions.choose(database, course, "slot_name", name)
    slots.drop_one(publisher.connection, merged_slot)


def start(work: Work) -> None:
    """Have a merged course stream from where the merge ended, and wait until it has caught up."""
    portal, database, course = work.portal, work.database, work.course
    work.progress.step("catching up")
    try:
        settle(work.portal, work.publisher, work.database, work.course)
        failover.ensure(work.publisher, database, course)
        subscriptions.enable(database, course)
    except BaseException:
        # It would keep WAL for nobody.
        if not course.ready and not work.publisher.connection.closed:
            slots.drop(work.publisher.connection, course)
        raise
    registry.record_ready(portal, course.course_id)
    catch_up(work, "merged", CATCH_UP_SECONDS)
    witness.record_whole(portal, course.course_id, witness.read(database, course))


def catch_up(work: Work, state: str, timeout_seconds: float) -> None:
    """Wait until a change made now is in the course.

    :raises ReplicationError: if it isn't in time.
    """
    try:
        marks.fence(work.portal, work.database, work.course.course_id, timeout_seconds)
    except WaitTimeoutError:
        raise ReplicationError(
            f"{work.subject} is {state}, but a change made now doesn't arrive",
            "run 'pysync status' to see why",
        ) from None
