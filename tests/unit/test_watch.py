"""What is kept of the lag, an hour whatever courses come and go; and which events are logged."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pysync.errors import PysyncError
from pysync.types import CourseId
from pysync.watching.serving.watch import BUCKET_SECONDS, BUCKETS, Known, log_changes
from pysync.watching.status import CourseStatus, Report, State


def report(**lags: float | None) -> Report:
    return Report(
        datetime.now(UTC),
        [
            CourseStatus(CourseId(each), f"slot_{each}", State.STREAMING, lag_seconds=lag)
            for each, lag in lags.items()
        ],
    )


def test_a_bucket_keeps_the_worst_lag() -> None:
    known = Known(5)
    for lag in (None, 1.0, 3.0, None, 2.0):
        known = known.with_report(report(A=lag), 0, 10)
    (bucket,) = known.history
    assert bucket.lags == {"A": 3.0}


def test_no_more_than_an_hour_is_kept() -> None:
    known = Known(5)
    for second in range(0, 3 * BUCKETS * BUCKET_SECONDS, 10):
        known = known.with_report(report(A=1.0, B=float(second)), second, second)
    assert len(known.history) == BUCKETS
    numbers = [each.number for each in known.history]
    assert numbers == list(range(2 * BUCKETS, 3 * BUCKETS))
    assert known.history[-1].lags["B"] == 3 * BUCKETS * BUCKET_SECONDS - 10


def test_history_is_of_the_last_hour_also_after_a_pause() -> None:
    known = Known(5).with_report(report(A=1.0), 0, 0)
    known = known.with_report(report(A=2.0), 1e5, 1e5)
    assert [each.lags for each in known.history] == [{"A": 2.0}]


def test_a_report_that_takes_long_is_not_called_old_while_the_next_is_made() -> None:
    known = Known(5).with_report(report(), 0, 20)
    assert known.old_seconds > 2 * 20


def one_course(state: State, cause: str | None = None) -> Report:
    return Report(datetime.now(UTC), [CourseStatus(CourseId("A"), "slot_A", state, cause, "mend")])


def test_events_are_logged_once_and_what_an_operator_must_know_as_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    known = Known(5)
    for state, cause, seconds in (
        (State.STREAMING, None, 1),
        (State.COPYING, None, 1),
        (State.STUCK, "it fails", 7),
        (State.STUCK, "it fails", 8),
        (State.STREAMING, None, 1),
    ):
        before, known = known, known.with_report(one_course(state, cause), 0, seconds)
        log_changes(before, known)
    log_changes(replace(known, error=PysyncError("no portal")), known)
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("INFO", "course 'A' changed from streaming to copying: mend"),
        ("INFO", "a report takes 7.0 s, longer than the interval of 5 s"),
        ("ERROR", "course 'A' changed from copying to stuck: it fails; mend"),
        ("WARNING", "course 'A' changed from stuck to streaming: mend"),
        ("WARNING", "reports are made again"),
    ]
