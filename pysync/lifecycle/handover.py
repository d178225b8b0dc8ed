"""Fill a course database by a merge and have its subscription go on exactly where that ends.

A temporary slot gives a snapshot and the position in the stream that follows it. The merge's
transaction sets the subscription's origin to that position, as an apply worker's would: rows and
position change together or not at all. Whatever slot the course has is behind that position, or is
made from the temporary one afterwards. So we may be killed anywhere: before the merge is committed
the course is as it was, afterwards it has all it needs but its slot, and that is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.errors import translated
from pysync.db.transactions import patiently
from pysync.errors import LockedError, ReplicationError, WaitTimeoutError
from pysync.models.replicated import PUBLISHED_TABLES, REPLICATED_TABLES
from pysync.replication import fan_out, marks, merge, registry, slots, snapshots, subscriptions
from pysync.replication.merge import Differences
from pysync.replication.registry import Course
from pysync.replication.snapshots import Point
from pysync.types import Progress

TRIES: Final = 5
"""How often a merge is begun anew that meets locks, deadlocks or new rows of the course's own."""

PAUSE_SECONDS: Final = 0.2

CATCH_UP_SECONDS: Final = 60


@dataclass(frozen=True)
class Merged:
    """What a merge did, and the position it ended at; usable inside :func:`merged` only."""

    differences: list[Differences]
    point: Point


def subscribe(portal: Connection, database: Connection, course: Course, conninfo: str) -> None:
    """See to it that a course has a subscription, stopped, that copies no tables itself.

    :param conninfo: how the course's server reaches the portal, if no subscription says it.
    """
    name = course.replication_name
    if subscriptions.find(database, name) is not None:
        subscriptions.stop(database, course)
        if subscriptions.is_whole(database, name):
            return
        conninfo = subscriptions.connection_string(database, name) or conninfo
        subscriptions.drop(database, course)
        # The positions that its slots kept for it are gone with it.
        slots.drop(portal, course)
    subscriptions.create(database, course, conninfo, copy_data=False)


def record(portal: Connection, database: Connection, course: Course) -> Course:
    """Remember a course's subscription; returns the course as registered now."""
    oid = subscriptions.get(database, course).oid
    registry.record_subscription(portal, course.course_id, oid)
    return registry.get(portal, course.course_id)


@contextmanager
def merged(
    portal_conninfo: str, portal: Connection, conninfo: str, course: Course, progress: Progress
) -> Iterator[Merged]:
    """Merge what the portal holds for a course into its database, whose subscription is stopped.

    :param conninfo: how we reach the course database.
    :returns: what was done; committed when the block begins.
    :raises LockedError: if sessions in the course keep rows locked.
    """
    scrubbed: set[int] = set()
    for _ in range(TRIES):
        progress.step("taking a snapshot of the portal")
        with (
            snapshots.consistent_point(portal_conninfo, portal) as point,
            closing(connect(conninfo)) as session,
            translated(f"course '{course.course_id}'"),
        ):
            _stage(point, session, course, progress)
            progress.step("merging")
            try:
                differences = _merge_at(session, course, point)
            except merge.ReferencedError as error:
                # The portal gets to know them, and the next snapshot holds them, scrubbed.
                fan_out.keep_scrubbed(portal, course.course_id, error.user_ids)
                scrubbed.update(error.user_ids)
                continue
            session.close()
            yield Merged([_with_scrubbed(each, len(scrubbed)) for each in differences], point)
            return
    raise LockedError(
        f"course '{course.course_id}' is busy: its own tables begin to point at users that must go",
        "run the command again",
    )


def _with_scrubbed(difference: Differences, scrubbed: int) -> Differences:
    """Count users that were scrubbed as such, not as updated."""
    if difference.table != "auth_user":
        return difference
    return replace(difference, update=max(difference.update - scrubbed, 0), scrub=scrubbed)


def _stage(point: Point, session: Connection, course: Course, progress: Progress) -> None:
    for table, query in snapshots.fan_out(course.course_id).items():
        rows = fetch_value(point.reader, sql.SQL("select count(*) from ({}) as r").format(query))
        progress.step(f"copying {table}", rows)
        merge.stage(point.reader, session, table, query, progress.advance)


def _merge_at(session: Connection, course: Course, point: Point) -> list[Differences]:
    origin = f"pg_{subscriptions.get(session, course).oid}"
    # A portal that was restored or replaced may be at an earlier position than it ever was.
    session.execute(
        "select pg_catalog.pg_replication_origin_advance(origin, lsn)"
        " from (values (%s::text, %s::pg_lsn)) as point (origin, lsn)"
        " where pg_catalog.pg_replication_origin_progress(origin, true) > lsn",
        (origin, point.lsn),
    )
    session.execute("select pg_catalog.pg_replication_origin_session_setup(%s)", (origin,))

    def attempt() -> list[Differences]:
        with session.transaction():
            done = merge.apply(session, PUBLISHED_TABLES)
            session.execute(
                "select pg_catalog.pg_replication_origin_xact_setup(%s, now())", (point.lsn,)
            )
            return [each for each in done if each.table in REPLICATED_TABLES]

    # The course's own sessions get their turn in between.
    return patiently(attempt, TRIES, PAUSE_SECONDS)


def start(portal: Connection, database: Connection, course: Course, point: Point) -> None:
    """Have a merged course stream from where the merge ended, and wait until it has caught up."""
    name = course.replication_name
    made_slot = not slots.is_usable(portal, name, point.lsn)
    try:
        if made_slot:
            slots.drop(portal, course)
            snapshots.keep_slot(portal, point.slot, name)
        subscriptions.enable(database, course)
    except BaseException:
        # It would keep WAL for nobody.
        if made_slot and not portal.closed:
            slots.drop(portal, course)
        raise
    registry.record_ready(portal, course.course_id)
    try:
        mark = marks.mark(portal, course.course_id)
        marks.wait_for(database, course.course_id, mark, CATCH_UP_SECONDS)
    except WaitTimeoutError:
        raise ReplicationError(
            f"course '{course.course_id}' is merged, but a change made now doesn't arrive",
            "run 'pysync status' to see why",
        ) from None
