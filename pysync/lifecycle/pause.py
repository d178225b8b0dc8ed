"""Pause a course's replication, and go on with it."""

from contextlib import closing
from dataclasses import dataclass

from pysync.db.connections import Connection, fetch_row
from pysync.db.queries import load
from pysync.errors import ReplicationError
from pysync.lifecycle import handover
from pysync.replication import marks, publishers, registry, slots, subscriptions
from pysync.replication.databases import open_course
from pysync.replication.registry import Course
from pysync.texts import word
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
    :raises ReplicationError: if it can't go on: its slot or subscription is missing, or
        the slot isn't where it was.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        registry.locked(portal, course_id),
    ):
        course = registry.get_ready(portal, course_id)
        name = course.replication_name
        with (
            publishers.opened(portal_conninfo, portal, course) as publisher,
            closing(open_course(publisher.connection, course)) as database,
        ):
            sender = publisher.connection
            found = subscriptions.find(database, name)
            if found is not None and on and not dry_run:
                handover.settle(portal, publisher, database, course)
                course = registry.get_ready(portal, course_id)
            if found is None or (on and not slots.is_usable(sender, name)):
                raise subscriptions.lost("slot" if found else "subscription", course)
            if on:
                _check_position(portal, sender, database, course)
            changed = found.enabled != on
            if changed and not dry_run:
                if on:
                    registry.record_pause(portal, course_id, None)
                    try:
                        subscriptions.enable(database, course)
                    except BaseException:
                        if not portal.closed:
                            registry.record_pause(portal, course_id, course.paused_position)
                        raise
                else:
                    subscriptions.stop(database, course)
                    registry.record_pause(portal, course_id, slots.await_confirmed(sender, name))
            retained, limit = fetch_row(sender, QUERIES["retained_wal"], name=name)
            return Switched(changed, retained or 0, limit)


def _check_position(
    portal: Connection, sender: Connection, database: Connection, course: Course
) -> None:
    """Refuse to go on with a slot that has passed over what the course hasn't got.

    :raises ReplicationError: if it has.
    """
    position = slots.confirmed_position(sender, course.replication_name)
    if (position or 0) > (course.paused_position or position or 0):
        raise ReplicationError(
            f"{course.subject} can't go on: its slot isn't where 'course pause' left "
            "it, as one that was made anew: changes from in between are missing in its database",
            f"run 'pysync resync {word(course.course_id)}'",
        )
    if course.lost_at is not None:
        raise subscriptions.lost("place", course)
    if course.relay is None:
        marks.require_confirmed(portal, database, course.course_id)
