"""Connect to course databases: only to those whose schema nobody else can alter."""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from psycopg import sql

from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.queries import load
from pysync.errors import ReplicationError, UnsuitableDatabaseError
from pysync.findings import IN_COURSE, run
from pysync.replication import identities, slots
from pysync.replication.registry import Course
from pysync.texts import Text

_QUERIES: Final = load(__file__)
_NOT_OURS, _FOREIGN_OWNER = (
    _QUERIES[name].format(objects=sql.SQL("({})").format(_QUERIES["called_or_read"]))
    for name in ("not_ours", "foreign_owner")
)
_RECONNECT_SECONDS: Final = 2
"""How long a course's worker may be without its walsender: it notices at once when that goes."""


def connect_course(conninfo: str, **options: Any) -> Connection:
    """Connect to what is a course's database, or is to become one.

    :param options: as of :func:`pysync.db.connections.connect`.
    :raises DatabaseUnreachableError: if it can't be reached.
    :raises UnsuitableDatabaseError: if what commands use there is somebody else's.
    """
    connection = connect(conninfo, **options)
    try:
        require_own_schema(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_course(publisher: Connection, course: Course, conninfo: str | None = None) -> Connection:
    """Connect to a registered course's database in order to act on it.

    :param publisher: what the course streams from.
    :param conninfo: how to reach it, if not as registered.
    :raises DatabaseUnreachableError: if it can't be reached.
    :raises ForeignDatabaseError: if it is another portal's, or a copy.
    :raises ReplicationError: if it follows another server.
    """
    database = connect_course(conninfo or course.conninfo)
    try:
        identities.require_ours(database, course.course_id, course.portal_id)
        require_followed(publisher, database, course)
    except BaseException:
        database.close()
        raise
    return database


def require_followed(publisher: Connection, database: Connection, course: Course) -> None:
    """Refuse a course that is connected to a server while nobody uses its slot here.

    So does the course of a portal whose server's disk was cloned, seen from the clone.
    """
    name = course.replication_name
    deadline = time.monotonic() + _RECONNECT_SECONDS
    first = worker = fetch_value(database, _QUERIES["connected_worker"], name=name)
    while worker is not None and worker == first and not slots.is_in_use(publisher, name):
        if time.monotonic() > deadline:
            raise ReplicationError(
                f"{course.subject} follows another server than the one PYSYNC_PORTAL names"
                f"{f', by way of {course.relay}' if course.relay else ''}: its subscription is "
                "connected, but not to the slot here",
                "point PYSYNC_PORTAL at the server that it follows; if this one is to take its "
                "place, stop that one first",
            )
        time.sleep(0.05)
        worker = fetch_value(database, _QUERIES["connected_worker"], name=name)


def require_own_schema(connection: Connection) -> None:
    """Refuse a database where others could put code into what commands read and call.

    It would run with our rights. Superusers have them anyway.

    :raises UnsuitableDatabaseError: if it is one.
    """
    if not fetch_value(connection, _NOT_OURS):
        return
    found = connection.execute(_FOREIGN_OWNER).fetchone()
    if found is not None:
        what, owner, statement, is_portal = found
        if is_portal:
            raise a_portal(connection)
        raise UnsuitableDatabaseError(
            f"database '{connection.info.dbname}' can't be trusted: {what} belongs to role "
            f"'{owner}', whose code would run with the rights of '{connection.info.user}'",
            Text("connect as that role, or ") + run(statement, IN_COURSE),
        )


def a_portal(connection: Connection) -> UnsuitableDatabaseError:
    """Return the error for a portal that was taken for a course's database."""
    return UnsuitableDatabaseError(
        f"database '{connection.info.dbname}' is a portal: one database can't be both portal and "
        "course",
        "give the course a database of its own",
    )


class Sessions:
    """Sessions with one database, each for one piece of work after the other.

    To begin one, and to plan in it, costs more than what many a piece of work asks there.
    """

    def __init__(self, conninfo: str, connect: Callable[[str], Connection]) -> None:
        self._conninfo, self._connect = conninfo, connect
        self._free: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._closed = False

    @contextmanager
    def one(self) -> Iterator[Connection]:
        """Give a session for the block; one in which that fails is used no more."""
        try:
            session = self._free.get_nowait()
        except queue.Empty:
            session = self._connect(self._conninfo)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        self._free.put(session)
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close those that are free, and others as soon as they are."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._free.get_nowait().close()
