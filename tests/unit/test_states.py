"""A state carries its level: the schema lists the same ones, and nothing else names them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import pysync
from pysync.types import CourseId
from pysync.watching.status import CourseStatus, Level, Report, State
from pysync.watching.status.document import document, schema
from pysync.watching.status.nagios import check

PACKAGE = Path(pysync.__file__).parent
LEVELS = [
    *("watching/serving/page.js", "watching/serving/monitoring/alert-rules.yml"),
    *("watching/serving/monitoring/grafana-dashboard.json", "watching/status/metrics.py"),
    *("watching/status/nagios.py", "watching/status/document.py", "watching/serving/page.py"),
]
"""What weighs or shows states."""


def test_the_schema_lists_the_states_worst_first() -> None:
    course = schema()["$defs"]["course"]["properties"]
    assert course["state"]["enum"] == [state.value for state in State]
    assert set(course["level"]["enum"]) == {state.level for state in State}
    levels = [state.level for state in State]
    assert levels == sorted(levels, reverse=True)


@pytest.mark.parametrize("file", LEVELS)
def test_whatever_weighs_states_goes_by_their_level(file: str) -> None:
    """A new state touches model.py, judge.py, the schema and the operators' page."""
    text = (PACKAGE / file).read_text(encoding="utf-8")
    named = [
        state.value
        for state in State
        # Orphans are objects; "lost", "copying" and "stuck" are words as well.
        if state is not State.ORPHANED
        and any(quote + state.value + quote in text for quote in ("'", '"', "|"))
    ]
    assert named == []


@pytest.mark.parametrize("state", State)
def test_a_state_has_its_level_everywhere(state: State) -> None:
    report = Report(datetime.now(UTC), [CourseStatus(CourseId("A"), "slot", state)])
    (course,) = document(report)["courses"]
    assert (course["state"], course["level"]) == (state.value, state.level)
    level, line = check(report, {})
    assert level is state.level
    assert (f"A {state.value}" in line) == (level is not Level.OK)
