"""Resynchronise a course: merge what the portal holds into its database while both are in use."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from pysync.db import addresses
from pysync.db.connections import connect, parse, without_secrets
from pysync.db.errors import translated
from pysync.db.holders import waiting
from pysync.db.transactions import patiently
from pysync.diagnosis import checks, grants
from pysync.errors import ReplicationError, UnsuitableDatabaseError, WaitTimeoutError
from pysync.findings import IN_COURSE
from pysync.lifecycle import handover, leaving
from pysync.lifecycle.work import Work
from pysync.migrate import require_head
from pysync.replication import (
    identities,
    marks,
    merge,
    publications,
    publishers,
    registry,
    slots,
    snapshots,
    subscriptions,
)
from pysync.replication.databases import connect_course, open_course
from pysync.replication.merge import Changes, Outcome
from pysync.texts import word
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
) -> Outcome:
    """Make a course's replicated tables equal to the portal's fan-out, and let it stream on.

    Columns and rows of the course's own survive; readers aren't disturbed. The same recovers a
    course that has lost its slot. We may be interrupted anywhere and run again.

    :param table: only this one; the course must be streaming.
    :param portal_conninfo_for_course: how the course's server reaches the portal from now on; what
        it leaves out stays as it is.
    :raises UnknownCourseError: if the course isn't registered.
    :raises ReplicationError: if it isn't in a state to be resynchronised.
    """
    with _opened(portal_conninfo, course_id, progress, portal_conninfo_for_course) as opened:
        if table is not None:
            return Outcome([_one_table(opened, table)])
        identities.take(opened.portal, opened.database)
        work = _readdress(opened, portal_conninfo_for_course)
        publications.ensure(work.publisher.connection, work.course)
        progress.step("stopping the subscription")
        before = subscriptions.find(work.database, work.course.replication_name)
        try:
            handover.fence(work)
            handover.subscribe(work)
            work = handover.record(work)
            with handover.merged(work) as differences:
                before = None
                handover.start(work)
                leaving.tidy(work.portal, work.course)
                way_back = work.course.portal_conninfo
                return Outcome(differences, portal_conninfo=way_back)
        except BaseException:
            # Nothing was changed: a course that was streaming goes on.
            if before is not None and before.enabled:
                _go_on(work)
            raise


def _readdress(work: Work, given: str | None) -> Work:
    """Have the course's server reach the portal as it is to from now on.

    :param given: what somebody wants that to be.
    :returns: the work with that way.
    """
    relay = work.publisher.relay
    if relay is not None and given is None:
        # It may have moved, and know of nobody who could have told its courses.
        sender = work.publisher.connection
        moved = addresses.for_course(
            sender, relay.conninfo, addresses.place_of(relay.conninfo), work.subscriber
        )
        if moved != work.subscriber and not _arrives(work):
            work = replace(work, subscriber=moved)
    new = replace(
        work.course,
        portal_conninfo=without_secrets(work.subscriber),
        replication_role=parse(work.subscriber)["user"],
    )
    publications.grant_reading(work.publisher.connection, new.replication_role)
    # A merge that can't be followed by streaming would have been in vain.
    handover.readdress(work, work.course, probe=True)
    registry.reregister(work.portal, new)
    return replace(work, course=new)


def _arrives(work: Work) -> bool:
    """Return whether the course's server arrives at what it streams from as it did until now."""
    sender, name = work.publisher.connection, work.course.replication_name
    try:
        checks.check_reachable(sender, work.database, name, work.subscriber)
    except ReplicationError:
        return False
    return True


def preview(
    portal_conninfo: str, course_id: CourseId, progress: Progress, *, table: str | None = None
) -> Outcome:
    """Count what :func:`resync` would do; rows written meanwhile may count."""
    with _opened(portal_conninfo, course_id, progress) as work, translated(work.subject):
        queries = snapshots.fan_out(work.course)
        wanted = {each: queries[each] for each in queries if table in (None, each.name)}
        return merge.preview(
            work.publisher.conninfo,
            work.database,
            lambda _: wanted,
            progress,
            many=work.course.is_relay,
        )


@contextmanager
def _opened(
    portal_conninfo: str,
    course_id: CourseId,
    progress: Progress,
    portal_conninfo_for_course: str | None = None,
) -> Iterator[Work]:
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
    ):
        require_head(portal)
        course = registry.get_ready(portal, course_id)
        with (
            publishers.opened(portal_conninfo, portal, course) as publisher,
            closing(open_course(publisher.connection, course)) as database,
        ):
            grants.require_own_roles(portal, database)
            owner = identities.owner_of(database)
            if owner != course_id:
                raise UnsuitableDatabaseError(
                    f"database '{database.info.dbname}' isn't course '{course_id}''s: it belongs "
                    + (f"to course '{owner}'" if owner else "to no course"),
                    f"run 'pysync course move {word(course_id)} CONNINFO' if the course has "
                    "a new database",
                )
            found = subscriptions.connection_string(database, course.replication_name)
            subscriber = addresses.for_course(
                publisher.connection,
                publisher.conninfo,
                portal_conninfo_for_course,
                found or course.portal_conninfo,
            )
            yield Work(portal, publisher, course, course.conninfo, database, subscriber, progress)


def _go_on(work: Work) -> None:
    if work.publisher.connection.closed or work.database.closed:
        return
    name = work.course.replication_name
    found = subscriptions.find(work.database, name)
    is_whole = found is not None and found.slot_name == name and found.copied
    if is_whole and slots.is_usable(work.publisher.connection, name):
        subscriptions.enable(work.database, work.course)


def _one_table(work: Work, name: str) -> Changes:
    """Merge one table while the others stream.

    All tables of a subscription are at the same position. So the table's writers on the portal
    are held for the moment it takes until what they wrote is applied and the apply worker is kept
    from this table; then both sides of the merge are at the same position, too.
    """
    _require_current(work, CURRENT_SECONDS)
    queries = snapshots.fan_out(work.course)
    table, query = next(each for each in queries.items() if each[0].name == name)
    with (
        closing(connect_course(work.conninfo)) as session,
        waiting(session, work.subject, IN_COURSE),
    ):

        def attempt() -> list[Changes]:
            with (
                closing(connect(work.publisher.conninfo)) as writers,
                closing(connect(work.publisher.conninfo)) as reader,
                session.transaction(),
            ):
                writers.execute("begin")
                writers.execute(merge.lock_statement(name, "share"))
                _require_current(work, HOLD_SECONDS)
                session.execute("set local lock_timeout = '500ms'")
                session.execute(merge.lock_statement(name, "share row exclusive"))
                snapshots.begin(reader)
                writers.execute("rollback")
                merge.stage(reader, session, table, query, many=work.course.is_relay)
                return merge.apply(session, (table,), many=work.course.is_relay)

        (changes,) = patiently(attempt, handover.TRIES, handover.PAUSE_SECONDS)
        return changes


def _require_current(work: Work, timeout_seconds: float) -> None:
    try:
        marks.fence(work.portal, work.database, work.course.course_id, timeout_seconds)
    except WaitTimeoutError:
        raise ReplicationError(
            f"{work.subject} isn't streaming: a single table can't be brought to the position of "
            "the others",
            f"run 'pysync resync {word(work.course.course_id)}' for the whole course",
        ) from None
