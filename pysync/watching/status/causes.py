"""Look for the cause of a standstill that positions and counts don't tell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

import psycopg

from pysync.diagnosis.trial import Tried, attempt, attempt_copy, reach
from pysync.errors import PysyncError
from pysync.watching.status.judge import Look, Verdict
from pysync.watching.status.model import State

TRIAL_SECONDS: Final = 1.2
"""How long the cause of a stuck course is looked for."""

REPORT_SECONDS: Final = 4.2
"""Until when causes are looked for: everything takes little longer."""

TRIALS_AT_ONCE: Final = 8


def with_causes(
    portal_conninfo: str, looks: Sequence[Look], verdicts: list[Verdict], end: float
) -> list[Verdict]:
    """Try what is pending for courses that fail, or seem to, for a cause that isn't known yet."""
    untold = [i for i, verdict in enumerate(verdicts) if verdict.untold]
    if not untold:
        return verdicts

    def tried(index: int) -> Tried:
        deadline = min(time.monotonic() + TRIAL_SECONDS, end)
        if time.monotonic() > end:
            return Tried(None, 0, "there was no time left to try them: ask for this course alone")
        look = looks[index]
        assert look.facts is not None  # noqa: S101 - stuck courses have answered
        facts = look.facts[1]
        try:
            outcome = (
                attempt_copy(portal_conninfo, look.course, facts.uncopied, deadline)
                if facts.uncopied
                else attempt(portal_conninfo, look.course, facts.applied_at, deadline)
            )
        except (PysyncError, psycopg.Error) as error:
            outcome = Tried(None, 0, f"they couldn't be tried: {str(error).splitlines()[0]}")
        if outcome.finding is None and not look.slots[1].slot_active:
            outcome = replace(outcome, finding=reach(look.course, deadline))
        return outcome

    with ThreadPoolExecutor(min(len(untold), TRIALS_AT_ONCE)) as pool:
        for index, outcome in zip(untold, pool.map(tried, untold), strict=True):
            verdicts[index] = _explained(looks[index], verdicts[index], outcome)
    return verdicts


def _explained(look: Look, verdict: Verdict, tried: Tried) -> Verdict:
    if tried.finding is not None:
        return replace(
            verdict,
            state=State.STUCK,
            cause=f"{verdict.cause}: {tried.finding}",
            remedy=tried.finding.remedy,
        )
    if look.drift:
        return replace(
            verdict, cause=f"{verdict.cause}; {look.drift[0]}", remedy=look.drift[0].remedy
        )
    what = "rows" if look.facts and look.facts[1].uncopied else "pending changes"
    note = tried.note or f"{tried.changes} {what} apply without error when tried"
    return replace(verdict, cause=f"{verdict.cause}; {note}")
