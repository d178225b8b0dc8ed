"""Which databases are migrated, and in which order."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypedDict, Unpack

from pysync.db.connections import Connection, connect
from pysync.db.places import require_one
from pysync.errors import MigrationError, PysyncError
from pysync.migrate import carried, databases, publications
from pysync.migrate.bringing import let_go
from pysync.migrate.carried import Carried
from pysync.migrate.databases import check_known
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.migrate.revisions import current_revision
from pysync.migrate.run import Migrated, migrate
from pysync.migrate.wanted import refresh
from pysync.replication import identities, publishers, registry, turns
from pysync.replication.publishers import Publisher
from pysync.replication.registry import Course
from pysync.texts import statement
from pysync.types import CourseId, Progress

Done = tuple[str, Migrated]
"""A database, or a publication, and what was done to it."""


class Options(TypedDict, total=False):
    """What :func:`pysync.migrate.migrate` is told of every database."""

    offline: bool
    reinstall: bool


def run_all(
    portal_conninfo: str,
    target: str = "head",
    *,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Iterator[Done]:
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
    with exclusive(portal_conninfo, offline=options.get("offline")) as portal:
        before = current_revision(portal, PORTAL)
        check_known(before, PORTAL, "portal")
        wanted = registry.subscribers(portal) if before else []
        if wanted and not options.get("offline"):
            identities.require_claimed(portal)
            refresh(portal)
        columns = carried.registered(portal) if before else None
        if target == "base" and wanted:
            raise MigrationError(
                f"portal has {len(wanted)} registered courses: without it they would stand alone",
                "run 'pysync course remove' for each of them first",
            )

        def each_course(
            work: Callable[[Course], Iterator[Done]], courses: list[Course], untouched: str
        ) -> Iterator[Done]:
            failures = []
            for course in courses:
                try:
                    yield from work(course)
                except PysyncError as error:
                    failures.append(f"{course.subject}: {error.message}")
            if failures:
                raise MigrationError(
                    f"{untouched}, since {len(failures)} of {len(wanted)} courses couldn't "
                    f"be migrated: {'; '.join(failures)}",
                    "mend them and run the command again",
                )

        yield from each_course(
            lambda course: migrate_course(
                portal_conninfo, portal, course, target, columns, **options
            ),
            wanted,
            "portal left as it is",
        )
        offline = options.get("offline")
        if wanted and not offline:
            let_go(portal)
        yield "portal", migrate(portal_conninfo, PORTAL, "portal", target=target, **options)
        yield from each_course(
            lambda course: publish(portal_conninfo, portal, course, progress, offline=offline),
            # What comes to a relay is streamed on.
            sorted(registry.subscribers(portal), key=lambda e: not e.is_relay) if wanted else [],
            "portal migrated, but not all is published",
        )
        if wanted and not offline:
            carried.forget_removed(portal)


def run_portal(portal_conninfo: str, target: str = "head", **options: Unpack[Options]) -> Done:
    """Migrate the portal alone."""
    with exclusive(portal_conninfo, offline=options.get("offline")):
        return "portal", migrate(portal_conninfo, PORTAL, "portal", target=target, **options)


def run_course(
    portal_conninfo: str, course_id: CourseId, target: str = "head", **options: Unpack[Options]
) -> Done:
    """Migrate one registered course's database alone.

    Its publication lets go what the course is going to drop; what is new waits for the portal.

    :raises UnknownCourseError: if the course isn't registered.
    """
    with exclusive(portal_conninfo, offline=options.get("offline")) as portal:
        registry.require(portal)
        check_known(current_revision(portal, PORTAL), PORTAL, "portal")
        course = registry.get(portal, course_id)
        if not options.get("offline"):
            identities.require_claimed(portal)
        columns = carried.registered(portal)
        *_, done = migrate_course(portal_conninfo, portal, course, target, columns, **options)
        return done


def migrate_course(
    portal_conninfo: str,
    portal: Connection,
    course: Course,
    target: str = "head",
    columns: Carried | None = None,
    **options: Unpack[Options],
) -> Iterator[Done]:
    """Migrate a registered course's database, once nothing is sent that it is going to drop."""
    course_id, offline = course.course_id, options.get("offline")
    with publishers.opened(portal_conninfo, portal, course) as publisher:
        if target == "head" and (change := publications.withdrawal(publisher.connection, course)):
            yield _made(portal, publisher, course, change, offline=offline)
        if not offline:
            publications.await_withdrawal(portal, publisher, course)
    done = migrate(
        course.conninfo,
        COURSE,
        course.subject,
        course=course_id,
        carried=columns,
        target=target,
        **options,
    )
    yield course_id, done


def publish(
    portal_conninfo: str,
    portal: Connection,
    course: Course,
    progress: Progress | None,
    *,
    offline: bool | None = False,
) -> Iterator[Done]:
    """Have a publication follow what its course is to be sent, and stream what that held before."""
    with publishers.opened(portal_conninfo, portal, course) as publisher:
        if change := publications.extension(publisher.connection, course):
            yield _made(portal, publisher, course, change, offline=offline)
    course = registry.get(portal, course.course_id)
    if course.unfilled and not offline:
        publications.fill(portal, course, progress)
        what = f"unfilled {', '.join(course.unfilled)}"
        yield f"publication of {course.course_id}", Migrated(what, "streamed")


def _made(
    portal: Connection,
    publisher: Publisher,
    course: Course,
    change: publications.Change,
    *,
    offline: bool | None,
) -> Done:
    script = None
    if offline:
        statements = "".join(
            f"{statement(each.as_string(portal))};\n\n"
            for each in (*change.statements, change.note)
        )
        script = f"begin;\n\n{statements}commit;\n"
    else:
        publications.make(portal, publisher, course, change)
    return f"publication of {course.course_id}", Migrated(change.why, "as declared", script)


@contextmanager
def exclusive(portal_conninfo: str, *, offline: bool | None = False) -> Iterator[Connection]:
    """Let one run at a time work on a portal and its courses; who only reads needs no turn.

    A portal's first migration has no courses, and takes turns with itself.
    """
    with closing(connect(portal_conninfo)) as portal:
        require_one(portal, portal_conninfo)
        if offline:
            yield portal
            return
        with turns.taken(portal, "", "portal", databases.TURN_TIMEOUT_SECONDS, done="migrated"):
            yield portal
