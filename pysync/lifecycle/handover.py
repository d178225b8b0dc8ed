"""Fill a course database by a merge and have its subscription go on exactly where that ends.

A temporary slot gives a snapshot and the position in the stream that follows it. The merge's
transaction sets the subscription's origin to that position, as an apply worker's would: rows and
position change together or not at all. Whatever slot the course has is behind that position, or is
made from the temporary one afterwards. So we may be killed anywhere: before the merge is committed
the course is as it was, afterwards it has all it needs but its slot, and that is made anew.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.db.transactions import patiently
from pysync.diagnosis import grants
from pysync.errors import LockedError, ReplicationError, WaitTimeoutError
from pysync.lifecycle.work import Work
from pysync.models.replicated import PUBLISHED_TABLES, REPLICATED_TABLES
from pysync.replication import fan_out, marks, merge, registry, slots, snapshots, subscriptions
from pysync.replication.databases import connect_course
from pysync.replication.merge import Changes
from pysync.replication.registry import Course
from pysync.replication.snapshots import Point

TRIES: Final = 5
"""How often a merge is begun anew that meets locks, deadlocks or new rows of the course's own."""

PAUSE_SECONDS: Final = 0.2

CATCH_UP_SECONDS: Final = 60

QUERIES = load(__file__)


def subscribe(work: Work) -> None:
    """See to it that a course has a subscription, stopped, that copies no tables itself."""
    database, course, conninfo = work.database, work.course, work.subscriber
    name = course.replication_name
    grants.require_merging(database, work.subject)
    if subscriptions.find(database, name) is not None:
        subscriptions.stop(database, course)
        if subscriptions.is_whole(database, name):
            return
        conninfo = subscriptions.connection_string(database, name) or conninfo
        subscriptions.drop(database, course)
        # The positions that its slots kept for it are gone with it.
        slots.drop(work.portal, course)
    subscriptions.create(database, course, conninfo, copy_data=False)


def record(work: Work) -> Work:
    """Remember a course's subscription; returns the work on the course as registered now."""
    oid = subscriptions.get(work.database, work.course).oid
    registry.record_subscription(work.portal, work.course.course_id, oid)
    return replace(work, course=registry.get(work.portal, work.course.course_id))


@contextmanager
def merged(work: Work) -> Iterator[tuple[list[Changes], Point]]:
    """Merge what the portal holds for a course into its database, whose subscription is stopped.

    :returns: what was done, committed when the block begins, and the position it ended at.
    :raises LockedError: if sessions in the course keep rows locked.
    """
    scrubbed: set[int] = set()
    for _ in range(TRIES):
        work.progress.step("taking a snapshot of the portal")
        with (
            snapshots.consistent_point(work.portal_conninfo, work.portal) as point,
            closing(connect_course(work.conninfo)) as session,
            translated(work.subject),
        ):
            _stage(work, point, session)
            work.progress.step("merging")
            try:
                differences = _merge_at(session, work.course, point)
            except merge.ReferencedError as error:
                # The portal gets to know them, and the next snapshot holds them, scrubbed.
                fan_out.keep_scrubbed(work.portal, work.course.course_id, error.user_ids)
                scrubbed.update(error.user_ids)
                continue
            session.close()
            yield [_with_scrubbed(each, len(scrubbed)) for each in differences], point
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
    for table, query in snapshots.fan_out(work.course.course_id).items():
        rows = snapshots.count(point.reader, query)
        work.progress.step(f"copying {table}", rows)
        merge.stage(point.reader, session, table, query, work.progress.advance)


def _merge_at(session: Connection, course: Course, point: Point) -> list[Changes]:
    origin = {"origin": f"pg_{subscriptions.get(session, course).oid}", "lsn": point.lsn}
    # A portal that was restored or replaced may be at an earlier position than it ever was.
    session.execute(QUERIES["set_back_origin"], origin)
    session.execute("select pg_catalog.pg_replication_origin_session_setup(%(origin)s)", origin)

    def attempt() -> list[Changes]:
        with session.transaction():
            done = merge.apply(session, PUBLISHED_TABLES)
            session.execute(
                "select pg_catalog.pg_replication_origin_xact_setup(%(lsn)s, now())", origin
            )
            return [each for each in done if each.table in REPLICATED_TABLES]

    # The course's own sessions get their turn in between.
    return patiently(attempt, TRIES, PAUSE_SECONDS)


def start(work: Work, point: Point) -> None:
    """Have a merged course stream from where the merge ended, and wait until it has caught up."""
    portal, database, course = work.portal, work.database, work.course
    work.progress.step("catching up")
    made_slot = not slots.is_usable(portal, course.replication_name, point.lsn)
    try:
        if made_slot:
            slots.drop(portal, course)
            snapshots.keep_slot(portal, point.slot, course.replication_name)
        subscriptions.enable(database, course)
    except BaseException:
        # It would keep WAL for nobody.
        if made_slot and not portal.closed:
            slots.drop(portal, course)
        raise
    registry.record_ready(portal, course.course_id)
    catch_up(work, "merged", CATCH_UP_SECONDS)


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
