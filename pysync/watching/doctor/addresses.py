"""How databases are reached: by whom, from where, and which of several servers."""

from collections.abc import Iterator
from typing import Any, Final

from pysync.db.addresses import left_to_environment
from pysync.db.connections import Connection, compose, parse
from pysync.findings import Finding
from pysync.replication.registry import Course
from pysync.replication.subscriptions import connection_string
from pysync.texts import Text, word

_WRITABLE: Final = ("read-write", "primary")
_SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_WAY: Final = ("host", "hostaddr", "port", "target_session_attrs", "sslmode", "sslrootcert")


def our_way(portal_conninfo: str) -> Iterator[Finding]:
    """Look at how we reach the portal.

    :param portal_conninfo: written out.
    """
    if _may_meet_standby(parse(portal_conninfo)):
        yield Finding(
            "PYSYNC_PORTAL",
            "names several hosts, and takes a standby where one answers first",
            "write target_session_attrs=read-write into it",
            must=False,
        )


def written_down(course: Course) -> Iterator[Finding]:
    """Look at how the registry says that a course's database is reached."""
    if left := left_to_environment(course.conninfo):
        yield Finding(
            f"{course.subject} connection string",
            f"leaves {', '.join(left)} to the environment of whoever reads it",
            f"run '{course.command('add')} CONNINFO', which writes it down",
            must=False,
        )


def subscription(database: Connection, course: Course, conninfo: str) -> Iterator[Finding]:
    """Look at how a course's server reaches the portal, or its relay.

    :param conninfo: how we reach that, written out.
    """
    told = connection_string(database, course.replication_name) or course.portal_conninfo
    theirs, ours = parse(told), parse(conninfo)
    causes = [*_causes(theirs, ours, course.publisher)]
    if left := left_to_environment(told):
        causes.insert(0, f"leaves {', '.join(left)} to the environment of the course's server")
    if not causes:
        return
    way = compose({name: ours[name] for name in _WAY if name in ours})
    command = f"{course.command('add')} {word(course.conninfo)} --portal-conninfo {word(way)}"
    yield Finding(
        f"{course.subject} connection to {course.publisher}",
        "; it ".join(causes),
        Text(f"run '{command}', if {course.publisher} has the same addresses there"),
        must=False,
    )


def _causes(theirs: dict[str, Any], ours: dict[str, Any], publisher: str) -> Iterator[str]:
    several = _hosts(ours)
    if several > 1 and "service" not in theirs and _hosts(theirs) < several:
        known = _hosts(theirs) or "none"
        yield f"knows {known} of {several} hosts of {publisher}: it doesn't follow a failover"
    elif _may_meet_standby(theirs):
        yield "names several hosts, and takes a standby where one answers first"
    mode, our_mode = (str(each.get("sslmode", "prefer")) for each in (theirs, ours))
    if "service" not in theirs and _rank(mode) < _rank(our_mode):
        yield f"asks less of {publisher} than pysync does: sslmode={mode}, not {our_mode}"


def _may_meet_standby(parameters: dict[str, Any]) -> bool:
    return _hosts(parameters) > 1 and parameters.get("target_session_attrs") not in _WRITABLE


def _hosts(parameters: dict[str, Any]) -> int:
    named = str(parameters.get("hostaddr") or parameters.get("host") or "")
    return len(named.split(",")) if named else 0


def _rank(mode: str) -> int:
    return _SSLMODES.index(mode) if mode in _SSLMODES else 0
