"""Make a report every few seconds, and remember the last hour of lag."""

import logging
import threading
import time
import traceback
from dataclasses import dataclass, replace
from typing import Final, Self

import psycopg
from psycopg.conninfo import make_conninfo

from pysync.db.connections import KEEPALIVES, parse
from pysync.db.errors import meaning
from pysync.errors import PysyncError
from pysync.types import subject
from pysync.watching.status import Level, Report, report

_LOG: Final = logging.getLogger(__name__)
_LOG_LEVELS: Final = {Level.WARNING: logging.WARNING, Level.CRITICAL: logging.ERROR}

BUCKET_SECONDS: Final = 30
BUCKETS: Final = 120
"""An hour: what is kept doesn't grow, however long we run."""

PAUSE_SECONDS: Final = 0.5
"""The least rest between two reports, for where one takes longer than the interval."""

STOP_SECONDS: Final = 6
"""How long a report that is being made is waited for at the end."""

_OLD_INTERVALS: Final = 3
_OLD_SECONDS: Final = 5


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

    def with_report(self, found: Report, asked_at: float, now: float) -> Self:
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
    :raises DatabaseUnreachableError: if the conninfo can't be parsed.
    """

    def __init__(self, portal_conninfo: str, interval_seconds: float) -> None:
        self.known = Known(interval_seconds)
        self._conninfo = make_conninfo("", **{**KEEPALIVES, **parse(portal_conninfo)})
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Make no more reports, and wait a while for the one that is being made."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self._refresh(began)
            spent = time.monotonic() - began
            self._stopping.wait(max(self.known.interval_seconds - spent, PAUSE_SECONDS))

    def _refresh(self, began: float) -> None:
        before = self.known
        try:
            found = report(self._conninfo)
        except PysyncError as error:
            failure = error
        except psycopg.Error as error:
            failure = meaning(error, "portal")
        except Exception as error:  # noqa: BLE001 - without its thread the page were old for ever
            _LOG.debug("the report failed", exc_info=True)
            where = traceback.extract_tb(error.__traceback__)[-1]
            failure = PysyncError(
                f"the report failed: {type(error).__name__} in {where.name}, line {where.lineno}",
                "run 'pysync status'",
            )
        else:
            self.known = before.with_report(found, began, time.monotonic())
            log_changes(before, self.known)
            return
        self.known = replace(before, error=failure)
        if str(before.error) != str(failure):
            _LOG.error("no report: %s", failure)


def log_changes(before: Known, now: Known) -> None:
    """Log what a report says that the one before didn't."""
    if before.error is not None:
        _LOG.warning("reports are made again")
    if now.seconds > now.interval_seconds >= before.seconds:
        _LOG.info(
            "a report takes %.1f s, longer than the interval of %g s",
            now.seconds,
            now.interval_seconds,
        )
    states = {each.course_id: each.state for each in before.report.courses} if before.report else {}
    for each in now.report.courses if now.report else ():
        was = states.get(each.course_id, each.state)
        if was is each.state:
            continue
        # That all is well again must be known as well.
        level = _LOG_LEVELS.get(each.state.level, logging.WARNING if was.level else logging.INFO)
        told = "; ".join(filter(None, (each.cause, each.remedy)))
        changed = f"{subject(each.course_id)} changed from {was.value} to {each.state.value}"
        _LOG.log(level, "%s", f"{changed}: {told}" if told else changed)
