"""What a course streams from: the portal or, by way of it, a relay."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from pysync.db.connections import Connection
from pysync.findings import ON_PORTAL
from pysync.replication import registry
from pysync.replication.databases import open_course
from pysync.replication.registry import Course


@dataclass(frozen=True)
class Publisher:
    """The database that has a course's publication and slot, and the rows that it sends.

    :param conninfo: how we reach it.
    :param relay: as it is registered; ``None`` if it is the portal.
    """

    conninfo: str
    connection: Connection
    relay: Course | None = None

    @property
    def name(self) -> str:
        """Return what messages call it."""
        return self.relay.subject if self.relay else "the portal"

    @property
    def where(self) -> str:
        """Return it in words, as statements are said to be run there."""
        return on(self.relay)


def on(relay: Course | None) -> str:
    """Return in words where what a relay has is, or what the portal has."""
    return f"on {relay.subject}" if relay else ON_PORTAL


@contextmanager
def opened(portal_conninfo: str, portal: Connection, course: Course) -> Iterator[Publisher]:
    """Connect to what a course streams from.

    :raises DatabaseUnreachableError: if that can't be reached.
    :raises ReplicationError: if its relay isn't ready.
    """
    if course.relay is None:
        yield Publisher(portal_conninfo, portal)
        return
    relay = registry.get_ready(portal, course.relay)
    with closing(open_course(portal, relay)) as connection:
        yield Publisher(relay.conninfo, connection, relay)
