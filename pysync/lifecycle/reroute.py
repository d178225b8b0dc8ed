"""Have a course stream from elsewhere: from a relay, or from the portal."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from pysync.db import addresses
from pysync.db.connections import Connection, parse, without_secrets
from pysync.db.restricted import as_owner_of
from pysync.diagnosis import checks, grants
from pysync.errors import DatabaseUnreachableError
from pysync.lifecycle import handover
from pysync.lifecycle.resync import resync
from pysync.lifecycle.work import Work
from pysync.migrate import require_head
from pysync.models.replicated import PUBLISHED
from pysync.replication import (
    marks,
    publications,
    publishers,
    registry,
    relays,
    settings,
    slots,
    subscriptions,
)
from pysync.replication.databases import open_course
from pysync.replication.merge import Outcome
from pysync.replication.publishers import Publisher
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress

FENCE_SECONDS: Final = 60
"""How long a relay may take to have what the portal had when it is to lose a course."""


def prepare(
    portal_conninfo: str, relay: CourseId, courses: list[CourseId], progress: Progress
) -> None:
    """Have a relay hold what the portal holds for courses, before they move to it.

    One merge for all: the relay's other courses wait for their changes meanwhile.

    :raises UnknownCourseError: if the relay, or a course, isn't registered.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        found = registry.get_ready(portal, relay)
        for course in courses:
            registry.get_ready(portal, course)
        if not {*found.carries} >= {*courses}:
            relays.carry(portal, relay, courses, filled=True)
        lacking = registry.get(portal, relay).lost_at is not None
    if lacking:
        resync(portal_conninfo, relay, progress)


def reroute(
    portal_conninfo: str,
    course_id: CourseId,
    relay: CourseId | None,
    progress: Progress,
    *,
    portal_conninfo_for_course: str | None = None,
    force: bool = False,
) -> Outcome | None:
    """Have a course stream from a relay, or from the portal, by a merge of what that holds.

    Readers aren't disturbed. We may be interrupted anywhere and run again.

    :param relay: ``None`` for the portal.
    :param portal_conninfo_for_course: how the course's server reaches it.
    :param force: go on though the relay that it leaves can't be reached; it must never come back.
    :returns: what was merged; ``None`` if it streams from there already.
    :raises UnknownCourseError: if course or relay isn't registered.
    :raises DatabaseUnreachableError: if one of the databases can't be reached.
    """
    if relay is not None:
        prepare(portal_conninfo, relay, [course_id], progress)
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
    ):
        require_head(portal)
        course = registry.get_ready(portal, course_id)
        if course.relay == relay:
            _leave(portal, None if relay is None else Publisher(portal_conninfo, portal), course)
            return None
        with (
            _old(portal_conninfo, portal, course, force=force) as old,
            publishers.opened(portal_conninfo, portal, replace(course, relay=relay)) as new,
            closing(open_course((old or new).connection, course)) as database,
        ):
            grants.require_own_roles(portal, database)
            grants.require_merging(database, course.subject)
            subscriber = addresses.for_course(
                new.connection, new.conninfo, portal_conninfo_for_course
            )
            course = replace(
                course,
                relay=relay,
                portal_conninfo=without_secrets(subscriber),
                replication_role=parse(subscriber)["user"],
            )
            work = Work(portal, new, course, course.conninfo, database, subscriber, progress)
            outcome = _hand_over(work, old)
            _leave(portal, old, course)
            if old is not None and old.relay is not None:
                _clear(portal, old, course_id)
            return outcome


@contextmanager
def _old(
    portal_conninfo: str, portal: Connection, course: Course, *, force: bool
) -> Iterator[Publisher | None]:
    """Open what a course leaves; ``None`` if that is gone for good."""
    try:
        opened = publishers.opened(portal_conninfo, portal, course)
        publisher = opened.__enter__()
    except DatabaseUnreachableError as error:
        if not force:
            raise DatabaseUnreachableError(
                f"{course.subject} can't leave its relay: {error.message}",
                "bring it back, or, if it is gone for ever, run the command again with --force",
            ) from None
        yield None
        return
    try:
        yield publisher
    finally:
        opened.__exit__(None, None, None)


def _hand_over(work: Work, old: Publisher | None) -> Outcome:
    database, course, progress = work.database, work.course, work.progress
    publisher = work.publisher.connection
    progress.step(f"checking the way to {work.publisher.name}")
    checks.check_reachable(publisher, database, course.replication_name, work.subscriber)
    found = checks.portal_server(publisher, adds=1, relay=work.publisher.relay)
    checks.enforce(found, progress)
    publications.grant_reading(publisher, course.replication_role)
    publications.ensure(publisher, course)
    chosen = settings.read(database, course.replication_name)
    before = subscriptions.find(database, course.replication_name)
    progress.step("stopping the subscription")
    try:
        if before is not None:
            subscriptions.stop(database, course)
        handover.fence(work)
    except BaseException:
        if before is not None and before.enabled and old is not None and not database.closed:
            subscriptions.enable(database, course)
        raise
    handover.subscribe(work, chosen, anew=True)
    with handover.merged(work) as differences:
        registry.reregister(work.portal, course)
        handover.start(handover.record(work))
        return Outcome(differences, portal_conninfo=course.portal_conninfo)


def _leave(portal: Connection, old: Publisher | None, course: Course) -> None:
    """Have what a course has left keep nothing for it any more."""
    if old is not None:
        slots.drop(old.connection, course)
        publications.drop(old.connection, course)
    for each in registry.subscribers(portal):
        if each.course_id != course.relay and course.course_id in each.carries:
            relays.leave(portal, each.course_id, [course.course_id])


def _clear(portal: Connection, old: Publisher, course_id: CourseId) -> None:
    """Delete a course's rows from a relay that isn't sent them any more."""
    assert old.relay is not None  # noqa: S101
    marks.fence(portal, old.connection, old.relay.course_id, FENCE_SECONDS)
    with old.connection.transaction():
        old.connection.execute("set local session_replication_role = replica")
        for table in reversed(PUBLISHED):
            with as_owner_of(old.connection, "course", table.name) as owner:
                owner.execute(relays.DELETE.format(table.identifier), [course_id])
