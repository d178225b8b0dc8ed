"""Verify every course in turn in the background: no difference stays unreported for long."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pysync.types import CourseId, subject
from pysync.watching.serving.watch import Watch
from pysync.watching.status import CourseStatus, State

_LOG: Final = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1
"""How often is looked whether a course is due."""

RETRY_SECONDS: Final = 300
"""How long a course rests that couldn't be verified; less where that is due more often."""

_VERIFIABLE: Final = {State.STREAMING, State.CATCHING_UP, State.DRIFTED}


class Scrub:
    """A thread that verifies a course at a time: whose server was started anew, then the oldest.

    :param watch: what makes the reports that say which courses there are, and how old each one's
        verification is.
    :param verify: compares a course with the portal and records the outcome; returns why it failed.
    :param every_seconds: how old a verification may get.
    :param share: of one processor's time that verifying may take, on the average; up to 1.
    """

    def __init__(
        self,
        watch: Watch,
        verify: Callable[[CourseId], str | None],
        every_seconds: float,
        share: float,
    ) -> None:
        self._watch, self._verify = watch, verify
        self._every_seconds, self._share = every_seconds, share
        self._rest_seconds = min(every_seconds, RETRY_SECONDS)
        self._failed: set[CourseId] = set()
        self._tried_at: dict[CourseId, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Verify no other course; one that is being verified is left to itself."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            course_id = self._due()
            if course_id is None:
                continue
            began = self._tried_at[course_id] = time.monotonic()
            try:
                wrong = self._verify(course_id)
            except Exception as error:  # noqa: BLE001 - without its thread nothing were verified
                wrong = f"{type(error).__name__}: {error}"
            spent = time.monotonic() - began
            if wrong:
                # Once may be bad luck: a server that stops is told by the reports.
                level = logging.WARNING if course_id in self._failed else logging.INFO
                _LOG.log(level, "%s couldn't be verified: %s", subject(course_id), wrong)
                self._failed.add(course_id)
            else:
                _LOG.info("%s was verified in %.1f s", subject(course_id), spent)
                self._failed.discard(course_id)
            self._stopping.wait(spent / self._share - spent)

    def _due(self) -> CourseId | None:
        """Return the course whose turn it is, if one is due."""
        report = self._watch.known.report
        if report is None or self._watch.known.trouble is not None:
            return None
        now = time.monotonic()
        due = [
            each
            for each in report.courses
            if each.state in _VERIFIABLE
            and now - self._tried_at.get(each.course_id, -self._rest_seconds) >= self._rest_seconds
            and (each.unverified_since or self._old(each, report.at))
        ]
        never = datetime.min.replace(tzinfo=UTC)
        due.sort(key=lambda each: (each.unverified_since is None, each.verified_at or never))
        return due[0].course_id if due else None

    def _old(self, each: CourseStatus, now: datetime) -> bool:
        """Return whether a course's turn has come; a relay is compared when its courses are."""
        if each.is_relay:
            return False
        verified_at = each.verified_at
        return not verified_at or (now - verified_at).total_seconds() >= self._every_seconds
