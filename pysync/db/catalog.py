"""What the catalog says of a database's tables."""

from dataclasses import dataclass

from psycopg import sql
from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load

QUERIES = load(__file__)


def quoted_name(name: str) -> str:
    """Return a name as an identifier, for a statement that people run."""
    return sql.Identifier(name).as_string(None)


@dataclass(frozen=True)
class Reference:
    """A foreign key: its table's `columns` point at those that are `referred`, pair by pair.

    ``follows`` says whether its rows go or change with those that they point at.
    """

    name: str
    schema: str
    table: str
    columns: list[str]
    referred: list[str]
    follows: bool

    @property
    def identifier(self) -> sql.Identifier:
        """Return the name of the table that points, for a query."""
        return sql.Identifier(self.schema, self.table)

    @property
    def condition(self) -> sql.Composed:
        """Return what joins the table that points, as `r`, to the one it points at, as `t`."""
        return sql.SQL(" and ").join(
            sql.SQL("{} = {}").format(sql.Identifier("r", own), sql.Identifier("t", other))
            for own, other in zip(self.columns, self.referred, strict=True)
        )


def references_to(connection: Connection, table: str) -> list[Reference]:
    """Return the foreign keys that point at a table.

    :param table: with its schema; there are none if it doesn't exist.
    """
    with connection.cursor(row_factory=class_row(Reference)) as cursor:
        return cursor.execute(QUERIES["references_to"], {"table": table}).fetchall()
