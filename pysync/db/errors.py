"""What PostgreSQL's errors mean, told apart by SQLSTATE."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import errors

from pysync.errors import (
    DatabaseUnreachableError,
    LockedError,
    PysyncError,
    UnsuitableDatabaseError,
    UnsuitableServerError,
)
from pysync.texts import quoted

RUNS_CODE: Final = "PY008"
"""The SQLSTATE with which a course database refuses tables that run code of others."""

LOOK_INTO_LOG: Final = "look into that server's log for what raised it"


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
                f"{subject} refused: {said(error)}",
                "run 'pysync doctor' to see what the role lacks, or connect as one with these "
                'rights, see "Roles" in migrations/README.md',
            )
        case errors.QueryCanceled():
            return PysyncError(f"{subject} took too long: {said(error)}", "try again")
        case psycopg.OperationalError() if error.sqlstate is None or error.sqlstate[:2] in (
            "08",
            "57",
        ):
            return DatabaseUnreachableError(
                f"{subject} lost its connection: {said(error)}",
                "run the command again once the server is back; it goes on where it stopped",
            )
        case _ if error.sqlstate == RUNS_CODE:
            return runs_code(subject, said(error))
        case _:
            return PysyncError(f"{subject} failed: {said(error, hinted=True)}", LOOK_INTO_LOG)


def runs_code(subject: str, found: str) -> UnsuitableDatabaseError:
    """Return the error for tables that can't become pysync's, since others' code is on them."""
    return UnsuitableDatabaseError(
        f"{subject} can't have its tables: {found}",
        "leave that out, or let the tables' owner keep them: run 'pysync course add' with "
        "--keep-owner",
    )


def said(error: psycopg.Error, *, detailed: bool = False, hinted: bool = False) -> str:
    """Return a server's own words, as such: whoever has code in a database may have written them.

    :param detailed: whether its DETAIL is shown, too, which may hold values of rows.
    :param hinted: whether its HINT is.
    """
    words = error.diag.message_primary or f"{error}".strip().partition("\n")[0]
    if detailed and (more := error.diag.message_detail):
        words = f"{words}: {more.rstrip('.')}"
    hint = error.diag.message_hint if hinted else None
    shown = quoted(words or type(error).__name__)
    return f"{shown} (the server's hint: {quoted(hint)})" if hint else shown


def detail(error: psycopg.Error) -> str:
    """Return a server's DETAIL alone, as its own words."""
    return quoted(error.diag.message_detail or error.diag.message_primary or "")


def unconnected(error: psycopg.Error) -> str:
    """Return why there is no connection: what is said of the last address that was tried."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    failures = [line for line in lines if "failed:" in line or "FATAL" in line] or lines
    reason = failures[-1].removeprefix("- ").removeprefix("connection failed: ")
    return quoted(reason.partition("publisher: ")[2] or reason)


def told(error: Exception) -> str:
    """Return what an error of ours or of a server's says."""
    return said(error) if isinstance(error, psycopg.Error) else str(error)


def raised_by(error: psycopg.Error, schema: str) -> bool:
    """Return whether a PL/pgSQL function of a schema raised an error itself.

    Everybody's functions can raise any SQLSTATE. What they can't choose is the first line of the
    CONTEXT, in any language: ``PL/pgSQL function student.find_user(text) line 9 at RAISE``. A
    schema that isn't in our ``search_path`` is always said, and odd names stand in quotes.
    """
    (first, *_) = (error.diag.context or "").splitlines() or [""]
    return bool(re.match(rf'[^."]* {schema}\.\w+\([^"]* RAISE$', first))


def our_words(error: psycopg.Error) -> tuple[str, str | None]:
    """Return message and remedy of an error that a function of ours raised."""
    hint = error.diag.message_hint
    return error.diag.message_primary or "", hint.rstrip(".") if hint else None
