"""Have a course get what is there already: begin its first copy, and wait for it or give it up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NoReturn

import psycopg

from pysync.db import holders
from pysync.diagnosis import sessions
from pysync.diagnosis.trial import attempt_copy
from pysync.errors import PysyncError, ReplicationError
from pysync.findings import IN_COURSE, Finding
from pysync.lifecycle import handover, replicas
from pysync.lifecycle.work import Work
from pysync.replication import (
    failover,
    positions,
    processes,
    registry,
    slots,
    snapshots,
    subscriptions,
)
from pysync.texts import Text

FAILURES_TO_GIVE_UP: Final = 5
"""Failed tries to copy, without a table getting ready in between: one may be bad luck."""

HELD_SECONDS: Final = 3
"""How long nothing must be copied before it is said who has its tables, or slots, locked."""

_TRIAL_SECONDS: Final = 5


def begin(work: Work) -> None:
    """Give a course a slot, and a subscription that copies what its stream doesn't bring.

    What was committed before the slot's position is copied by PostgreSQL, with slots and workers
    for each table. Most new courses have nothing there but a mark: that is entered here, and all
    else comes by the stream. What has been begun before is done anew.
    """
    work.progress.step("subscribing")
    publisher, database, course = work.publisher, work.database, work.course
    subscriptions.drop(database, course)
    replicas.make_vacant(database, course)
    slots.drop(publisher.connection, course)
    with _without_slot_if_it_fails(work):
        with snapshots.new_slot(publisher, course.replication_name) as reader:
            copies = snapshots.any_rows(reader, course)
            marks = snapshots.marks(reader, course)
        with database.transaction():
            subscriptions.create(database, course, work.subscriber, copy_data=copies)
            if not copies:
                replicas.enter_marks(database, marks)
        handover.record(work)


def start(work: Work) -> None:
    """Have a course's subscription run."""
    with _without_slot_if_it_fails(work):
        course = handover.record(work).course
        failover.ensure(work.publisher, work.database, course)
        subscriptions.enable(work.database, course)


@contextmanager
def _without_slot_if_it_fails(work: Work) -> Iterator[None]:
    """Have no slot keep WAL for a course that isn't there yet."""
    try:
        yield
    except BaseException:
        publisher = work.publisher.connection
        if not work.course.ready and not publisher.closed:
            slots.drop(publisher, work.course)
        raise


def wait(work: Work) -> None:
    """Wait until all tables are copied and the stream has caught up.

    A copy that fails is given up, once a trial tells the cause or it has failed often enough:
    subscription and slots go, so that nothing fills a disk.

    :raises ReplicationError: if it was given up.
    """
    before = positions.copy_state(work.database, work.course)
    if not before.complete:
        _follow(work, before)
    handover.catch_up(work, "copied", 30)


def _follow(work: Work, before: positions.CopyState) -> None:
    course, database, progress = work.course, work.database, work.progress
    errors = before.errors
    queries = snapshots.fan_out(course)
    rows = {
        each.name: snapshots.count(work.publisher.connection, queries[each])
        for each in course.replicated
    }
    total = sum(rows.values())
    progress.step("first copy", max(total, 1))
    moved, began, warned = before, time.monotonic(), False
    moved_at = began
    while not (state := positions.copy_state(database, course)).complete:
        if state.ready > before.ready:
            before = state
        if (state.ready, state.rows) != (moved.ready, moved.rows):
            moved, moved_at, warned = state, time.monotonic(), False
        elif not warned and time.monotonic() - moved_at > HELD_SECONDS and (held := _held(work)):
            progress.warn(held.text)
            warned = True
        if not course.ready and state.errors > errors:
            errors = state.errors
            cause = _cause(work, state)
            if cause is not None or errors - before.errors >= FAILURES_TO_GIVE_UP:
                _give_up(work, cause)
        there = sum(rows[name] for name in rows if name not in state.uncopied)
        progress.advance(min(state.rows + there, total))
        # So a copy is found complete no more than a seventh later than it is.
        time.sleep(min(max((time.monotonic() - began) / 7, 0.03), 0.25))
    progress.advance(max(total, 1))


def _held(work: Work) -> Finding | None:
    """Return whom those who copy wait for."""
    workers = [each.pid for each in processes.workers(work.database, work.course)]
    course = registry.get(work.portal, work.course.course_id)
    publisher = work.publisher.connection
    for connection, pids, where in (
        (work.database, workers, IN_COURSE),
        (publisher, [*processes.senders(publisher, course)], work.publisher.where),
    ):
        if found := holders.holder(connection, pids):
            cause = f"waits for a lock that {found} holds {where}"
            return Finding("the first copy", cause, found.end(where, connection.info.dbname))
    return None


def _cause(work: Work, state: positions.CopyState) -> Finding | None:
    deadline = time.monotonic() + _TRIAL_SECONDS
    reached = replace(work.course, conninfo=work.conninfo)  # with its password
    try:
        tried = attempt_copy(work.publisher.conninfo, reached, state.uncopied, deadline).finding
        publisher = work.publisher
        ended = sessions.of_copies(publisher.connection, work.subscriber, publisher.where)
        return tried or next(ended, None)
    except (PysyncError, psycopg.Error):
        return None


def _give_up(work: Work, cause: Finding | None) -> NoReturn:
    subscriptions.drop(work.database, work.course)
    slots.drop(work.publisher.connection, registry.get(work.portal, work.course.course_id))
    subject = f"{work.subject} can't be copied"
    if cause is None:
        raise ReplicationError(
            f"{subject}: its server reports an error for each try",
            "see 'pysync doctor', or that server's log; then run the command again",
        )
    raise ReplicationError(
        f"{subject}: {cause}", Text(cause.remedy) + ", and run the command again"
    )
