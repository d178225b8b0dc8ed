"""How far a course's subscription is, as its database knows."""

from dataclasses import dataclass

from psycopg import errors, sql
from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.replication.registry import Course

QUERIES = load(__file__)


@dataclass(frozen=True)
class CopyState:
    """How far the first copy is.

    ``uncopied`` are the tables whose rows aren't all there, ``rows`` those copied so far by copies
    under way, ``errors`` the failures since the subscription was made.
    """

    tables: int
    ready: int
    uncopied: list[str]
    rows: int
    errors: int

    @property
    def complete(self) -> bool:
        """Return whether every table is ready."""
        return self.tables > 0 and self.ready == self.tables


def copy_state(database: Connection, course: Course) -> CopyState:
    """Return how far a course's first copy is."""
    with database.cursor(row_factory=class_row(CopyState)) as cursor:
        found = cursor.execute(QUERIES["copy_state"], {"name": course.replication_name}).fetchone()
    return found or CopyState(0, 0, [], 0, 0)


def is_past(database: Connection, course: Course, position: str) -> bool:
    """Return whether a subscription has applied what the portal reaches later than a position.

    What it has applied is nothing that everybody may ask. That the server refuses to skip a
    transaction of the past tells, too, and nothing is skipped.
    """
    skip = sql.SQL("alter subscription {} skip (lsn = {})").format(
        sql.Identifier(course.replication_name), sql.Literal(position)
    )
    try:
        with database.transaction(force_rollback=True):
            database.execute(skip)
    except errors.InvalidParameterValue:
        return True
    return False
