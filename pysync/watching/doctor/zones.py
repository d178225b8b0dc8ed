"""What a zone of trust's credentials can read: those that courses use where they stream from.

Who may stream one publication may stream them all, decode the rest of the database with another
plugin, and take a base backup, for which a connection for logical replication is enough: no line
of ``pg_hba.conf`` allows the one without the other. So a zone is a server.
"""

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any, Final

from psycopg import errors, sql
from psycopg.rows import dict_row

from pysync.db.connections import Connection, parse
from pysync.db.queries import load
from pysync.findings import ON_PORTAL, Finding, run
from pysync.models.replicated import PUBLISHED_TABLES
from pysync.replication import identities, registry, subscriptions
from pysync.replication.databases import connect_course
from pysync.replication.publishers import on
from pysync.replication.registry import Course
from pysync.types import relay_id

PORTAL: Final = "portal"
"""The zone of those who stream from the portal."""

_QUERIES: Final = load(__file__)
_EXPECTED: Final = {"replication", "select"}
"""What a role needs by which courses' servers stream."""


@dataclass(frozen=True)
class Reader:
    """A role that can log in and read what is replicated.

    :param used_by: courses, or relays, whose servers use it.
    :param streams: the courses whose changes it can have, if it may replicate.
    :param selects: the courses whose rows it can read by SQL.
    :param by: what lets it: ``replication``, ``select``, or something beyond these.
    :param admitted: lines of ``pg_hba.conf`` for it; ``None`` where we may not read them.
    """

    role: str
    used_by: list[str]
    streams: list[str]
    selects: list[str]
    by: list[str]
    admitted: list[str] | None


@dataclass(frozen=True)
class Zone:
    """A server from which courses stream, and who can read what there.

    :param courses: whose rows it has.
    :param databases: the server's others, of which a base backup has everything, too.
    """

    name: str
    courses: list[str]
    databases: list[str]
    readers: list[Reader]
    findings: list[Finding]


def examine_zone(portal_conninfo: str, name: str) -> Zone:
    """Find out what the credentials of a zone can read.

    :param name: a relay's, or ``portal``.
    :raises UnknownCourseError: if there is no such relay.
    :raises DatabaseUnreachableError: if the portal, or the relay, can't be reached.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        registered = registry.subscribers(portal)
        if name == PORTAL:
            return _zone(portal, None, registered)
        relay = registry.get(portal, relay_id(name))
    with closing(connect_course(relay.conninfo)) as database:
        identities.require_ours(database, relay.course_id, relay.portal_id)
        return _zone(database, relay, registered)


def _zone(connection: Connection, relay: Course | None, registered: list[Course]) -> Zone:
    here = relay.course_id if relay else None
    users = [each for each in registered if each.relay == here]
    has = [str(each) for each in relay.carries] if relay else _courses(registered)
    databases = [name for (name,) in connection.execute(_QUERIES["other_databases"])]
    readers = list(_readers(connection, relay, users, has))
    return Zone(
        relay.course_id if relay else PORTAL,
        has,
        databases,
        readers,
        list(_findings(connection, relay, readers, databases)),
    )


def _courses(registered: list[Course]) -> list[str]:
    return [each.course_id for each in registered if not each.is_relay]


def _readers(
    connection: Connection, relay: Course | None, users: list[Course], has: list[str]
) -> Iterator[Reader]:
    asked = {"tables": list(PUBLISHED_TABLES), "used": [each.replication_role for each in users]}
    with connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(_QUERIES["readers"], asked).fetchall()
    for each in found:
        used_by = [user for user in users if user.replication_role == each["role"]]
        # On the portal row security shows a role the rows of those whose servers use it.
        passes = relay is not None or each["passes_row_security"]
        own = sorted({course for user in used_by for course in user.sent} & {*has})
        yield Reader(
            each["role"],
            [user.course_id for user in used_by],
            has if each["replicates"] else [],
            (has if passes else own) if each["selects"] else [],
            each["by"],
            _admitted(connection, each["role"]),
        )


def _admitted(connection: Connection, role: str) -> list[str] | None:
    with suppress(errors.InsufficientPrivilege):
        return [
            " ".join((f"line {number}:", *filter(None, rest)))
            for number, *rest in connection.execute(_QUERIES["admitted"], {"role": role})
        ]
    return None


def _findings(
    connection: Connection, relay: Course | None, readers: list[Reader], databases: list[str]
) -> Iterator[Finding]:
    where = on(relay)
    for each in readers:
        if not each.used_by or not (beyond := sorted({*each.by} - _EXPECTED)):
            continue
        role = sql.Identifier(each.role).as_string(connection)
        reset = run(f"alter role {role} nosuperuser nobypassrls nocreaterole", where)
        yield Finding(
            f"role '{each.role}', which courses' servers use,",
            f"can do more than stream {where}, by {', '.join(beyond)}",
            reset + ", and revoke its memberships, or give these courses a role of their own",
        )
    replicating = [each.role for each in readers if each.used_by and each.streams]
    # What everybody has for maintenance is no zone's.
    others = [name for name in databases if name != "postgres"]
    if others and replicating:
        yield Finding(
            f"databases {', '.join(map(repr, others))}",
            f"are on the server of {_name(relay)}, too: a base backup has them, which each role "
            f"that may replicate can take ({', '.join(map(repr, replicating))})",
            "have them on another server",
            must=relay is not None,
        )
    if relay is not None and replicating:
        yield from _password(connection, relay)


def _name(relay: Course | None) -> str:
    return relay.subject if relay else "the portal"


def _password(connection: Connection, relay: Course) -> Iterator[Finding]:
    """Name a password of the portal's that base backups of a relay's server have."""
    way = subscriptions.connection_string(connection, relay.replication_name)
    if way is None or "password" not in (given := parse(way)):
        return
    yield Finding(
        f"{relay.subject} subscription",
        f"keeps the password of '{given['user']}' {ON_PORTAL}, which base backups have: whoever "
        "takes one can stream every course from wherever the portal admits that role",
        "have the portal's pg_hba.conf admit it from the relay's address alone, or give the "
        "subscription a passfile or a certificate outside of the data directory",
        must=False,
    )


def document(zone: Zone) -> dict[str, Any]:
    """Return it for programs."""
    return {
        "zone": zone.name,
        "courses": zone.courses,
        "databases": zone.databases,
        "roles": zone.readers,
        "findings": zone.findings,
    }
