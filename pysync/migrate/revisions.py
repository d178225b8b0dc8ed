"""Which revisions there are, and which one a database is at."""

from typing import Final

from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.sql_files import folder
from pysync.errors import MigrationError
from pysync.migrate.lineage import PORTAL, Lineage

VERSION_TABLE: Final = "alembic_version"


def revisions(lineage: Lineage) -> tuple[str, ...]:
    """Return a lineage's revisions, the oldest first.

    Their numbers are their order, so their files' names tell; they needn't be run for it.
    """
    files = (folder("migrations") / lineage.name).glob("*.py")
    found = tuple(sorted(file.stem.partition("_")[0] for file in files))
    if not found:
        raise MigrationError(f"lineage '{lineage.name}' has no revisions", "reinstall pysync")
    return found


def head_revision(lineage: Lineage) -> str:
    """Return a lineage's newest revision."""
    return revisions(lineage)[-1]


def current_revision(connection: Connection, lineage: Lineage) -> str | None:
    """Return the revision a database is at, or ``None`` if pysync isn't in it."""
    version_table = f"{lineage.version_schema}.{VERSION_TABLE}"
    if fetch_value(connection, "select pg_catalog.to_regclass(%s)", version_table) is None:
        return None
    table = sql.Identifier(lineage.version_schema, VERSION_TABLE)
    query = sql.SQL("select version_num from {}").format(table)
    revision: str | None = fetch_value(connection, query)
    return revision


def require_head(portal: Connection) -> None:
    """Refuse a portal that isn't at this pysync's revision.

    :raises MigrationError: if it isn't.
    """
    current, head = current_revision(portal, PORTAL), head_revision(PORTAL)
    if current != head:
        raise MigrationError(
            f"portal is at revision '{current}', this pysync needs '{head}'",
            "run 'pysync migrate' first",
        )
