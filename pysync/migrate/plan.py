"""Which databases are migrated, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from psycopg import errors

from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection, connect
from pysync.errors import LockedError, MigrationError, PysyncError
from pysync.migrate import publications
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.migrate.revisions import current_revision
from pysync.migrate.run import TURN_TIMEOUT_SECONDS, Migrated, check_known, migrate
from pysync.replication import registry
from pysync.replication.registry import Course
from pysync.types import CourseId, Progress

_RUN_LOCK: Final = 0x7079_7379_6E63_7275  # "pysyncru": a whole run, held on the portal


def run_all(
    portal_conninfo: str,
    target: str = "head",
    *,
    offline: bool = False,
    reinstall: bool = False,
    progress: Progress | None = None,
) -> Iterator[tuple[str, Migrated]]:
    """Migrate every registered course database and the portal, and have publications follow.

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
        before = current_revision(portal, PORTAL)
        check_known(before, PORTAL, "portal")
        wanted = registry.courses(portal) if before else []
        if target == "base" and wanted:
            raise MigrationError(
                f"portal has {len(wanted)} registered courses: without it they would stand alone",
                "run 'pysync course remove' for each of them first",
            )

        def each_course(
            work: Callable[[Course], Iterator[tuple[str, Migrated]]], untouched: str
        ) -> Iterator[tuple[str, Migrated]]:
            failures = []
            for course in wanted:
                try:
                    yield from work(course)
                except PysyncError as error:
                    failures.append(f"course '{course.course_id}': {error.message}")
            if failures:
                raise MigrationError(
                    f"{untouched}, since {len(failures)} of {len(wanted)} courses couldn't "
                    f"be migrated: {'; '.join(failures)}",
                    "mend them and run the command again",
                )

        yield from each_course(
            lambda course: _migrate_course(
                portal, course, target, offline=offline, reinstall=reinstall
            ),
            "portal left as it is",
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
        yield from each_course(
            lambda course: _publish(portal, course, progress, offline=offline),
            "portal migrated, but not all is published",
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

    Its publication lets go what the course is going to drop; what is new waits for the portal.

    :raises UnknownCourseError: if the course isn't registered.
    """
    with exclusive(portal_conninfo) as portal:
        registry.require(portal)
        check_known(current_revision(portal, PORTAL), PORTAL, "portal")
        course = registry.get(portal, course_id)
        *_, done = _migrate_course(portal, course, target, offline=offline, reinstall=reinstall)
        return done


def _migrate_course(
    portal: Connection, course: Course, target: str, *, offline: bool, reinstall: bool
) -> Iterator[tuple[str, Migrated]]:
    change = publications.withdrawal(portal, course) if target == "head" else None
    if change is not None:
        yield _made(portal, course, change, offline=offline)
    if not offline:
        publications.await_withdrawal(portal, course)
    yield (
        course.course_id,
        migrate(
            course.conninfo,
            COURSE,
            f"course '{course.course_id}'",
            course=course.course_id,
            target=target,
            offline=offline,
            reinstall=reinstall,
        ),
    )


def _publish(
    portal: Connection, course: Course, progress: Progress | None, *, offline: bool
) -> Iterator[tuple[str, Migrated]]:
    change = publications.extension(portal, course)
    if change is not None:
        yield _made(portal, course, change, offline=offline)
    course = registry.get(portal, course.course_id)
    if course.unfilled and not offline:
        publications.fill(portal, course, progress)
        what = f"unfilled {', '.join(course.unfilled)}"
        yield f"publication of {course.course_id}", Migrated(what, "streamed")


def _made(
    portal: Connection, course: Course, change: publications.Change, *, offline: bool
) -> tuple[str, Migrated]:
    script = None
    if offline:
        statements = "".join(f"{each.as_string(portal)};\n\n" for each in change.statements)
        script = f"BEGIN;\n\n{statements}COMMIT;\n"
    else:
        publications.make(portal, course, change)
    return f"publication of {course.course_id}", Migrated(change.why, "as declared", script)


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
