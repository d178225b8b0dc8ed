"""Add courses and remove them."""

from __future__ import annotations

import shlex
from contextlib import closing
from dataclasses import dataclass, replace

from pysync.db.connections import (
    Connection,
    connect,
    fetch_value,
    parse,
    without_secrets,
)
from pysync.diagnosis import checks
from pysync.errors import (
    ReplicationError,
    UnsuitableDatabaseError,
)
from pysync.lifecycle import first_copy, handover, replicas
from pysync.migrate import current_revision, migrate, require_head
from pysync.migrate.lineage import COURSE
from pysync.replication import fan_out, publications, registry, slots, subscriptions
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress, replication_name


@dataclass(frozen=True)
class Added:
    """What :func:`add` did."""

    course: Course
    users: int
    already_there: bool
    password_dropped: bool


def add(
    portal_conninfo: str,
    course_id: CourseId,
    conninfo: str,
    progress: Progress,
    *,
    portal_conninfo_for_course: str | None = None,
    adopt: bool = False,
    dry_run: bool = False,
) -> Added:
    """Make a database a course's database: check, migrate, backfill, subscribe, wait.

    Safe to run again after any interruption: what is done already is passed over.

    :param portal_conninfo: how we reach the portal.
    :param conninfo: how we reach the course database; its password isn't stored.
    :param portal_conninfo_for_course: how the course's server reaches the portal, if differently.
    :param adopt: the database holds users already: merge the portal's into them instead of making
        a first copy. See :func:`pysync.lifecycle.adopt.preview`.
    :param dry_run: stop after the checks, and return how many users would be there.
    :raises PysyncError: one of its kinds for everything that isn't as needed; checks come before
        changes, and a failure later leaves no slot behind.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
        closing(connect(conninfo)) as database,
    ):
        subscriber_conninfo = checks.portal_conninfo_for_course(portal, portal_conninfo_for_course)
        course, registered = prepare(portal, database, course_id, conninfo, subscriber_conninfo)
        adopts = course.adopts if registered else adopt
        course = replace(course, adopts=adopts)
        if adopt and registered and not adopts and not course.ready:
            raise ReplicationError(
                f"course '{course_id}' is being added without --adopt already",
                f"run 'pysync course add {shlex.quote(course_id)} …' without it, or remove the "
                "course first",
            )
        subscription = subscriptions.find(database, course.replication_name)
        check(portal, database, course, subscriber_conninfo, progress, registered=registered)
        password_dropped = without_secrets(conninfo) != conninfo and "password" in conninfo
        if dry_run:
            members = fan_out.count_members(portal, course_id)
            return Added(course, members, course.ready, password_dropped)

        progress.step("migrating the course database")
        migrate(conninfo, COURSE, f"course '{course_id}'", course=course_id, merging=course.adopts)
        # Another course may have been given the same database at the same moment, and got it first.
        checks.check_database(portal, database, course_id, course.replication_name)
        if course.adopts and not course.ready:
            replicas.close(database, course)
        elif subscription is None:
            replicas.make_vacant(database, course)
        publications.grant_reading(portal, course.replication_role)
        before = registry.find(portal, course_id)
        if registered:
            registry.reregister(portal, course)
        else:
            registry.register(portal, course)

        if not slots.exists(portal, course.replication_name):
            _backfill(portal, course, progress)
        publications.ensure(portal, course)
        if course.adopts and not course.ready:
            _merge(
                portal_conninfo,
                portal,
                database,
                conninfo,
                course,
                subscriber_conninfo=subscriber_conninfo,
                progress=progress,
            )
            already_there = False
        else:
            already_there = _subscribe(
                portal,
                database,
                course,
                subscriber_conninfo,
                progress,
                portal_changed=before is not None
                and before.portal_conninfo != course.portal_conninfo,
            )
            reached = replace(course, conninfo=conninfo)  # with its password
            first_copy.wait(portal_conninfo, portal, database, reached, progress)
            registry.record_ready(portal, course_id)
        users = int(fetch_value(database, "select count(*) from course.auth_user"))
        return Added(course, users, already_there, password_dropped)


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
        members = fan_out.count_members(portal, course_id)
        released = replicas.release(
            course, conninfo or course.conninfo, force=force, dry_run=dry_run
        )
        if not dry_run:
            slots.drop(portal, course)
            publications.drop(portal, course)
            fan_out.stop(portal, course_id)
            fan_out.clear(portal, course_id)
            registry.unregister(portal, course_id)
        return Removed(course, released, members)


def prepare(
    portal: Connection,
    database: Connection,
    course_id: CourseId,
    conninfo: str,
    subscriber_conninfo: str,
) -> tuple[Course, bool]:
    """Return a course as it is or would be registered, and whether it is."""
    found = registry.find(portal, course_id)
    name = replication_name(portal.info.dbname, course_id)
    system_identifier = fetch_value(
        database, "select system_identifier from pg_catalog.pg_control_system()"
    )
    role = parse(subscriber_conninfo)["user"]
    if found is None:
        return Course(
            course_id,
            name,
            without_secrets(conninfo),
            without_secrets(subscriber_conninfo),
            role,
            course_system_identifier=system_identifier,
        ), False
    checks.check_same_database(found, conninfo)
    if not found.fans_out:
        raise ReplicationError(
            f"course '{course_id}' is half removed",
            f"run 'pysync course remove {shlex.quote(course_id)} --yes' to finish that first",
        )
    return replace(
        found,
        conninfo=without_secrets(conninfo),
        portal_conninfo=without_secrets(subscriber_conninfo),
        replication_role=role,
        course_system_identifier=system_identifier,
    ), True


def check(
    portal: Connection,
    database: Connection,
    course: Course,
    subscriber_conninfo: str,
    progress: Progress,
    *,
    registered: bool,
) -> None:
    """Check everything that :func:`add` needs; nothing is changed.

    :raises PysyncError: one of its kinds for what isn't as needed.
    """
    require_head(portal)
    name = course.replication_name
    slot_is_there = slots.exists(portal, name)
    subscription_is_there = subscriptions.find(database, name) is not None
    checks.check_portal(portal, slot_is_there=slot_is_there)
    for warning in checks.check_course(database, subscription_is_there=subscription_is_there):
        progress.warn(warning)
    checks.check_database(portal, database, course.course_id, name)
    if subscription_is_there:
        if not registered:
            raise UnsuitableDatabaseError(
                f"database '{database.info.dbname}' is subscribed to another portal already: "
                f"subscription '{name}'",
                "drop that subscription, or give the course a database of its own",
            )
        return
    occupied = current_revision(database, COURSE) is not None
    if (
        course.ready
        and occupied
        and fetch_value(database, "select true from course.auth_user limit 1")
    ):
        raise subscriptions.lost("subscription", course)
    if occupied and not course.adopts and not registered:
        checks.check_empty(database, course.course_id)
    checks.check_reachable(portal, database, name, subscriber_conninfo)


def _merge(
    portal_conninfo: str,
    portal: Connection,
    database: Connection,
    conninfo: str,
    course: Course,
    *,
    subscriber_conninfo: str,
    progress: Progress,
) -> None:
    """Fill a database that holds users already."""
    handover.subscribe(portal, database, course, subscriber_conninfo)
    course = handover.record(portal, database, course)
    with handover.merged(portal_conninfo, portal, conninfo, course, progress) as merged:
        progress.step("catching up")
        handover.start(portal, database, course, merged.point)


def _backfill(portal: Connection, course: Course, progress: Progress) -> None:
    total = fan_out.count_members(portal, course.course_id)
    progress.step("copying members into the fan-out", total)
    done = 0

    def advance(members: int) -> None:
        nonlocal done
        done += members
        progress.advance(min(done, total))

    fan_out.backfill(portal, course.course_id, advance)


def _subscribe(
    portal: Connection,
    database: Connection,
    course: Course,
    subscriber_conninfo: str,
    progress: Progress,
    *,
    portal_changed: bool,
) -> bool:
    """Create what is missing of subscription and slot, and start; returns whether all was there."""
    name = course.replication_name
    subscription = subscriptions.find(database, name)
    has_slot = slots.exists(portal, name)
    if subscription is not None and not has_slot and course.ready:
        raise subscriptions.lost("slot", course)
    progress.step("subscribing")
    if subscription is None:
        # A slot without its subscription is of no use: its position may be past what is needed.
        slots.drop(portal, course)
        has_slot = False
        subscription = subscriptions.create(database, course, subscriber_conninfo)
    elif portal_changed:
        subscriptions.reconnect(database, course, subscriber_conninfo)
    registry.record_subscription(portal, course.course_id, subscription.oid)
    if has_slot and subscription.enabled:
        return True
    try:
        if not has_slot:
            slots.create(portal, name)
        subscriptions.enable(database, course)
    except BaseException:
        if not portal.closed:
            slots.drop(portal, registry.get(portal, course.course_id))
        raise
    return False
