"""Transactions with fewer rights than the session has, and such that are tried again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from psycopg import errors

from pysync.db.connections import Connection

TRIES: Final = 10
PAUSE_SECONDS: Final = 0.5
"""Between tries to lock what applications use, so that they get their turn."""

T = TypeVar("T")


@contextmanager
def as_owner(portal: Connection) -> Iterator[None]:
    """Run the block's statements in a transaction with no more rights than the triggers have.

    Functions of the triggers' role could be altered by an application's trigger that runs as it; an
    administrator must not lend them more. Others than superusers have nothing to lend.
    """
    with portal.transaction():
        portal.execute(
            "select pg_catalog.set_config('role', 'pysync_owner', true)"
            " from pg_catalog.pg_roles where rolname = session_user and rolsuper"
        )
        yield


def patiently(
    action: Callable[[], T], tries: int | None = None, pause_seconds: float | None = None
) -> T:
    """Try again what meets locks of others.

    :raises psycopg.errors.LockNotAvailable: if no try succeeds.
    :raises psycopg.errors.DeadlockDetected: likewise.
    """
    for _ in range((tries or TRIES) - 1):
        try:
            return action()
        except (errors.LockNotAvailable, errors.DeadlockDetected):
            time.sleep(PAUSE_SECONDS if pause_seconds is None else pause_seconds)
    return action()
