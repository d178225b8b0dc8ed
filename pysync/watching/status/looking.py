"""Look at all courses at once: each twice if need be, with a mark sent in between."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from pysync.db.connections import Connection, connect, fetch_value, parse
from pysync.diagnosis.drift import course_findings
from pysync.errors import DatabaseUnreachableError, PysyncError
from pysync.findings import Finding
from pysync.replication.polling import Turns
from pysync.replication.registry import Course
from pysync.watching.status.course import (
    Blocker,
    Facts,
    read_blocker,
    read_facts,
    read_mark,
    read_strangers,
)
from pysync.watching.status.portal import Mark

ARRIVAL_SECONDS: Final = 0.8
"""How long a mark may take before a course counts as behind."""

PATIENCE_SECONDS: Final = 1.8
"""The same where the apply worker is connected and without errors: a busy server is no failure."""

_COPYING_SECONDS: Final = 0.3
_SLACK_SECONDS: Final = 0.5

_CROWDED_SECONDS: Final = 0.15
"""How long a mark is waited for with the connection open where others wait for their turn."""

_GATHER_SECONDS: Final = 0.1
"""How long courses that have answered wait for others, so that one statement sends all marks."""


@dataclass
class Seen:
    """What was seen of a course by the time the looking ended."""

    course: Course
    error: PysyncError | None = None
    first: Facts | None = None
    last: Facts | None = None
    drift: tuple[Finding, ...] = ()
    strangers: list[tuple[str, str]] = field(default_factory=list)
    blocker: Blocker | None = None
    mark: Mark | None = None
    arrived: bool = False
    seen_at: float = 0
    database_is_gone: bool = False


Send = Callable[[Mapping[str, Facts]], Mapping[str, Mark]]
"""Sends a mark to courses that have answered, and returns what was sent."""


class Looking:
    """Looks at all courses, from its making on."""

    def __init__(self, wanted: Sequence[Course], known: list[str], active: frozenset[str]) -> None:
        """Start looking.

        :param known: the replication names of all registered courses.
        :param active: the courses whose slots are in use.
        """
        self._turns = Turns(wanted)
        self._events: queue.Queue[tuple[str, _Watcher]] = queue.Queue()
        self._watchers = [
            _Watcher(course, self._turns, known, self._events, healthy=course.course_id in active)
            for course in wanted
        ]
        for watcher in self._watchers:
            threading.Thread(target=watcher.run, daemon=True).start()

    def finish(self, send: Send) -> list[Seen]:
        """Send marks to those that answer, and return what was seen of each course.

        :param send: sends marks; called from this thread only.
        """
        waiting = {*self._watchers}
        done: set[_Watcher] = set()
        unsent: list[_Watcher] = []
        while waiting or unsent or len(done) < len(self._watchers):
            patience = self._turns.deadline - time.monotonic()
            if len(waiting) + len(done) < len(self._watchers):
                patience += PATIENCE_SECONDS + _SLACK_SECONDS
            if patience <= 0:
                break
            try:
                kind, watcher = self._events.get(timeout=_GATHER_SECONDS if unsent else patience)
            except queue.Empty:
                pass
            else:
                waiting.discard(watcher)
                if kind == "done":
                    done.add(watcher)
                else:
                    unsent.append(watcher)
                    if waiting:
                        continue
            if unsent:
                _send_all(unsent, send)
                unsent = []
        return [
            each.seen if each in done else Seen(each.seen.course, self._turns.too_late())
            for each in self._watchers
        ]


def _send_all(watchers: Sequence[_Watcher], send: Send) -> None:
    marks = send({w.seen.course.course_id: w.seen.first for w in watchers if w.seen.first})
    for each in watchers:
        each.mark_sent(marks.get(each.seen.course.course_id))


class _Watcher:
    """Looks at one course, in a thread of its own.

    A thread that hangs in a connection to a dead server can't be stopped, only left behind.
    """

    def __init__(
        self,
        course: Course,
        turns: Turns,
        known: list[str],
        events: queue.Queue[tuple[str, Any]],
        *,
        healthy: bool,
    ) -> None:
        self.seen = Seen(course)
        self._turns = turns
        self._known = known
        self._events = events
        self._healthy = healthy
        self._marks: queue.Queue[Mark | None] = queue.Queue()

    def run(self) -> None:
        """Look, and tell about it."""
        seen, turns = self.seen, self._turns
        try:
            with turns.connection(seen.course) as database:
                self._look(database)
                if not turns.crowded and self._is_undecided():
                    self._look_again(database)
            if turns.crowded and self._is_undecided():
                # Others have their turn while this one waits.
                time.sleep(ARRIVAL_SECONDS)
                with turns.connection(seen.course) as database:
                    self._look_again(database)
        except PysyncError as error:
            seen.error = error
            seen.database_is_gone = self._is_gone(error)
        except queue.Empty:
            pass  # nobody waits for us any longer
        self._events.put(("done", self))

    def mark_sent(self, mark: Mark | None) -> None:
        """Tell which mark was sent, if one was."""
        self._marks.put(mark)

    def _is_gone(self, error: PysyncError) -> bool:
        """Return whether the server is there and the database isn't."""
        conninfo = parse(self.seen.course.conninfo)
        if not isinstance(error, DatabaseUnreachableError) or "dbname" not in conninfo:
            return False
        if time.monotonic() > self._turns.deadline - _SLACK_SECONDS:
            return False  # there is no time to ask
        with suppress(PysyncError, psycopg.Error):
            elsewhere = make_conninfo("", **{**conninfo, "dbname": "postgres"})
            with closing(connect(elsewhere, connect_timeout_seconds=2)) as server:
                return not fetch_value(
                    server,
                    "select exists (select from pg_catalog.pg_database where datname = %s)",
                    conninfo["dbname"],
                )
        return False

    def _look(self, database: Connection) -> None:
        seen = self.seen
        first = read_facts(database, seen.course)
        seen.strangers = read_strangers(database, self._known)
        if first.owner is not None:
            seen.drift = tuple(course_findings(database, seen.course))
        seen.first = seen.last = first
        seen.seen_at = time.monotonic()
        self._events.put(("answered", self))
        seen.mark = self._marks.get(timeout=self._turns.timeout_seconds + PATIENCE_SECONDS)
        if not self._is_undecided():
            return
        if first.tables_ready < len(first.tables):
            # Marks arrive once all is copied; whether tries to copy fail shows in a while.
            time.sleep(_COPYING_SECONDS)
            seen.last = read_facts(database, seen.course)
            seen.seen_at = time.monotonic()
        else:
            self._await_mark(database)

    def _is_undecided(self) -> bool:
        """Return whether it takes another look to tell whether the course moves."""
        seen = self.seen
        return (
            seen.first is not None
            and seen.last is seen.first
            and not seen.arrived
            and seen.first.mark is not None
            and bool(seen.first.enabled)
        )

    def _await_mark(self, database: Connection) -> None:
        seen = self.seen
        assert seen.first is not None  # noqa: S101 - looked at before
        healthy = self._healthy and not seen.first.apply_errors
        patience = PATIENCE_SECONDS if healthy else ARRIVAL_SECONDS
        if self._turns.crowded:
            patience = _CROWDED_SECONDS
        deadline = time.monotonic() + patience
        pause_seconds = 0.002
        while seen.mark is not None and not self._has_arrived(database):
            if seen.seen_at > deadline:
                return
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.5, 0.05)
        if seen.mark is None and not self._turns.crowded:
            time.sleep(ARRIVAL_SECONDS)

    def _has_arrived(self, database: Connection) -> bool:
        seen = self.seen
        mark = read_mark(database, seen.course)
        seen.seen_at = time.monotonic()
        seen.arrived = seen.mark is not None and mark is not None and mark >= seen.mark.number
        return seen.arrived

    def _look_again(self, database: Connection) -> None:
        seen = self.seen
        if self._has_arrived(database):
            return
        seen.last = read_facts(database, seen.course)
        seen.seen_at = time.monotonic()
        if seen.last.worker_pid is not None:
            seen.blocker = _blocker(database, seen.last.worker_pid)


def _blocker(database: Connection, worker_pid: int) -> Blocker | None:
    try:
        return read_blocker(database, worker_pid)
    except psycopg.Error:
        return None
