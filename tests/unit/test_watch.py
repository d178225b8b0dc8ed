"""What is kept of the lag: an hour, whatever courses come and go."""

from __future__ import annotations

from datetime import UTC, datetime

from pysync.types import CourseId
from pysync.watching.serving.watch import BUCKET_SECONDS, BUCKETS, Known
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
