"""Ask all course databases at once, none for longer than it may take."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final, TypeVar

import psycopg

from pysync.db.connections import Connection, connect, parse
from pysync.db.errors import meaning
from pysync.errors import DatabaseUnreachableError, PysyncError
from pysync.replication.registry import Course

COURSE_TIMEOUT_SECONDS: Final = 2.5
"""How long one course database may take; the whole report takes little longer."""

CROWDED_TIMEOUT_SECONDS: Final = 4.0
"""The same where a server has so many courses that they are asked in turns."""

CONNECTIONS_PER_SERVER: Final = 24
"""Connections that we open to one server at a time: it may allow a hundred altogether."""

R = TypeVar("R")


def server_of(conninfo: str) -> tuple[Any, ...]:
    """Return what tells a server from others in a connection string."""
    try:
        parameters = parse(conninfo)
    except DatabaseUnreachableError:
        return (conninfo,)  # it will be reported when it is connected to
    return tuple(parameters.get(key) for key in ("host", "hostaddr", "port", "service"))


class Turns:
    """Limits connections per server, and says when a course is given up."""

    def __init__(self, wanted: Sequence[Course]) -> None:
        servers = Counter(server_of(course.conninfo) for course in wanted)
        self._limits = {
            server: threading.BoundedSemaphore(CONNECTIONS_PER_SERVER) for server in servers
        }
        self.crowded = max(servers.values(), default=0) > CONNECTIONS_PER_SERVER
        self.timeout_seconds = CROWDED_TIMEOUT_SECONDS if self.crowded else COURSE_TIMEOUT_SECONDS
        self.deadline = time.monotonic() + self.timeout_seconds

    @contextmanager
    def connection(self, course: Course) -> Iterator[Connection]:
        """Connect to a course's database, once there are few enough connections to its server.

        :raises PysyncError: if it can't be reached, or fails.
        """
        limit = self._limits[server_of(course.conninfo)]
        # A second look may come a little after the deadline for the first.
        if not limit.acquire(timeout=max(self.deadline + 1 - time.monotonic(), 0)):
            raise self.too_late()
        try:
            with closing(
                connect(
                    course.conninfo,
                    connect_timeout_seconds=2,
                    statement_timeout_seconds=COURSE_TIMEOUT_SECONDS,
                )
            ) as database:
                yield database
        except psycopg.Error as error:
            raise meaning(error, f"course '{course.course_id}'") from error
        finally:
            limit.release()

    def too_late(self) -> PysyncError:
        """Return the error for a course that doesn't answer."""
        return PysyncError(f"no answer within {self.timeout_seconds:g} s")


def ask_each(
    wanted: Sequence[Course], question: Callable[[Connection, Course], R]
) -> list[R | PysyncError]:
    """Ask all course databases at once; who doesn't answer in time is reported so.

    A thread that hangs in a connection to a dead server can't be stopped, only left behind.
    """
    answers: queue.Queue[tuple[int, R | PysyncError]] = queue.Queue()
    turns = Turns(wanted)

    def ask(index: int, course: Course) -> None:
        try:
            with turns.connection(course) as database:
                answers.put((index, question(database, course)))
        except PysyncError as error:
            answers.put((index, error))

    for index, course in enumerate(wanted):
        threading.Thread(target=ask, args=(index, course), daemon=True).start()
    results: list[R | PysyncError] = [turns.too_late() for _ in wanted]
    for _ in wanted:
        try:
            index, answer = answers.get(timeout=max(turns.deadline - time.monotonic(), 0))
        except queue.Empty:
            break
        results[index] = answer
    return results
