"""Settings that end sessions which replication needs: of a role, a database or a server.

Our own sessions set them off (:func:`pysync.db.connections.connect`). Those that a course's server
opens on the portal begin with what is said there for the replication role, unless the connection
string of the subscription says otherwise (``options='-c statement_timeout=0'``; tried on 15 and
18). Workers begin with what is said in the course database for their subscription's owner, whoever
owns the tables.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection, fetch_value, parse
from pysync.db.queries import load
from pysync.findings import IN_COURSE, ON_PORTAL, Finding, run
from pysync.models.replicated import PUBLISHED_TABLES
from pysync.replication.publications import is_portal
from pysync.replication.registry import Course

_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class _Ending:
    """A setting that ends what lasts longer.

    :param what: what it ends.
    :param least_seconds: below that nothing works for long; it is only said of others.
    :param most_seconds: from there on it does no harm.
    """

    what: str
    least_seconds: float = 0
    most_seconds: float = float("inf")


_FIRST_COPY: Final = "a first copy of a table that takes longer is ended, and begun anew for ever"

_OF_COPIES: Final = {
    "statement_timeout": _Ending(_FIRST_COPY, least_seconds=60),
    "transaction_timeout": _Ending(_FIRST_COPY, least_seconds=60),
    "lock_timeout": _Ending(
        "a first copy that waits longer for older transactions is ended, and begun anew"
    ),
    "idle_session_timeout": _Ending(
        "a first copy that waits longer for changes to be applied is ended", most_seconds=60
    ),
}
_OF_STREAMS: Final = {
    "wal_sender_timeout": _Ending(
        "a connection whose worker waits that long for a lock is ended", most_seconds=10
    ),
}
_OF_WORKERS: Final = {
    "lock_timeout": _Ending("its worker fails where it would wait longer for a lock"),
    "transaction_timeout": _Ending(
        "its worker is ended in each transaction that takes longer, and begins it anew for ever",
        least_seconds=60,
    ),
}


def of_copies(
    portal: Connection, conninfo: str, where: str = ON_PORTAL, *, adds: bool = False
) -> Iterator[Finding]:
    """Name what ends the sessions on the portal that make first copies.

    :param conninfo: how a course's server connects.
    :param where: in words, if it is a relay.
    :param adds: whether a course is about to be added, and must have room.
    """
    role = parse(conninfo).get("user", "")
    yield from _findings(portal, role, _unsaid(_OF_COPIES, conninfo), where)
    limit = fetch_value(portal, _QUERIES["connection_limit"], role=role)
    streaming = "streaming_from_portal" if is_portal(portal) else "streaming_from_relay"
    courses = 0 if limit is None else fetch_value(portal, _QUERIES[streaming], role=role)
    if limit is not None and limit <= courses:
        alter = sql.SQL("alter role {} connection limit {}").format(
            sql.Identifier(role), courses + 1 + len(PUBLISHED_TABLES)
        )
        yield Finding(
            f"role '{role}', which courses' servers use,",
            f"may have {limit} connections {where}, {courses} of them for courses that "
            "stream: a first copy takes two",
            run(alter.as_string(portal), where),
            must=adds or limit < courses,
        )


def of_streams(portal: Connection, conninfo: str, where: str = ON_PORTAL) -> Iterator[Finding]:
    """Name what ends the sessions on the portal that stream."""
    role = parse(conninfo).get("user", "")
    yield from _findings(portal, role, _unsaid(_OF_STREAMS, conninfo), where)


def _unsaid(endings: dict[str, _Ending], conninfo: str) -> dict[str, _Ending]:
    """Return those of which a connection string says nothing."""
    said = re.findall(r"-c\s*(\w+)\s*=", str(parse(conninfo).get("options", "")))
    return {name: ending for name, ending in endings.items() if name not in said}


def of_workers(database: Connection, course: Course) -> Iterator[Finding]:
    """Name what ends the workers of a course's subscription, also of one that isn't there yet."""
    name = course.replication_name
    owner = fetch_value(database, _QUERIES["subscription_owner"], name=name)
    # A worker that runs has it from when it began.
    restart = sql.SQL(
        "select pg_terminate_backend(pid) from pg_stat_subscription"
        " where subname = {} and pid is not null"
    ).format(sql.Literal(name))
    yield from _findings(database, owner, _OF_WORKERS, IN_COURSE, restart)


def _findings(
    connection: Connection,
    role: str,
    endings: dict[str, _Ending],
    where: str,
    *afterwards: sql.Composable,
) -> Iterator[Finding]:
    asked = {"role": role, "names": list(endings)}
    for name, value, seconds, of_role, of_role_here in connection.execute(
        _QUERIES["session_settings"], asked
    ):
        ending = endings[name]
        if not 0 < seconds < ending.most_seconds:
            continue
        # What is said for others, too, stays as they have it.
        alter = sql.SQL(
            "alter role {role} reset {name}"
            if of_role and not of_role_here
            else "alter role {role} in database {database} set {name} = 0"
        ).format(
            role=sql.Identifier(role),
            database=sql.Identifier(connection.info.dbname),
            name=sql.Identifier(name),
        )
        remedy = sql.SQL("; ").join([alter, *afterwards]).as_string(connection)
        yield Finding(
            f"setting {name}",
            f"is '{value}' for sessions of role '{role}' {where}: {ending.what}",
            run(remedy, where),
            must=seconds < ending.least_seconds,
        )
