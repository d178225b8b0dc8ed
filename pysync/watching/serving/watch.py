"""Make a report every few seconds, and remember the last hour of lag."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Self

import psycopg
from psycopg.conninfo import make_conninfo

from pysync.db.connections import parse
from pysync.db.errors import meaning
from pysync.errors import PysyncError
from pysync.watching.status import Report, report

BUCKET_SECONDS: Final = 30
BUCKETS: Final = 120
"""An hour: what is kept doesn't grow, however long we run."""

PAUSE_SECONDS: Final = 0.5
"""The least rest between two reports, for where one takes longer than the interval."""

STOP_SECONDS: Final = 6
"""How long a report that is being made is waited for at the end."""

_OLD_INTERVALS: Final = 3
_OLD_SECONDS: Final = 5

_SILENCE: Final = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25000,
}
"""A portal whose machine went away without a word is given up, instead of awaited for hours."""


@dataclass(frozen=True)
class Bucket:
    """The worst lag of each course in seconds, in a piece of time; ``None`` where none was known.

    :param number: counts pieces on our monotonic clock.
    """

    number: int
    lags: dict[str, float | None]


@dataclass(frozen=True)
class Known:
    """What is known at one moment.

    :param asked_at: when the report was asked for, on our monotonic clock.
    :param seconds: how long the report took.
    :param error: why the last attempt gave no report, if it didn't.
    """

    interval_seconds: float
    report: Report | None = None
    asked_at: float = 0
    seconds: float = 0
    error: PysyncError | None = None
    history: tuple[Bucket, ...] = ()

    @property
    def age_seconds(self) -> float | None:
        """Return the age of the report, ``None`` without one."""
        return None if self.report is None else time.monotonic() - self.asked_at

    @property
    def old_seconds(self) -> float:
        """Return from which age on a report is old: several must have failed to come."""
        return _OLD_INTERVALS * max(self.interval_seconds, self.seconds) + _OLD_SECONDS

    @property
    def trouble(self) -> PysyncError | None:
        """Return why the report isn't to be taken for the present, or ``None`` if it is."""
        if self.error is not None:
            return self.error
        if self.age_seconds is None:
            return PysyncError("there is no report yet", "ask again in a few seconds")
        if self.age_seconds > self.old_seconds:
            return PysyncError(
                f"the report is {self.age_seconds:.0f} s old: the portal doesn't answer",
                "look after its server and the network",
            )
        return None

    def with_report(self, found: Report, asked_at: float, now: float) -> Known:
        """Return what is known after a report."""
        return replace(
            self,
            report=found,
            asked_at=asked_at,
            seconds=now - asked_at,
            error=None,
            history=_remember(self.history, found, int(now // BUCKET_SECONDS)),
        )


def _remember(history: tuple[Bucket, ...], found: Report, number: int) -> tuple[Bucket, ...]:
    before = history[-1].lags if history and history[-1].number == number else {}
    lags = {
        str(each.course_id): max(
            (lag for lag in (each.lag_seconds, before.get(each.course_id)) if lag is not None),
            default=None,
        )
        for each in found.courses
    }
    kept = [each for each in history if number - BUCKETS < each.number < number]
    return (*kept, Bucket(number, lags))


class Watch:
    """A thread that makes one report after the other, which also sends marks to the courses.

    :param portal_conninfo: the portal database; it needn't answer.
    :param interval_seconds: from the beginning of a report to that of the next.
    :param notify: is told once when reports begin to fail, and once when they come again.
    :raises DatabaseUnreachableError: if the conninfo can't be parsed.
    """

    def __init__(
        self, portal_conninfo: str, interval_seconds: float, notify: Callable[[str], None]
    ) -> None:
        self.known = Known(interval_seconds)
        self._conninfo = make_conninfo("", **{**_SILENCE, **parse(portal_conninfo)})
        self._notify = notify
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._refresh(began)
            spent = time.monotonic() - began
            self._stopping.wait(max(self.known.interval_seconds - spent, PAUSE_SECONDS))

    def _refresh(self, began: float) -> None:
        before = self.known.error
        try:
            found = report(self._conninfo)
        except PysyncError as error:
            self._fail(error)
        except psycopg.Error as error:
            self._fail(meaning(error, "portal"))
        except Exception as error:  # noqa: BLE001 - without its thread the page were old for ever
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._fail(
                PysyncError(
                    f"the report failed: {type(error).__name__} in {where.name}, "
                    f"line {where.lineno}",
                    "run 'pysync status'",
                )
            )
        else:
            self.known = self.known.with_report(found, began, time.monotonic())
            if before is not None:
                self._notify("reports are made again")
            return
        if before is None or str(before) != str(self.known.error):
            self._notify(f"no report: {self.known.error}")

    def _fail(self, error: PysyncError) -> None:
        self.known = replace(self.known, error=error)
