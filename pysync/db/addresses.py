"""What is written down of how a database is reached: it must work for others, and elsewhere.

Who reads it later has another environment than who wrote it: no service file, none of the ``PG*``
variables, another home and working directory; and a course's server is another machine.
"""

from pathlib import Path
from typing import Any, Final

from pysync.db.connections import Connection, compose, parse, resolve, without_secrets
from pysync.db.hosts import places

_PLACE: Final = ("host", "hostaddr", "port")
_FIRST: Final = (*_PLACE, "dbname", "user")

_OURS: Final = {"application_name", "client_encoding", "fallback_application_name", "replication"}
"""What concerns a session, rather than its way to a server."""

_FILES: Final = ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslcrldir")
_NO_FILE: Final = ("sslrootcert", "system")
_OF_ROLE: Final = ("password", "passfile", "sslcert", "sslkey")
"""By what a role is known: it is another's where the role is."""

_FOR_OTHERS: Final = (
    *_FIRST,
    *("target_session_attrs", "channel_binding", "require_auth", "gssencmode", "krbsrvname"),
    *("sslmode", "sslnegotiation", "sslsni", "sslrootcert", "sslcrl", "sslcrldir"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "sslcert", "sslkey"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("tcp_user_timeout", "requirepeer"),
)
"""What holds for another client of the same server, too."""


def written_out(connection: Connection, conninfo: str) -> str:
    """Return a conninfo string that leads where a connection leads, in any environment.

    Without secrets: these everybody brings along.

    :param conninfo: what the connection was opened with.
    """
    given, found = parse(conninfo), resolve(conninfo)
    for name in found.keys() & (_OURS | {"service", "servicefile"}):
        if name not in given or name != "application_name":
            del found[name]
    if found.get("passfile") == str(Path.home() / ".pgpass") and "passfile" not in given:
        del found["passfile"]
    if not found.keys() & {"host", "hostaddr"}:
        found["host"] = connection.info.host
    found.setdefault("port", str(connection.info.port))
    for name in found.keys() & set(_FILES):
        if (name, found[name]) != _NO_FILE:
            found[name] = str(Path(found[name]).absolute())
    return without_secrets(compose(found))


def place_of(conninfo: str) -> str:
    """Return what of a string says which database it leads to, and not as whom, nor how."""
    found = parse(conninfo)
    return compose({name: found[name] for name in (*_PLACE, "dbname") if name in found})


def left_to_environment(conninfo: str) -> list[str]:
    """Return what a string that was written down leaves to its reader's environment."""
    parameters = parse(conninfo)
    missing = [name for name in ("port", "dbname", "user") if name not in parameters]
    if not parameters.keys() & {"host", "hostaddr"}:
        missing.insert(0, "host")
    return ["service"] if "service" in parameters else missing


def files(conninfo: str) -> list[str]:
    """Return which parameters of a string are files of the machine that connects."""
    parameters = parse(conninfo)
    found = [name for name in _FILES if name in parameters]
    return [name for name in found if (name, parameters[name]) != _NO_FILE]


def for_course(
    portal: Connection, portal_conninfo: str, given: str | None, before: str | None = None
) -> str:
    """Return how a course's server is to reach the portal, with a password if there is one.

    :param portal_conninfo: how we reach it: what is left out otherwise is taken from here.
    :param given: what somebody wants it to be, in part or as a whole.
    :param before: how that server has reached it until now: what `given` leaves out stays.
    """
    wanted, ours = parse(given or ""), parse(written_out(portal, portal_conninfo))
    ours = {name: ours[name] for name in _FOR_OTHERS if name in ours}
    known = parse(before or "")
    filled = _FIRST[-2:] if known.keys() & {"host", "hostaddr", "service"} else _FIRST
    known = {**{name: ours[name] for name in filled if name in ours}, **known} if before else ours
    merged = _merged(known, wanted, str(portal.info.port))
    if "password" not in merged and portal.info.password and merged["user"] == ours["user"]:
        merged["password"] = portal.info.password
    if len(places(merged)) > 1:
        merged.setdefault("target_session_attrs", "read-write")
    return compose(merged)


def _merged(known: dict[str, Any], wanted: dict[str, Any], port: str) -> dict[str, Any]:
    left = set(known)
    if "service" in wanted:  # that server's file says where, and how
        left &= {"dbname", "user"}
    elif wanted.keys() & {"host", "hostaddr"}:
        left -= {*_PLACE, "service"}
        wanted = {"port": port, **wanted}
    if wanted.get("user", known["user"]) != known["user"]:
        left -= set(_OF_ROLE)
    return {**{name: known[name] for name in left}, **wanted}
