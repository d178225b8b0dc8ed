"""Rows of a course's own that point at nothing: replication deletes without looking at keys."""

from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of
from pysync.diagnosis.references import OwnReference, own_references
from pysync.findings import IN_COURSE, run
from pysync.texts import Text

QUERIES: Final = load(__file__)
_POINTING_TABLE: Final = "pysync_pointing"


@dataclass(frozen=True)
class Dangling:
    """A foreign key of the course's own, and how many of its rows point at nothing.

    :param remedy: what does with them what the key would have done.
    """

    foreign_key: str
    table: str
    referred: str
    rows: int
    remedy: Text = field(compare=False)

    @property
    def text(self) -> Text:
        """Return it for people."""
        rows = "row points" if self.rows == 1 else "rows point"
        told = (
            f"{self.rows:,} {rows} at nothing: {self.table} has foreign key '{self.foreign_key}' "
            f"to {self.referred}, from which replication deletes without looking at keys; "
        )
        return Text.plain(told) + self.remedy

    @property
    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        names = ("foreign_key", "table", "referred", "rows")
        document = {name: getattr(self, name) for name in names}
        return document | {"commands": list(self.remedy.commands)}


def dangling(database: Connection) -> list[Dangling]:
    """Return the keys that don't hold; each table is read with its owner's rights."""
    references = own_references(database)
    if not references:
        return []
    with database.transaction():
        # What is deleted between two readings would seem to be pointed at still.
        database.execute("set transaction isolation level repeatable read")
        found = [(each, _count(database, each)) for each in references]
    return [
        Dangling(
            each.name,
            f"{each.schema}.{each.table}",
            f"{each.referred_schema}.{each.referred_table}",
            rows,
            _remedy(database, each),
        )
        for each, rows in found
        if rows
    ]


def _count(database: Connection, reference: OwnReference) -> int:
    places = _places(reference) | {"pointing": sql.Identifier("pg_temp", _POINTING_TABLE)}
    database.execute(QUERIES["make_pointing"].format(**places))
    with as_owner_of(database, reference.schema, reference.table) as owner:
        owner.lend(_POINTING_TABLE)
        owner.execute(QUERIES["fill_pointing"].format(**places))
    with as_owner_of(database, reference.referred_schema, reference.referred_table) as owner:
        owner.lend(_POINTING_TABLE)
        rows = owner.value(QUERIES["count_dangling"].format(**places), "bigint")
    database.execute(sql.SQL("drop table {pointing}").format(**places))
    return int(rows)


def _places(reference: OwnReference) -> dict[str, sql.Composable]:
    own = [sql.Identifier("r", name) for name in reference.columns]
    pairs = zip(reference.columns, reference.referred, strict=True)
    return {
        "table": sql.SQL("{} as r").format(reference.identifier),
        "target": sql.SQL("{} as t").format(reference.target),
        "columns": sql.SQL(", ").join(own),
        "points": sql.SQL(" and ").join(sql.SQL("{} is not null").format(each) for each in own),
        "condition": sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier("t", other), sql.Identifier("r", name))
            for name, other in pairs
        ),
        "own": sql.SQL(", ").join(map(sql.Identifier, reference.columns)),
        "nulls": sql.SQL(", ").join([sql.NULL] * len(own)),
    }


def _remedy(database: Connection, reference: OwnReference) -> Text:
    action = "clear_dangling" if reference.on_delete == "n" else "delete_dangling"
    statement = QUERIES[action].format(**_places(reference))
    return run(" ".join(statement.as_string(database).split()).removesuffix(";"), IN_COURSE)
