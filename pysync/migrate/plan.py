"""Which databases are migrated, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Final

from psycopg import errors

from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection, connect
from pysync.errors import LockedError, MigrationError, PysyncError
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.migrate.revisions import current_revision
from pysync.migrate.run import TURN_TIMEOUT_SECONDS, Migrated, migrate
from pysync.replication import registry
from pysync.replication.registry import Course
from pysync.types import CourseId

_RUN_LOCK: Final = 0x7079_7379_6E63_7275  # "pysyncru": a whole run, held on the portal


def run_all(
    portal_conninfo: str, target: str = "head", *, offline: bool = False, reinstall: bool = False
) -> Iterator[tuple[str, Migrated]]:
    """Migrate every registered course database and the portal.

    Courses are upgraded before the portal, so that running replication never meets a column that a
    course doesn't have; downgrades go the other way round. If a course fails, the other courses are
    still migrated, and the portal is left as it is.

    :param target: ``head``, or ``base`` while no courses are registered.
    :returns: what was done, database by database.
    :raises MigrationError: if courses failed, naming each with its cause.
    """
    if target not in ("head", "base"):
        raise MigrationError(
            f"revision '{target}' belongs to one lineage only",
            "name the databases: 'pysync migrate portal --to …' or 'migrate course ID --to …'",
        )
    with exclusive(portal_conninfo) as portal:
        migrated_before = current_revision(portal, PORTAL) is not None
        wanted = registry.courses(portal) if migrated_before else []
        if target == "base" and wanted:
            raise MigrationError(
                f"portal has {len(wanted)} registered courses: without it they would stand alone",
                "run 'pysync course remove' for each of them first",
            )
        failures = []
        for course in wanted:
            try:
                yield (
                    course.course_id,
                    _migrate_course(course, target, offline=offline, reinstall=reinstall),
                )
            except PysyncError as error:
                failures.append(f"course '{course.course_id}': {error.message}")
        if failures:
            raise MigrationError(
                f"portal left as it is, since {len(failures)} of {len(wanted)} courses couldn't "
                f"be migrated: {'; '.join(failures)}",
                "mend them and run the command again",
            )
        yield (
            "portal",
            migrate(
                portal_conninfo,
                PORTAL,
                "portal",
                target=target,
                offline=offline,
                reinstall=reinstall,
            ),
        )


def run_portal(
    portal_conninfo: str, target: str = "head", *, offline: bool = False, reinstall: bool = False
) -> tuple[str, Migrated]:
    """Migrate the portal alone."""
    with exclusive(portal_conninfo):
        return "portal", migrate(
            portal_conninfo, PORTAL, "portal", target=target, offline=offline, reinstall=reinstall
        )


def run_course(
    portal_conninfo: str,
    course_id: CourseId,
    target: str = "head",
    *,
    offline: bool = False,
    reinstall: bool = False,
) -> tuple[str, Migrated]:
    """Migrate one registered course's database alone.

    :raises UnknownCourseError: if the course isn't registered.
    """
    with exclusive(portal_conninfo) as portal:
        registry.require(portal)
        course = registry.get(portal, course_id)
        return course_id, _migrate_course(course, target, offline=offline, reinstall=reinstall)


def _migrate_course(course: Course, target: str, *, offline: bool, reinstall: bool) -> Migrated:
    return migrate(
        course.conninfo,
        COURSE,
        f"course '{course.course_id}'",
        course=course.course_id,
        target=target,
        offline=offline,
        reinstall=reinstall,
    )


@contextmanager
def exclusive(portal_conninfo: str) -> Iterator[Connection]:
    """Let one run at a time work on a portal and its courses."""
    with closing(connect(portal_conninfo)) as portal:
        set_lock_timeout = "select pg_catalog.set_config('lock_timeout', %s, false)"
        portal.execute(set_lock_timeout, (f"{TURN_TIMEOUT_SECONDS}s",))
        try:
            portal.execute("select pg_catalog.pg_advisory_lock(%s)", (_RUN_LOCK,))
        except errors.LockNotAvailable:
            raise LockedError(
                "portal is being migrated by another process",
                "wait until it has finished and run the command again",
            ) from None
        portal.execute(set_lock_timeout, (f"{LOCK_TIMEOUT_SECONDS}s",))
        yield portal
