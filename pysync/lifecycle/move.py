"""Move a course to another database: a copy of the old one, or an empty one."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from pysync.db.connections import (
    Connection,
    describe,
    parse,
    same_database,
    without_secrets,
)
from pysync.db.errors import translated
from pysync.diagnosis import checks, grants
from pysync.errors import (
    DatabaseUnreachableError,
    ForeignDatabaseError,
    UnsuitableDatabaseError,
)
from pysync.lifecycle import handover, replicas
from pysync.lifecycle.work import Work
from pysync.migrate import migrate, require_head
from pysync.migrate.lineage import COURSE
from pysync.replication import (
    identities,
    merge,
    publications,
    registry,
    settings,
    snapshots,
    subscriptions,
)
from pysync.replication.databases import connect_course, open_course
from pysync.replication.merge import Outcome
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress


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
) -> Outcome:
    """Have another database take over a course; the old one is given back, writable.

    Until the new database holds everything, the course is registered with the old one. We may be
    interrupted anywhere and run again.

    :param conninfo: how we reach the new database; its password isn't stored.
    :param fresh: the new database is empty; else it must be a copy of the old one.
    :param force: go on though the old database can't be reached. It must never come back with its
        subscription enabled: it would take the changes meant for the new one.
    :param portal_conninfo_for_course: how the new server reaches the portal; by default as the old.
    :param dry_run: only check, and count what would be merged.
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
        with _old_database(portal, course, conninfo, force=force) as old:
            _check_target(portal, database, course, old, fresh=fresh)
            found = subscriptions.connection_string(old or database, course.replication_name)
            subscriber = checks.portal_conninfo_for_course(
                portal, portal_conninfo_for_course, found or course.portal_conninfo
            )
            work = Work(portal_conninfo, portal, course, conninfo, database, subscriber, progress)
            if not dry_run:
                return _move(work, old)
            with translated(work.subject):
                queries = snapshots.fan_out(course_id)
                return merge.preview(
                    portal_conninfo,
                    database,
                    lambda _: queries,
                    progress,
                    found={} if fresh else None,
                )


@contextmanager
def _old_database(
    portal: Connection, course: Course, conninfo: str, *, force: bool
) -> Iterator[Connection | None]:
    """Open the database a course is to leave; ``None`` if it has left, or is given up."""
    if same_database(course.conninfo, conninfo):
        yield None
        return
    try:
        old = open_course(portal, course)
    except ForeignDatabaseError:
        yield None  # it isn't ours to stop or to give back
        return
    except DatabaseUnreachableError as error:
        if not force:
            raise DatabaseUnreachableError(
                f"course '{course.course_id}' can't leave its old database: {error.message}",
                "bring it back, or, if it is gone for ever, run the command again with --force",
            ) from None
        yield None
        return
    with closing(old):
        yield old


def _check_target(
    portal: Connection, database: Connection, course: Course, old: Connection | None, *, fresh: bool
) -> None:
    identity = "select system_identifier, current_database() from pg_catalog.pg_control_system()"
    if old is not None and (
        old.execute(identity).fetchone() == database.execute(identity).fetchone()
    ):
        raise UnsuitableDatabaseError(
            f"course '{course.course_id}' is in that database already: it is the one at "
            f"'{describe(course.conninfo)}'",
            "name another database",
        )
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
    arrived = same_database(course.conninfo, work.conninfo)
    chosen = settings.read(old or database, course.replication_name)
    progress.step("checking the way back to the portal")
    if not arrived:
        # A dump brings a subscription with it.
        subscriptions.drop(database, course)
        checks.check_reachable(portal, database, course.replication_name, work.subscriber)
    checks.enforce(checks.course_server(database, adds=not arrived), progress)
    progress.step("migrating the new database")
    migrate(work.conninfo, COURSE, work.subject, course=course.course_id)
    replicas.adjust(database, course)
    identities.take(portal, database)
    new = replace(
        course,
        conninfo=without_secrets(work.conninfo),
        portal_conninfo=without_secrets(work.subscriber),
        replication_role=parse(work.subscriber)["user"],
        course_system_identifier=replicas.system_identifier(database),
    )
    publications.grant_reading(portal, new.replication_role)
    publications.ensure(portal, course)
    if old is not None and subscriptions.find(old, course.replication_name) is not None:
        progress.step("stopping the old subscription")
        subscriptions.stop(old, course)
    handover.subscribe(work, chosen)
    with handover.merged(work) as differences:
        if old is not None:
            replicas.release(portal, course, course.conninfo, force=False)
        registry.reregister(portal, new)
        handover.start(handover.record(work))
        return Outcome(differences)
