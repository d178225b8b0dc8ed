"""Have a database that was copied or moved be a portal."""

from contextlib import closing

from pysync.errors import ReplicationError
from pysync.lifecycle.courses import forget
from pysync.migrate import require_head
from pysync.replication import identities, registry, slots
from pysync.types import Progress


def is_claimed(portal_conninfo: str) -> bool:
    """Return whether this database is the one that was claimed as the portal."""
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        return identities.unclaimed(portal) is None


def claim(portal_conninfo: str) -> None:
    """Have this database be the portal, in the place of the one that it is a copy of."""
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        identities.claim(portal, as_copy=False)


def claim_copy(portal_conninfo: str, progress: Progress) -> int:
    """Have this database be a portal of its own, which begins without courses.

    The registered ones are forgotten here: they are the original's. It is claimed last, so that who
    was interrupted can run it again.

    :returns: how many were forgotten.
    :raises ReplicationError: if a course follows this portal: it isn't a copy.
    """
    with closing(registry.connect_portal(portal_conninfo)) as portal:
        require_head(portal)
        courses = registry.subscribers(portal)
        for course in courses:
            if slots.is_in_use(portal, course.replication_name):
                raise ReplicationError(
                    f"portal '{portal.info.dbname}' isn't a copy: {course.subject} is "
                    "connected to it",
                    "point PYSYNC_PORTAL at the copy",
                )
        progress.step("forgetting the courses of the original", len(courses))
        for course in courses:
            forget(portal, portal, course)
            progress.advance(1)
        identities.claim(portal, as_copy=True)
        return len(courses)
