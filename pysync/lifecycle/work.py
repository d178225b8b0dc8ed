"""What a piece of work on a course has at hand."""

from dataclasses import dataclass

from pysync.db.connections import Connection
from pysync.replication.publishers import Publisher
from pysync.replication.registry import Course
from pysync.types import Progress


@dataclass(frozen=True)
class Work:
    """A course, connections to all that it takes part in, and how one reaches the other.

    :param course: as it is registered or, if it isn't yet, will be.
    :param conninfo: how we reach its database, with a password where one is needed.
    :param subscriber: how its server reaches what it streams from, likewise.
    :param publisher: what that is: the portal, or its relay.
    :param keep_owner: whether tables that are adopted stay with the role that owns them.
    """

    portal: Connection
    publisher: Publisher
    course: Course
    conninfo: str
    database: Connection
    subscriber: str
    progress: Progress
    keep_owner: bool = False

    @property
    def subject(self) -> str:
        """Return what messages call the course."""
        return self.course.subject
