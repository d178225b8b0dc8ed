"""What a report consists of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from pysync.findings import Finding
from pysync.types import CourseId


class State(Enum):
    """What a course's replication is doing."""

    STREAMING = "streaming"
    CATCHING_UP = "catching-up"
    COPYING = "copying"
    PAUSED = "paused"
    STUCK = "stuck"
    DRIFTED = "drifted"
    INCOMPLETE = "incomplete"
    ORPHANED = "orphaned"
    LOST = "lost"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True)
class CourseStatus:
    """A course in the report; ``None`` is what couldn't be found out.

    :param lag_bytes: WAL that the course hasn't applied yet, as far as the portal has been told.
    :param lag_seconds: age, by the portal's clock, of the newest mark (``course.mark``) that was
        visible in the course when it was looked at: the course had everything that was committed
        on the portal before. The report sends a mark to each course that answers, so for a healthy
        course it is the time from sending to seeing it.
    :param retained_wal_bytes: WAL that the portal keeps for it.
    :param seconds_to_loss: until the portal would give the slot up, if the course confirmed nothing
        more, at the WAL rate since the last checkpoint; ``None`` also where nothing is limited.
    :param copied_percent: of the first copy's rows; ``None`` once it is complete.
    :param conflicts: counted by course servers of version 18 and later.
    :param differences: found by the last verify, at ``verified_at``.
    :param drift: what isn't as it should be, worst first.
    """

    course_id: CourseId
    slot_name: str
    state: State
    cause: str | None = None
    remedy: str | None = None
    slot_active: bool | None = None
    slot_status: str | None = None
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    retained_wal_bytes: int | None = None
    seconds_to_loss: float | None = None
    tables_ready: int | None = None
    tables_total: int | None = None
    copied_percent: float | None = None
    apply_errors: int | None = None
    sync_errors: int | None = None
    conflicts: int | None = None
    verified_at: datetime | None = None
    differences: int | None = None
    drift: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Orphan:
    """A slot, publication or subscription of pysync's that belongs to no course."""

    kind: str
    name: str
    database: str
    cause: str
    remedy: str
    retained_wal_bytes: int | None = None


@dataclass(frozen=True)
class Report:
    """All courses, and what belongs to none; ``at`` is by the portal's clock."""

    at: datetime
    courses: list[CourseStatus]
    orphans: list[Orphan] = field(default_factory=list)


@dataclass(frozen=True)
class Revision:
    """Where a database is in its lineage; ``error`` if it couldn't be asked."""

    database: str
    current: str | None
    head: str
    error: str | None = None

    @property
    def pending(self) -> bool | None:
        """Return whether there is something to migrate; ``None`` if unknown."""
        return None if self.error else self.current != self.head
