"""Say how each course is, also when it can't be asked."""

from __future__ import annotations

import queue
import shlex
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeVar

import psycopg

from pysync import registry, subscriptions
from pysync.db.connections import Connection, connect, fetch_value
from pysync.db.errors import meaning
from pysync.errors import PysyncError
from pysync.migrate import current_revision, head_revision
from pysync.migrate.lineage import COURSE, PORTAL
from pysync.registry import Course
from pysync.types import CourseId

COURSE_TIMEOUT_SECONDS: Final = 2.5
"""How long one course database may take; the whole report takes little longer."""

CATCHING_UP_BYTES: Final = 1024 * 1024
"""Lag above which a course counts as catching up rather than streaming."""

RESTARTED_SECONDS: Final = 10
"""How recently an apply worker must have connected to count as just restarted."""

R = TypeVar("R")


class State(Enum):
    """What a course's replication is doing."""

    STREAMING = "streaming"
    CATCHING_UP = "catching-up"
    COPYING = "copying"
    PAUSED = "paused"
    STUCK = "stuck"
    DRIFTED = "drifted"
    INCOMPLETE = "incomplete"
    LOST = "lost"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class Slot:
    """What the portal knows of a course: true also when the course can't be asked.

    ``lag_bytes`` is WAL that the course hasn't applied yet, ``retained_wal_bytes`` WAL that the
    portal keeps for it, ``connected_seconds`` how long its apply worker has been connected.
    """

    active: bool
    lost: bool
    lag_bytes: int
    retained_wal_bytes: int
    connected_seconds: float | None


@dataclass(frozen=True)
class Facts:
    """What the course database says."""

    enabled: bool
    tables_ready: int
    tables_total: int
    apply_errors: int
    sync_errors: int
    shadowing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CourseStatus:
    """A line of the report; ``None`` is what couldn't be found out."""

    course_id: CourseId
    state: State
    cause: str | None
    slot: Slot | None
    facts: Facts | None


@dataclass(frozen=True)
class Revision:
    """Where a database is in its lineage; ``error`` if it couldn't be asked."""

    database: str
    current: str | None
    head: str
    error: str | None = None

    @property
    def pending(self) -> bool | None:
        """Return whether there is something to migrate; ``None`` if unknown."""
        return None if self.error else self.current != self.head


def status(portal_conninfo: str, course_id: CourseId | None = None) -> list[CourseStatus]:
    """Report on one course, or on all.

    :raises UnknownCourseError: if the course isn't registered.
    :raises DatabaseUnreachableError: if the portal can't be reached.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        wanted = [registry.get(portal, course_id)] if course_id else registry.courses(portal)
        slots = _slots(portal)
    answers = _ask_each(wanted, _facts)
    return [
        _judge(course, slots.get(course.replication_name), answer)
        for course, answer in zip(wanted, answers, strict=True)
    ]


def revisions(portal_conninfo: str) -> list[Revision]:
    """Return where the portal and every course database are in their lineages."""
    with closing(connect(portal_conninfo)) as portal:
        current = current_revision(portal, PORTAL)
        found = [Revision("portal", current, head_revision(PORTAL))]
        wanted = registry.courses(portal) if current else []
    head = head_revision(COURSE)
    answers = _ask_each(wanted, lambda database, _: current_revision(database, COURSE))
    for course, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, PysyncError):
            found.append(Revision(course.course_id, None, head, answer.message))
        else:
            found.append(Revision(course.course_id, answer, head))
    return found


def _slots(portal: Connection) -> dict[str, Slot]:
    # What a walsender's client has replayed is what is visible in the course; the slot's own
    # confirmed position trails it.
    rows = portal.execute(
        "select s.slot_name::text, s.active, coalesce(s.wal_status = 'lost', false),"
        " greatest(pg_wal_lsn_diff(pg_current_wal_lsn(),"
        "   coalesce(r.replay_lsn, s.confirmed_flush_lsn)), 0)::bigint,"
        " greatest(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint,"
        " extract(epoch from now() - r.backend_start)::double precision"
        " from pg_catalog.pg_replication_slots s"
        " left join pg_catalog.pg_stat_replication r on r.pid = s.active_pid"
        " where s.slot_type = 'logical'"
    ).fetchall()
    return {name: Slot(*facts) for name, *facts in rows}


def _facts(database: Connection, course: Course) -> Facts | None:
    subscription = subscriptions.find_subscription(database, course.replication_name)
    if subscription is None:
        return None
    copy = subscriptions.copy_state(database, course)
    apply_errors = fetch_value(
        database,
        "select apply_error_count from pg_catalog.pg_stat_subscription_stats where subid = %s",
        subscription.oid,
    )
    shadowing = fetch_value(
        database,
        "select coalesce(array_agg(c.relname::text order by c.relname), '{}')"
        " from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'public' and c.relname in"
        " ('auth_user', 'auth_userprofile', 'student_courseenrollment')",
    )
    apply_errors = int(apply_errors or 0)
    return Facts(
        enabled=subscription.enabled,
        tables_ready=copy.ready,
        tables_total=copy.tables,
        apply_errors=apply_errors,
        sync_errors=copy.errors - apply_errors,
        shadowing=shadowing,
    )


def _judge(course: Course, slot: Slot | None, answer: Facts | PysyncError | None) -> CourseStatus:
    facts = answer if isinstance(answer, Facts) else None
    state, cause = _state(course, slot, answer)
    return CourseStatus(course.course_id, state, cause, slot, facts)


def _state(
    course: Course, slot: Slot | None, answer: Facts | PysyncError | None
) -> tuple[State, str | None]:
    finish = f"run 'pysync course add {shlex.quote(course.course_id)} …' again"
    if not course.fans_out:
        return State.INCOMPLETE, (
            "removal was interrupted; "
            f"run 'pysync course remove {shlex.quote(course.course_id)} --yes'"
        )
    if slot is None and course.ready:
        return State.LOST, "its slot is missing on the portal: changes are missing in the course"
    if slot is not None and slot.lost:
        return State.LOST, "its slot was invalidated: changes are missing in the course"
    if isinstance(answer, PysyncError):
        return State.UNREACHABLE, answer.message
    if answer is None:
        return State.INCOMPLETE, f"its subscription is missing; {finish}"
    if slot is None:
        return State.INCOMPLETE, f"its slot is missing; {finish}"
    if answer.shadowing:
        tables = ", ".join(f"public.{name}" for name in answer.shadowing)
        return State.DRIFTED, (
            f"critical: {tables} hides the replicated table from applications; "
            "move or drop it in the course database"
        )
    return _stream_state(slot, answer, finish if not course.ready else None)


def _stream_state(slot: Slot, facts: Facts, finish: str | None) -> tuple[State, str | None]:
    if not facts.enabled:
        return State.PAUSED, f"its subscription is disabled{'; ' + finish if finish else ''}"
    if facts.tables_ready < facts.tables_total:
        failures = f"{facts.sync_errors} failed tries, see the course server's log"
        return State.COPYING, failures if facts.sync_errors else None
    errors = facts.apply_errors
    if not slot.active:
        return State.STUCK, (
            f"no apply worker is connected ({errors} apply errors); see the course server's log"
        )
    if errors and slot.lag_bytes > 0 and (slot.connected_seconds or 0) < RESTARTED_SECONDS:
        # A worker that fails at a change comes back for it again and again.
        return State.STUCK, (
            f"its apply worker has just restarted, behind and after {errors} apply errors; "
            "see the course server's log"
        )
    if slot.lag_bytes > CATCHING_UP_BYTES:
        return State.CATCHING_UP, None
    return State.STREAMING, None


def _ask_each(
    wanted: list[Course], question: Callable[[Connection, Course], R]
) -> list[R | PysyncError]:
    """Ask all course databases at once; who doesn't answer in time is reported so.

    A thread that hangs in a connection to a dead server can't be stopped, only left behind.
    """
    answers: queue.Queue[tuple[int, R | PysyncError]] = queue.Queue()

    def ask(index: int, course: Course) -> None:
        try:
            with closing(
                connect(
                    course.conninfo,
                    connect_timeout_seconds=2,
                    statement_timeout_seconds=COURSE_TIMEOUT_SECONDS,
                )
            ) as database:
                answers.put((index, question(database, course)))
        except PysyncError as error:
            answers.put((index, error))
        except psycopg.Error as error:
            answers.put((index, meaning(error, f"course '{course.course_id}'")))

    for index, course in enumerate(wanted):
        threading.Thread(target=ask, args=(index, course), daemon=True).start()
    deadline = time.monotonic() + COURSE_TIMEOUT_SECONDS
    results: list[Any] = [
        PysyncError(f"no answer within {COURSE_TIMEOUT_SECONDS:g} s") for _ in wanted
    ]
    for _ in wanted:
        try:
            index, answer = answers.get(timeout=max(deadline - time.monotonic(), 0))
        except queue.Empty:
            break
        results[index] = answer
    return results
