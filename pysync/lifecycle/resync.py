"""Resynchronise a course: merge what the portal holds into its database while both are in use."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from pysync.db.connections import Connection, connect
from pysync.db.errors import translated
from pysync.db.transactions import patiently
from pysync.diagnosis import checks
from pysync.errors import ReplicationError, UnsuitableDatabaseError, WaitTimeoutError
from pysync.lifecycle import handover, replicas
from pysync.migrate import require_head
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import marks, merge, publications, registry, slots, snapshots, subscriptions
from pysync.replication.merge import Comparison, Differences
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress

CURRENT_SECONDS: Final = 10
"""How long a course may take to catch up before one of its tables is resynchronised."""

HOLD_SECONDS: Final = 1
"""How long writers of one table on the portal may be held while its changes arrive."""


def resync(
    portal_conninfo: str,
    course_id: CourseId,
    progress: Progress,
    *,
    table: str | None = None,
    portal_conninfo_for_course: str | None = None,
) -> Comparison:
    """Make a course's replicated tables equal to the portal's fan-out, and let it stream on.

    Columns and rows of the course's own survive; readers aren't disturbed. The same recovers a
    course that has lost its slot. We may be interrupted anywhere and run again.

    :param table: only this one; the course must be streaming.
    :param portal_conninfo_for_course: how the course's server reaches the portal, should its
        subscription be missing.
    :raises UnknownCourseError: if the course isn't registered.
    :raises ReplicationError: if it isn't in a state to be resynchronised.
    """
    with _opened(portal_conninfo, course_id) as (portal, database, course):
        if table is not None:
            return Comparison([_one_table(portal_conninfo, portal, database, course, table)])
        publications.ensure(portal, course)
        progress.step("stopping the subscription")
        found = subscriptions.find(database, course.replication_name)
        handover.subscribe(
            portal,
            database,
            course,
            checks.portal_conninfo_for_course(
                portal, portal_conninfo_for_course or course.portal_conninfo
            ),
        )
        recorded = handover.record(portal, database, course)
        try:
            with handover.merged(
                portal_conninfo, portal, recorded.conninfo, recorded, progress
            ) as merged:
                found = None
                progress.step("catching up")
                handover.start(portal, database, recorded, merged.point)
                return Comparison(merged.differences)
        except BaseException:
            # Nothing was changed: a course that was streaming goes on.
            if found is not None and found.enabled and not (portal.closed or database.closed):
                _go_on(portal, database, course)
            raise


def preview(
    portal_conninfo: str, course_id: CourseId, progress: Progress, *, table: str | None = None
) -> Comparison:
    """Count what :func:`resync` would do; rows written meanwhile may count."""
    with _opened(portal_conninfo, course_id) as (_portal, database, _course):
        differences, keys = [], []
        with closing(connect(portal_conninfo)) as reader, translated(f"course '{course_id}'"):
            snapshots.begin(reader)
            for name, query in snapshots.fan_out(course_id).items():
                if table in (None, name):
                    progress.step(f"comparing {name}")
                    merge.stage(reader, database, name, query)
            for name in (table,) if table else REPLICATED_TABLES:
                differences.append(merge.compare(database, name))
                keys.extend(merge.foreign_keys(database, name))
        return Comparison(differences, keys)


@contextmanager
def _opened(
    portal_conninfo: str, course_id: CourseId
) -> Iterator[tuple[Connection, Connection, Course]]:
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
    ):
        require_head(portal)
        course = registry.get_ready(portal, course_id)
        with closing(connect(course.conninfo)) as database:
            owner = replicas.owner_of(database)
            if owner != course_id:
                raise UnsuitableDatabaseError(
                    f"database '{database.info.dbname}' isn't course '{course_id}''s: it belongs "
                    + (f"to course '{owner}'" if owner else "to no course"),
                    f"run 'pysync course move {shlex.quote(course_id)} CONNINFO' if the course has "
                    "a new database",
                )
            yield portal, database, course


def _go_on(portal: Connection, database: Connection, course: Course) -> None:
    name = course.replication_name
    if slots.is_usable(portal, name) and subscriptions.is_whole(database, name):
        subscriptions.enable(database, course)


def _one_table(
    portal_conninfo: str, portal: Connection, database: Connection, course: Course, table: str
) -> Differences:
    """Merge one table while the others stream.

    All tables of a subscription are at the same position. So the table's writers on the portal
    are held for the moment it takes until what they wrote is applied and the apply worker is kept
    from this table; then both sides of the merge are at the same position, too.
    """
    subject = f"course '{course.course_id}'"
    _require_current(portal, database, course, CURRENT_SECONDS)
    with closing(connect(course.conninfo)) as session, translated(subject):

        def attempt() -> list[Differences]:
            with (
                closing(connect(portal_conninfo)) as writers,
                closing(connect(portal_conninfo)) as reader,
                session.transaction(),
            ):
                writers.execute("begin")
                writers.execute(merge.lock_statement(table, "share"))
                _require_current(portal, database, course, HOLD_SECONDS)
                session.execute("set local lock_timeout = '500ms'")
                session.execute(merge.lock_statement(table, "share row exclusive"))
                snapshots.begin(reader)
                writers.execute("rollback")
                merge.stage(reader, session, table, snapshots.fan_out(course.course_id)[table])
                return merge.apply(session, (table,))

        (difference,) = patiently(attempt, handover.TRIES, handover.PAUSE_SECONDS)
        return difference


def _require_current(
    portal: Connection, database: Connection, course: Course, timeout_seconds: float
) -> None:
    try:
        mark = marks.mark(portal, course.course_id)
        marks.wait_for(database, course.course_id, mark, timeout_seconds)
    except WaitTimeoutError:
        raise ReplicationError(
            f"course '{course.course_id}' isn't streaming: a single table can't be brought to the "
            "position of the others",
            f"run 'pysync resync {shlex.quote(course.course_id)}' for the whole course",
        ) from None
