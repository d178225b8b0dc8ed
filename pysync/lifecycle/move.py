"""Move a course to another database: a copy of the old one, or an empty one."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from pysync.db import addresses
from pysync.db.connections import (
    Connection,
    parse,
    without_secrets,
)
from pysync.db.errors import translated
from pysync.diagnosis import checks, grants
from pysync.errors import (
    ChangesMissingError,
    DatabaseUnreachableError,
    ForeignDatabaseError,
    UnsuitableDatabaseError,
    WaitTimeoutError,
)
from pysync.lifecycle import handover, replicas
from pysync.lifecycle.work import Work
from pysync.migrate import migrate, require_head
from pysync.migrate.carried import Carried
from pysync.migrate.lineage import COURSE
from pysync.replication import (
    identities,
    marks,
    merge,
    publications,
    publishers,
    registry,
    settings,
    slots,
    snapshots,
    subscriptions,
)
from pysync.replication.databases import connect_course, open_course
from pysync.replication.merge import Outcome
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress

ARRIVAL_SECONDS: Final = 10
"""How long a mark may take to arrive in a database in which a course seems to stream."""


def move(
    portal_conninfo: str,
    course_id: CourseId,
    conninfo: str,
    progress: Progress,
    *,
    fresh: bool = False,
    force: bool = False,
    portal_conninfo_for_course: str | None = None,
    dry_run: bool = False,
) -> Outcome | None:
    """Have another database take over a course; the old one is given back, writable.

    Until the new database holds everything, the course is registered with the old one. We may be
    interrupted anywhere and run again.

    :param conninfo: how we reach the new database; its password isn't stored.
    :param fresh: the new database is empty; else it must be a copy of the old one.
    :param force: go on though the old database can't be reached. It must never come back with its
        subscription enabled: it would take the changes meant for the new one.
    :param portal_conninfo_for_course: how the new server reaches the portal; by default as the old.
    :param dry_run: only check, and count what would be merged.
    :returns: what was merged; ``None`` if the course is in that database already, or streams on in
        it, as after ``pg_upgrade`` of its server.
    :raises PysyncError: one of its kinds for everything that isn't as needed.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
        closing(connect_course(conninfo)) as database,
    ):
        require_head(portal)
        grants.require_own_roles(portal, database)
        course = registry.get_ready(portal, course_id)
        if identities.place(database) == course.place and handover.is_settled(database, course):
            return None
        with (
            publishers.opened(portal_conninfo, portal, course) as publisher,
            _old_database(publisher.connection, course, database, force=force) as old,
        ):
            _check_target(portal, database, course, fresh=fresh)
            found = subscriptions.connection_string(old or database, course.replication_name)
            subscriber = addresses.for_course(
                publisher.connection,
                publisher.conninfo,
                portal_conninfo_for_course,
                found or course.portal_conninfo,
            )
            work = Work(portal, publisher, course, conninfo, database, subscriber, progress)
            if not dry_run:
                stays = old is None and portal_conninfo_for_course is None and _streams(work)
                if not stays:
                    return _move(work, old)
                _stay(work)
                return None
            with translated(work.subject):
                queries = snapshots.fan_out(course)
                outcome = merge.preview(
                    publisher.conninfo,
                    database,
                    lambda _: queries,
                    progress,
                    many=course.is_relay,
                    found={} if fresh else None,
                )
            return replace(outcome, portal_conninfo=without_secrets(subscriber))


@contextmanager
def _old_database(
    publisher: Connection, course: Course, database: Connection, *, force: bool
) -> Iterator[Connection | None]:
    """Open the database a course is to leave; ``None`` if it has left, or is given up."""
    if identities.place(database) == course.place:
        yield None
        return
    try:
        old = open_course(publisher, course)
    except ForeignDatabaseError:
        yield None  # it isn't ours to stop or to give back
        return
    except DatabaseUnreachableError as error:
        if not force:
            raise DatabaseUnreachableError(
                f"{course.subject} can't leave its old database: {error.message}",
                "bring it back, or, if it is gone for ever, run the command again with --force",
            ) from None
        yield None
        return
    with closing(old):
        # Where it was may be another one now, even the new one.
        yield old if identities.place(old) == course.place else None


def _streams(work: Work) -> bool:
    """Return whether all that the portal sends arrives in a database that isn't the registered one.

    So it does after ``pg_upgrade``, which takes the subscription along from 17 on. A copy whose
    subscription somebody has enabled gets a slot's changes, too, but lacks some: marks tell.
    """
    course, database = work.course, work.database
    if identities.owner_of(database) != course.course_id or not handover.is_settled(
        database, course
    ):
        return False
    if not slots.is_in_use(work.publisher.connection, course.replication_name):
        return False
    try:
        marks.require_confirmed(work.portal, database, course.course_id)
        marks.fence(work.portal, database, course.course_id, ARRIVAL_SECONDS)
    except (ChangesMissingError, WaitTimeoutError):
        return False
    return True


def _stay(work: Work) -> None:
    """Enter the database in which a course streams on as its own."""
    identities.take(work.portal, work.database)
    registry.reregister(work.portal, _entered(work))
    handover.record(work)


def _entered(work: Work) -> Course:
    """Return a course as it is registered once it is in its new database."""
    system_identifier, oid = identities.place(work.database)
    return replace(
        work.course,
        conninfo=addresses.written_out(work.database, work.conninfo),
        portal_conninfo=without_secrets(work.subscriber),
        replication_role=parse(work.subscriber)["user"],
        course_system_identifier=system_identifier,
        course_database_oid=oid,
    )


def _check_target(portal: Connection, database: Connection, course: Course, *, fresh: bool) -> None:
    checks.check_version(database, "course")
    checks.check_database(portal, database, course.course_id, course.replication_name)
    owner = identities.owner_of(database)
    if owner is None and not fresh:
        raise UnsuitableDatabaseError(
            f"database '{database.info.dbname}' isn't a copy of the database of course "
            f"'{course.course_id}'",
            "restore a dump there first, or give --fresh to fill an empty database",
        )


def _move(work: Work, old: Connection | None) -> Outcome:
    portal, database, course, progress = work.portal, work.database, work.course, work.progress
    arrived = identities.place(database) == course.place
    chosen = settings.read(old or database, course.replication_name)
    sender = work.publisher.connection
    progress.step(f"checking the way back to {work.publisher.name}")
    grants.require_merging(database, work.subject)
    if not arrived:
        checks.check_reachable(sender, database, course.replication_name, work.subscriber)
    checks.enforce(checks.course_server(database, adds=not arrived), progress)
    if not arrived:
        # A dump brings a subscription with it.
        subscriptions.drop(database, course)
    progress.step("migrating the new database")
    carried = Carried(course.carried)
    migrate(work.conninfo, COURSE, work.subject, course=course.course_id, carried=carried)
    replicas.adjust(database, course)
    identities.take(portal, database)
    new = _entered(work)
    publications.grant_reading(sender, new.replication_role)
    publications.ensure(sender, course)
    before = subscriptions.find(old, course.replication_name) if old else None
    try:
        if old is not None and before is not None:
            progress.step("stopping the old subscription")
            subscriptions.stop(old, course)
        handover.fence(work)
        handover.subscribe(work, chosen)
        with handover.merged(work) as differences:
            before = None
            if old is not None:
                replicas.release(sender, course, course.conninfo, force=False)
            registry.reregister(portal, new)
            handover.start(handover.record(work))
            return Outcome(differences, portal_conninfo=new.portal_conninfo)
    except BaseException:
        # Nothing was changed for the old database: it goes on, if it streamed.
        if old is not None and before is not None and before.enabled:
            _go_on(work, old)
        raise


def _go_on(work: Work, old: Connection) -> None:
    name = work.course.replication_name
    sender = work.publisher.connection
    if not (old.closed or sender.closed) and slots.is_usable(sender, name):
        subscriptions.enable(old, work.course)
