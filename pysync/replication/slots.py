"""Replication slots on the portal: a course's own, and those of its tables' first copies."""

import time
from contextlib import suppress
from typing import Any, Final

from psycopg import errors

from pysync.db import holders
from pysync.db.connections import Connection, fetch_value
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.errors import ReplicationError
from pysync.findings import ON_PORTAL, run
from pysync.replication.registry import Course
from pysync.texts import Text

SLOT_TIMEOUT_SECONDS: Final = 60
"""How long creating a slot may wait for older transactions on the portal."""

RELEASE_SECONDS: Final = 5
"""How long a WAL sender may take to leave a slot whose worker has ended."""

QUERIES = load(__file__)


def exists(portal: Connection, name: str) -> bool:
    """Return whether a replication slot exists.

    :raises ReplicationError: if it does, but isn't this database's logical slot.
    """
    row = portal.execute(QUERIES["slot"], {"name": name}).fetchone()
    if row is None:
        return False
    plugin, database, ours = row
    if plugin != "pgoutput" or not ours:
        raise ReplicationError(
            f"slot '{name}' belongs to something else: plugin {plugin}, database {database}",
            run(f"select pg_drop_replication_slot('{name}')", ON_PORTAL) + " if nothing needs it",
        )
    return True


def delayed(portal: Connection, name: str) -> ReplicationError:
    """Return the error for a slot that older transactions kept from being created in time."""
    oldest = holders.oldest(portal)
    who = f"; the oldest is {oldest}" if oldest else ""
    again: Text | str = "run the command again when they have ended"
    if oldest:
        again = oldest.end(ON_PORTAL, portal.info.dbname) + "; then run the command again"
    return ReplicationError(
        f"slot '{name}' can't be created: older transactions on the portal's server "
        f"didn't end within {SLOT_TIMEOUT_SECONDS} s{who}",
        again,
    )


def is_in_use(portal: Connection, name: str) -> bool:
    """Return whether somebody is connected to a slot of this database."""
    return bool(fetch_value(portal, QUERIES["slot_in_use"], name=name))


def is_usable(portal: Connection, name: str) -> bool:
    """Return whether a slot is there and still has all the WAL its course needs."""
    return bool(fetch_value(portal, QUERIES["slot_is_usable"], name=name))


def merged(name: str) -> str:
    """Return what a course's slot is called that a merge has made, until it takes its place."""
    return f"{name}_merged"


def position(portal: Connection) -> str:
    """Return a position that the portal has reached, and every slot made from now on is past."""
    return str(fetch_value(portal, "select pg_catalog.pg_current_wal_lsn()::text"))


def await_confirmed(portal: Connection, name: str) -> int | None:
    """Return what a slot has confirmed, in bytes of the WAL, once nobody uses it any more.

    :returns: ``None`` if somebody does for long, or the slot is missing.
    """
    deadline = time.monotonic() + RELEASE_SECONDS
    while time.monotonic() < deadline:
        if (position := confirmed_position(portal, name)) is not None:
            return position
        time.sleep(0.01)
    return None


def confirmed_position(portal: Connection, name: str) -> int | None:
    """Return what a slot that nobody uses has confirmed, in bytes of the WAL."""
    return fetch_value(portal, QUERIES["confirmed_position"], name=name)  # type: ignore[no-any-return]


def names_of(course: Course) -> dict[str, Any]:
    """Return the names of a course's own slots, and what those of its tables' copies look like.

    PostgreSQL calls the latter ``pg_<subscription oid>_sync_<table oid>_<system identifier>``.
    """
    pattern = f"^pg_{course.subscription_oid}_sync_[0-9]+_{course.course_system_identifier}$"
    names = [course.replication_name, merged(course.replication_name)]
    return {"names": names, "pattern": pattern}


def drop(portal: Connection, course: Course) -> None:
    """Drop a course's slot and its tables' synchronization slots, in use or not.

    :raises ReplicationError: if a course server keeps connecting to one for 20 s.
    """
    with translated(f"slot '{course.replication_name}'"):
        for (name,) in portal.execute(QUERIES["slots_of_course"], names_of(course)).fetchall():
            drop_one(portal, name)


def drop_one(portal: Connection, name: str, timeout_seconds: float = 20) -> None:
    """Drop a slot, should it be there, in use or not.

    :raises ReplicationError: if somebody keeps connecting to it for so long.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            # Whoever may not end it waits until it has ended by itself.
            with suppress(errors.InsufficientPrivilege):
                portal.execute(QUERIES["end_slots_walsender"], {"name": name})
            portal.execute("select pg_catalog.pg_drop_replication_slot(%s)", (name,))
        except errors.UndefinedObject:
            return
        except errors.ObjectInUse:
            # A live apply worker reconnects at once; only its server can stop it for good.
            if time.monotonic() > deadline:
                raise ReplicationError(
                    f"slot '{name}' is still in use: a course server keeps connecting to it",
                    "stop that server or disable its subscription, then run the command again",
                ) from None
            time.sleep(0.05)
        else:
            return
