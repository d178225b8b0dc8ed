"""What a database's revisions made: recorded when it is made, and compared with what is there."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from psycopg import sql
from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.migrate.lineage import Lineage
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import Side

_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Difference:
    """An object that isn't what a revision made.

    :param kind: ``function``, ``trigger``, ``policy``, … as in the query.
    :param relation: the table that it is on, qualified and quoted; empty for what is on none.
    :param recorded: its facts when it was made; ``None`` if no revision made it.
    :param present: its facts now; ``None`` if it is missing.
    :param definition: how the server spelled it when it was made, where it has such a thing.
    :param installer: the role that owns what wasn't given to another.
    """

    kind: str
    relation: str
    name: str
    recorded: dict[str, Any] | None
    present: dict[str, Any] | None
    definition: str | None
    installer: str


def record(lineage: Lineage) -> list[sql.Composed]:
    """Return the statements that record what there is now."""
    return [sql.SQL("delete from {}").format(_table(lineage)), _query("record", lineage)]


def is_elsewhere(connection: Connection, lineage: Lineage) -> bool:
    """Return whether another major of the server recorded what there is."""
    query = _QUERIES["recorded_elsewhere"].format(table=_table(lineage))
    return connection.execute(query).fetchone() is not None


def respell(connection: Connection, lineage: Lineage) -> None:
    """Record how this major of the server spells what there is, if another one recorded it."""
    if is_elsewhere(connection, lineage):
        connection.execute(_query("respell", lineage))


def differences(connection: Connection, lineage: Lineage) -> list[Difference]:
    """Compare what there is with what was recorded, in one round trip."""
    with connection.cursor(row_factory=class_row(Difference)) as cursor:
        return cursor.execute(_query("differences", lineage)).fetchall()


@cache
def _query(name: str, lineage: Lineage) -> sql.Composed:
    # What is declared was recorded: only who records has to import the models.
    recorded = _QUERIES["recorded_tables"].format(table=_table(lineage))
    tables = sql.SQL("({})::text[]").format(recorded)
    places = {
        "schemas": sql.Literal(list(lineage.schemas)),
        "tables": sql.Literal(_declared(lineage)) if name == "record" else tables,
        "is_portal": sql.Literal(lineage.side is Side.PORTAL),
        "installed": sql.Literal(f"{lineage.version_schema}.installed"),
    }
    objects = sql.SQL("({})").format(_QUERIES["objects"].format(**places))
    query = _QUERIES[name].format(**places, objects=objects, table=_table(lineage))
    # Put together once: a report runs it in every course.
    return sql.Composed([sql.SQL(query.as_string(None))])


def _declared(lineage: Lineage) -> list[str]:
    return [
        f"{table.schema}.{table.name}"
        for table in lineage.metadata.tables.values()
        if table.schema in lineage.schemas
        # In a course these are the site's as well: they are compared by what replication needs.
        and (lineage.side is Side.PORTAL or table.name not in REPLICATED_TABLES)
    ]


def _table(lineage: Lineage) -> sql.Identifier:
    return sql.Identifier(lineage.version_schema, "installed")
