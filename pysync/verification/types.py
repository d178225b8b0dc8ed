"""What a verification finds."""

from dataclasses import dataclass, field
from enum import StrEnum

from pysync.errors import PysyncError
from pysync.types import CourseId
from pysync.verification.dangling import Dangling

Values = dict[str, tuple[str | None, str | None]]
"""By column: the value that is right, and the value that was found."""


class Place(StrEnum):
    """Where a row isn't as it should be."""

    PORTAL = "portal"
    RELAY = "relay"
    COURSE = "course"

    @property
    def words(self) -> str:
        """Return it for people."""
        return {"portal": "the portal's fan-out", "relay": "its relay"}.get(self, "the course")


class Kind(StrEnum):
    """How a row isn't as it should be."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Difference:
    """A row that isn't as it should be; never holds its values unless they were asked for.

    :param id: the row's key in its table.
    :param columns: those that differ, if the row is there on both sides.
    :param user_ids: whom the row belongs to, or should.
    """

    place: Place
    table: str
    id: int
    kind: Kind
    columns: tuple[str, ...] = ()
    user_ids: tuple[int, ...] = ()
    values: Values | None = None


@dataclass
class Verification:
    """What was compared of a course, and what differed.

    :param relay: what it streams from, if not from the portal.
    :param rows: rows of the fan-out that were compared with the course database, by table; with its
        relay's rows, too, where it streams from one.
    :param logins: users whose ``last_login`` is another in the course: it is free to be.
    :param kept: scrubbed rows that stay in the course because local rows point at them.
    :param dangling: foreign keys of the course's own that don't hold.
    :param unsettled: rows that were changing, or locked, whenever they were looked at.
    :param error: why the course couldn't be compared, or not altogether.
    """

    course_id: CourseId
    relay: CourseId | None = None
    rows: dict[str, int] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    logins: int = 0
    kept: int = 0
    dangling: list[Dangling] = field(default_factory=list)
    unsettled: int = 0
    error: PysyncError | None = None

    @property
    def equal(self) -> bool:
        """Return whether all was compared, and nothing differs."""
        return not self.differences and not self.unsettled and self.error is None

    @property
    def clean(self) -> bool:
        """Return whether all was compared, nothing differs, and the course's own keys hold."""
        return self.equal and not self.dangling
