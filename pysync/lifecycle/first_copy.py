"""Wait for the first copy of a course, or give it up with its cause."""

import time
from dataclasses import replace
from typing import Final, NoReturn

import psycopg

from pysync.diagnosis.trial import attempt_copy
from pysync.errors import PysyncError, ReplicationError
from pysync.findings import Finding
from pysync.lifecycle import handover
from pysync.lifecycle.work import Work
from pysync.models.replicated import REPLICATED
from pysync.replication import positions, registry, slots, snapshots, subscriptions
from pysync.texts import Text

FAILURES_TO_GIVE_UP: Final = 5
"""Failed tries to copy, without a table getting ready in between: one may be bad luck."""

_TRIAL_SECONDS: Final = 5


def wait(work: Work) -> None:
    """Wait until all tables are copied and the stream has caught up.

    A copy that fails is given up, once a trial tells the cause or it has failed often enough:
    subscription and slots go, so that nothing fills a disk.

    :raises ReplicationError: if it was given up.
    """
    course, database, progress = work.course, work.database, work.progress
    before = positions.copy_state(database, course)
    errors = before.errors
    queries = snapshots.fan_out(course.course_id)
    rows = {each.name: snapshots.count(work.portal, queries[each.name]) for each in REPLICATED}
    total = sum(rows.values())
    progress.step("first copy", max(total, 1))
    pause_seconds = 0.05
    while not (state := positions.copy_state(database, course)).complete:
        if state.ready > before.ready:
            before = state
        if not course.ready and state.errors > errors:
            errors = state.errors
            cause = _cause(work, state)
            if cause is not None or errors - before.errors >= FAILURES_TO_GIVE_UP:
                _give_up(work, cause)
        there = sum(rows[name] for name in rows if name not in state.uncopied)
        progress.advance(min(state.rows + there, total))
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.5, 0.25)
    progress.advance(max(total, 1))
    handover.catch_up(work, "copied", 30)


def _cause(work: Work, state: positions.CopyState) -> Finding | None:
    deadline = time.monotonic() + _TRIAL_SECONDS
    reached = replace(work.course, conninfo=work.conninfo)  # with its password
    try:
        return attempt_copy(work.portal_conninfo, reached, state.uncopied, deadline).finding
    except (PysyncError, psycopg.Error):
        return None


def _give_up(work: Work, cause: Finding | None) -> NoReturn:
    subscriptions.drop(work.database, work.course)
    slots.drop(work.portal, registry.get(work.portal, work.course.course_id))
    subject = f"{work.subject} can't be copied"
    if cause is None:
        raise ReplicationError(
            f"{subject}: its server reports an error for each try",
            "see the course server's log for the cause, mend it and run the command again",
        )
    raise ReplicationError(
        f"{subject}: {cause}", Text(cause.remedy) + ", and run the command again"
    )
