"""What PostgreSQL's errors mean, told apart by SQLSTATE."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from pysync.errors import (
    DatabaseUnreachableError,
    LockedError,
    PysyncError,
    UnsuitableServerError,
)


@contextmanager
def translated(subject: str) -> Iterator[None]:
    """Turn psycopg's errors inside the block into pysync's.

    :param subject: what was worked on, such as ``course 'X'``; starts the message.
    """
    try:
        yield
    except psycopg.Error as error:
        raise meaning(error, subject) from error


def meaning(error: psycopg.Error, subject: str) -> PysyncError:
    """Return the pysync error for a psycopg error about a subject."""
    match error:
        case errors.LockNotAvailable():
            return LockedError(
                f"{subject} is busy: a lock wasn't free in time, and nothing was changed",
                "run the command again, or end the transaction that holds the lock",
            )
        case errors.InsufficientPrivilege():
            return UnsuitableServerError(
                f"{subject} refused: {_primary(error)}",
                "connect as a role with these rights, see 'Roles' in migrations/README.md",
            )
        case errors.QueryCanceled():
            return PysyncError(f"{subject} took too long: {_primary(error)}", "try again")
        case psycopg.OperationalError() if error.sqlstate is None or error.sqlstate[:2] in (
            "08",
            "57",
        ):
            return DatabaseUnreachableError(
                f"{subject} lost its connection: {_primary(error)}",
                "run the command again once the server is back; it goes on where it stopped",
            )
        case _:
            hint = error.diag.message_hint
            return PysyncError(
                f"{subject} failed: {_primary(error)}", hint.rstrip(".") if hint else None
            )


def _primary(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).splitlines()[0]
