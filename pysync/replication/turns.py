"""Turns of commands that must not meet.

Anybody who may connect can take an advisory lock; a row's lock takes a transaction that stays open,
and slots that are made wait for it. So a turn is a row, which only administrators can write, and it
counts while its session lives.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg import errors

from pysync.db.connections import Connection, fetch_value
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.errors import LockedError
from pysync.findings import ON_PORTAL, run
from pysync.texts import quoted

QUERIES = load(__file__)


@contextmanager
def taken(
    portal: Connection, name: str, subject: str, patience_seconds: float, *, done: str = "worked on"
) -> Iterator[None]:
    """Let one process at a time do what has this name; a portal that isn't migrated has no turns.

    :param name: a course's id, or ``""`` for a migration of all.
    :param subject: what is worked on, such as ``course 'X'``, for messages.
    :param done: what is done to it, likewise.
    :param patience_seconds: how long to wait: a server takes a moment to notice that a command was
        killed.
    :raises LockedError: if another process has it all the time.
    """
    if fetch_value(portal, "select pg_catalog.to_regclass('pysync.turn')") is None:
        yield
        return
    ticket = secrets.randbits(63)
    with translated(subject):
        # Nobody else knows this key: that the lock is held tells that the session lives.
        portal.execute("select pg_catalog.pg_advisory_lock(%s)", (ticket,))
        deadline = time.monotonic() + patience_seconds
        named = {"name": name, "ticket": ticket}
        while not fetch_value(portal, QUERIES["take_turn"], **named):
            if time.monotonic() > deadline:
                holder = portal.execute(QUERIES["whose_turn"], named).fetchone()
                raise locked(f"{subject} is being {done}", holder, ON_PORTAL)
            time.sleep(0.05)
    try:
        yield
    finally:
        if not portal.closed:
            with suppress(errors.UndefinedTable):  # it has been migrated to base meanwhile
                portal.execute("delete from pysync.turn where ticket = %s", (ticket,))
            portal.execute("select pg_catalog.pg_advisory_unlock(%s)", (ticket,))


def locked(state: str, holder: tuple[int, str, str, str] | None, where: str) -> LockedError:
    """Return the error that names who stands in the way.

    :param state: what is locked and why, such as ``portal is being migrated``.
    :param holder: process, role, application and since when; ``None`` if it has gone meanwhile.
    """
    if holder is None:
        return LockedError(f"{state} by another process", "run the command again")
    pid, role, application, since = holder
    return LockedError(
        f"{state} by another process: {pid} of role '{role}', application {quoted(application)}, "
        f"since {since}",
        "wait until it has finished and run the command again, or end it: "
        + run(f"select pg_terminate_backend({pid})", where),
    )
