"""The states of a course that is added or removed, and the step that leads on from each.

A state is what is there: nothing records it, so nothing can be wrong about it, and whoever was
interrupted goes on from where the course is. What leads from ``READY`` to ``LEAVING`` and out of it
is :func:`pysync.lifecycle.courses.remove`.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from pysync.db.connections import parse
from pysync.diagnosis import checks
from pysync.diagnosis.references import reference_findings
from pysync.errors import ReplicationError, UnsuitableDatabaseError
from pysync.lifecycle import first_copy, handover, replicas
from pysync.lifecycle.work import Work
from pysync.migrate import current_revision, migrate
from pysync.migrate.carried import Carried
from pysync.migrate.lineage import COURSE
from pysync.replication import (
    failover,
    fan_out,
    identities,
    publications,
    registry,
    relays,
    slots,
    subscriptions,
    witness,
)
from pysync.texts import word

Step = Callable[[Work], None]


class State(IntEnum):
    """How far a course is, in the order in which it gets there."""

    NEW = 0
    """It isn't registered."""
    REGISTERED = 1
    """Triggers copy its members' changes; those who were there before may be missing."""
    FANNED_OUT = 2
    """The fan-out has all it must hold, and its publication."""
    ATTACHED = 3
    """It has a slot, and a subscription that is stopped."""
    SUBSCRIBED = 4
    """Its subscription runs, and copies the tables or has copied them."""
    READY = 5
    """Its database has been complete, and streams unless something is wrong."""
    LEAVING = 6
    """Its removal has begun: triggers copy nothing any more."""


def state(work: Work) -> State:
    """Return how far a course is."""
    registered = registry.find(work.portal, work.course.course_id)
    if registered is None:
        return State.NEW
    if not registered.fans_out:
        return State.LEAVING
    name = registered.replication_name
    if not publications.exists(work.publisher.connection, name):
        return State.REGISTERED
    subscription = subscriptions.find(work.database, name)
    if subscription is None or not _has_slot(work):
        return State.FANNED_OUT
    if not subscription.enabled:
        return State.ATTACHED
    return State.READY if registered.ready else State.SUBSCRIBED


def refuse(work: Work, *, adopt: bool) -> None:
    """Refuse to go on from states from which there is another way, and say which.

    :raises ReplicationError: if the course is being removed or added otherwise, or lost changes.
    :raises UnsuitableDatabaseError: if its database is another portal's, or isn't empty.
    """
    at, course, database = state(work), work.course, work.database
    subscription = subscriptions.find(database, course.replication_name)
    argument = word(course.course_id)
    if at is State.LEAVING:
        raise ReplicationError(
            f"{work.subject} is half removed",
            f"run 'pysync course remove --yes {argument}' to finish that first",
        )
    if at is not State.NEW and adopt and not course.adopts and not course.ready:
        raise ReplicationError(
            f"{work.subject} is being added without --adopt already",
            f"run 'pysync course add {argument} …' without it, or remove the course first",
        )
    if at is not State.NEW and work.keep_owner and not replicas.keeps_owner(database):
        raise ReplicationError(
            f"{work.subject} was added without --keep-owner already: its tables are pysync's",
            f"run 'pysync course remove {argument}' first, and add it with --adopt",
        )
    if at is State.NEW and subscription is not None:
        raise UnsuitableDatabaseError(
            f"database '{database.info.dbname}' is subscribed to another portal already: "
            f"subscription '{course.replication_name}'",
            "drop that subscription, or give the course a database of its own",
        )
    is_migrated = current_revision(database, COURSE) is not None
    if at is State.NEW and is_migrated and not course.adopts:
        checks.check_empty(database, course.course_id)
    if course.ready and subscription is None and is_migrated and checks.has_users(database):
        raise subscriptions.lost("subscription", course)
    if course.ready and subscription and not _has_slot(work):
        raise subscriptions.lost("slot", course)


def _has_slot(work: Work) -> bool:
    """Return whether there is a slot that has all the WAL that it is to have."""
    publisher, name = work.publisher.connection, work.course.replication_name
    return slots.exists(publisher, name) and slots.is_usable(publisher, name)


def leads_elsewhere(work: Work) -> bool:
    """Return whether the course's server is to reach the portal in another way than until now."""
    before = registry.find(work.portal, work.course.course_id)
    if before is None or before.portal_conninfo != work.course.portal_conninfo:
        return True
    # Whether a password is another one than before can't be told: it isn't ours to read.
    return "password" in parse(work.subscriber)


def attach(work: Work) -> State:
    """Bring a course to where it has only to be started; returns where it was."""
    begin = state(work)
    _prepare(work, begin)
    _go(work, begin, State.ATTACHED)
    return begin


def finish(work: Work) -> None:
    """Start a course that is attached, and wait until it is ready.

    :raises UnknownCourseError: if it was removed meanwhile.
    """
    begin = state(work)
    if begin in (State.NEW, State.LEAVING):
        raise registry.unknown(work.course.course_id)
    _go(work, begin, State.READY)


def has_nothing_to_copy(work: Work) -> bool:
    """Return whether a course that is attached needs no first copy."""
    found = subscriptions.find(work.database, work.course.replication_name)
    return found is not None and found.copied and not found.enabled


def _go(work: Work, begin: State, end: State) -> None:
    for at, step in STEPS.items():
        # One that is ready is only looked at once more.
        if min(begin, State.SUBSCRIBED) <= at < end:
            step(work)


def _prepare(work: Work, at: State) -> None:
    """See to what a course needs in any state: the revision, rights, and how it is reached."""
    portal, database, course = work.portal, work.database, work.course
    work.progress.step("migrating the course database")
    migrate(
        work.conninfo,
        COURSE,
        work.subject,
        course=course.course_id,
        merging=course.adopts,
        keep_owner=work.keep_owner,
        carried=Carried(course.carried),
    )
    # Another course may have been given the same database at the same moment, and got it first.
    checks.check_database(portal, database, course.course_id, course.replication_name)
    identities.take(portal, database)
    publications.grant_reading(work.publisher.connection, course.replication_role)
    checks.enforce(reference_findings(database), work.progress)
    if at is State.NEW:
        # One that was removed has given its tables back.
        replicas.take_over(database, course, keep_owner=work.keep_owner)
        return
    handover.readdress(work, registry.get(portal, course.course_id))
    registry.reregister(portal, course)


def _register(work: Work) -> None:
    course = work.course
    if course.relay is not None:
        # Before there is any row of it: so all of them come to the relay.
        relays.carry(work.portal, course.relay, [course.course_id], filled=False)
    registry.register(work.portal, course)


def _fan_out(work: Work) -> None:
    course_id = work.course.course_id
    total = done = 0

    def begin(members: int) -> None:
        nonlocal total
        total = members
        work.progress.step("copying members into the fan-out", total)

    def advance(members: int) -> None:
        nonlocal done
        done += members
        work.progress.advance(min(done, total))

    fan_out.backfill(work.portal, course_id, advance, begin)
    publications.ensure(work.publisher.connection, work.course)


def _subscribe(work: Work) -> None:
    if work.course.adopts and not work.course.ready:
        _merge(work)
        return
    first_copy.begin(work)


def _merge(work: Work) -> None:
    """Fill a database that holds users already."""
    replicas.adjust(work.database, work.course)
    handover.subscribe(work)
    work = handover.record(work)
    with handover.merged(work):
        handover.start(work)


def _follow(work: Work) -> None:
    first_copy.wait(work)
    # One that was added before its servers had that.
    failover.ensure(work.publisher, work.database, work.course)
    with work.portal.transaction():
        if not work.course.ready:
            seen = witness.read(work.database, work.course)
            witness.record_whole(work.portal, work.course.course_id, seen)
        registry.record_ready(work.portal, work.course.course_id)


STEPS: Final[dict[State, Step]] = {
    State.NEW: _register,
    State.REGISTERED: _fan_out,
    State.FANNED_OUT: _subscribe,
    State.ATTACHED: first_copy.start,
    State.SUBSCRIBED: _follow,
}
"""What leads from each state to the next."""
