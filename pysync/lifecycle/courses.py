"""Add courses and remove them."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from pysync.db import addresses
from pysync.db.connections import Connection, parse, without_secrets
from pysync.diagnosis import checks, grants, sessions
from pysync.diagnosis.drift import undecided
from pysync.errors import DatabaseUnreachableError, ReplicationError
from pysync.lifecycle import handover, replicas, steps
from pysync.lifecycle.steps import State
from pysync.lifecycle.work import Work
from pysync.migrate import require_head
from pysync.replication import (
    fan_out,
    identities,
    publications,
    publishers,
    registry,
    relays,
    slots,
    snapshots,
    subscriptions,
)
from pysync.replication.databases import connect_course, require_followed
from pysync.replication.registry import Course
from pysync.texts import word
from pysync.types import CourseId, Progress, replication_name


@dataclass(frozen=True)
class Added:
    """What :func:`add` did, or on trial would do.

    ``taken_over`` are tables that would become pysync's, and the roles that own them. ``rest`` is
    what :func:`finish` has still to do.
    """

    course: Course
    users: int
    already_there: bool
    taken_over: dict[str, str] = field(default_factory=dict)
    rest: Work | None = None


def add(
    portal_conninfo: str,
    course_id: CourseId,
    conninfo: str,
    progress: Progress,
    *,
    portal_conninfo_for_course: str | None = None,
    adopt: bool = False,
    keep_owner: bool = False,
    durable: bool = False,
    relay: CourseId | None = None,
    dry_run: bool = False,
    reached: set[tuple[int, str]] | None = None,
    waits: bool = False,
    session: Connection | None = None,
) -> Added:
    """Make a database a course's database: check, migrate, backfill, subscribe, wait.

    Safe to run again after any interruption: what is done already is passed over. See
    :mod:`pysync.lifecycle.steps`.

    :param portal_conninfo: how we reach the portal.
    :param conninfo: how we reach the course database; its password isn't stored.
    :param portal_conninfo_for_course: how the course's server reaches the portal, if differently.
    :param adopt: the database holds users already: merge the portal's into them instead of making
        a first copy. See :func:`pysync.lifecycle.adopt.preview`.
    :param keep_owner: leave tables that the database has already to the role that owns them.
    :param durable: its workers flush each change before they confirm it; of a course that is there
        already :func:`pysync.lifecycle.durability.switch` decides.
    :param relay: what it is to stream from, if not from the portal.
    :param dry_run: stop after the checks, and return how many users would be there.
    :param reached: servers that were seen to reach the portal, and by which string: they aren't
        asked again, and those that are now are entered.
    :param waits: don't start a course for which nothing has to be copied; :func:`finish` does.
    :param session: one with the portal, from :func:`pysync.replication.registry.connect_portal`.
    :raises PysyncError: one of its kinds for everything that isn't as needed; checks come before
        changes, and a failure later leaves no slot behind.
    """
    way_back = portal_conninfo_for_course
    with opened(
        portal_conninfo,
        course_id,
        conninfo,
        progress,
        way_back,
        adopt=adopt,
        keep_owner=keep_owner,
        relay=relay,
        reached=reached,
        session=session,
    ) as work:
        if dry_run:
            members = fan_out.count_members(work.portal, course_id)
            return Added(work.course, members, work.course.ready, replicas.to_take_over(work))
        # A relay sends on what is flushed: without that its courses would wait for the WAL writer.
        flushes = not work.course.ready and (durable or work.course.is_relay)
        course = replace(work.course, durable=work.course.durable or flushes)
        rest = replace(work, course=course)
        added = Added(course, 0, steps.attach(rest) >= State.SUBSCRIBED, rest=rest)
        if waits and steps.has_nothing_to_copy(rest):
            return added
        return _finished(added, rest)


def finish(portal_conninfo: str, portal: Connection, added: Added) -> Added:
    """Start a course that :func:`add` has left waiting, and wait until it streams.

    :raises PysyncError: as :func:`add`.
    """
    if added.rest is None:
        return added
    with (
        registry.locked(portal, added.course.course_id),
        closing(connect_course(added.rest.conninfo)) as database,
        publishers.opened(portal_conninfo, portal, added.course) as publisher,
    ):
        work = replace(added.rest, portal=portal, publisher=publisher, database=database)
        return _finished(added, work)


def _finished(added: Added, work: Work) -> Added:
    steps.finish(work)
    course = registry.get(work.portal, work.course.course_id)
    users = snapshots.fan_out(course)[course.published[0]]
    there = snapshots.count(work.publisher.connection, users)
    return replace(added, users=there, rest=None)


@contextmanager
def opened(
    portal_conninfo: str,
    course_id: CourseId,
    conninfo: str,
    progress: Progress,
    portal_conninfo_for_course: str | None,
    *,
    adopt: bool,
    keep_owner: bool = False,
    relay: CourseId | None = None,
    reached: set[tuple[int, str]] | None = None,
    session: Connection | None = None,
) -> Iterator[Work]:
    """Connect to both sides of a course that is to be added; all is checked, nothing is changed.

    :raises PysyncError: one of its kinds for what isn't as needed.
    """
    with (
        nullcontext(session)
        if session
        else closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
        closing(connect_course(conninfo)) as database,
        ExitStack() as stack,
    ):
        require_head(portal)
        registered = registry.find(portal, course_id)
        name = replication_name(portal.info.dbname, course_id)
        before = None
        if registered is not None:
            checks.check_same_database(registered, database)
            before = subscriptions.connection_string(database, registered.replication_name)
            before = before or registered.portal_conninfo
        if registered is not None and relay not in (None, registered.relay):
            raise ReplicationError(
                f"{registered.subject} is there already, and streams from "
                + (f"'{registered.relay}'" if registered.relay else "the portal"),
                f"run 'pysync course move {word(course_id)} --via {word(relay)}' to change that",
            )
        carried = registry.carried(portal)
        fresh = Course(course_id, name, "", "", "", adopts=adopt, relay=relay, carried=carried)
        publisher = stack.enter_context(
            publishers.opened(portal_conninfo, portal, registered or fresh)
        )
        sender = publisher.connection
        subscriber = addresses.for_course(
            sender, publisher.conninfo, portal_conninfo_for_course, before
        )
        system_identifier, oid = identities.place(database)
        course = replace(
            registered or fresh,
            conninfo=addresses.written_out(database, conninfo),
            portal_conninfo=without_secrets(subscriber),
            replication_role=parse(subscriber)["user"],
            course_system_identifier=system_identifier,
            course_database_oid=oid,
        )
        grants.require_own_roles(portal, database)
        subscription = subscriptions.find(database, course.replication_name)
        has_slot = slots.exists(sender, course.replication_name)
        checks.enforce(
            checks.portal_server(sender, adds=not has_slot, relay=publisher.relay), progress
        )
        checks.enforce(checks.course_server(database, adds=subscription is None), progress)
        checks.check_database(portal, database, course_id, course.replication_name)
        if registered is not None:
            require_followed(sender, database, course)
        work = Work(
            portal,
            publisher,
            course,
            conninfo,
            database,
            subscriber,
            progress,
            keep_owner=keep_owner,
        )
        steps.refuse(work, adopt=adopt)
        checks.enforce(undecided(portal) if adopt else (), progress)
        if not course.ready:
            handover.fence(work)
        if registered is None:
            replicas.require_no_code(work)
        if not course.ready:
            copies = sessions.of_copies(sender, subscriber, publisher.where, adds=True)
            checks.enforce((*copies, *sessions.of_workers(database, course)), progress)
        if course.adopts and not course.ready:
            grants.require_merging(database, work.subject)
        way, known = (system_identifier, subscriber), set() if reached is None else reached
        if (subscription is None or steps.leads_elsewhere(work)) and way not in known:
            checks.check_reachable(sender, database, course.replication_name, subscriber)
            known.add(way)
        yield work


@dataclass(frozen=True)
class Removed:
    """What :func:`remove` did, or would do.

    ``released`` says whether the course database was reached, ``members`` how many users are
    enrolled and fanned out no longer.
    """

    course: Course
    released: bool
    members: int


def remove(
    portal_conninfo: str,
    course_id: CourseId,
    *,
    conninfo: str | None = None,
    force: bool = False,
    dry_run: bool = False,
) -> Removed:
    """End a course's replication; its database keeps its data and becomes writable.

    :param conninfo: how to reach the course database, if not as registered.
    :param force: go on without the course database if it can't be reached.
    :param dry_run: look whether it can be done, and do nothing.
    :raises UnknownCourseError: if the course isn't registered.
    :raises DatabaseUnreachableError: if its database can't be reached and `force` isn't given.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
    ):
        course = registry.get(portal, course_id)
        grants.require_own_roles(portal)
        members = fan_out.count_members(portal, course_id)
        if streams := [each for each in registry.courses(portal) if each.relay == course_id]:
            raise ReplicationError(
                f"{course.subject} has {len(streams)} courses, which stream from it",
                "move them elsewhere, or remove them, first: see 'pysync relay list'",
            )
        with ExitStack() as stack:
            opened = publishers.opened(portal_conninfo, portal, course)
            try:
                publisher = stack.enter_context(opened).connection
            except DatabaseUnreachableError:
                if not force:
                    raise
                publisher = portal  # what its relay keeps for it goes with the relay
            released = replicas.release(
                publisher, course, conninfo or course.conninfo, force=force, dry_run=dry_run
            )
            if not dry_run:
                forget(portal, publisher, course)
        return Removed(course, released, members)


def forget(portal: Connection, publisher: Connection, course: Course) -> None:
    """Have the portal, and its relay, know nothing of a course; its database isn't touched.

    :param publisher: what it streams from.
    """
    slots.drop(publisher, course)
    publications.drop(publisher, course)
    fan_out.stop(portal, course.course_id)
    fan_out.clear(portal, course.course_id)
    if course.relay is not None:
        relays.leave(portal, course.relay, [course.course_id])
    registry.unregister(portal, course.course_id)
