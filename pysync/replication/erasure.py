"""Look whether a course database still holds anything of users who were erased."""

from collections.abc import Sequence
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of
from pysync.models.replicated import ReplicatedTable

_QUERIES: Final = load(__file__)


def personal_data_left(
    database: Connection, tables: Sequence[ReplicatedTable], user_ids: Sequence[int]
) -> set[int]:
    """Return the users among these of whom a course holds anything personal.

    A user whose row must stay, since rows of the course point at it, holds nothing any more but an
    id. Each table is read with its owner's rights.

    :param tables: what the course is sent.
    """
    found: set[int] = set()
    for table in tables:
        query = _QUERIES["personal_data_left"].format(
            user_id=sql.Identifier(table.user_column),
            table=table.identifier,
            holds=_holds(table),
        )
        with as_owner_of(database, "course", table.name) as owner:
            rows = owner.fetch(query, "user_id bigint", {"user_ids": list(user_ids)})
        found.update(user_id for (user_id,) in rows)
    return found


def _holds(table: ReplicatedTable) -> sql.Composable:
    """Return a condition: a row says something of its user."""
    if not table.scrubbed:
        return sql.SQL("true")
    scrubbed = "{name} ^@ ('deleted-' || {user_id}) and ({columns}) is not distinct from ({values})"
    return sql.SQL(f"not ({scrubbed})").format(
        name=sql.Identifier(table.unique),
        user_id=sql.Identifier(table.user_column),
        columns=sql.SQL(", ").join(
            column.compared() for column in table.described if column.name in table.scrubbed
        ),
        values=sql.SQL(", ").join(
            sql.SQL(table.scrubbed[column.name])
            for column in table.described
            if column.name in table.scrubbed
        ),
    )
