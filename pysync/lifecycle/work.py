"""What a piece of work on a course has at hand."""

from dataclasses import dataclass

from pysync.db.connections import Connection
from pysync.replication.registry import Course
from pysync.types import Progress


@dataclass(frozen=True)
class Work:
    """A course, connections to both its sides, and how each reaches the other.

    :param course: as it is registered or, if it isn't yet, will be.
    :param conninfo: how we reach its database, with a password where one is needed.
    :param subscriber: how its server reaches the portal, likewise.
    :param keep_owner: whether tables that are adopted stay with the role that owns them.
    """

    portal_conninfo: str
    portal: Connection
    course: Course
    conninfo: str
    database: Connection
    subscriber: str
    progress: Progress
    keep_owner: bool = False

    @property
    def subject(self) -> str:
        """Return what messages call the course."""
        return f"course '{self.course.course_id}'"
