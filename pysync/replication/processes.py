"""The processes that carry a course's changes, on both sides, and whom they wait for."""

from dataclasses import dataclass
from datetime import datetime

from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.replication import slots
from pysync.replication.registry import Course

QUERIES = load(__file__)


@dataclass(frozen=True)
class Worker:
    """A process of a subscription's own.

    :param since: when its transaction began, where our role may see that.
    :param waits_for: what it waits for other than work, likewise.
    """

    pid: int
    in_transaction: bool
    since: datetime | None
    waits_for: str | None


def workers(database: Connection, course: Course) -> tuple[Worker, ...]:
    """Return a subscription's own processes, whatever each does for it."""
    with database.cursor(row_factory=class_row(Worker)) as cursor:
        cursor.execute(QUERIES["workers"], {"name": course.replication_name})
        return tuple(cursor.fetchall())


def senders(portal: Connection, course: Course) -> dict[int, str | None]:
    """Return the portal's processes that send to a course, and what each waits for."""
    return dict(portal.execute(QUERIES["senders"], slots.names_of(course)).fetchall())
