"""Open connections with timeouts, and name servers without their secrets.

What a session of ours is to have set is asked for when it is opened: no statement sets what a
pooler could leave behind in a session of somebody else's.
"""

from contextlib import closing
from functools import lru_cache
from typing import Any, Final, LiteralString

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from pysync.db.errors import unconnected
from pysync.db.hosts import note, preferred
from pysync.db.queries import load
from pysync.errors import DatabaseUnreachableError, UnsuitableServerError
from pysync.texts import quoted

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

_SEARCH_PATH: Final = "pg_catalog, pg_temp"
_SETTINGS: Final = {
    "search_path": _SEARCH_PATH,
    "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    # A command that was killed gives up its locks, also while its statement waits.
    "client_connection_check_interval": "500ms",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "row_security": "on",
}
"""What all our sessions have set, whatever their role, their database or ``PGOPTIONS`` say."""

_READ_ONLY_COUNTS: Final = ("read-write", "read-only")

_QUERIES: Final = load(__file__)

_LEADING: Final = ("host", "hostaddr", "port", "dbname", "user")
_parsed: Final = lru_cache(1024)(conninfo_to_dict)  # a report parses each many times
_SECRETS: Final = ("password", "sslpassword", "oauth_client_secret", "scram_client_key")


def parse(conninfo: str) -> dict[str, Any]:
    """Split a libpq conninfo string or URI into its parameters.

    :raises DatabaseUnreachableError: if libpq can't; no text that may hold a password is repeated.
    """
    try:
        return dict(_parsed(conninfo))
    except psycopg.Error:
        raise DatabaseUnreachableError(
            "connection string can't be parsed",
            "give a libpq conninfo string ('host=… dbname=… user=…') or a postgresql:// URI",
        ) from None


def without_secrets(conninfo: str) -> str:
    """Return the conninfo string without passwords: what may be stored and shown."""
    return compose({k: v for k, v in parse(conninfo).items() if k not in _SECRETS})


def compose(parameters: dict[str, Any]) -> str:
    """Return parameters as a conninfo string, in the order in which people look for them."""
    names = [*_LEADING, *sorted(parameters.keys() - set(_LEADING))]
    return make_conninfo("", **{name: parameters[name] for name in names if name in parameters})


def has_secrets(conninfo: str) -> bool:
    """Return whether a conninfo string has what must not be seen."""
    return not parse(conninfo).keys().isdisjoint(_SECRETS)


def describe(conninfo: str) -> str:
    """Return ``dbname on host:port`` for messages."""
    parameters = parse(conninfo)
    hosts = str(parameters.get("host") or parameters.get("hostaddr") or "local socket").split(",")
    ports = str(parameters.get("port") or "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    places = [
        f"[{host}]:{port}" if port and ":" in host else f"{host}:{port}" if port else host
        for host, port in zip(hosts, ports, strict=False)
    ]
    database = parameters.get("dbname") or parameters.get("user") or "(default)"
    return f"{database} on {', '.join(places)}"


def resolve(conninfo: str) -> dict[str, Any]:
    """Return what libpq makes of a string, of service files and of ``PG*`` variables.

    Nothing is connected to; secrets are among it, libpq's own defaults aren't.

    :raises DatabaseUnreachableError: if libpq can't make anything of it.
    """
    given = parse(conninfo)
    # It says what it has gathered as soon as it finds something wrong, before it connects.
    unusable = make_conninfo("", **{**given, "ssl_max_protocol_version": "none"})
    gathered = pq.PGconn.connect_start(unusable.encode())
    found = {
        option.keyword.decode(): option.val.decode(errors="replace")
        for option in gathered.info
        if option.val and option.val != option.compiled
    }
    if "user" not in found:
        reason = gathered.error_message.decode(errors="replace").strip()
        raise DatabaseUnreachableError(
            f"connection string refused: {quoted(reason)}",
            "name host, dbname and user in it, or look into the service file",
        )
    gathered.finish()
    found.pop("ssl_max_protocol_version", None)
    # The service stays: of what was made unusable only libpq knows what it says.
    found |= given
    if "," in f"{found.get('host')}{found.get('hostaddr')}":  # ours is the one that accepts writes
        found.setdefault("target_session_attrs", _READ_ONLY_COUNTS[0])
    return found


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
    :raises UnsuitableServerError: if a pooler answers in its place.
    """
    plain = _target(conninfo, connect_timeout=connect_timeout_seconds)
    target = _with_settings(preferred(plain), statement_timeout_seconds)
    try:
        connection = psycopg.connect(target, autocommit=True)
    except psycopg.Error as error:
        raise _refused(plain, error) from None
    note(plain, connection.info.host, connection.info.port)
    try:
        found = connection.execute(_QUERIES["own_session"], _own(connection)).fetchone()
    except BaseException:
        connection.close()
        raise
    if found and found[0]:
        return connection
    connection.close()
    raise _pooled(plain)


async def connect_async(
    conninfo: str, *, statement_timeout_seconds: float | None = None
) -> AsyncConnection:
    """Open a connection as :func:`connect` does, for asyncio.

    It is meant to last: a server that is gone without a word is noticed within half a minute.

    :raises PysyncError: as :func:`connect`.
    """
    plain = _target(conninfo, connect_timeout=CONNECT_TIMEOUT_SECONDS, **KEEPALIVES)
    target = _with_settings(plain, statement_timeout_seconds)
    try:
        connection = await psycopg.AsyncConnection.connect(target, autocommit=True)
    except psycopg.Error as error:
        raise _refused(plain, error) from None
    found = await (await connection.execute(_QUERIES["own_session"], _own(connection))).fetchone()
    if not found or not found[0]:
        await connection.close()
        raise _pooled(plain)
    return connection


def _target(conninfo: str, **defaults: int) -> dict[str, Any]:
    # psycopg goes from host to host itself, and knows nothing of service files.
    ours = {**defaults, "application_name": "pysync"}
    return {**resolve(conninfo), **ours, **parse(conninfo), "client_encoding": "UTF8"}


def _with_settings(target: dict[str, Any], statement_timeout_seconds: float | None) -> str:
    settings = {
        **_SETTINGS,
        "statement_timeout": f"{int((statement_timeout_seconds or 0) * 1000)}ms",
    }
    if target.get("target_session_attrs") in _READ_ONLY_COUNTS:
        # By this one libpq tells whether a server takes writes.
        del settings["default_transaction_read_only"]
    # The last one counts.
    ours = [f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items()]
    return make_conninfo("", **{**target, "options": " ".join([target.get("options", ""), *ours])})


def _own(connection: Connection | AsyncConnection) -> dict[str, Any]:
    return {"pid": connection.info.backend_pid, "search_path": _SEARCH_PATH}


def _refused(plain: dict[str, Any], error: psycopg.Error) -> Exception:
    """Return why there is no connection: a pooler may take no settings when a session is opened."""
    if "FATAL" in str(error):  # something answers
        try:
            with closing(psycopg.connect(make_conninfo("", **plain), autocommit=True)) as other:
                pid = fetch_value(other, "select pg_catalog.pg_backend_pid()")
                if pid != other.info.backend_pid:
                    return _pooled(plain)
        except psycopg.Error:
            pass
    return DatabaseUnreachableError(
        f"database '{describe(make_conninfo('', **plain))}' can't be reached: {unconnected(error)}",
        "check host, port, database, role and password (PGPASSWORD or a password file)",
    )


def _pooled(plain: dict[str, Any]) -> UnsuitableServerError:
    return UnsuitableServerError(
        f"database '{describe(make_conninfo('', **plain))}' is reached through a connection "
        "pooler: what a session of pysync's has set would stay in sessions of applications",
        "connect directly: name host and port of the PostgreSQL server itself",
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
