"""Adopt tables that were there before pysync, because Django made them.

:func:`inspect` reads what is there, :func:`plan` compares it with what is needed and returns the
statements that complete it, or refuses. Nothing here changes a database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from psycopg import sql
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.selectable import FromClause

from pysync.db.connections import Connection
from pysync.errors import AdoptionError


class Side(Enum):
    """Which database a table is in: it decides in which direction types must fit.

    The portal's values must fit into the copies; the copies' into the course's columns.
    """

    PORTAL = "portal"
    COURSE = "course"


@dataclass(frozen=True)
class FoundColumn:
    """A column as the catalog has it."""

    name: str
    type: str
    not_null: bool
    has_default: bool
    holds_null: bool = False


@dataclass(frozen=True)
class FoundTable:
    """A table as the catalog has it.

    ``unique`` are the column sets with a whole-table unique index, ``indexed`` the leading columns
    of its indexes, ``foreign_keys`` the columns with a foreign key.
    """

    schema: str
    name: str
    kind: str
    has_rows: bool
    columns: dict[str, FoundColumn]
    primary_key: tuple[str, ...]
    unique: frozenset[frozenset[str]]
    indexed: frozenset[str]
    foreign_keys: frozenset[str]


@dataclass
class Plan:
    """How to complete a table, and how to take that back (columns stay: they may hold data)."""

    complete: list[str] = field(default_factory=list)
    undo: list[str] = field(default_factory=list)


_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_INTEGERS: Final = ("smallint", "integer", "bigint")


def inspect(connection: Connection, schema: str, name: str) -> FoundTable | None:
    """Read a table from the catalog.

    :returns: ``None`` if the schema has nothing of this name.
    """
    row = connection.execute(
        "select c.oid, c.relkind::text from pg_catalog.pg_class c"
        " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p', 'v', 'm', 'f')",
        (schema, name),
    ).fetchone()
    if row is None:
        return None
    oid, kind = row
    table = sql.Identifier(schema, name)
    columns = {}
    for column_name, type_name, not_null, has_default in connection.execute(
        "select attname, pg_catalog.format_type(atttypid, atttypmod), attnotnull,"
        " atthasdef or attidentity <> ''"
        " from pg_catalog.pg_attribute where attrelid = %s and attnum > 0 and not attisdropped"
        " order by attnum",
        (oid,),
    ).fetchall():
        holds_null = (
            not not_null
            and kind == "r"
            and bool(
                connection.execute(
                    sql.SQL("select from {} where {} is null limit 1").format(
                        table, sql.Identifier(column_name)
                    )
                ).fetchone()
            )
        )
        columns[column_name] = FoundColumn(
            column_name, type_name, not_null, has_default, holds_null
        )
    indexes = connection.execute(
        "select i.indisprimary, i.indisunique and i.indimmediate or i.indisprimary,"
        " array_agg(a.attname::text order by k.position)"
        " from pg_catalog.pg_index i"
        " cross join unnest(i.indkey) with ordinality as k (attnum, position)"
        " join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum"
        " where i.indrelid = %s and i.indpred is null and i.indexprs is null and i.indisvalid"
        " and k.position <= i.indnkeyatts"
        " group by i.indexrelid, 1, 2",
        (oid,),
    ).fetchall()
    foreign_keys = connection.execute(
        "select a.attname::text from pg_catalog.pg_constraint c"
        " join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]"
        " where c.conrelid = %s and c.contype = 'f'",
        (oid,),
    ).fetchall()
    has_rows = (
        kind == "r"
        and connection.execute(sql.SQL("select from {} limit 1").format(table)).fetchone()
        is not None
    )
    return FoundTable(
        schema=schema,
        name=name,
        kind=kind,
        has_rows=has_rows,
        columns=columns,
        primary_key=next((tuple(names) for primary, _, names in indexes if primary), ()),
        unique=frozenset(frozenset(names) for _, unique, names in indexes if unique),
        indexed=frozenset(names[0] for _, _, names in indexes),
        foreign_keys=frozenset(name for (name,) in foreign_keys),
    )


def plan(found: FoundTable, expected: Table, side: Side) -> Plan:
    """Compare a table with what is needed of it.

    :param found: the table as it is.
    :param expected: the table as a revision declares it; statements name its schema, into which a
        course's table has been moved by then.
    :param side: which database it is in.
    :returns: what to do; nothing, if the table is complete.
    :raises AdoptionError: if it can't be completed, naming table, column, found and expected.
    """
    if found.kind != "r":
        raise _refusal(found, None, "something other than an ordinary table", "a table")
    if found.primary_key != ("id",):
        raise _refusal(
            found, "id", f"primary key ({', '.join(found.primary_key)})", "primary key (id)"
        )
    result = Plan()
    for column in expected.columns:
        _plan_column(result, found, column, side)
    _plan_constraints(result, found, expected)
    if side is Side.COURSE:
        _check_course_only(found, expected)
    return result


def _plan_column(result: Plan, found: FoundTable, column: Column[object], side: Side) -> None:
    table = _qualified(column.table)
    present = found.columns.get(column.name)
    expected_type = column.type.compile(dialect=_DIALECT)
    if present is None:
        default = "" if column.server_default is None else f" DEFAULT {_default(column)}"
        not_null = "" if column.nullable else " NOT NULL"
        if not column.nullable and column.server_default is None and found.has_rows:
            raise _refusal(found, column.name, "no such column", f"{expected_type} NOT NULL")
        result.complete.append(
            f"ALTER TABLE {table} ADD COLUMN {_quoted(column.name)} "
            f"{expected_type}{default}{not_null}"
        )
        return
    if not _type_fits(present.type, column, side):
        widened = side is Side.COURSE and _can_widen(present.type, column)
        if not widened:
            raise _refusal(found, column.name, present.type, expected_type.lower())
        result.complete.append(
            f"ALTER TABLE {table} ALTER COLUMN {_quoted(column.name)} TYPE {expected_type}"
        )
        result.undo.append(
            f"ALTER TABLE {table} ALTER COLUMN {_quoted(column.name)} TYPE {present.type}"
        )
    if not column.nullable and not present.not_null:
        if present.holds_null:
            raise _refusal(found, column.name, "nullable, with nulls in it", "NOT NULL")
        _alter_null(result, table, column.name, "SET")
    if column.nullable and present.not_null and side is Side.COURSE:
        _alter_null(result, table, column.name, "DROP")


def _alter_null(result: Plan, table: str, column: str, verb: str) -> None:
    inverse = {"SET": "DROP", "DROP": "SET"}[verb]
    statement = f"ALTER TABLE {table} ALTER COLUMN {_quoted(column)} {{}} NOT NULL"
    result.complete.append(statement.format(verb))
    result.undo.append(statement.format(inverse))


def _plan_constraints(result: Plan, found: FoundTable, expected: Table) -> None:
    table = _qualified(expected)
    for constraint in sorted(expected.constraints, key=lambda c: str(c.name)):
        columns = [column.name for column in getattr(constraint, "columns", ())]
        listed = ", ".join(map(_quoted, columns))
        if isinstance(constraint, UniqueConstraint):
            if frozenset(columns) in found.unique:
                continue
            definition = f"UNIQUE ({listed})"
        elif isinstance(constraint, ForeignKeyConstraint):
            if columns[0] in found.foreign_keys:
                continue
            target = _qualified(constraint.referred_table)
            on_delete = f" ON DELETE {constraint.ondelete}" if constraint.ondelete else ""
            definition = (
                f"FOREIGN KEY ({listed}) REFERENCES {target} (id){on_delete}"
                " DEFERRABLE INITIALLY DEFERRED"
            )
        else:
            continue
        name = _quoted(str(constraint.name))
        result.complete.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
        result.undo.append(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for index in sorted(expected.indexes, key=lambda i: str(i.name)):
        column = next(iter(index.columns)).name
        if column in found.indexed:
            continue
        result.complete.append(
            f"CREATE INDEX {_quoted(str(index.name))} ON {table} ({_quoted(column)})"
        )
        result.undo.append(f"DROP INDEX {_quoted(str(expected.schema))}.{_quoted(str(index.name))}")


def _check_course_only(found: FoundTable, expected: Table) -> None:
    if found.has_rows:
        raise AdoptionError(
            f"table '{found.schema}.{found.name}' holds rows: pysync can't tell yet whose they are",
            "give the course a database without users, or empty the table first",
        )
    replicated = {column.name for column in expected.columns}
    for column in found.columns.values():
        if column.name not in replicated and column.not_null and not column.has_default:
            raise AdoptionError(
                f"table '{found.schema}.{found.name}' column '{column.name}': found NOT NULL "
                "without a default, expected a default or nullable; the first replicated row "
                "would fail on it",
                f"run 'ALTER TABLE {found.schema}.{found.name} ALTER COLUMN {column.name} "
                "SET DEFAULT …' in the course database",
            )
    allowed = {
        frozenset({"id"}),
        *(
            frozenset(column.name for column in constraint.columns)
            for constraint in expected.constraints
            if isinstance(constraint, UniqueConstraint)
        ),
    }
    for unique in found.unique:
        if unique <= replicated and not any(known <= unique for known in allowed):
            raise AdoptionError(
                f"table '{found.schema}.{found.name}' column '{', '.join(sorted(unique))}': found "
                "unique, expected not to be: the portal may hold duplicates, and the first one "
                "would stop replication",
                "drop the unique constraint or index in the course database",
            )


def _type_fits(found: str, column: Column[object], side: Side) -> bool:
    narrow, wide = (
        (found, _type_name(column)) if side is Side.PORTAL else (_type_name(column), found)
    )
    if narrow in _INTEGERS and wide in _INTEGERS:
        return _INTEGERS.index(narrow) <= _INTEGERS.index(wide)
    narrow_length, wide_length = _length(narrow), _length(wide)
    if narrow_length is not None and wide_length is not None:
        return narrow_length <= wide_length
    return narrow == wide


def _can_widen(found: str, column: Column[object]) -> bool:
    if isinstance(column.type, Integer):
        return found in _INTEGERS
    if isinstance(column.type, String):
        return _length(found) is not None
    return False


def _type_name(column: Column[object]) -> str:
    match column.type:
        case BigInteger():
            return "bigint"
        case Integer():
            return "integer"
        case Text():
            return "text"
        case String(length=length):
            return f"character varying({length})"
        case Boolean():
            return "boolean"
        case DateTime():
            return "timestamp with time zone"
        case other:
            raise NotImplementedError(f"no rule for type {other!r}")


def _length(type_name: str) -> float | None:
    if type_name in ("text", "character varying"):
        return float("inf")
    if type_name.startswith("character varying("):
        return float(type_name.removeprefix("character varying(").rstrip(")"))
    return None


def _refusal(found: FoundTable, column: str | None, is_now: str, expected: str) -> AdoptionError:
    where = f"table '{found.schema}.{found.name}'" + (f" column '{column}'" if column else "")
    return AdoptionError(
        f"{where} can't be adopted: found {is_now}, expected {expected}",
        "change it and run the command again",
    )


def _default(column: Column[object]) -> str:
    default = column.server_default
    return str(getattr(default, "arg", default))


def _qualified(table: FromClause) -> str:
    return _DIALECT.identifier_preparer.format_table(table)


def _quoted(identifier: str) -> str:
    return _DIALECT.identifier_preparer.quote(identifier)
