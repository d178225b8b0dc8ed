"""Connections between machines that others can listen to, or pose as one end of."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Final

from pysync.db.connections import Connection, parse
from pysync.db.queries import load
from pysync.findings import Finding
from pysync.replication.registry import Course
from pysync.texts import Text

LOCAL_NETWORKS: Final = ["127.0.0.0/8", "::1/128"]
"""Where nobody stands in between; neither does anybody at a Unix socket."""

VERIFIED: Final = "verify-full"

_QUERIES: Final = load(__file__)


def our_connection(connection: Connection, way: str, remedy: str) -> Iterator[Finding]:
    """Look at our own connection to a server.

    :param way: where it leads, such as ``to the portal``.
    :param remedy: how the next one is made with TLS.
    """
    if connection.execute(_QUERIES["our_plain_connection"], {"local": LOCAL_NETWORKS}).fetchone():
        yield Finding(
            f"pysync's connection {way}",
            "goes over the network without TLS: who is in between reads and changes all of it",
            f"{remedy}; the server needs ssl = on, and hostssl in pg_hba.conf",
            must=False,
        )


def subscriptions(portal: Connection, courses: Sequence[Course]) -> Iterator[Finding]:
    """Look at how courses' servers connect to the portal, and what they make sure of."""
    values: dict[str, Any] = {
        "local": LOCAL_NETWORKS,
        "names": [course.replication_name for course in courses],
    }
    plain = {name for (name,) in portal.execute(_QUERIES["plain_walsenders"], values)}
    for course in courses:
        if course.replication_name in plain:
            cause = (
                "goes over the network without TLS: who is in between reads and changes what is "
                "replicated"
            )
        elif mode := _weak_mode(course.portal_conninfo):
            cause = (
                f"doesn't make sure that {course.publisher} is at its end (sslmode={mode}): who is "
                "in between can pose as it"
            )
        else:
            continue
        yield Finding(
            f"{course.subject} connection to {course.publisher}",
            cause,
            Text(f"run '{course.command('add')} CONNINFO --portal-conninfo …' ")
            + f"with sslmode={VERIFIED} and an sslrootcert of its server's in the latter; "
            f"{course.publisher} needs ssl = on, and hostssl in pg_hba.conf",
            must=False,
        )


def _weak_mode(conninfo: str) -> str | None:
    """Return the sslmode of a connection between machines, if it is too weak."""
    parameters = parse(conninfo)
    if "service" in parameters:  # its file says, on the course's server
        return None
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or "").split(",")
    mode = str(parameters.get("sslmode", "prefer"))
    return None if mode == VERIFIED or all(map(_is_local, hosts)) else mode


def _is_local(host: str) -> bool:
    if host in ("", "localhost") or host[0] in "/@":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
