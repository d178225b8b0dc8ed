"""Write the right rows in a course database, beside the apply worker.

The caller holds locks on the portal that keep the apply worker from these rows; see
:mod:`pysync.verification.settle`. As for the worker, neither the write guard nor the course's own
triggers and foreign keys fire. Columns that the course added aren't touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Final, LiteralString

from psycopg import sql

from pysync.db.connections import Connection
from pysync.verification.rows import LOGIN, ReplicatedTable, Row
from pysync.verification.types import Difference, Kind

# A row that holds what is another's, by the portal's constraints, is wrong itself: it gives way and
# gets its own value later, in this batch or in the next.
_GIVE_WAY: Final[dict[str, LiteralString]] = {
    "auth_user": "update course.auth_user as holder"
    " set username = left(holder.username, 149 - length(holder.id::text)) || '~' || holder.id"
    " from {right} where holder.username = r.username and holder.id <> r.id",
    "auth_userprofile": "update course.auth_userprofile as holder set user_id = - holder.id"
    " from {right} where holder.user_id = r.user_id and holder.id <> r.id",
    "student_courseenrollment": "update course.student_courseenrollment as holder"
    " set user_id = - holder.id"
    " from {right} where holder.user_id = r.user_id and holder.id <> r.id",
}


def scrubbed(user_id: int) -> dict[str, str | None]:
    """Return what is left of a user whose row must stay, as text."""
    return {
        "password": "!",
        "last_login": None,
        "is_superuser": "false",
        "username": f"deleted-{user_id}",
        "first_name": "",
        "last_name": "",
        "email": "",
        "is_staff": "false",
        "is_active": "false",
    }


def mend(
    database: Connection,
    table: ReplicatedTable,
    differences: list[Difference],
    right: dict[int, Row],
) -> None:
    """Mend rows of one table, in the caller's transaction.

    :param right: the portal's rows, by id.
    """
    if not differences:
        return
    database.execute("set local session_replication_role = replica")
    by_kind: dict[Kind, list[int]] = {kind: [] for kind in Kind}
    for each in differences:
        by_kind[each.kind].append(each.id)
    actions: dict[Kind, Callable[[Connection, ReplicatedTable, list[dict[str, str | None]]], None]]
    actions = {Kind.DIFFERS: _update, Kind.MISSING: _insert}
    if by_kind[Kind.EXTRA]:
        _remove(database, table, by_kind[Kind.EXTRA])
    for kind, write in actions.items():
        if rows := [
            dict(zip(table.columns, right[id_].values, strict=True)) for id_ in by_kind[kind]
        ]:
            _write(database, table, _GIVE_WAY[table.name], rows)
            write(database, table, rows)


def _remove(database: Connection, table: ReplicatedTable, ids: list[int]) -> None:
    kept = referenced(database, ids) if table.name == "auth_user" else set()
    database.execute(
        sql.SQL("delete from {} where id = any (%s)").format(table.identifier),
        ([id_ for id_ in ids if id_ not in kept],),
    )
    if kept:
        values = scrubbed(0)
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = r.{}").format(sql.Identifier(name), sql.Identifier(name))
            for name in values
        )
        _write(
            database,
            table,
            "update course.auth_user as mended set {assignments} from {right}"
            " where mended.id = r.id",
            [{"id": str(id_), **scrubbed(id_)} for id_ in sorted(kept)],
            assignments=assignments,
        )


def referenced(database: Connection, ids: list[int]) -> set[int]:
    """Return the users among `ids` that rows of the course point at, by any foreign key."""
    if not ids:
        return set()
    keys = database.execute(
        "select (select array_agg(a.attname::text order by k.n)"
        "    from unnest(c.conkey) with ordinality as k (attnum, n)"
        "    join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.attnum),"
        " (select array_agg(a.attname::text order by k.n)"
        "    from unnest(c.confkey) with ordinality as k (attnum, n)"
        "    join pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.attnum),"
        " n.nspname::text, t.relname::text"
        " from pg_constraint c join pg_class t on t.oid = c.conrelid"
        " join pg_namespace n on n.oid = t.relnamespace"
        " where c.contype = 'f' and c.confrelid = 'course.auth_user'::regclass"
        " and c.conparentid = 0"
    ).fetchall()
    found: set[int] = set()
    for local, foreign, schema, name in keys:
        condition = sql.SQL(" and ").join(
            sql.SQL("local.{} = referenced.{}").format(sql.Identifier(a), sql.Identifier(b))
            for a, b in zip(local, foreign, strict=True)
        )
        rows = database.execute(
            sql.SQL(
                "select distinct referenced.id::bigint from course.auth_user as referenced"
                " join {} as local on {} where referenced.id = any (%s)"
            ).format(sql.Identifier(schema, name), condition),
            (ids,),
        )
        found |= {id_ for (id_,) in rows}
    return found


def _update(
    database: Connection, table: ReplicatedTable, rows: list[dict[str, str | None]]
) -> None:
    assignments = sql.SQL(", ").join(
        sql.SQL("{} = r.{}").format(sql.Identifier(name), sql.Identifier(name))
        for name in table.columns
        if name not in ("id", LOGIN)
    )
    _write(
        database,
        table,
        "update {table} as mended set {assignments} from {right} where mended.id = r.id",
        rows,
        assignments=assignments,
    )


def _insert(
    database: Connection, table: ReplicatedTable, rows: list[dict[str, str | None]]
) -> None:
    _write(
        database,
        table,
        "insert into {table} ({columns}) overriding system value select {columns} from {right}",
        rows,
        columns=sql.SQL(", ").join(map(sql.Identifier, table.columns)),
    )


def _write(
    database: Connection,
    table: ReplicatedTable,
    statement: LiteralString,
    rows: Iterable[dict[str, str | None]],
    **parts: sql.Composable,
) -> None:
    right = sql.SQL("jsonb_populate_recordset(null::{}, {}) as r").format(
        table.identifier, sql.Literal(json.dumps(list(rows)))
    )
    database.execute(sql.SQL(statement).format(table=table.identifier, right=right, **parts))
