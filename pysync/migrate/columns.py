"""Have columns of the portal's own carried, or carried no longer, while everything goes on.

Courses first, then relays, fan-out and publications, then values in batches: what a migration does
with a new column, and by the same functions. What is wanted is in the registry before anything is
done, so that the next run, or ``pysync migrate``, goes on where one was interrupted or couldn't
reach a course.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.errors import DatabaseUnreachableError, MigrationError, PysyncError
from pysync.migrate import carried, plan
from pysync.migrate.bringing import let_go, require, script
from pysync.migrate.carried import QUERIES, Carried, Removal, key
from pysync.migrate.lineage import COURSE, PORTAL, Lineage
from pysync.migrate.revisions import require_head
from pysync.migrate.run import migrate
from pysync.migrate.wanted import own_columns
from pysync.models.replicated import REPLICATED_TABLES, CarriedColumn
from pysync.replication import identities, registry
from pysync.replication.databases import connect_course
from pysync.replication.registry import Course
from pysync.types import Progress

Asked = Callable[[Connection], Sequence[CarriedColumn]]
"""Returns the columns that are asked for, once they are known to be there."""


@dataclass(frozen=True)
class Preview:
    """What would be done to a database, and its SQL."""

    subject: str
    what: str
    script: str


@dataclass(frozen=True)
class Listed:
    """A column of the portal's own.

    :param type: on the portal; ``None`` if it is gone there.
    :param state: ``yes``, ``no``, or ``leaving`` while its removal isn't complete.
    """

    table: str
    column: str
    type: str | None
    state: str
    scrub: str | None


def add(portal_conninfo: str, asked: Asked, progress: Progress) -> Iterator[plan.Done]:
    """Have columns of the portal's own carried; one that is is seen to in every database.

    :returns: what was done, database by database.
    :raises PysyncError: if one can't be carried; nothing is changed then.
    :raises MigrationError: if they are carried, but not everywhere yet.
    """
    with plan.exclusive(portal_conninfo) as portal:
        columns = asked(portal)
        check_courses(registry.subscribers(portal), columns, progress)
        with translated("portal"), portal.transaction():
            for column in columns:
                portal.execute(QUERIES["register_column"], asdict(column))
        yield from carry(portal_conninfo, portal, progress)


def remove(
    portal_conninfo: str, table: str, name: str, removal: Removal, progress: Progress
) -> Iterator[plan.Done]:
    """Have a column carried no longer; the portal's own stays, and unless told otherwise courses'.

    :raises PysyncError: if it isn't carried.
    :raises MigrationError: if some courses have it still.
    """
    with plan.exclusive(portal_conninfo) as portal:
        _require_known(portal, table, name)
        of = {"table_name": table, "column_name": name, "removal": removal}
        portal.execute(QUERIES["remove_column"], of)
        yield from carry(portal_conninfo, portal, progress)


def preview_of_add(portal_conninfo: str, asked: Asked, progress: Progress) -> Iterator[Preview]:
    """Say what :func:`add` would do."""
    with plan.exclusive(portal_conninfo, offline=True) as portal:
        columns = asked(portal)
        check_courses(registry.subscribers(portal), columns, progress)
        known, new = carried.registered(portal), set(map(key, columns))
        others = (each for each in known.columns if key(each) not in new)
        removed = {of: each for of, each in known.removed.items() if of not in new}
        yield from _preview(portal, Carried((*others, *columns), removed))


def preview_of_remove(
    portal_conninfo: str, table: str, name: str, removal: Removal
) -> Iterator[Preview]:
    """Say what :func:`remove` would do."""
    with plan.exclusive(portal_conninfo, offline=True) as portal:
        _require_known(portal, table, name)
        known = carried.registered(portal)
        others = tuple(each for each in known.columns if key(each) != (table, name))
        yield from _preview(portal, Carried(others, {**known.removed, (table, name): removal}))


def _preview(portal: Connection, wanted: Carried) -> Iterator[Preview]:
    for course in registry.subscribers(portal):
        try:
            with (
                closing(connect_course(course.conninfo)) as database,
                translated(course.subject),
            ):
                yield _previewed(database, COURSE, course.subject, wanted)
        except DatabaseUnreachableError as error:
            yield Preview(course.subject, f"later: {error.message}", "")
    yield _previewed(portal, PORTAL, "portal", wanted)


def _previewed(connection: Connection, lineage: Lineage, subject: str, wanted: Carried) -> Preview:
    statements, what = script(connection, lineage, subject, wanted)
    return Preview(subject, ", ".join(what) or "nothing to do", statements)


def listed(portal: Connection) -> list[Listed]:
    """Return the columns of the portal's own, and those that it had."""
    require_head(portal)
    known = carried.registered(portal)
    registered = {key(each): each for each in known.columns}
    found = []
    for table in REPLICATED_TABLES:
        there = [(table, name) for name in own_columns(portal, table)]
        types = carried.columns(portal, "public", there)
        gone = [of for of in (*registered, *known.removed) if of[0] == table and of not in types]
        for of in (*there, *gone):
            column = registered.get(of)
            state = "yes" if column else "leaving" if of in known.removed else "no"
            type_ = types[of].type if of in types else None
            found.append(Listed(*of, type_, state, column.scrub if column else None))
    return found


def carry(portal_conninfo: str, portal: Connection, progress: Progress) -> Iterator[plan.Done]:
    """Bring every database to what the registry says is carried.

    A course that can't be brought there is told of at the end, and keeps nobody else from it.

    :raises MigrationError: if there are such.
    """
    known = carried.registered(portal)
    failures: dict[str, str] = {}

    def each_course(
        work: Callable[[Course], Iterator[plan.Done]], *, relays_first: bool
    ) -> Iterator[plan.Done]:
        # What comes to a relay is streamed on.
        found = registry.subscribers(portal)
        for course in sorted(found, key=lambda each: each.is_relay != relays_first):
            if course.course_id in failures or course.relay in failures:
                failures.setdefault(course.course_id, f"{course.subject}: its relay hasn't it")
                continue
            try:
                yield from work(course)
            except PysyncError as error:
                failures[course.course_id] = f"{course.subject}: {error.message}"

    yield from each_course(
        lambda course: plan.migrate_course(portal_conninfo, portal, course, columns=known),
        relays_first=False,
    )
    let_go(portal)
    yield "portal", migrate(portal_conninfo, PORTAL, "portal")
    yield from each_course(
        lambda course: plan.publish(portal_conninfo, portal, course, progress), relays_first=True
    )
    if failures:
        raise MigrationError(
            f"not everywhere yet: {len(failures)} of {len(registry.subscribers(portal))} courses "
            f"couldn't be brought there: {'; '.join(failures.values())}",
            "run 'pysync migrate' once they can be reached",
        )
    carried.forget_removed(portal)


def _require_known(portal: Connection, table: str, name: str) -> None:
    require_head(portal)
    identities.require_claimed(portal)
    known = carried.registered(portal)
    if (table, name) not in (*map(key, known.columns), *known.removed):
        raise PysyncError(
            f"column '{name}' of {table} isn't carried",
            "run 'pysync column list' for those that are",
        )


def check_courses(
    courses: Sequence[Course], columns: Sequence[CarriedColumn], progress: Progress
) -> None:
    """Refuse columns that some course can't have, before anything is changed.

    :raises MigrationError: naming each with its cause.
    """
    refused = []
    courses = [each for each in courses if not each.is_relay]
    progress.step("checking courses", len(courses))
    for number, course in enumerate(courses, 1):
        try:
            with (
                closing(connect_course(course.conninfo)) as database,
                translated(course.subject),
            ):
                found = carried.columns(database, "course", list(map(key, columns)))
                ours = {key(each) for each in carried.here(database)}
                for column in columns:
                    of = key(column)
                    require(database, course.subject, column, found.get(of), is_ours=of in ours)
        except DatabaseUnreachableError as error:
            progress.warn(f"{course.subject} gets it later: {error.message}")
        except PysyncError as error:
            refused.append(error)
        progress.advance(number)
    if refused:
        raise MigrationError(
            "; ".join(each.message for each in refused) + "; nothing was changed",
            refused[0].remedy,
        )
