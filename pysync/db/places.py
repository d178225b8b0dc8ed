"""The other servers that a string names, and whether one alone accepts writes."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg.rows import class_row

from pysync.db.connections import Connection, compose, connect, describe, resolve
from pysync.db.hosts import PLACE, places
from pysync.db.queries import load
from pysync.errors import DatabaseUnreachableError, PysyncError, UnsuitableServerError

REACH_SECONDS: Final = 2
"""How long another server than ours may take to be reached, and to answer."""

SILENT_SECONDS: Final = 3
"""For how long one that said nothing isn't asked again: a command asks several times."""

_silent: dict[str, tuple[float, DatabaseUnreachableError]] = {}
_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Server:
    """What tells a running server from others.

    :param timeline: which it writes to, ``None`` for a standby. Each promotion begins one.
    """

    system_identifier: int
    started: str
    timeline: int | None


def identify(connection: Connection) -> Server:
    """Return which server a connection leads to."""
    with connection.cursor(row_factory=class_row(Server)) as cursor:
        found = cursor.execute(_QUERIES["running_server"]).fetchone()
    assert found is not None  # noqa: S101 - it has one row
    return found


def others(connection: Connection, conninfo: str, *, accepting: str) -> list[str]:
    """Return how to reach each server that a string names beside the one that was connected to.

    :param conninfo: what the connection was opened with.
    :param accepting: what it has to accept, as ``target_session_attrs`` has it.
    """
    parameters = resolve(conninfo)
    named, found = places(parameters), []
    for each in named if len(named) > 1 else []:
        host = each.get("host") or each.get("hostaddr")
        port = each.get("port", str(connection.info.port))
        if (host, port) == (connection.info.host, str(connection.info.port)):
            continue
        rest = {name: value for name, value in parameters.items() if name not in PLACE}
        rest |= {"target_session_attrs": accepting, "connect_timeout": REACH_SECONDS}
        found.append(compose(rest | each))
    return found


def reach(conninfo: str) -> Connection:
    """Connect to one of these.

    :raises DatabaseUnreachableError: if it can't be reached soon, or couldn't a moment ago.
    """
    place, began = describe(conninfo), time.monotonic()
    if place in _silent and began - _silent[place][0] < SILENT_SECONDS:
        error = _silent[place][1]
        raise DatabaseUnreachableError(error.message, error.remedy)
    try:
        return connect(conninfo, statement_timeout_seconds=REACH_SECONDS)
    except DatabaseUnreachableError as error:
        # One that answers what isn't asked for does so at once.
        if time.monotonic() - began > REACH_SECONDS * 0.9:
            _silent[place] = time.monotonic(), error
        raise


def require_one(connection: Connection, conninfo: str) -> None:
    """Refuse to go on where another server that a string names accepts writes, too.

    That is a primary that came back after its standby was promoted: what is written to one of them
    the other one lacks.

    :param conninfo: what the connection was opened with.
    :raises UnsuitableServerError: if there is one.
    """
    elsewhere = others(connection, conninfo, accepting="read-write")
    if not elsewhere:
        return
    ours = identify(connection)
    with ThreadPoolExecutor(len(elsewhere)) as threads:
        found = [*zip(elsewhere, threads.map(_answer, elsewhere), strict=True)]
    for place, theirs in found:
        if theirs is None or theirs.timeline is None or theirs == ours or ours.timeline is None:
            continue
        here, there = describe(_dsn(connection)), describe(place)
        if theirs.system_identifier != ours.system_identifier:
            raise UnsuitableServerError(
                f"database '{here}' isn't the only one that is named and accepts writes: "
                f"'{there}' does, too, and is another cluster's",
                "name servers of one cluster only",
            )
        early, late = sorted(((ours, here), (theirs, there)), key=lambda it: it[0].timeline or 0)
        raise UnsuitableServerError(
            f"database '{here}' has two servers that accept writes: '{early[1]}', on timeline "
            f"{early[0].timeline}, and '{late[1]}', on timeline {late[0].timeline}: a standby was "
            "promoted, and the old primary is back",
            "stop the one on the earlier timeline, look for what was written to it since, and make "
            "it a standby of the other (pg_rewind)",
        )


def _dsn(connection: Connection) -> str:
    info = connection.info
    return compose({"host": info.host, "port": str(info.port), "dbname": info.dbname})


def _answer(conninfo: str) -> Server | None:
    try:
        with closing(reach(conninfo)) as connection:
            return identify(connection)
    except (PysyncError, psycopg.Error):
        return None
