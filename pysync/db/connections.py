"""Open connections with timeouts, and name servers without their secrets."""

from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from pysync.db.errors import unconnected
from pysync.errors import DatabaseUnreachableError

Connection = psycopg.Connection[TupleRow]
AsyncConnection = psycopg.AsyncConnection[TupleRow]
Query = LiteralString | sql.SQL | sql.Composed

CONNECT_TIMEOUT_SECONDS: Final = 5
LOCK_TIMEOUT_SECONDS: Final = 2
"""How long we queue for a lock: applications queue behind us for as long."""

KEEPALIVES: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
"""A server whose machine went away without a word is given up, instead of awaited for hours."""

_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key")


def parse(conninfo: str) -> dict[str, Any]:
    """Split a libpq conninfo string or URI into its parameters.

    :raises DatabaseUnreachableError: if libpq can't parse it; its text isn't repeated, since it may
        hold a password.
    """
    try:
        return dict(conninfo_to_dict(conninfo))
    except psycopg.Error:
        raise DatabaseUnreachableError(
            "connection string can't be parsed",
            "give a libpq conninfo string ('host=… dbname=… user=…') or a postgresql:// URI",
        ) from None


def without_secrets(conninfo: str) -> str:
    """Return the conninfo string without passwords: what may be stored and shown."""
    parameters = parse(conninfo)
    return make_conninfo("", **{k: v for k, v in parameters.items() if k not in _SECRETS})


def has_secrets(conninfo: str) -> bool:
    """Return whether a conninfo string has what must not be seen."""
    return not parse(conninfo).keys().isdisjoint(_SECRETS)


def same_database(one: str, other: str) -> bool:
    """Return whether two conninfo strings lead to the same place, as far as they say."""
    ours, theirs = parse(one), parse(other)
    return all(ours.get(key) == theirs.get(key) for key in ("host", "hostaddr", "port", "dbname"))


def describe(conninfo: str) -> str:
    """Return ``dbname on host:port`` for messages."""
    parameters = parse(conninfo)
    host = parameters.get("host") or parameters.get("hostaddr") or "local socket"
    port = parameters.get("port")
    database = parameters.get("dbname") or parameters.get("user") or "(default)"
    return f"{database} on {host}{f':{port}' if port else ''}"


def connect(
    conninfo: str,
    *,
    connect_timeout_seconds: int = CONNECT_TIMEOUT_SECONDS,
    statement_timeout_seconds: float | None = None,
) -> Connection:
    """Open an autocommit connection with a pinned ``search_path`` and a lock timeout.

    :param conninfo: a libpq conninfo string or URI; passwords may also come from ``PGPASSWORD`` or
        a password file.
    :param connect_timeout_seconds: how long to wait for the server, unless the string says.
    :param statement_timeout_seconds: how long a statement may take; unlimited by default.
    :raises DatabaseUnreachableError: if the server can't be reached or refuses.
    """
    target = _target(conninfo, connect_timeout=connect_timeout_seconds)
    try:
        connection = psycopg.connect(target, autocommit=True)
    except psycopg.Error as error:
        raise _unreachable(conninfo, error) from None
    connection.execute(_settings(statement_timeout_seconds))
    return connection


async def connect_async(
    conninfo: str, *, statement_timeout_seconds: float | None = None
) -> AsyncConnection:
    """Open a connection as :func:`connect` does, for asyncio.

    It is meant to last: a server that is gone without a word is noticed within half a minute.

    :raises DatabaseUnreachableError: if the server can't be reached or refuses.
    """
    target = _target(conninfo, connect_timeout=CONNECT_TIMEOUT_SECONDS, **KEEPALIVES)
    try:
        connection = await psycopg.AsyncConnection.connect(target, autocommit=True)
    except psycopg.Error as error:
        raise _unreachable(conninfo, error) from None
    await connection.execute(_settings(statement_timeout_seconds))
    return connection


def _target(conninfo: str, **defaults: int) -> str:
    return make_conninfo("application_name=pysync", **{**defaults, **parse(conninfo)})


def _settings(statement_timeout_seconds: float | None) -> sql.Composed:
    """Return one statement for all: reports open a hundred connections."""
    settings = {
        "search_path": "pg_catalog, pg_temp",
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
        "statement_timeout": f"{int((statement_timeout_seconds or 0) * 1000)}ms",
        "idle_in_transaction_session_timeout": "0",
        # A command that was killed gives up its locks, also while its statement waits.
        "client_connection_check_interval": "500ms",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "row_security": "on",
    }
    calls = sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(name, value)
        for name, value in settings.items()
    )
    # What we commit in one database, and it says so, we rely on in another.
    calls += sql.SQL(
        ", pg_catalog.set_config('synchronous_commit', coalesce(nullif("
        "pg_catalog.current_setting('synchronous_commit'), 'off'), 'local'), false)"
    )
    return sql.SQL("select {}").format(calls)


def _unreachable(conninfo: str, error: psycopg.Error) -> DatabaseUnreachableError:
    return DatabaseUnreachableError(
        f"database '{describe(conninfo)}' can't be reached: {unconnected(error)}",
        "check host, port, database, role and password (PGPASSWORD or a password file)",
    )


def fetch_value(connection: Connection, query: Query, *arguments: Any, **named: Any) -> Any:
    """Return the first column of a query's first row, or ``None`` if it has no row."""
    row = connection.execute(query, arguments or named or None).fetchone()
    return row[0] if row else None


def fetch_row(connection: Connection, query: Query, *arguments: Any, **named: Any) -> TupleRow:
    """Return the row of a query that has one, whatever the database holds."""
    row = connection.execute(query, arguments or named or None).fetchone()
    if row is None:
        raise AssertionError(f"no row: {query!r}")
    return row
