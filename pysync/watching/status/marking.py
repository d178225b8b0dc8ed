"""Send marks to courses while others are still being asked, many in one transaction.

Each commit on the portal wakes all its WAL senders: one per course would cost more than to ask the
courses. So who has said what it knows waits a moment for others who will.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pysync.db.connections import Connection
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status import portal as portal_side
from pysync.watching.status.course import Facts
from pysync.watching.status.portal import Mark, Slot

AT_ONCE: Final = 20
"""Courses that don't wait for more: of those that one server is asked for at a time most."""

GATHER_SECONDS: Final = 0.2
CROWDED_GATHER_SECONDS: Final = 0.5


class Marks:
    """Marks for courses of which some are being asked, each in a thread of its own.

    :param asked: how many of them are.
    :param slots: as they were before.

    What was ``sent``, when last to one that was asked, and who is ``ahead`` of the portal can be
    read.
    """

    def __init__(
        self, portal: Connection, courses: Sequence[Course], slots: Mapping[str, Slot], asked: int
    ) -> None:
        self._portal = portal
        self._patience = CROWDED_GATHER_SECONDS if asked > AT_ONCE else GATHER_SECONDS
        self._courses = {each.course_id: each for each in courses if each.fans_out}
        self._slots = slots
        self._asked = asked
        self._said: dict[CourseId, Facts] = {}
        self._changed = threading.Condition()
        self._over = False
        self.sent: dict[str, Mark] = {}
        self.ahead: set[str] = set()
        self.sent_at = 0.0

    def send(self, course_id: CourseId, facts: Facts) -> None:
        """Send a mark to a course that was asked, unless it knows more than the portal does."""
        with self._changed:
            if self._over:
                return
            self._said[course_id] = facts
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_due(course_id), self._patience)
            if not self._over and course_id in self._said:
                self._send()

    def send_unasked(self, course_ids: Sequence[CourseId]) -> None:
        """Send marks to courses of which it is known already that they aren't ahead."""
        with self._changed:
            self.sent |= portal_side.send_marks(self._portal, course_ids)
            self.sent_at = time.monotonic()

    def ask_also(self, number: int) -> None:
        """Expect that so many more are asked."""
        with self._changed:
            self._asked += number

    def finish(self) -> None:
        """Send marks to all others, and to nobody who comes later.

        Also to those that are away: what they lose meanwhile shows by the marks among it.
        """
        with self._changed:
            self._send()
            self._over = True
            others = [i for i in self._courses if i not in self.sent and i not in self.ahead]
            if others:
                self.sent |= portal_side.send_marks(self._portal, others)
            self._changed.notify_all()

    def _is_due(self, course_id: CourseId) -> bool:
        return (
            self._over
            or course_id not in self._said  # another thread was faster
            or len(self._said) >= min(AT_ONCE, self._asked)
        )

    def _send(self) -> None:
        said, self._said = self._said, {}
        self._asked -= len(said)
        if said:
            self.ahead |= self._ahead(said)
            marked = [each for each in said if each not in self.ahead and each not in self.sent]
            self.sent |= portal_side.send_marks(self._portal, marked)
            self.sent_at = time.monotonic()
        self._changed.notify_all()

    def _ahead(self, said: Mapping[CourseId, Facts]) -> set[CourseId]:
        """Return the courses that know more than the portal does: it was restored from a backup.

        Marks are read after the courses', so a course can't know a newer one otherwise; its
        position is compared with the end of the portal's WAL.
        """
        marks = portal_side.read_marks(self._portal, [*said])
        wal_at = portal_side.read_wal_position(self._portal)
        return {
            course_id
            for course_id, facts in said.items()
            if (facts.mark or 0) > (marks.get(course_id) or 0)
            or (
                self._courses[course_id].relay is None
                and self._slots[course_id].slot_exists
                and (facts.applied_at or 0) > wal_at
            )
        }
