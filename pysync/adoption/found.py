"""Read from the catalog what is there; change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from psycopg.rows import dict_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.db.restricted import Restricted, as_owner_of

if TYPE_CHECKING:  # it takes a while to import, and reports look at catalogs only
    from sqlalchemy import Table

KINDS: Final = {
    "r": "a table",
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
}
"""Relations that could be meant by a name, as ``pg_class.relkind`` has them."""

_MAX_DUPLICATES: Final = 20
_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class FoundColumn:
    """A column as the catalog has it.

    ``holds_null`` is looked up only where pysync needs NOT NULL; ``varies`` is true if its default
    gives each row another value.
    """

    name: str
    type: str
    not_null: bool
    has_default: bool
    holds_null: bool = False
    varies: bool = False


@dataclass(frozen=True)
class Restriction:
    """A rule that new rows have to meet: a unique index, an exclusion or a CHECK constraint.

    ``key`` are the columns of a unique index that are compared as they are, ``columns`` all that
    the rule looks at. ``plain`` indexes have neither expressions nor a WHERE, and let nulls differ.
    """

    kind: str
    name: str
    key: frozenset[str]
    columns: frozenset[str]
    plain: bool


@dataclass(frozen=True)
class FoundForeignKey:
    """A validated foreign key of one column.

    ``target`` is the table it leads to, ``definition`` what brings it back after it was dropped.
    """

    name: str
    column: str
    target: str
    cascades: bool
    definition: str


@dataclass(frozen=True)
class FoundTable:
    """A table as the catalog has it.

    ``unique`` are the column sets with a whole-table unique index, ``indexed`` the leading columns
    of its indexes, ``duplicates`` the first keys that occur twice where pysync needs them unique.
    """

    schema: str
    name: str
    kind: str
    has_rows: bool
    columns: dict[str, FoundColumn]
    primary_key: tuple[str, ...]
    unique: frozenset[frozenset[str]]
    indexed: frozenset[str]
    foreign_keys: tuple[FoundForeignKey, ...]
    duplicates: tuple[str, ...] = ()
    row_security: bool = False
    restrictions: tuple[Restriction, ...] = ()


def inspect(
    connection: Connection, schema: str, names: Sequence[str], *, rows: bool = True
) -> dict[str, FoundTable]:
    """Read tables from the catalog, in one round trip but for what is in them.

    :param rows: look into the tables, too; else they are taken for empty.
    :returns: those of the names that the schema has.
    """
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(
            _QUERIES["tables"], {"schema": schema, "names": list(names), "kinds": list(KINDS)}
        )
        return {row["name"]: _table(connection, schema, row, rows=rows) for row in cursor}


def _table(
    connection: Connection, schema: str, row: Mapping[str, Any], *, rows: bool
) -> FoundTable:
    name, indexes = row["name"], row["indexes"]
    table = sql.Identifier(schema, name)
    columns = {each["name"]: FoundColumn(**each) for each in row["columns"]}
    unique = frozenset(frozenset(each["columns"]) for each in indexes if each["unique"])
    has_rows, duplicates = False, tuple[str, ...]()
    if rows and row["kind"] == "r":
        with as_owner_of(connection, schema, name) as owner:
            has_rows = bool(
                owner.value(sql.SQL("select true from {} limit 1").format(table), "boolean")
            )
            nullable = {each for each in columns if not columns[each].not_null}
            for column in _required(name) & nullable if has_rows else ():
                null = sql.SQL("select true from {} where {} is null limit 1")
                holds_null = owner.value(null.format(table, sql.Identifier(column)), "boolean")
                columns[column] = replace(columns[column], holds_null=bool(holds_null))
            if has_rows:
                duplicates = _duplicates(owner, table, _missing(name, columns, unique))
    return FoundTable(
        schema=schema,
        name=name,
        kind=row["kind"],
        has_rows=has_rows,
        columns=columns,
        primary_key=next((tuple(each["columns"]) for each in indexes if each["primary"]), ()),
        unique=unique,
        indexed=frozenset(each["columns"][0] for each in indexes),
        foreign_keys=tuple(FoundForeignKey(**each) for each in row["foreign_keys"]),
        duplicates=duplicates,
        row_security=row["row_security"],
        restrictions=tuple(
            Restriction(
                rule["kind"],
                rule["name"],
                frozenset(rule["key"]),
                frozenset(rule["columns"] + rule["key"]),
                rule["plain"],
            )
            for rule in row["restrictions"]
        ),
    )


def _declared(name: str) -> list[Table]:
    """Return what a table is declared as, on the portal and in a course."""
    from pysync.models.course import CourseDatabaseBase
    from pysync.models.portal import PortalBase

    tables = (
        PortalBase.metadata.tables.get(f"public.{name}"),
        CourseDatabaseBase.metadata.tables.get(f"course.{name}"),
    )
    return [table for table in tables if table is not None]


def _required(name: str) -> frozenset[str]:
    """Return the columns of a table that hold no nulls."""
    return frozenset(c.name for table in _declared(name) for c in table.columns if not c.nullable)


def _missing(
    name: str, found: dict[str, FoundColumn], unique: frozenset[frozenset[str]]
) -> list[list[str]]:
    """Return the columns of unique constraints that a table lacks though it has the columns."""
    from sqlalchemy import UniqueConstraint

    declared = {
        frozenset(column.name for column in constraint.columns)
        for table in _declared(name)
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }
    return sorted(sorted(columns) for columns in declared - unique if columns <= found.keys())


def _duplicates(owner: Restricted, table: sql.Identifier, keys: list[list[str]]) -> tuple[str, ...]:
    """Return keys that unique constraints wouldn't take, in the server's words."""
    return tuple(
        f"Key ({', '.join(columns)})=({', '.join(values)}) is duplicated."
        for columns in keys
        for (values,) in owner.fetch(
            _QUERIES["duplicates"].format(
                texts=sql.SQL(", ").join(
                    sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns
                ),
                columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
                table=table,
                most=sql.Literal(_MAX_DUPLICATES),
            ),
            "key text[]",
        )
    )
