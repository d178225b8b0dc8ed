"""Who makes backups, and can't any more where pysync is."""

from collections.abc import Iterator
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.findings import Finding, run

_QUERIES: Final = load(__file__)


def backup_findings(connection: Connection, where: str) -> Iterator[Finding]:
    """Name roles whose ``pg_dump`` fails, with the grant that helps.

    :param where: the database in words, such as ``on the portal``.
    """
    for name, reads, is_secured in connection.execute(_QUERIES["dumping"]).fetchall():
        identifier = sql.Identifier(name)
        if reads:
            cause = f"can't dump all {where}: row security of schema course ends its pg_dump"
            statement = sql.SQL("alter role {} bypassrls").format(identifier)
        else:
            cause = (
                f"owns tables and can't dump all {where}: it may not read what is in schema course"
            )
            attributes = sql.SQL("login bypassrls" if is_secured else "login")
            statement = sql.SQL(
                "create role pysync_backup {}; grant pg_read_all_data to pysync_backup"
            ).format(attributes)
        remedy = run(statement.as_string(connection), where) + " as a superuser"
        if not reads:
            remedy += ", and dump as that role"
        yield Finding(f"role '{name}'", cause, remedy, must=False)
