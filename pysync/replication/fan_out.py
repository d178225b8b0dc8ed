"""A course's rows in the fan-out: filled when it is registered, deleted when it leaves."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.errors import translated
from pysync.db.restricted import Restricted, restricted
from pysync.db.transactions import patiently
from pysync.models.replicated import PUBLISHED, Membership, ReplicatedTable
from pysync.types import FAN_OUT_ROLE, CourseId

BACKFILL_BATCH: Final = 2000
"""Members whose users are locked at a time."""


def as_triggers(portal: Connection) -> AbstractContextManager[Restricted]:
    """Run the block's statements on the portal's own tables as its triggers do: as their role.

    Code that the tables' owners hung there must not run as an administrator.
    """
    return restricted(portal, FAN_OUT_ROLE)


def count_members(portal: Connection, course: CourseId) -> int:
    """Return how many users are enrolled in a course on the portal."""
    with as_triggers(portal) as triggers:
        return _count(triggers, course)


def _count(triggers: Restricted, course: CourseId) -> int:
    query = "select count(*) from course.members(%s)"
    return int(triggers.value(query, "bigint", [course]))


def backfill(
    portal: Connection,
    course: CourseId,
    advance: Callable[[int], None],
    begin: Callable[[int], None] | None = None,
) -> None:
    """Copy the members a course had when it was registered, a batch per transaction.

    :param advance: is told how many members each batch had.
    :param begin: is told before how many are enrolled.
    """
    query = "select last_user_id, members from pysync.backfill(%s, %s, %s)"
    after_user_id = -(2**63)
    with translated(f"course '{course}'"):
        while True:
            with as_triggers(portal) as triggers:
                # In passing: what it takes to have their rights, every WAL sender decodes.
                if begin is not None:
                    begin(_count(triggers, course))
                    begin = None
                batch = triggers.fetch(
                    query,
                    "last_user_id bigint, members bigint",
                    (course, after_user_id, BACKFILL_BATCH),
                )
            if not batch:
                return
            ((after_user_id, members),) = batch
            advance(members)
            if members < BACKFILL_BATCH:  # whoever enrolls meanwhile the triggers copy
                return


def mend(portal: Connection, course: CourseId, user_ids: list[int]) -> None:
    """Bring the rows of some users back to what the source tables say, in one transaction."""
    with portal.transaction():
        # As an enrollment would: the course can't enter or leave the registry meanwhile.
        portal.execute("lock table public.student_courseenrollment in row exclusive mode")
        with as_triggers(portal) as triggers:
            triggers.execute("select pysync.mend_members(%s, %s)", (course, user_ids))


def keep_scrubbed(portal: Connection, course: CourseId, user_ids: list[int]) -> None:
    """Enter users that a course can't let go, though nobody enrolled them, as scrubbed copies.

    Rows of the course point at them. Being in the fan-out they are known to the portal: whoever
    gets such an id or name later is resolved here, and never meets them in the course.
    """
    with translated(f"course '{course}'"), as_triggers(portal) as triggers:
        triggers.execute("select pysync.keep_scrubbed(%s, %s)", (course, user_ids))


def stop(portal: Connection, course: CourseId) -> None:
    """Stop copying a course's members: the first step of its removal."""
    statement = "update pysync.course set fans_out = false where course_id = %s and fans_out"
    with translated(f"course '{course}'"):
        patiently(lambda: portal.execute(statement, (course,)))


def wait_for_writers(portal: Connection, table: ReplicatedTable) -> None:
    """Wait until nobody is in the midst of writing one of the portal's own tables.

    :raises psycopg.errors.LockNotAvailable: if somebody goes on for too long.
    """
    lock = sql.SQL("lock table {} in share row exclusive mode")

    def wait() -> None:
        with portal.transaction():
            portal.execute(lock.format(sql.Identifier("public", table.name)))

    patiently(wait)


def clear(portal: Connection, course: CourseId) -> None:
    """Delete the rows of a course that fans out no longer."""
    with translated(f"course '{course}'"):
        # Enrollments first: what belongs to users is copied where these are.
        belong = [table for table in PUBLISHED if table.membership is Membership.OF_USER]
        for table in [*(each for each in reversed(PUBLISHED) if each not in belong), *belong]:
            if table in belong:
                # A change of theirs that is under way may have seen the enrollment.
                wait_for_writers(portal, table)
            delete = sql.SQL("delete from {} where course_id = %s").format(table.identifier)
            portal.execute(delete, (course,))
