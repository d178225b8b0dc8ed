"""Read from the catalog what is there; change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql
from sqlalchemy import Table, UniqueConstraint

from pysync.db.connections import Connection
from pysync.models.course import CourseDatabaseBase
from pysync.models.portal import PortalBase

KINDS: Final = {
    "r": "a table",
    "p": "a partitioned table",
    "v": "a view",
    "m": "a materialized view",
    "f": "a foreign table",
}
"""Relations that could be meant by a name, as ``pg_class.relkind`` has them."""


_MAX_DUPLICATES: Final = 20


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


def inspect(connection: Connection, schema: str, name: str) -> FoundTable | None:
    """Read a table from the catalog.

    :returns: ``None`` if the schema has nothing of this name.
    """
    row = connection.execute(
        "select c.oid, c.relkind::text, c.relrowsecurity from pg_catalog.pg_class c"
        " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relname = %s and c.relkind::text = any (%s)",
        (schema, name, list(KINDS)),
    ).fetchone()
    if row is None:
        return None
    oid, kind, row_security = row
    table = sql.Identifier(schema, name)
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
        "select c.conname::text, a.attname::text, n.nspname || '.' || target.relname,"
        " c.confdeltype = 'c', pg_catalog.pg_get_constraintdef(c.oid)"
        " from pg_catalog.pg_constraint c"
        " join pg_catalog.pg_attribute a on a.attrelid = c.conrelid and c.conkey = array[a.attnum]"
        " join pg_catalog.pg_class target on target.oid = c.confrelid"
        " join pg_catalog.pg_namespace n on n.oid = target.relnamespace"
        " where c.conrelid = %s and c.contype = 'f' and c.convalidated order by c.conname",
        (oid,),
    ).fetchall()
    has_rows = (
        kind == "r"
        and connection.execute(sql.SQL("select from {} limit 1").format(table)).fetchone()
        is not None
    )
    columns = _columns(connection, oid, table, _required(name) if has_rows else frozenset())
    unique = frozenset(frozenset(names) for _, is_unique, names in indexes if is_unique)
    return FoundTable(
        schema=schema,
        name=name,
        kind=kind,
        has_rows=has_rows,
        columns=columns,
        primary_key=next((tuple(names) for primary, _, names in indexes if primary), ()),
        unique=unique,
        indexed=frozenset(names[0] for _, _, names in indexes),
        foreign_keys=tuple(FoundForeignKey(*foreign_key) for foreign_key in foreign_keys),
        duplicates=_duplicates(connection, table, _missing(name, columns, unique))
        if has_rows
        else (),
        row_security=row_security,
        restrictions=_restrictions(connection, oid),
    )


def _declared(name: str) -> list[Table]:
    """Return what a table is declared as, on the portal and in a course."""
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
    declared = {
        frozenset(column.name for column in constraint.columns)
        for table in _declared(name)
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    }
    return sorted(sorted(columns) for columns in declared - unique if columns <= found.keys())


def _duplicates(
    connection: Connection, table: sql.Identifier, keys: list[list[str]]
) -> tuple[str, ...]:
    """Return keys that unique constraints wouldn't take, in the server's words."""
    return tuple(
        f"Key ({', '.join(columns)})=({', '.join(values)}) is duplicated."
        for columns in keys
        for (values,) in connection.execute(
            sql.SQL(
                "select array[{texts}] from {table} where ({columns}) is not null"
                " group by {columns} having pg_catalog.count(*) > 1 order by {columns} limit {most}"
            ).format(
                texts=sql.SQL(", ").join(
                    sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns
                ),
                columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
                table=table,
                most=sql.Literal(_MAX_DUPLICATES),
            )
        ).fetchall()
    )


def _columns(
    connection: Connection, oid: int, table: sql.Identifier, required: frozenset[str]
) -> dict[str, FoundColumn]:
    found = {}
    for name, type_name, not_null, has_default, varies in connection.execute(
        "select attname::text, pg_catalog.format_type(atttypid, atttypmod), attnotnull,"
        " atthasdef or attidentity <> '',"
        " attidentity <> ''"
        r"   or coalesce(pg_catalog.pg_get_expr(adbin, adrelid) ~ '(nextval|uuid\w*)\(', false)"
        " from pg_catalog.pg_attribute"
        " left join pg_catalog.pg_attrdef on adrelid = attrelid and adnum = attnum"
        " where attrelid = %s and attnum > 0 and not attisdropped"
        " order by attnum",
        (oid,),
    ).fetchall():
        holds_null = (
            not not_null
            and name in required
            and connection.execute(
                sql.SQL("select from {} where {} is null limit 1").format(
                    table, sql.Identifier(name)
                )
            ).fetchone()
            is not None
        )
        found[name] = FoundColumn(name, type_name, not_null, has_default, holds_null, varies)
    return found


def _restrictions(connection: Connection, oid: int) -> tuple[Restriction, ...]:
    # Columns inside expressions and predicates are known by what the index depends on.
    indexes = connection.execute(
        "select case when i.indisexclusion then 'an exclusion constraint' else 'unique' end,"
        " c.relname::text,"
        " array(select a.attname::text from pg_catalog.pg_attribute a"
        "        where a.attrelid = i.indrelid"
        "          and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])),"
        " array(select distinct a.attname::text from pg_catalog.pg_depend d"
        "         join pg_catalog.pg_attribute a"
        "           on a.attrelid = d.refobjid and a.attnum = d.refobjsubid"
        "        where d.refobjid = i.indrelid"
        "          and (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
        "                 and d.objid = i.indexrelid"
        "               or d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass"
        "                 and d.objid = (select oid from pg_catalog.pg_constraint"
        "                                 where conindid = i.indexrelid and conrelid = i.indrelid"
        "                                   and contype in ('p', 'u', 'x')))),"
        " i.indexprs is null and i.indpred is null and not i.indisexclusion"
        "   and not i.indnullsnotdistinct"
        " from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid"
        " where i.indrelid = %s and (i.indisunique or i.indisexclusion) order by c.relname",
        (oid,),
    ).fetchall()
    checks = connection.execute(
        "select 'a CHECK constraint', conname::text, array[]::text[],"
        " array(select attname::text from pg_catalog.pg_attribute"
        "        where attrelid = conrelid and attnum = any (conkey)), true"
        " from pg_catalog.pg_constraint where conrelid = %s and contype = 'c' order by conname",
        (oid,),
    ).fetchall()
    return tuple(
        Restriction(kind, name, frozenset(key), frozenset(columns) | frozenset(key), plain)
        for kind, name, key, columns, plain in [*indexes, *checks]
    )
