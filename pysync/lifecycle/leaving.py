"""What a course leaves behind where it has streamed from, or was to stream from: nothing."""

from contextlib import ExitStack, closing, suppress
from typing import Final

from pysync.db.connections import Connection, fetch_value
from pysync.db.restricted import as_owner_of
from pysync.errors import (
    ChangesMissingError,
    PysyncError,
    ReplicationError,
    WaitTimeoutError,
)
from pysync.models.replicated import PUBLISHED
from pysync.replication import marks, publications, registry, relays, slots
from pysync.replication.databases import open_course
from pysync.replication.registry import Course
from pysync.texts import word

FENCE_SECONDS: Final = 60
"""How long a relay may take to have what it was sent of a course before it lost that."""


def tidy(portal: Connection, course: Course, *, everywhere: bool = False) -> None:
    """Have only what a course streams from keep anything for it: slot, publication, rows.

    Whoever was interrupted runs it again. What can't be reached is told to carry it no more.

    :param course: as it is registered now, and nobody else works on it.
    :param everywhere: look also at relays that don't carry it: they may have lost it just now.
    :raises LockedError: if a relay that carries it is being merged.
    :raises ReplicationError: if a relay doesn't get on: its rows stay.
    """
    if course.is_relay:
        return
    if course.relay is not None:
        slots.drop(portal, course)
        publications.drop(portal, course)
    for relay in registry.subscribers(portal):
        carried = course.course_id in relay.carries
        if relay.is_relay and relay.course_id != course.relay and (carried or everywhere):
            _leave(portal, relay, course)


def _leave(portal: Connection, relay: Course, course: Course) -> None:
    with ExitStack() as stack:
        there = None
        with suppress(PysyncError):  # what isn't well may be gone for ever
            there = stack.enter_context(closing(open_course(portal, relay)))
        if there is not None:
            slots.drop(there, course)
            publications.drop(there, course)
        if course.course_id in relay.carries:
            relays.leave(portal, relay.course_id, [course.course_id])
        has_rows = "select true from course.mark where course_id = %s limit 1"
        if there is not None and fetch_value(there, has_rows, course.course_id):
            _clear(portal, there, relay, course)


def _clear(portal: Connection, there: Connection, relay: Course, course: Course) -> None:
    """Delete a course's rows from a relay, once that has got the last of them."""
    try:
        marks.fence(portal, there, relay.course_id, FENCE_SECONDS)
    except (ChangesMissingError, WaitTimeoutError) as error:
        raise ReplicationError(
            f"{course.subject} has left {relay.subject}, which keeps its rows: {error.message}",
            f"run 'pysync resync {word(relay.course_id)}'",
        ) from None
    with there.transaction():
        there.execute("set local session_replication_role = replica")
        for table in reversed(PUBLISHED):
            with as_owner_of(there, "course", table.name) as owner:
                owner.execute(relays.DELETE.format(table.identifier), [course.course_id])
