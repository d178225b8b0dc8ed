"""Have publications follow the models, and stream what new columns hold.

Columns that are declared no longer leave a publication before anything drops them; new ones enter
it once both sides have them. Rows that came by values in between, unseen by the course, are then
written once more. What is still to be done is noted in the registry, in the transaction that makes
it necessary, so that the next run goes on where one was interrupted.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

from psycopg import sql

from pysync.db import holders
from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.db.holders import waiting
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of
from pysync.db.transactions import PAUSE_SECONDS, TRIES, patiently
from pysync.errors import ChangesMissingError, LockedError
from pysync.findings import ON_PORTAL
from pysync.models.replicated import ReplicatedColumn, ReplicatedTable
from pysync.replication import fan_out, marks, publications, registry, slots
from pysync.replication.databases import connect_course
from pysync.replication.publishers import Publisher
from pysync.replication.registry import Course
from pysync.types import Progress, Unwatched

ARRIVAL_SECONDS: Final = 60
"""How long a course may take to receive what was sent with columns that are withdrawn now."""

BATCH: Final = 2000
"""Users whose rows are written at a time."""

QUERIES = load(__file__)

Tables = Mapping[str, Sequence[str]]
"""Columns by table."""


@dataclass(frozen=True)
class Change:
    """What has to be done to a publication: why, the statements, and what notes it on the portal.

    On the portal that is one transaction. A relay's publication is altered once it is noted.
    """

    why: str
    statements: list[sql.Composed]
    note: sql.Composed


def withdrawal(publisher: Connection, course: Course) -> Change | None:
    """Return how what is declared no longer leaves a course's publication."""
    found, declared = _found(publisher, course), _declared(course)
    kept = {
        table: [name for name in names if name in declared[table]]
        for table, names in found.items()
        if table in declared
    }
    left = _beyond(found, kept)
    return _change(course, kept, left, "publishes", sql.SQL("withdrawn = true")) if left else None


def extension(publisher: Connection, course: Course) -> Change | None:
    """Return how what is declared enters a course's publication."""
    found, declared = _found(publisher, course), _declared(course)
    new = _beyond(declared, found)
    if not found or not new:
        return None
    unfilled = []
    for table in dict.fromkeys(table for table, _ in new):
        names = [name for of, name in new if of == table]
        # What a course has there already was never compared with the portal's.
        wanted = names if _is_blank(course, table, names) else declared[table]
        unfilled += [f"{table}.{name}" for name in wanted]
    note = sql.SQL("unfilled = array(select unnest(unfilled) union select unnest({}::text[]))")
    return _change(course, declared, new, "lacks", note.format(sql.Literal(unfilled)))


def make(portal: Connection, publisher: Publisher, course: Course, change: Change) -> None:
    """Make a change of a publication, once no writer's transaction spans it.

    :raises LockedError: if one doesn't end in time; nothing is changed.
    """
    sender = publisher.connection

    def run() -> None:
        with portal.transaction(), sender.transaction():
            for statement in change.statements:
                sender.execute(statement)
            portal.execute(change.note)

    with (
        registry.locked(portal, course.course_id),
        waiting(sender, course.subject, publisher.where),
    ):
        if publisher.relay is not None:
            portal.execute(change.note)
        patiently(run)


def await_withdrawal(portal: Connection, publisher: Publisher, course: Course) -> None:
    """Wait until a course has received all that was sent with columns that are withdrawn now.

    Were they dropped there before, its apply worker would stop at these rows for good.

    :raises WaitTimeoutError: if it doesn't in time.
    """
    if not registry.get(portal, course.course_id).withdrawn:
        return
    if slots.exists(publisher.connection, course.replication_name):
        mark = marks.mark(portal, course.course_id)
        with (
            closing(connect_course(course.conninfo)) as database,
            suppress(ChangesMissingError),  # what it lost doesn't come any more
        ):
            marks.wait_for(database, course.course_id, mark, ARRIVAL_SECONDS)
    forget = "update pysync.course set withdrawn = false where course_id = %s"
    portal.execute(forget, (course.course_id,))


def fill(portal: Connection, course: Course, progress: Progress | None) -> None:
    """Stream what new columns held before they were published.

    Rows are written as they are, those first that lag behind the portal's own tables. Nobody's row
    is waited for while others are held: an application could end in a deadlock.

    :raises LockedError: if somebody doesn't let go of rows; the next run goes on.
    """
    course_id = course.course_id
    with registry.locked(portal, course_id), translated(_subject(course)):
        _follow(portal, course, progress or Unwatched())
        users = portal.execute(QUERIES["users_of_course"], {"course_id": course_id}).fetchall()
        for table in course.replicated:
            names = [name for name in table.columns if f"{table.name}.{name}" in course.unfilled]
            if not names:
                continue
            if progress:
                progress.step(f"streaming {', '.join(names)} to {_subject(course)}", len(users))
            held = []
            for number, user_ids in enumerate(_batches(users), 1):
                held += _write(portal, course, table, names, user_ids)
                if progress:
                    progress.advance(min(number * BATCH, len(users)))
            for _ in range(TRIES):
                if not held:
                    break
                time.sleep(PAUSE_SECONDS)
                held = _write(portal, course, table, names, held)
            if held:
                writer = holders.writer(portal, f"course.{table.name}")
                busy = LockedError(
                    f"{_subject(course)} is busy: rows of course.{table.name} stay locked",
                    "run 'pysync migrate' again",
                )
                raise holders.blamed(busy, writer, ON_PORTAL, portal.info.dbname)
        forget = "update pysync.course set unfilled = '{}' where course_id = %s"
        portal.execute(forget, (course_id,))


def _follow(portal: Connection, course: Course, progress: Progress) -> None:
    """Bring a course's fan-out to what the portal's own tables say, a batch per transaction."""
    with fan_out.as_triggers(portal) as triggers:
        asked = {"course_id": course.course_id}
        behind = triggers.fetch(QUERIES["behind"], "id bigint", asked)
    progress.step(f"bringing {_subject(course)} what it lags behind", len(behind))
    for number, user_ids in enumerate(_batches(behind), 1):
        patiently(partial(fan_out.mend, portal, course.course_id, user_ids))
        progress.advance(min(number * BATCH, len(behind)))


def _declared(course: Course) -> Tables:
    return {table.name: table.columns for table in course.published}


def _found(publisher: Connection, course: Course) -> Tables:
    rows = publisher.execute(QUERIES["published_columns"], {"name": course.replication_name})
    return dict(rows.fetchall())


def _beyond(more: Tables, less: Tables) -> list[tuple[str, str]]:
    """Return tables and names of columns that are in one and not in the other."""
    return [
        (table, name)
        for table, names in more.items()
        for name in names
        if name not in less.get(table, ())
    ]


def _change(
    course: Course,
    columns: Tables,
    differing: list[tuple[str, str]],
    why: str,
    note: sql.Composable,
) -> Change:
    tables = [table for table in columns if any(table == of for of, _ in differing)]
    name = sql.Identifier(course.replication_name)
    # A transaction that wrote before and goes on writing could be decoded as before throughout.
    lock = sql.SQL("lock table {} in share row exclusive mode").format(
        sql.SQL(", ").join(sql.Identifier("course", table) for table in tables)
    )
    alter = sql.SQL("alter publication {} set table {}").format(
        name, publications.published(course, columns)
    )
    remember = sql.SQL("update pysync.course set {} where course_id = {}").format(
        note, sql.Literal(str(course.course_id))
    )
    what = ", ".join(f"{table}.{name}" for table, name in differing)
    return Change(f"{why} {what}", [*([lock] if tables else []), alter], remember)


def _is_blank(course: Course, table: str, names: Sequence[str]) -> bool:
    """Return whether a course has nothing in some columns but what they began with."""
    declared = next(each for each in course.replicated if each.name == table)
    query = sql.SQL("select not exists (select from {} as copy where {})").format(
        declared.identifier, _holds(declared, names)
    )
    with (
        closing(connect_course(course.conninfo)) as database,
        translated(_subject(course)),
        as_owner_of(database, "course", table) as owner,
    ):
        return bool(owner.value(query, "boolean"))


def _holds(table: ReplicatedTable, names: Sequence[str]) -> sql.Composed:
    """Return a condition: a row has anything in one of these columns that it didn't begin with."""
    conditions = []
    for column in (column for column in table.described if column.name in names):
        if column.default in (None, "null"):
            condition = sql.SQL("pg_catalog.num_nonnulls(copy.{}) = 1").format(column.identifier)
        else:
            # As text: not every type has an equality.
            differs = sql.SQL("(copy.{0} is null or copy.{0}::text <> ({1})::{2}::text)")
            began, type_ = sql.SQL(str(column.default)), sql.SQL(column.type)
            condition = differs.format(column.identifier, began, type_)
        conditions.append(condition)
    return sql.SQL(" or ").join(conditions)


def _type(column: ReplicatedColumn) -> sql.SQL:
    return sql.SQL("text" if column.carried else column.type)


def _write(
    portal: Connection,
    course: Course,
    table: ReplicatedTable,
    names: Sequence[str],
    user_ids: list[int],
) -> list[int]:
    """Write rows of users as they are; return the users whose rows somebody else is writing."""
    # Made anew: what lies out of line isn't sent while it stays the same.
    value = sql.SQL("(copy.{}::text || '')::{}")
    columns = [column for column in table.described if column.name in names]
    write = QUERIES["write_again"].format(
        table=table.identifier,
        user_id=sql.Identifier(table.user_column),
        holds=_holds(table, names),
        columns=sql.SQL(", ").join(sql.Identifier(each.name) for each in columns),
        values=sql.SQL(", ").join(value.format(sql.Identifier(c.name), _type(c)) for c in columns),
    )
    with portal.transaction():
        rows = portal.execute(write, {"course_id": course.course_id, "user_ids": user_ids})
        return [user_id for (user_id,) in rows]


def _batches(rows: list[tuple[int, ...]]) -> Iterator[list[int]]:
    for start in range(0, len(rows), BATCH):
        yield [row[0] for row in rows[start : start + BATCH]]


def _subject(course: Course) -> str:
    return f"course '{course.course_id}'"
