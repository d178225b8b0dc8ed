"""Make a course's tables equal to what the portal holds for it, without emptying them.

The portal's rows are copied into temporary tables, compared and merged: replicated columns only, so
that columns and tables of the course's own survive. Nothing is locked that a reader would notice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final, LiteralString
from uuid import uuid4

from psycopg import sql

from pysync.db.connections import Connection, fetch_row, fetch_value
from pysync.errors import UnsuitableDatabaseError
from pysync.models.columns import type_name
from pysync.models.replicated import REPLICATED_TABLES, replicated

_ROWS_PER_REPORT: Final = 10_000
_PARKED_USER_ID: Final = -(2**62)
"""Nobody has ids near this one: where user ids wait that are about to change hands."""


@dataclass(frozen=True)
class Differences:
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


@dataclass(frozen=True)
class Comparison:
    """What a merge did or, on trial, would do.

    ``renamed`` are users whose name the portal has under another id: rows that point at them don't
    follow.
    """

    differences: list[Differences]
    foreign_keys: list[ForeignKey] = field(default_factory=list)
    renamed: int = 0


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
class _Table:
    """A table of the course database and the staged rows it is to be made equal to."""

    name: str
    schema: str
    columns: tuple[str, ...]

    @property
    def key(self) -> str:
        return replicated(self.name).key

    def format(self, query: str, **more: sql.Composable) -> sql.Composed:
        """Fill in a statement; `t` is the table, `s` the staged rows."""
        others = [name for name in self.columns if name != self.key]

        def listed(names: list[str] | tuple[str, ...], prefix: str | None = None) -> sql.Composed:
            parts = ((prefix, name) if prefix else (name,) for name in names)
            return sql.SQL(", ").join(sql.Identifier(*part) for part in parts)

        return sql.SQL(query).format(
            t=sql.SQL("{} as t").format(sql.Identifier(self.schema, self.name)),
            s=sql.SQL("{} as s").format(_staged(self.name)),
            key=sql.Identifier(self.key),
            all=listed(self.columns),
            ours=listed(others, "t"),
            theirs=listed(others, "s"),
            names=listed(others),
            **more,
        )


@cache
def _table(name: str, schema: str = "course", present: frozenset[str] | None = None) -> _Table:
    columns = replicated(name).columns
    return _Table(name, schema, tuple(c for c in columns if present is None or c in present))


def _staged(table: str) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"pysync_{table}")


def stage(
    reader: Connection,
    session: Connection,
    table: str,
    query: sql.Composed,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Copy what a query on the portal returns into a temporary table, a row at a time.

    :param advance: is told now and then how many rows are there.
    """
    target = replicated(table)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(
            sql.Identifier(column.name),
            sql.SQL(type_name(column)),
        )
        for column in target.declared
    )
    staged = _staged(table)
    session.execute(sql.SQL("drop table if exists {}").format(staged))
    session.execute(sql.SQL("create temporary table {} ({})").format(staged, columns))
    with (
        reader.cursor().copy(sql.SQL("copy ({}) to stdout").format(query)) as source,
        session.cursor().copy(sql.SQL("copy {} from stdin").format(staged)) as copy,
    ):
        for rows, row in enumerate(source):
            copy.write(row)
            if rows % _ROWS_PER_REPORT == 0:
                advance(rows)
    session.execute(
        sql.SQL("alter table {} add primary key ({})").format(staged, sql.Identifier(target.key))
    )
    session.execute(sql.SQL("analyze {}").format(staged))


def compare(
    session: Connection,
    table: str,
    *,
    schema: str = "course",
    present: frozenset[str] | None = None,
) -> Differences:
    """Count how a table differs from the staged rows; changes nothing.

    :param schema: where the table is.
    :param present: the columns it has, if it may lack some.
    """
    target = _table(table, schema, present)
    insert, update, remove = fetch_row(
        session,
        target.format(
            "select count(*) filter (where t.{key} is null),"
            " count(*) filter (where t.{key} is not null and s.{key} is not null"
            "                  and ({ours}) is distinct from ({theirs})),"
            " count(*) filter (where s.{key} is null)"
            " from {t} full join {s} on s.{key} = t.{key}"
        ),
    )
    scrub = len(_referenced(session, target)) if table == "auth_user" and remove else 0
    return Differences(table, insert, update, remove - scrub, scrub)


def count_staged(session: Connection, table: str) -> int:
    """Return how many rows are staged."""
    return int(fetch_value(session, sql.SQL("select count(*) from {}").format(_staged(table))))


def count_renamed(session: Connection, schema: str = "course") -> int:
    """Return how many users that must go have the name of a user under another id."""
    return int(
        fetch_value(
            session,
            _table("auth_user", schema).format(
                "select count(*) from {t} join {s} on s.username = t.username and s.id <> t.id"
                " where not exists (select from {s} where s.id = t.id)"
            ),
        )
    )


def foreign_keys(session: Connection, table: str, schema: str = "course") -> list[ForeignKey]:
    """Return the course's own foreign keys whose rows point at rows that must go."""
    target = _table(table, schema)
    found = []
    for reference in _references(session, target):
        rows = fetch_value(
            session,
            target.format(
                "select count(*) from {r} as r join {t} on {condition}"
                " where not exists (select from {s} where s.{key} = t.{key})",
                r=reference.table,
                condition=reference.condition,
            ),
        )
        if rows:
            found.append(ForeignKey(reference.name, reference.described, table, rows))
    return found


def lock_statement(table: str, mode: LiteralString) -> sql.Composed:
    """Return the statement that locks a replicated (or fan-out) table; readers don't notice."""
    return sql.SQL("lock table {} in {} mode").format(
        sql.Identifier("course", table), sql.SQL(mode)
    )


def apply(session: Connection, tables: tuple[str, ...]) -> list[Differences]:
    """Merge the staged rows into their tables, inside the caller's transaction.

    As in replication, neither foreign keys nor ordinary triggers fire.

    :param tables: which; a whole course's, or one.
    :raises ReferencedError: if a user must go that rows of the course's own point at.
    """
    session.execute("set local session_replication_role = replica")
    removed = dict.fromkeys(tables, 0)
    if "auth_user" in tables:
        _hold_users(session)
    # Who points at others goes first.
    for table in reversed(tables):
        if table == "auth_user" and (users := _referenced(session, _table(table))):
            raise ReferencedError(users)
        removed[table] = session.execute(
            _table(table).format(
                "delete from {t} where not exists (select from {s} where s.{key} = t.{key})"
            )
        ).rowcount
    for table in tables:
        _park(session, table)
    return [_write(session, table, removed[table]) for table in tables]


def _hold_users(session: Connection) -> None:
    """Lock users that must go, so that nothing begins to point at them any more."""
    session.execute(
        _table("auth_user").format(
            "select count(*) from (select from {t} where not exists"
            " (select from {s} where s.{key} = t.{key}) for update) as held"
        )
    )


def _park(session: Connection, table: str) -> None:
    """Move unique values out of the way that change, so that rows can swap them."""
    unique = replicated(table).unique
    if not unique:
        return
    parked: sql.Composable = (
        sql.SQL("t.id || {}").format(sql.Literal(f"~{uuid4().hex}"))
        if table == "auth_user"
        else sql.SQL("{} + t.id").format(sql.Literal(_PARKED_USER_ID))
    )
    session.execute(
        _table(table).format(
            "update {t} set {unique} = {parked} from {s}"
            " where s.{key} = t.{key} and s.{unique} is distinct from t.{unique}",
            unique=sql.Identifier(unique),
            parked=parked,
        )
    )


def _write(session: Connection, table: str, removed: int) -> Differences:
    target = _table(table)
    # Rows that are right already aren't touched.
    updated = session.execute(
        target.format(
            "update {t} set ({names}) = row({theirs}) from {s}"
            " where s.{key} = t.{key} and ({ours}) is distinct from ({theirs})"
        )
    ).rowcount
    inserted = session.execute(
        target.format(
            "insert into {t} ({all}) overriding system value select {all} from {s}"
            " where not exists (select from {t} where t.{key} = s.{key})"
        )
    ).rowcount
    return Differences(table, inserted, updated, removed)


def _referenced(session: Connection, target: _Table) -> list[int]:
    """Return users that must go and that rows of the course's own point at."""
    queries = [
        target.format(
            "select t.id from {t} where not exists (select from {s} where s.{key} = t.{key})"
            " and exists (select from {r} as r where {condition})",
            r=reference.table,
            condition=reference.condition,
        )
        for reference in _references(session, target)
    ]
    if not queries:
        return []
    return [
        int(user_id) for (user_id,) in session.execute(sql.SQL(" union ").join(queries)).fetchall()
    ]


@dataclass(frozen=True)
class _Reference:
    """A foreign key: its table, and what joins that as `r` to the table `t` it points at."""

    name: str
    described: str
    table: sql.Identifier
    condition: sql.Composed


def _references(session: Connection, target: _Table) -> list[_Reference]:
    """Return foreign keys that point at a table.

    Those of replicated tables count only where these aren't staged: else they go first.
    """
    rows = session.execute(
        "select con.conname::text, n.nspname::text, c.relname::text,"
        " array(select a.attname::text from unnest(con.conkey) with ordinality as k (n, o)"
        "        join pg_catalog.pg_attribute a on a.attrelid = con.conrelid and a.attnum = k.n"
        "       order by k.o),"
        " array(select a.attname::text from unnest(con.confkey) with ordinality as k (n, o)"
        "        join pg_catalog.pg_attribute a on a.attrelid = con.confrelid and a.attnum = k.n"
        "       order by k.o)"
        " from pg_catalog.pg_constraint con"
        " join pg_catalog.pg_class c on c.oid = con.conrelid"
        " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where con.contype = 'f' and con.conparentid = 0"
        " and con.confrelid = pg_catalog.to_regclass(%s)"
        " and not (n.nspname = %s and c.relname = any (%s)"
        "          and pg_catalog.to_regclass('pg_temp.pysync_' || c.relname) is not null)"
        " order by 2, 3, 1",
        (f"{target.schema}.{target.name}", target.schema, list(REPLICATED_TABLES[1:])),
    ).fetchall()
    return [
        _Reference(
            name,
            f"{schema}.{table}",
            sql.Identifier(schema, table),
            sql.SQL(" and ").join(
                sql.SQL("{} = {}").format(sql.Identifier("r", a), sql.Identifier("t", b))
                for a, b in zip(own, referred, strict=True)
            ),
        )
        for name, schema, table, own, referred in rows
    ]
