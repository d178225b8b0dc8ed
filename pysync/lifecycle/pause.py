"""Pause a course's replication, and go on with it."""

from contextlib import closing
from dataclasses import dataclass

from pysync.db.connections import fetch_row
from pysync.db.queries import load
from pysync.lifecycle import handover
from pysync.replication import registry, slots, subscriptions
from pysync.replication.databases import connect_course
from pysync.types import CourseId

QUERIES = load(__file__)


@dataclass(frozen=True)
class Switched:
    """What was done: whether anything changed, and the WAL that the portal keeps for the course.

    ``limit_bytes`` is the server's ``max_slot_wal_keep_size``, ``None`` if it has no limit.
    """

    changed: bool
    retained_bytes: int
    limit_bytes: int | None


def switch(
    portal_conninfo: str, course_id: CourseId, *, on: bool, dry_run: bool = False
) -> Switched:
    """Enable or disable a course's subscription; nothing happens if it is so already.

    :param dry_run: only say what would be changed.
    :raises UnknownCourseError: if the course isn't registered.
    :raises ReplicationError: if it can't go on: its slot or subscription is missing.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
    ):
        course = registry.get_ready(portal, course_id)
        name = course.replication_name
        with closing(connect_course(course.conninfo)) as database:
            found = subscriptions.find(database, name)
            if found is not None and on and not dry_run:
                handover.settle(portal_conninfo, portal, database, course)
            if found is None or (on and not slots.is_usable(portal, name)):
                raise subscriptions.lost("slot" if found else "subscription", course)
            changed = found.enabled != on
            if changed and not dry_run:
                if on:
                    subscriptions.enable(database, course)
                else:
                    subscriptions.stop(database, course)
        retained, limit = fetch_row(portal, QUERIES["retained_wal"], name=name)
        return Switched(changed, retained or 0, limit)
