"""Statements on tables of others, with their owner's rights and no more.

On a table of somebody else's a statement meets code of theirs: triggers, policies, casts and
operators of their types, domains, defaults, expressions of indexes. It runs with the rights of
whoever runs the statement, and ``set role`` is no boundary: that code can reset it. PostgreSQL has
one for such a case, the security-restricted operation, in which a materialized view is refreshed as
its owner: roles can't be changed, nothing can be left for the end of the transaction (deferred
triggers, cursors), nothing temporary made, and settings are put back. So a statement for which we
must lend nothing is run by a view that belongs to the role, made and dropped for it.

The role owns the view, and its code could hang more code on it or put something else in its place:
so it may create nothing in the view's schema, and the view is never read. What a statement returns
comes back in a temporary table of ours, into which the role may insert.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Self
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from pysync.db.connections import Connection, Query, fetch_row, fetch_value
from pysync.db.queries import load

Parameters = Sequence[Any] | dict[str, Any] | None

_QUERIES: Final = load(__file__)
_AFFECTED: Final = sql.Identifier("pg_temp", "pysync_affected")
_ROWS: Final = sql.Identifier("pg_temp", "pysync_rows")


class Restricted:
    """Runs statements with a role's rights; made by :func:`restricted`."""

    def __init__(self, session: Connection, role: str, schema: str | None) -> None:
        self._session = session
        self._role = sql.Identifier(role)
        self._schema = schema
        self._views = 0

    @property
    def unrestricted(self) -> bool:
        """Return whether statements run as they are: the role has all the rights that we have."""
        return self._schema is None

    def __enter__(self) -> Self:
        if self._schema is None:
            return self
        self._run(
            sql.SQL("create schema {schema}"),
            _QUERIES["restricted_function"],
            sql.SQL("grant usage on schema {schema} to {role}"),
            *_make(_AFFECTED, "affected bigint"),
            # What is deferred until the end of the transaction would be refused.
            sql.SQL("set constraints all immediate"),
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._schema is None or kind:
            return
        self._run(sql.SQL("drop schema {schema} cascade; drop table {affected}"))

    def execute(self, statement: Query, parameters: Parameters = None) -> int:
        """Run a statement and return how many rows it concerned."""
        if self._schema is None:
            return self._session.execute(statement, parameters).rowcount
        ((affected,),) = self._refresh([self._text(statement, parameters)])
        return int(affected)

    def execute_all(self, statements: Iterable[tuple[Query, Parameters]]) -> None:
        """Run statements in a round trip or two, until one fails."""
        if self._schema is not None:
            self._refresh([self._text(*each) for each in statements])
            return
        with self._session.pipeline():
            for each in statements:
                self._session.execute(*each)

    def fetch(self, query: Query, columns: str, parameters: Parameters = None) -> list[TupleRow]:
        """Return the rows of a query.

        :param columns: their names and types, ``id bigint, hash bytea``; the types are
            PostgreSQL's own.
        """
        if self._schema is None:
            return self._session.execute(query, parameters).fetchall()
        insert = f"insert into pg_temp.pysync_rows {self._text(query, parameters)}"
        return self._refresh(
            [insert],
            before=_make(_ROWS, columns),
            after=[sql.SQL("select * from {rows}"), sql.SQL("drop table {rows}")],
        )

    def value(self, query: Query, type_: str, parameters: Parameters = None) -> Any:
        """Return the only column of a query's first row, or ``None`` if it has no row."""
        return next((value for (value,) in self.fetch(query, f"value {type_}", parameters)), None)

    def lend(self, temporary_table: str) -> None:
        """Let the role read and write a temporary table of this session's."""
        if self._schema is not None:
            table = sql.Identifier("pg_temp", temporary_table)
            self._run(
                sql.SQL("grant select, insert, update, delete on {table} to {role}"), table=table
            )

    def _text(self, statement: Query, parameters: Parameters) -> str:
        return psycopg.ClientCursor(self._session).mogrify(statement, parameters)

    def _refresh(
        self, statements: list[str], before: Iterable[sql.SQL] = (), after: Iterable[sql.SQL] = ()
    ) -> list[TupleRow]:
        """Run statements of the role's, and ours before and after; returns the rows of the last."""
        # A name of its own each time: the role may have moved the one before.
        self._views += 1
        return self._run(
            *before,
            sql.SQL("truncate {affected}"),
            _QUERIES["restricted_view"],
            # Others than superusers give away only what the new owner could have made there.
            sql.SQL("grant create on schema {schema} to {role}"),
            sql.SQL("alter materialized view {view} owner to {role}"),
            sql.SQL("revoke create on schema {schema} from {role}"),
            sql.SQL("refresh materialized view {view}"),
            sql.SQL("select * from {affected}"),
            *after,
            view=self._in_schema(f"work_{self._views}"),
            statements=sql.Literal(statements),
        )

    def _in_schema(self, name: str) -> sql.Identifier:
        return sql.Identifier(str(self._schema), name)

    def _run(self, *statements: sql.SQL, **places: sql.Composable) -> list[TupleRow]:
        """Run statements in one round trip; returns the rows of the last one that has any."""
        places |= {"schema": sql.Identifier(str(self._schema)), "role": self._role}
        places |= {"affected": _AFFECTED, "rows": _ROWS, "function": self._in_schema("run")}
        each = [statement.format(**places) for statement in statements]
        cursor = self._session.execute(sql.SQL(";\n").join(each), prepare=False)
        rows: list[TupleRow] = []
        while True:
            rows = cursor.fetchall() if cursor.description else rows
            if not cursor.nextset():
                return rows


def _make(table: sql.Identifier, columns: str) -> tuple[sql.SQL, ...]:
    """Return what makes a temporary table that the role may fill."""
    name = table.as_string(None)
    return (
        sql.SQL(f"create temporary table {name} ({columns}) on commit drop"),
        sql.SQL(f"grant insert on {name} to {{role}}"),
    )


@contextmanager
def restricted(session: Connection, role: str) -> Iterator[Restricted]:
    """Run the block's statements in a transaction, with a role's rights instead of the session's.

    Where the role is the session's own, or a superuser, there is nothing to lend, and statements
    run as they are.

    :raises psycopg.errors.InsufficientPrivilege: if the session may not act as the role.
    """
    with session.transaction():
        # A role that is missing is an error below, and never a reason to go on as we are.
        needed = fetch_value(session, _QUERIES["needs_restriction"], role) is not False
        with Restricted(session, role, f"pysync_{uuid4().hex}" if needed else None) as runner:
            yield runner


@contextmanager
def as_owner_of(session: Connection, schema: str, relation: str) -> Iterator[Restricted]:
    """Run the block's statements in a transaction, with the rights of a relation's owner.

    :raises psycopg.errors.UndefinedTable: if it doesn't exist.
    :raises psycopg.errors.InsufficientPrivilege: if the session may not act as its owner.
    """
    with (
        session.transaction(),
        restricted(session, lock_owner(session, schema, relation)) as owner,
    ):
        yield owner


def lock_owner(session: Connection, schema: str, relation: str) -> str:
    """Return a relation's owner; nobody else becomes it until the transaction ends.

    Where policies would hide rows from the owner, statements fail from here on: rows that can't be
    seen aren't missing.
    """
    names = {"schema": sql.Identifier(schema), "name": sql.Identifier(schema, relation)}
    session.execute(sql.SQL("lock table {name} in access share mode").format(**names))
    owner, uses_schema, _ = fetch_row(session, _QUERIES["owner"], schema, relation)
    if not uses_schema:
        names["role"] = sql.Identifier(owner)
        session.execute(sql.SQL("grant usage on schema {schema} to {role}").format(**names))
    return str(owner)
