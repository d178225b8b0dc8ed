"""Look for the cause of a standstill that positions and counts don't tell."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from typing import Final

import psycopg

from pysync.db.errors import told
from pysync.diagnosis import sessions
from pysync.diagnosis.drift.carried import MIGRATE
from pysync.diagnosis.trial import Tried, attempt, attempt_copy, reach
from pysync.diagnosis.trial.explain import TOO_NARROW
from pysync.diagnosis.trial.reach import connect_until
from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.replication.databases import connect_course
from pysync.replication.polling import ask
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status.model import State, Verdict
from pysync.watching.status.observation import Observation

TRIAL_SECONDS: Final = 1.2
"""How long the cause of a stuck course is looked for."""

REPORT_SECONDS: Final = 4.2
"""Until when causes are looked for: everything takes little longer."""

TRIALS_AT_ONCE: Final = 8


def with_causes(
    portal_conninfo: str, observed: Sequence[Observation], verdicts: Sequence[Verdict], end: float
) -> list[Verdict]:
    """Try what is pending for courses that fail, or seem to, for a cause that isn't known yet."""
    pairs = list(zip(observed, verdicts, strict=True))
    untold = {seen.course: seen for seen, verdict in pairs if verdict.untold}
    publishers: dict[CourseId | None, str] = {None: portal_conninfo}
    publishers |= {each.course.course_id: each.course.conninfo for each in observed}
    end = max(end, time.monotonic() + TRIAL_SECONDS)  # some are tried, however late it is
    question = partial(_try, publishers, untold, end)
    tried = dict(zip(untold, ask([*untold], question, at_once=TRIALS_AT_ONCE), strict=True))
    return [
        _explained(seen, verdict, tried[seen.course]) if verdict.untold else verdict
        for seen, verdict in pairs
    ]


def _try(
    publishers: Mapping[CourseId | None, str],
    untold: Mapping[Course, Observation],
    end: float,
    course: Course,
) -> Tried:
    portal_conninfo = publishers[course.relay]
    if time.monotonic() > end:
        return Tried(None, 0, "there was no time left to try them: ask for this course alone")
    deadline = min(time.monotonic() + TRIAL_SECONDS, end)
    seen, facts = untold[course], untold[course].last
    try:
        outcome = (
            attempt_copy(portal_conninfo, course, facts.tables_uncopied, deadline)
            if facts and facts.tables_uncopied
            else attempt(portal_conninfo, course, facts and facts.applied_at, deadline)
        )
    except (PysyncError, psycopg.Error) as error:
        outcome = Tried(None, 0, f"they couldn't be tried: {told(error)}")
    if outcome.finding is None:
        with suppress(PysyncError, psycopg.Error):
            outcome = replace(outcome, finding=_ended(portal_conninfo, seen, deadline))
    if outcome.finding is None and not seen.slots[1].slot_active:
        outcome = replace(outcome, finding=reach(course, deadline))
    return outcome


def _ended(portal_conninfo: str, seen: Observation, deadline: float) -> Finding | None:
    """Return the setting that ends a course's sessions, if there is one."""
    course, way = seen.course, seen.course.portal_conninfo
    with closing(connect_until(portal_conninfo, deadline)) as portal:
        copies = seen.last is not None and seen.last.tables_uncopied
        ended = sessions.of_copies if copies else sessions.of_streams
        on_portal = [*ended(portal, way, course.on_publisher)]
    with closing(connect_until(course.conninfo, deadline, connect_course)) as database:
        in_course = [*sessions.of_workers(database, course)]
    found = on_portal + in_course if copies else in_course + on_portal
    return min(found, key=lambda each: not each.must, default=None)


def _explained(seen: Observation, verdict: Verdict, tried: Tried | PysyncError) -> Verdict:
    if isinstance(tried, PysyncError):
        tried = Tried(None, 0, f"they couldn't be tried: {tried.message}")
    if tried.finding is not None:
        remedy, cause = tried.finding.remedy, f"{verdict.cause}: {tried.finding}"
        altered = next((each for each in seen.drift if each.remedy == MIGRATE), None)
        if remedy == TOO_NARROW and altered:
            remedy, cause = altered.remedy, f"{cause}; {altered}"
        return replace(
            verdict,
            state=State.STUCK,
            cause=cause,
            remedy=remedy,
            why=str(tried.finding),
        )
    if seen.drift:
        drift = seen.drift[0]
        return replace(verdict, cause=f"{verdict.cause}; {drift}", remedy=drift.remedy)
    what = "rows" if seen.last and seen.last.tables_uncopied else "pending changes"
    note = tried.note or f"{tried.changes} {what} apply without error when tried"
    return replace(verdict, cause=f"{verdict.cause}; {note}")
