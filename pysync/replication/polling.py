"""Ask many courses at once, none for longer than it may take."""

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final, TypeVar

import psycopg

from pysync.db.connections import Connection, parse
from pysync.db.errors import meaning
from pysync.errors import DatabaseUnreachableError, PysyncError
from pysync.replication import identities
from pysync.replication.databases import connect_course
from pysync.replication.registry import Course
from pysync.types import CourseId

COURSE_TIMEOUT_SECONDS: Final = 2.5
"""How long one course database may take; the whole report takes little longer."""

CROWDED_TIMEOUT_SECONDS: Final = 4.0
"""The same where a server has so many courses that they are asked in turns."""

CONNECTIONS_PER_SERVER: Final = 24
"""Connections that we open to one server at a time: it may allow a hundred altogether."""

JOBS: Final = 4
"""Courses that a command works on at a time unless told otherwise."""

R = TypeVar("R")


def ask(
    courses: Sequence[Course],
    question: Callable[[Course], R],
    *,
    at_once: int | None = None,
    seconds: float | None = None,
    heard: Callable[[Course, R | PysyncError], None] | None = None,
) -> list[R | PysyncError]:
    """Ask the same of all courses, each in a thread.

    A thread that hangs in a connection to a dead server can't be stopped, only left behind.

    :param at_once: how many altogether; by default ``CONNECTIONS_PER_SERVER`` of each server.
    :param seconds: how long all of it may take.
    :param heard: is told each answer when it comes, in the thread that asks.
    :returns: each course's answer or error, in their order.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    answers = _begin(courses, question, at_once, deadline)
    found: list[R | PysyncError] = [PysyncError(f"no answer within {seconds} s") for _ in courses]
    for _ in courses:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        try:
            index, answer = answers.get(timeout=left)
        except queue.Empty:
            break
        if isinstance(answer, BaseException) and not isinstance(answer, PysyncError):
            raise answer
        found[index] = answer
        if heard is not None:
            heard(courses[index], answer)
    return found


def _begin(
    courses: Sequence[Course],
    question: Callable[[Course], R],
    at_once: int | None,
    deadline: float | None,
) -> queue.SimpleQueue[tuple[int, Any]]:
    """Start the threads that ask; returns where answers come, each with its course's index."""
    answers: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

    def work_off(waiting: deque[int]) -> None:
        while waiting and (deadline is None or time.monotonic() < deadline):
            try:
                index = waiting.popleft()
            except IndexError:
                return  # another thread was faster
            answers.put((index, _answer(courses[index], question)))

    groups: dict[Hashable, deque[int]] = {}
    for index, course in enumerate(courses):
        groups.setdefault(at_once or server_of(course.conninfo), deque()).append(index)
    for waiting in groups.values():
        for _ in range(min(len(waiting), at_once or CONNECTIONS_PER_SERVER)):
            threading.Thread(target=work_off, args=(waiting,), daemon=True).start()
    return answers


def _answer(course: Course, question: Callable[[Course], R]) -> R | BaseException:
    try:
        return question(course)
    except psycopg.Error as error:
        return meaning(error, f"course '{course.course_id}'")
    except BaseException as error:  # noqa: BLE001 - the asking thread raises what isn't an answer
        return error


class Databases:
    """Connections to course databases; each stays open from one question to the next.

    But where a server has so many courses that they take turns (`crowded`): they don't wait there.
    """

    def __init__(self, courses: Sequence[Course]) -> None:
        servers = Counter(server_of(course.conninfo) for course in courses)
        full = {each for each, count in servers.items() if count > CONNECTIONS_PER_SERVER}
        self.crowds = [{c for c in courses if server_of(c.conninfo) == each} for each in full]
        self.crowded = bool(full)
        self.timeout_seconds = CROWDED_TIMEOUT_SECONDS if self.crowded else COURSE_TIMEOUT_SECONDS
        self._keep = not self.crowded
        self._open: dict[CourseId, Connection] = {}
        self._ours: set[CourseId] = set()

    @contextmanager
    def connection(self, course: Course) -> Iterator[Connection]:
        """Give the connection to a course's database, for one thread at a time.

        :raises DatabaseUnreachableError: if there is none yet and it can't be reached.
        :raises ForeignDatabaseError: if it is another portal's.
        """
        database = self._open.pop(course.course_id, None) or self._connect(course)
        try:
            yield database
        except BaseException:
            database.close()
            raise
        if self._keep:
            self._open[course.course_id] = database
        else:
            database.close()

    def _connect(self, course: Course) -> Connection:
        database = connect_course(
            course.conninfo,
            connect_timeout_seconds=2,
            statement_timeout_seconds=COURSE_TIMEOUT_SECONDS,
        )
        if course.course_id in self._ours:  # it was, a moment ago
            return database
        try:
            identities.require_ours(database, course.course_id, course.portal_id, copies=True)
        except BaseException:
            database.close()
            raise
        self._ours.add(course.course_id)
        return database

    def close(self) -> None:
        """Close what nobody uses; a thread that was left behind closes its own."""
        self._keep = False
        while self._open:
            self._open.popitem()[1].close()


def ask_each(
    courses: Sequence[Course], question: Callable[[Connection, Course], R]
) -> list[R | PysyncError]:
    """Ask all course databases one question; see :func:`ask`."""
    with closing(Databases(courses)) as databases:

        def in_database(course: Course) -> R:
            with databases.connection(course) as database:
                return question(database, course)

        return ask(courses, in_database, seconds=databases.timeout_seconds)


def server_of(conninfo: str) -> tuple[Any, ...]:
    """Return what tells a server from others in a connection string."""
    try:
        parameters = parse(conninfo)
    except DatabaseUnreachableError:
        return (conninfo,)  # it will be reported when it is connected to
    return tuple(parameters.get(key) for key in ("host", "hostaddr", "port", "service"))
