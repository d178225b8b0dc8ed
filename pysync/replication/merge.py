"""Make a course's tables equal to what the portal holds for it, without emptying them.

The portal's rows are staged in temporary tables, compared and merged: replicated columns only, so
that columns and tables of the course's own survive. Nothing is locked that a reader would notice.
As in replication, neither foreign keys nor ordinary triggers nor the write guard fire. Nothing
else writes what is replicated into a course but its apply worker. Each table is read and written
with its owner's rights and no more, as the worker does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Final, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from pysync.db.catalog import Reference, references_to
from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.pinned import pin
from pysync.db.queries import load
from pysync.db.restricted import Restricted, as_owner_of
from pysync.errors import UnsuitableDatabaseError
from pysync.models.replicated import (
    REPLICATED_TABLES,
    ReplicatedColumn,
    ReplicatedTable,
    replicated,
)
from pysync.replication import snapshots
from pysync.types import CourseId, Progress

QUERIES = load(__file__)

_LEAVING: Final = sql.SQL("{within} and not exists (select from {s} where {same})")
_LEAVING_TABLE: Final = "pysync_leaving"
_LEAVING_ROWS: Final = sql.Identifier("pg_temp", _LEAVING_TABLE)
_ROWS_PER_REPORT: Final = 10_000
_PARKED_USER_ID: Final = -(2**62)
"""Nobody has ids near this one: where user ids wait that are about to change hands."""


@dataclass(frozen=True)
class Changes:
    """Rows of a table that a merge inserts, updates, removes and, in ``auth_user``, scrubs."""

    table: str
    insert: int
    update: int
    remove: int
    scrub: int = 0


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key of the course's own, and how many of its rows point at rows that must go."""

    name: str
    table: str
    referred: str
    rows: int


@dataclass
class Outcome:
    """What a merge did or, on trial, would do.

    ``renamed`` are users whose name the portal has under another id: rows that point at them don't
    follow. ``taken_over`` are tables that become pysync's, and the roles that own them until then.
    ``portal_conninfo`` is how the course's server reaches the portal, where that was looked at.
    """

    differences: list[Changes]
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    renamed: int = 0
    taken_over: dict[str, str] = field(default_factory=dict)
    portal_conninfo: str | None = None


class ReferencedError(UnsuitableDatabaseError):
    """Rows of the course's own point at users that the portal doesn't know here."""

    def __init__(self, user_ids: list[int]) -> None:
        super().__init__(
            f"table 'auth_user' has {len(user_ids)} users that the portal doesn't know here and "
            "other tables point at",
            "resynchronise the whole course: it scrubs them",
        )
        self.user_ids = user_ids


@dataclass(frozen=True)
class _Target:
    """A table of the course database, and the staged rows it is to be made equal to.

    :param present: the columns it has, if it may lack some.
    :param ids: which of its rows are concerned; all by default.
    :param many: whether it has rows of many courses, as a relay's has.
    :param course_id: which course's rows are concerned, if not all.
    """

    table: ReplicatedTable
    schema: str = "course"
    present: frozenset[str] | None = None
    ids: list[int] | None = None
    many: bool = False
    course_id: CourseId | None = None

    def run(self, session: Connection, name: str, **more: sql.Composable) -> int:
        """Run a statement of ``queries.sql`` in which `t` is the table and `s` the staged rows.

        :returns: how many rows it concerned.
        """
        with self.owned(session) as owner:
            return owner.execute(self.format(name, **more))

    @contextmanager
    def owned(self, session: Connection) -> Iterator[Restricted]:
        """Work on the table with its owner's rights: a site may have code on it."""
        with as_owner_of(session, self.schema, self.table.name) as owner:
            if _is_staged(session, self.table.name):
                owner.lend(f"pysync_{self.table.name}")
            yield owner

    def format(self, name: str, **more: sql.Composable) -> sql.Composed:
        """Fill in a query; ``{leaving}`` are the rows that must go."""
        columns = [
            column
            for column in self.table.described
            if self.present is None or column.name in self.present
        ]
        keys = _keys(self.table, many=self.many)
        others = [column for column in columns if column.name not in keys]

        def values(of: Iterable[ReplicatedColumn]) -> sql.Composed:
            return sql.SQL(", ").join(self._value(column) for column in of)

        places: dict[str, sql.Composable] = {
            "t": sql.SQL("{} as t").format(sql.Identifier(self.schema, self.table.name)),
            "s": sql.SQL("{} as s").format(_staged(self.table.name)),
            "key": sql.Identifier(self.table.key),
            "same": sql.SQL("({}) = ({})").format(_listed(keys, "s"), _listed(keys, "t")),
            "all": _listed(column.name for column in columns),
            "all_values": values(columns),
            "ours": sql.SQL(", ").join(column.compared("t") for column in others),
            "theirs": _listed((column.name for column in others), "s"),
            "names": _listed(column.name for column in others),
            "values": values(others),
        }
        within = (
            sql.SQL("true")
            if self.ids is None
            else sql.SQL("t.{} = any ({})").format(places["key"], sql.Literal(self.ids))
        )
        if self.course_id is not None:
            whose = sql.SQL("t.course_id = {} and ").format(sql.Literal(self.course_id))
            within = whose + within
        places["leaving"] = _LEAVING.format(within=within, **places)
        return QUERIES[name].format(**places | more)

    def _value(self, column: ReplicatedColumn) -> sql.Composable:
        """Return the value that a staged row has for a column."""
        staged = sql.Identifier("s", column.name)
        if not column.carried or self.many:
            return staged
        return sql.SQL("{}::{}").format(staged, sql.SQL(column.type))


def _keys(table: ReplicatedTable, *, many: bool) -> tuple[str, ...]:
    """Return by which columns a table's rows are the same, where it has those of many courses."""
    return tuple(dict.fromkeys(("course_id", table.key))) if many else (table.key,)


def _listed(names: Iterable[str], prefix: str | None = None) -> sql.Composed:
    parts = ((prefix, name) if prefix else (name,) for name in names)
    return sql.SQL(", ").join(sql.Identifier(*part) for part in parts)


def _staged(table: str) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"pysync_{table}")


def _is_staged(session: Connection, table: str) -> bool:
    query = "select pg_catalog.to_regclass('pg_temp.pysync_' || %s) is not null"
    return bool(fetch_value(session, query, table))


@contextmanager
def _staging(
    session: Connection, table: ReplicatedTable, at_end: LiteralString, *, many: bool = False
) -> Iterator[psycopg.Copy]:
    """Make the temporary table that the block's copy fills.

    :param at_end: what becomes of it at the end of the transaction.
    """
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(
            column.identifier, sql.SQL("text" if column.carried else column.type)
        )
        for column in table.described
    )
    keys = _listed(_keys(table, many=many))
    places = {"columns": columns, "keys": keys, "at_end": sql.SQL(at_end)}

    def statement(text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(staged=_staged(table.name), **places)

    pin(session)
    session.execute(statement("drop table if exists {staged}"))
    session.execute(statement("create temporary table {staged} ({columns}) on commit {at_end}"))
    with session.cursor().copy(statement("copy {staged} from stdin")) as copy:
        yield copy
    session.execute(statement("alter table {staged} add primary key ({keys})"))
    session.execute(statement("analyze {staged}"))


def stage(
    reader: Connection,
    session: Connection,
    table: ReplicatedTable,
    query: sql.Composed,
    advance: Callable[[int], None] = lambda _: None,
    *,
    many: bool = False,
) -> None:
    """Copy what a query on the portal returns into a temporary table, a row at a time.

    :param advance: is told now and then how many rows are there.
    :param many: whether they are of many courses.
    """
    with (
        reader.cursor().copy(sql.SQL("copy ({}) to stdout").format(query)) as source,
        _staging(session, table, "preserve rows", many=many) as copy,
    ):
        for rows, row in enumerate(source):
            copy.write(row)
            if rows % _ROWS_PER_REPORT == 0:
                advance(rows)


def preview(
    portal_conninfo: str,
    database: Connection,
    queries: Callable[[Connection], Mapping[ReplicatedTable, sql.Composed]],
    progress: Progress,
    *,
    schema: str = "course",
    many: bool = False,
    found: Mapping[str, frozenset[str]] | None = None,
) -> Outcome:
    """Count what a merge would do, and do nothing; rows written meanwhile may count.

    :param queries: returns what tables are to hold, by table, for a reader of the portal.
    :param schema: where the tables are.
    :param many: whether they have rows of many courses.
    :param found: the columns of those that are there, if they aren't all as they should be.
    """
    outcome = Outcome([])
    with closing(connect(portal_conninfo)) as reader:
        snapshots.begin(reader)
        wanted = {table: query for table, query in queries(reader).items() if table.user_column}
        for table, query in wanted.items():
            progress.step(f"comparing {table.name}")
            stage(reader, database, table, query, many=many)
    for table in wanted:
        name = table.name
        if found is not None and name not in found:
            rows = sql.SQL("select count(*) from {}").format(_staged(name))
            outcome.differences.append(Changes(name, fetch_value(database, rows), 0, 0))
            continue
        target = _Target(table, schema, found[name] if found else None, many=many)
        outcome.differences.append(_compare(database, target))
        outcome.foreign_keys.extend(_foreign_keys(database, target))
        if found is not None and name == "auth_user":
            with target.owned(database) as owner:
                outcome.renamed = owner.value(target.format("merge_renamed"), "bigint")
    return outcome


def _compare(session: Connection, target: _Target) -> Changes:
    columns = "to_insert bigint, to_update bigint, to_remove bigint"
    with target.owned(session) as owner:
        ((insert, update, remove),) = owner.fetch(target.format("merge_compare"), columns)
    is_users = target.table.name == "auth_user"
    looks = is_users and remove and not target.many
    scrub = len(_referenced(session, target)) if looks else 0
    return Changes(target.table.name, insert, update, remove - scrub, scrub)


def _foreign_keys(session: Connection, target: _Target) -> list[ForeignKey]:
    """Return the course's own foreign keys whose rows point at rows that must go."""
    return [
        ForeignKey(each.name, f"{each.schema}.{each.table}", target.table.name, rows)
        for each, ((rows,),) in _pointing(session, target, "merge_pointing", "rows bigint")
        if rows
    ]


def lock_statement(table: str, mode: LiteralString) -> sql.Composed:
    """Return the statement that locks a replicated (or fan-out) table; readers don't notice."""
    return sql.SQL("lock table {} in {} mode").format(
        sql.Identifier("course", table), sql.SQL(mode)
    )


def apply(
    session: Connection, tables: Sequence[ReplicatedTable], *, many: bool = False
) -> list[Changes]:
    """Merge the staged rows into their tables, inside the caller's transaction.

    :param tables: which; a whole course's, or one.
    :param many: whether they have rows of many courses: a relay's, which nothing else points at.
    :raises ReferencedError: if a user must go that rows of the course's own point at.
    """
    targets = [_Target(table, many=many) for table in tables]
    for target in targets:
        if target.table.name == "auth_user" and not many:
            # Nothing begins to point at users that must go any more.
            target.run(session, "merge_lock_leaving")
            if users := _referenced(session, target):
                raise ReferencedError(users)
    return _apply(session, targets)


def mend(
    session: Connection,
    table: ReplicatedTable,
    ids: list[int],
    rows: Iterable[tuple[str | None, ...]],
    *,
    course_id: CourseId | None = None,
) -> None:
    """Make some rows of a table equal to those given, inside the caller's transaction.

    What the course's own logins wrote stays, and so do, scrubbed, users at whom rows of the
    course's own point.

    :param ids: of all rows that are concerned; those not given go.
    :param rows: the replicated columns as text, in the order they are declared.
    :param course_id: whose they are, on a relay: it has those of many courses, and none of its own.
    """
    many = course_id is not None
    target = _Target(table, ids=ids, many=many, course_id=course_id)
    with _staging(session, target.table, "drop", many=many) as copy:
        for row in rows:
            copy.write_row(row)
    if many:
        _apply(session, [target])
        return
    if target.table.unguarded:
        own = sorted(target.table.unguarded)
        target.run(session, "merge_keep_own", own=_listed(own), t_own=_listed(own, "t"))
    if kept := _referenced(session, target) if target.table.scrubbed else []:
        scrubbed = {**target.table.scrubbed, target.table.unique: "'deleted-' || t.id"}
        values = (
            sql.SQL(scrubbed[column.name]) if column.name in scrubbed else column.compared("t")
            for column in target.table.described
        )
        places = {"values": sql.SQL(", ").join(values), "kept": sql.Literal(kept)}
        target.run(session, "merge_stage_scrubbed", **places)
    _apply(session, [target])


def _apply(session: Connection, targets: list[_Target]) -> list[Changes]:
    session.execute("set local session_replication_role = replica")
    session.execute("set local pysync.merges = on")
    # Who points at others goes first.
    removed = {t.table: t.run(session, "merge_delete") for t in reversed(targets)}
    for target in targets:
        _give_way(session, target)
    return [
        Changes(
            target.table.name,
            # Rows that are right already aren't touched.
            update=target.run(session, "merge_update"),
            insert=target.run(session, "merge_insert"),
            remove=removed[target.table],
        )
        for target in targets
    ]


def _give_way(session: Connection, target: _Target) -> None:
    """Have rows give way that hold what is another's, so that rows can swap unique values.

    They get their own from this merge, or from the next if they aren't concerned in this one.
    """
    unique = target.table.unique
    if not unique or target.many:
        return
    parked: sql.Composable = (
        sql.SQL("{} + t.id").format(sql.Literal(_PARKED_USER_ID))
        if unique == target.table.user_column
        else sql.SQL("t.id || {}").format(sql.Literal(f"~{uuid4().hex}"))
    )
    target.run(session, "merge_give_way", unique=sql.Identifier(unique), parked=parked)


def referenced(session: Connection, user_ids: list[int]) -> set[int]:
    """Return the users among these at whom rows of the course point, by any foreign key."""
    users = _Target(replicated("auth_user"))
    among = sql.SQL("t.id = any ({})").format(sql.Literal(user_ids))
    return set(_referenced(session, users, leaving=among)) if user_ids else set()


def _referenced(session: Connection, target: _Target, **more: sql.Composable) -> list[int]:
    """Return users that must go and that rows of the course's own point at."""
    found = _pointing(session, target, "merge_referenced", "id bigint", **more)
    return sorted({user_id for _, rows in found for (user_id,) in rows})


def _pointing(
    session: Connection, target: _Target, name: str, columns: str, **more: sql.Composable
) -> list[tuple[Reference, list[TupleRow]]]:
    """Ask each table that points at rows which must go, with its owner's rights.

    That may not be who owns the rows: what is pointed at of them is put where both can read it.
    """
    references = _references(session, target)
    if not references:
        return []
    key = target.table.key
    names = sorted({key}.union(*(each.referred for each in references)))
    places = {"columns": _listed(names, "t"), "leaving_rows": _LEAVING_ROWS, **more}
    found = []
    with session.transaction():
        session.execute(target.format("merge_make_leaving", **places))
        with target.owned(session) as owner:
            owner.lend(_LEAVING_TABLE)
            owner.execute(target.format("merge_fill_leaving", **places))
        session.execute(target.format("merge_analyze_leaving", **places))
        for each in references:
            query = target.format(name, r=each.identifier, condition=each.condition, **places)
            with as_owner_of(session, each.schema, each.table) as owner:
                owner.lend(_LEAVING_TABLE)
                found.append((each, owner.fetch(query, columns)))
        session.execute(sql.SQL("drop table {}").format(_LEAVING_ROWS))
    return found


def _references(session: Connection, target: _Target) -> list[Reference]:
    """Return foreign keys that point at a table.

    Those of replicated tables count only where these aren't staged: else they go first.
    """
    return [
        each
        for each in references_to(session, f"{target.schema}.{target.table.name}")
        if each.schema != target.schema
        or each.table not in REPLICATED_TABLES
        or not _is_staged(session, each.table)
    ]
