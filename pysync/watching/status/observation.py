"""What was seen of a course: what verdicts are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pysync.db.holders import Holder
from pysync.errors import PysyncError
from pysync.findings import Finding
from pysync.replication.processes import Worker
from pysync.replication.registry import Course
from pysync.watching.status.course import Facts
from pysync.watching.status.portal import Mark, Slot

SAYS: Final = "pysync has mark"
"""How ``course.note_missing_marks`` has an apply worker say that nothing is missing."""


@dataclass(frozen=True)
class Told:
    """What a server's shared catalogs say of a subscription, in whichever of its databases.

    :param said: the name that its apply worker goes by, where our role may see that.
    """

    name: str
    system_identifier: int
    database_oid: int
    enabled: bool
    slot_name: str | None
    two_phase: str
    apply_errors: int
    sync_errors: int
    conflicts: int | None
    missed_changes: int | None
    said: str | None
    server_started_at: datetime

    @property
    def has_mark(self) -> int | None:
        """Return the last mark that its apply worker has committed, if that says all is well."""
        head, _, number = (self.said or "").rpartition(" ")
        return int(number) if head == SAYS and number.isdecimal() else None

    @property
    def place(self) -> tuple[int, int]:
        """Return its database, as :func:`pysync.replication.identities.place` does."""
        return self.system_identifier, self.database_oid


@dataclass(frozen=True)
class Observation:
    """What was seen of a course.

    :param slots: at the portal, before and after its database was asked.
    :param error: why that couldn't be asked, if it couldn't.
    :param first: what it said when it was first asked, ``last`` when it was last.
    :param strangers: subscriptions of its server's that no course of ours has, and their databases;
        one course tells them of each server.
    :param workers: its subscription's own, when its mark was first missed, and last.
    :param senders: the portal's for it, and what each waits for.
    :param holders: whom the ones and the others wait for, if it isn't one another.
    :param mark: the mark that was sent in between, if one was.
    :param arrived: whether that mark, or a later one, was visible when it was last asked.
    :param seen_at: when that was, on our monotonic clock.
    :param ahead: whether the course knows more than the portal does.
    :param told: what its server said of it twice, where nobody looked into its database.
    :param fingerprint: of its catalog, if nothing in that differs from what was made.
    :param by_hearsay: whether it is told by what its apply worker says, and nobody looked into
        its database.
    :param looked_at: when somebody last did; ``None`` if that isn't known.
    :param verified: when it was last compared with the portal, and how many rows differed.
    """

    course: Course
    slots: tuple[Slot, Slot]
    error: PysyncError | None = None
    first: Facts | None = None
    last: Facts | None = None
    drift: tuple[Finding, ...] = ()
    fingerprint: str | None = None
    strangers: tuple[tuple[str, str], ...] = ()
    workers: tuple[tuple[Worker, ...], tuple[Worker, ...]] = ((), ())
    senders: Mapping[int, str | None] = field(default_factory=dict)
    holders: tuple[Holder | None, Holder | None] = (None, None)
    mark: Mark | None = None
    arrived: bool = False
    seen_at: float = 0
    ahead: bool = False
    database_is_gone: bool = False
    told: tuple[Told, Told] | None = None
    by_hearsay: bool = False
    looked_at: datetime | None = None
    verified: tuple[datetime, int] | None = None

    @property
    def undecided(self) -> bool:
        """Return whether it takes another look to tell whether the course moves."""
        return (
            self.missed
            and self.last is self.first
            and self.first is not None
            and self.first.mark is not None
        )

    @property
    def missed(self) -> bool:
        """Return whether what it should have by now isn't there."""
        return (
            self.error is None
            and self.first is not None
            and not self.arrived
            and bool(self.first.subscription_enabled)
        )
