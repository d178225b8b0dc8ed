"""Connect to course databases: only to those whose schema nobody else can alter."""

from typing import Any, Final

from pysync.db.connections import Connection, connect
from pysync.db.queries import load
from pysync.errors import UnsuitableDatabaseError
from pysync.findings import IN_COURSE, run
from pysync.texts import Text

_QUERIES: Final = load(__file__)


def connect_course(conninfo: str, **options: Any) -> Connection:
    """Connect to what is a course's database, or is to become one.

    :param options: as of :func:`pysync.db.connections.connect`.
    :raises DatabaseUnreachableError: if it can't be reached.
    :raises UnsuitableDatabaseError: if what commands use there is somebody else's.
    """
    connection = connect(conninfo, **options)
    try:
        require_own_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def require_own_schema(connection: Connection) -> None:
    """Refuse a database where others could put code into what commands read and call.

    It would run with our rights. Superusers have them anyway.

    :raises UnsuitableDatabaseError: if it is one.
    """
    found = connection.execute(_QUERIES["foreign_owner"]).fetchone()
    if found is not None:
        what, owner, statement, is_portal = found
        if is_portal:
            raise a_portal(connection)
        raise UnsuitableDatabaseError(
            f"database '{connection.info.dbname}' can't be trusted: {what} belongs to role "
            f"'{owner}', whose code would run with the rights of '{connection.info.user}'",
            Text("connect as that role, or ") + run(statement, IN_COURSE),
        )


def a_portal(connection: Connection) -> UnsuitableDatabaseError:
    """Return the error for a portal that was taken for a course's database."""
    return UnsuitableDatabaseError(
        f"database '{connection.info.dbname}' is a portal: one database can't be both portal and "
        "course",
        "give the course a database of its own",
    )
