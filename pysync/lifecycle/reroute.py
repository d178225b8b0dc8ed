"""Have a course stream from elsewhere: from a relay, or from the portal."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from pysync.db import addresses
from pysync.db.connections import Connection, parse, without_secrets
from pysync.diagnosis import checks, grants
from pysync.errors import DatabaseUnreachableError, PysyncError, ReplicationError
from pysync.lifecycle import handover, leaving
from pysync.lifecycle.resync import resync
from pysync.lifecycle.work import Work
from pysync.migrate import require_head
from pysync.replication import (
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
from pysync.texts import word
from pysync.types import CourseId, Progress


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
        relays.carry(portal, found.course_id, courses, filled=True)
        found = registry.get(portal, relay)
        lacking = found.lost_at is not None or {*found.awaits} & {*courses}
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
        if course.relay != relay:
            return _reroute(
                portal_conninfo,
                portal,
                course,
                relay,
                progress,
                portal_conninfo_for_course=portal_conninfo_for_course,
                force=force,
            )
        if _is_settled(portal_conninfo, portal, course):
            leaving.tidy(portal, course, everywhere=True)
            return None
    # It was interrupted in between.
    return resync(
        portal_conninfo,
        course_id,
        progress,
        portal_conninfo_for_course=portal_conninfo_for_course,
    )


def _reroute(
    portal_conninfo: str,
    portal: Connection,
    course: Course,
    relay: CourseId | None,
    progress: Progress,
    *,
    portal_conninfo_for_course: str | None,
    force: bool,
) -> Outcome:
    with (
        _old(portal_conninfo, portal, course, force=force) as old,
        publishers.opened(portal_conninfo, portal, replace(course, relay=relay)) as new,
        closing(open_course((old or new).connection, course)) as database,
    ):
        grants.require_own_roles(portal, database)
        grants.require_merging(database, course.subject)
        subscriber = addresses.for_course(new.connection, new.conninfo, portal_conninfo_for_course)
        course = replace(
            course,
            relay=relay,
            portal_conninfo=without_secrets(subscriber),
            replication_role=parse(subscriber)["user"],
        )
        work = Work(portal, new, course, course.conninfo, database, subscriber, progress)
        outcome = _hand_over(work)
        leaving.tidy(portal, course, everywhere=True)
        return outcome


def _is_settled(portal_conninfo: str, portal: Connection, course: Course) -> bool:
    """Return whether a course has its subscription to what it is registered to stream from."""
    with (
        publishers.opened(portal_conninfo, portal, course) as publisher,
        closing(open_course(publisher.connection, course)) as database,
    ):
        return handover.is_settled(database, course) and slots.is_usable(
            publisher.connection, course.replication_name
        )


@contextmanager
def _old(
    portal_conninfo: str, portal: Connection, course: Course, *, force: bool
) -> Iterator[Publisher | None]:
    """Open what a course leaves; ``None`` if that is gone for good."""
    with ExitStack() as stack:
        publisher = None
        try:
            opened = publishers.opened(portal_conninfo, portal, course)
            publisher = stack.enter_context(opened)
        except DatabaseUnreachableError as error:
            if not force:
                raise DatabaseUnreachableError(
                    f"{course.subject} can't leave its relay: {error.message}",
                    "bring it back, or, if it is gone for ever, run the command again with --force",
                ) from None
        yield publisher


def _hand_over(work: Work) -> Outcome:
    """Merge, and have the course follow what it is to stream from in that moment.

    Until then it has its subscription to what it leaves; from then on another merge finishes what
    is interrupted.
    """
    database, course, progress = work.database, work.course, work.progress
    publisher, name = work.publisher.connection, course.replication_name
    progress.step(f"checking the way to {work.publisher.name}")
    checks.check_reachable(publisher, database, name, work.subscriber)
    found = checks.portal_server(publisher, adds=1, relay=work.publisher.relay)
    checks.enforce(found, progress)
    publications.grant_reading(publisher, course.replication_role)
    publications.ensure(publisher, course)
    slots.drop(publisher, course)
    chosen = settings.read(database, name)
    before = subscriptions.find(database, name)
    has_left = False

    def turn() -> None:
        nonlocal has_left
        if has_left:
            return
        subscriptions.drop(database, course)
        has_left = True
        registry.reregister(work.portal, course)
        subscriptions.create(database, course, work.subscriber, copy_data=False, settings=chosen)

    progress.step("stopping the subscription")
    try:
        if before is not None:
            subscriptions.stop(database, course)
        handover.fence(work)
        with handover.merged(work, turn) as differences:
            handover.start(handover.record(work))
            return Outcome(differences, portal_conninfo=course.portal_conninfo)
    except BaseException as error:
        if not has_left and before is not None and before.enabled and not database.closed:
            subscriptions.enable(database, course)
        if has_left and isinstance(error, PysyncError):
            raise ReplicationError(
                f"{course.subject} streams from {work.publisher.name} from now on, and isn't "
                f"complete yet: {error.message}",
                f"run 'pysync resync {word(course.course_id)}'",
            ) from error
        raise
