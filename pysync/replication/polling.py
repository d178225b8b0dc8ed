"""Ask many courses at once, none for longer than it may take."""

import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
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
"""How long one course database may take."""

CROWDED_TIMEOUT_SECONDS: Final = 4.0
"""The same where a server has so many courses that they are asked in turns."""

CONNECTIONS_PER_SERVER: Final = 24
"""Connections that we open to one server at a time: it may allow a hundred altogether."""

REFUSAL_SECONDS: Final = 1
"""What takes less before it says no is there, and says so; of what hangs nothing is learned."""

_LOOK_SECONDS: Final = 0.05
"""How often is looked whose time is over, while no answers come."""

JOBS: Final = 4
"""Courses that a command works on at a time unless told otherwise."""

R = TypeVar("R")


class LateError(PysyncError):
    """A course hasn't answered in time."""


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
    :param seconds: how long each may take once its turn has come. A server none of whose courses
        has answered for as long is given up: the others aren't asked.
    :param heard: is told each answer when it comes, in the thread that asks.
    :returns: each course's answer or error, in their order.
    """
    groups: dict[Hashable, deque[int]] = {}
    for index, course in enumerate(courses):
        groups.setdefault(at_once or server_of(course.conninfo), deque()).append(index)
    answers: queue.SimpleQueue[tuple[_Turns, int, Any]] = queue.SimpleQueue()
    turns = [_Turns(waiting) for waiting in groups.values()]
    for each in turns:
        for _ in range(min(len(each.waiting), at_once or CONNECTIONS_PER_SERVER)):
            ours = (each, courses, question, answers)
            threading.Thread(target=_take_turns, args=ours, daemon=True).start()

    found: dict[int, R | PysyncError] = {}
    while len(found) < len(courses):
        try:
            server, index, answer = answers.get(timeout=seconds and _LOOK_SECONDS)
        except queue.Empty:
            for each in turns:
                found = {**dict(each.late(seconds or 0)), **found}
            continue
        if isinstance(answer, BaseException) and not isinstance(answer, PysyncError):
            raise answer
        server.answered(index, refused=isinstance(answer, DatabaseUnreachableError))
        if index not in found:  # else it is too late
            found[index] = answer
            if heard is not None:
                heard(courses[index], answer)
    return [found[index] for index in range(len(courses))]


class _Turns:
    """Courses of one server that are asked in turns, by their index.

    :param waiting: those whose turn hasn't come.
    """

    def __init__(self, waiting: deque[int]) -> None:
        self.waiting = waiting
        self.begun: dict[int, float] = {}
        self._answered_at = time.monotonic()

    def answered(self, index: int, *, refused: bool) -> None:
        """Note an answer: a refusal is one if it comes at once."""
        now = time.monotonic()
        if now - self.begun.pop(index) < REFUSAL_SECONDS or not refused:
            self._answered_at = now

    def late(self, seconds: float) -> Iterator[tuple[int, PysyncError]]:
        """Return those whose time is over; if nobody answers, also those whose turn won't come."""
        now = time.monotonic()
        for index, began in [*self.begun.items()]:
            if now - began >= seconds:
                yield index, LateError(f"no answer within {seconds} s")
        if now - self._answered_at >= seconds:
            with suppress(IndexError):
                while True:
                    yield (
                        self.waiting.popleft(),
                        PysyncError(
                            f"it wasn't asked: no course of its server has answered for {seconds} s"
                        ),
                    )


def _take_turns(
    turns: _Turns,
    courses: Sequence[Course],
    question: Callable[[Course], Any],
    answers: queue.SimpleQueue[tuple[_Turns, int, Any]],
) -> None:
    """Ask one course after the other, while there are any."""
    with suppress(IndexError):
        while True:
            index = turns.waiting.popleft()
            turns.begun[index] = time.monotonic()
            answers.put((turns, index, _answer(courses[index], question)))


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

    @contextmanager
    def connection(self, course: Course) -> Iterator[Connection]:
        """Give the connection to a course's database, for one thread at a time.

        Nobody has seen whose that is.

        :raises DatabaseUnreachableError: if there is none yet and it can't be reached.
        """
        database = self._open.pop(course.course_id, None) or connect_course(
            course.conninfo,
            connect_timeout_seconds=2,
            statement_timeout_seconds=COURSE_TIMEOUT_SECONDS,
        )
        try:
            yield database
        except BaseException:
            database.close()
            raise
        if self._keep:
            self._open[course.course_id] = database
        else:
            database.close()

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
                identities.require_ours(database, course.course_id, course.portal_id, copies=True)
                return question(database, course)

        return ask(courses, in_database, seconds=databases.timeout_seconds)


def server_of(conninfo: str) -> tuple[Any, ...]:
    """Return what tells a server from others in a connection string."""
    try:
        parameters = parse(conninfo)
    except DatabaseUnreachableError:
        return (conninfo,)  # it will be reported when it is connected to
    return tuple(parameters.get(key) for key in ("host", "hostaddr", "port", "service"))
