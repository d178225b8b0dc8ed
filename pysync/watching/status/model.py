"""What a report consists of."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Self

from pysync.findings import Advice, Finding
from pysync.types import RELAY_PREFIX, CourseId


class Level(IntEnum):
    """How bad it is: the exit statuses of Nagios plugins."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class State(Enum):
    """What a course's replication is doing, worst first.

    Whatever shows or weighs states uses their ``level``, this order, and a ``sign`` for where
    colour doesn't tell; nothing else lists them but the schema.
    """

    level: Level
    sign: str

    LOST = "lost", Level.CRITICAL, "\u2715"
    STUCK = "stuck", Level.CRITICAL, "\u25a0"
    UNREACHABLE = "unreachable", Level.CRITICAL, "?"
    ORPHANED = "orphaned", Level.CRITICAL, "\u2715"
    DRIFTED = "drifted", Level.CRITICAL, "\u2260"
    INCOMPLETE = "incomplete", Level.WARNING, "\u2026"
    PAUSED = "paused", Level.WARNING, "\u2016"
    CATCHING_UP = "catching-up", Level.OK, "\u00bb"
    COPYING = "copying", Level.OK, "\u2193"
    STREAMING = "streaming", Level.OK, "\u2713"

    def __new__(cls, value: str, level: Level, sign: str) -> Self:
        """Make a member that is found by its name alone."""
        member = object.__new__(cls)
        member._value_ = value
        member.level, member.sign = level, sign
        return member


@dataclass(frozen=True)
class Verdict:
    """A state with its cause and remedy; ``untold`` if the cause is worth a trial.

    :param why: what a trial found.
    :param sample: the courses that were looked into in this one's place.
    """

    state: State
    cause: str | None = None
    remedy: str | None = None
    untold: bool = False
    why: str | None = None
    sample: tuple[CourseId, ...] = ()


@dataclass(frozen=True)
class CourseStatus(Advice):
    """A course in the report, as ``status.schema.json`` describes it; ``None`` is not known.

    :param lag_seconds: age, by the portal's clock, of the newest mark (``course.mark``) that was
        visible in the course when it was looked at: for a healthy course the time from sending it
        to seeing it.
    :param seconds_to_loss: until the portal would give the slot up, if the course confirmed nothing
        more; ``None`` also where nothing is limited.
    :param copied_percent: of the first copy's rows; ``None`` once it is complete.
    :param differences: found by the last verify, at ``verified_at``.
    :param unverified_since: when its server was started anew, unless it was verified since.
    :param looked_into_at: when a report last looked into its database: this one, but for courses of
        a server with many of which nothing suspicious is seen.
    :param durable: whether it is to flush each change before it confirms it.
    :param drift: what isn't as it should be, worst first.
    :param sample: courses that fail alike and were looked into in this one's place.
    :param failover_ready: whether it would go on if the portal's server died now.
    :param failover_cause: why not, or why nobody knows.
    :param relay: the relay that it streams from; ``None`` if it streams from the portal.
    :param commands: what of the remedy is to be copied.
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
    unverified_since: datetime | None = None
    looked_into_at: datetime | None = None
    durable: bool = False
    drift: tuple[Finding, ...] = ()
    sample: tuple[CourseId, ...] = ()
    spill_bytes: int | None = None
    failover_ready: bool | None = None
    failover_cause: str | None = None
    relay: CourseId | None = None
    commands: tuple[str, ...] = field(init=False, default=())

    @property
    def is_relay(self) -> bool:
        """Return whether it is a relay, rather than a course."""
        return self.course_id.startswith(RELAY_PREFIX)


@dataclass(frozen=True)
class Orphan(Advice):
    """A slot, publication or subscription of pysync's that belongs to no course."""

    kind: str
    name: str
    database: str
    cause: str
    remedy: str
    retained_wal_bytes: int | None = None
    commands: tuple[str, ...] = field(init=False, default=())


@dataclass(frozen=True)
class Report:
    """All courses, and what belongs to none; ``at`` is by the portal's clock.

    :param unclaimed: why the portal may not act on the courses; what is said of them holds for a
        portal that they may not follow.
    :param standbys: how many other servers of the portal's its connection string names.
    :param carried: the columns of the portal's own that courses are sent, each with its table.
    """

    at: datetime
    courses: list[CourseStatus]
    orphans: list[Orphan] = field(default_factory=list)
    unclaimed: Finding | None = None
    standbys: int = 0
    carried: list[str] = field(default_factory=list)

    def exposes(self, course: CourseStatus) -> bool:
        """Return whether a course would stop with the portal's server, though that has standbys."""
        return bool(self.standbys and not course.failover_ready)


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
