"""Transactions that are tried again."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

from psycopg import errors

TRIES: Final = 10
PAUSE_SECONDS: Final = 0.5
"""Between tries to lock what applications use, so that they get their turn."""

T = TypeVar("T")


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
