"""Who holds what others wait for: a session, or a prepared transaction, which has no process."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row

from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection, connect
from pysync.db.errors import translated
from pysync.db.queries import load
from pysync.errors import LockedError, PysyncError
from pysync.findings import alone, run
from pysync.texts import Text, quoted

_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Holder:
    """A transaction that others wait for.

    :param pid: its session's process; ``None`` of one that is prepared, which has a ``gid``.
    :param database: where it is, perhaps another one of the same server.
    :param since: when it began, or was prepared; ``None`` where our role may not see it.
    """

    pid: int | None
    gid: str | None
    database: str | None
    who: str
    doing: str | None
    since: datetime | None

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S%z}" if self.since else ""
        if self.pid is None:
            return (
                f"prepared transaction {quoted(self.gid or '')} of role {quoted(self.who)}{since}"
            )
        return f"process {self.pid} ({quoted(self.who)}, {self.doing or 'running'}{since})"

    def end(self, where: str, here: str) -> Text:
        """Return the remedy.

        :param where: the database that was asked, in words, such as ``on the portal``.
        :param here: its name.
        """
        if self.pid is None:
            # Its owner or a superuser ends it, in its own database.
            if self.database not in (None, here):
                where = f"in database '{self.database}' of the same server"
            return alone(f"rollback prepared {_literal(self.gid)}", where) + (
                ", or commit it, whichever its application would have"
            )
        kill = run(f"select pg_terminate_backend({self.pid})", where)
        return "end that transaction, or " + kill


def _literal(text: str | None) -> str:
    return sql.Literal(text).as_string(None).strip()


def holder(connection: Connection, pids: Sequence[int]) -> Holder | None:
    """Return whom processes wait for in the end; none of their own.

    :param pids: processes that belong together, such as those of a subscription.
    :returns: ``None`` if they don't wait for a lock.
    """
    return _first(connection, "holders", pids=list(pids)) if pids else None


def oldest(connection: Connection) -> Holder | None:
    """Return whom the creation of a slot waits for longest."""
    return _first(connection, "oldest_transaction")


def long_open(connection: Connection, seconds: float, *, everywhere: bool) -> list[Holder]:
    """Return transactions that have been prepared, or idle, for so long.

    :param everywhere: also those in other databases of the server.
    """
    return _holders(connection, "long_transactions", seconds=seconds, everywhere=everywhere)


def _first(connection: Connection, query: str, **named: object) -> Holder | None:
    return next(iter(_holders(connection, query, **named)), None)


def _holders(connection: Connection, query: str, **named: object) -> list[Holder]:
    with connection.cursor(row_factory=class_row(Holder)) as cursor:
        return cursor.execute(_QUERIES[query], named or None).fetchall()


def writer(connection: Connection, table: str) -> Holder | None:
    """Return who has been writing in a table for the longest time."""
    return _first(connection, "writer", table=table)


def blamed(error: LockedError, found: Holder | None, where: str, here: str) -> LockedError:
    """Return an error that names who holds the lock it is about, should that be known.

    :param where: the database in words, and ``here`` its name.
    """
    if found is None:
        return error
    remedy = found.end(where, here) + "; then run the command again"
    return LockedError(f"{error.message}; it is held by {found}", remedy)


class Watch:
    """Looks, while a session waits for a lock, whom it waits for: it can't itself."""

    def __init__(self, connection: Connection, where: str, pause_seconds: float = 0.5) -> None:
        """Begin to look.

        :param where: the session's database in words, such as ``on the portal``.
        :param pause_seconds: between two looks.
        """
        self.found: Holder | None = None
        self._pause_seconds = pause_seconds
        self._where, self._here = where, connection.info.dbname
        self._pid = connection.info.backend_pid
        self._conninfo = make_conninfo(connection.info.dsn, password=connection.info.password)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        if self._done.wait(self._pause_seconds):
            return
        with suppress(psycopg.Error, PysyncError), closing(connect(self._conninfo)) as looker:
            while not self._done.wait(self._pause_seconds):
                self.found = holder(looker, [self._pid]) or self.found

    def close(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join(LOCK_TIMEOUT_SECONDS)

    def named(self, error: PysyncError) -> PysyncError:
        """Return an error that names who held the lock it is about, if somebody was seen."""
        if isinstance(error, LockedError):
            return blamed(error, self.found, self._where, self._here)
        return error


@contextmanager
def waiting(connection: Connection, subject: str, where: str) -> Iterator[None]:
    """Translate the block's errors; whoever holds a lock that isn't free in time is named.

    :param subject: as of :func:`pysync.db.errors.translated`.
    :param where: as of :class:`Watch`.
    """
    with closing(Watch(connection, where)) as watch:
        try:
            with translated(subject):
                yield
        except LockedError as error:
            raise watch.named(error) from error
