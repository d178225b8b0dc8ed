"""SQLAlchemy sessions on a portal, and calls of the functions in schema ``student``."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, FromClause, Row, create_engine, func, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from pysync.db import connections
from pysync.db.errors import LOOK_INTO_LOG, meaning, our_words, raised_by, said
from pysync.db.lending import lend_nothing
from pysync.db.places import require_one
from pysync.errors import InUseError, InvalidValueError, NotFoundError, PysyncError

Executor = Session | Connection
"""What a caller may bring: its transaction is the caller's to commit."""

_BY_SQLSTATE: Final[dict[str, type[PysyncError]]] = {
    "PY010": NotFoundError,
    "PY011": InvalidValueError,
    "PY012": InUseError,
}
"""What functions in schema ``student`` raise on purpose."""

_NOT_MIGRATED: Final = ("3F000", "42883", "42P01")
"""No such schema, function or table."""


def call(executor: Executor, name: str, *arguments: Any) -> Any:
    """Call a function of schema ``student`` and return its value.

    :param name: the function's, without the schema.
    :raises NotFoundError: if something the call names doesn't exist (PY010).
    :raises InvalidValueError: if a value isn't allowed (PY011).
    :raises InUseError: if something exists already that may exist only once (PY012).
    """
    with translated_calls():
        _flush(executor)
        return executor.scalar(select(getattr(func.student, name)(*arguments)))


def call_rows(executor: Executor, name: str, *arguments: Any) -> Sequence[Row[Any]]:
    """Call a set-returning function of schema ``student`` and return its rows.

    :raises PysyncError: as :func:`call`.
    """
    rows: FromClause = getattr(func.student, name)(*arguments).alias("rows")
    with translated_calls():
        _flush(executor)
        return executor.execute(select(literal_column("*")).select_from(rows)).all()


def _flush(executor: Executor) -> None:
    """Write what a session holds back: SQLAlchemy does so for queries of its models only."""
    if isinstance(executor, Session):
        executor.flush()


@contextmanager
def translated_calls() -> Iterator[None]:
    """Turn the database's errors inside the block into pysync's."""
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidValueError(
            f"text {error.object!r} refused: it isn't valid Unicode", "write it in UTF-8"
        ) from error
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg.Error):
            raise
        if error.orig.sqlstate in _NOT_MIGRATED:
            raise PysyncError(
                "portal isn't at the revision of this pysync", "run 'pysync migrate'"
            ) from error
        kind = _BY_SQLSTATE.get(error.orig.sqlstate or "")
        if kind is None:
            raise meaning(error.orig, "portal") from error
        if not raised_by(error.orig, "(?:student|pysync)"):
            refused = f"portal refused: {said(error.orig, hinted=True)}"
            raise kind(refused, LOOK_INTO_LOG) from error
        raise kind(*our_words(error.orig)) from error


@contextmanager
def portal_session(conninfo: str, *, meets_users: bool = True) -> Iterator[Session]:
    """Open a session on a portal; it commits when the block ends well.

    :param meets_users: whether the block meets tables of applications: a superuser's session is
        refused where somebody else may hang code on these, which would run as the superuser.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    :raises UnsuitableServerError: if several servers are named, and more than one accepts writes.
    """

    def creator() -> connections.Connection:
        connection = connections.connect(conninfo)
        require_one(connection, conninfo)
        connection.autocommit = False
        return connection

    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    with translated_calls(), Session(engine) as session, session.begin():
        if meets_users:
            connection: Any = session.connection().connection.driver_connection
            lend_nothing(connection, "connect as your application's role")
        yield session
