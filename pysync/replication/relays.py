"""Which courses a relay carries: rows of these it is sent, and publishes to each its own.

A relay is registered beside courses, under an id that begins with ``relay:``. It is a subscriber
as they are, with a mark of its own, so whatever holds for a course's slot, subscription and state
holds for a relay's.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final

from psycopg import sql

from pysync.db.connections import Connection
from pysync.db.holders import waiting
from pysync.db.queries import load
from pysync.db.transactions import patiently
from pysync.findings import ON_PORTAL
from pysync.models.replicated import PUBLISHED
from pysync.replication import publications, registry
from pysync.types import CourseId

_QUERIES: Final = load(__file__)

_HOLD_WRITERS: Final = sql.SQL("lock table {} in share row exclusive mode").format(
    sql.SQL(", ").join(table.identifier for table in PUBLISHED)
)


DELETE: Final = sql.SQL("delete from {} where course_id = %s")


def carry(portal: Connection, relay: CourseId, courses: Collection[str], *, filled: bool) -> None:
    """Have a relay be sent courses' rows from now on.

    :param filled: they have rows already, which the relay lacks until it is resynchronised: so it
        has lost changes in the meantime. No writer's transaction spans the moment.
    """
    _alter(portal, relay, "carry", courses, lacks=filled, hold_writers=filled)


def leave(portal: Connection, relay: CourseId, courses: Collection[str]) -> None:
    """Have a relay be sent courses' rows no more."""
    _alter(portal, relay, "leave", courses, lacks=False, hold_writers=True)


def _alter(
    portal: Connection,
    relay: CourseId,
    query: str,
    courses: Collection[str],
    *,
    lacks: bool,
    hold_writers: bool,
) -> None:
    """Change what a relay carries, and its publication with it, in one transaction."""
    registered = registry.get(portal, relay)
    asked = {"relay": relay, "courses": list(courses), "lacks": lacks}

    def run() -> None:
        with portal.transaction():
            if hold_writers:
                portal.execute(_HOLD_WRITERS)
            row = portal.execute(_QUERIES[query], asked).fetchone()
            if row is None:
                return  # it is so already
            sent = publications.published(replace(registered, carries=row[0]))
            name = sql.Identifier(registered.replication_name)
            portal.execute(sql.SQL("alter publication {} set table {}").format(name, sent))

    with waiting(portal, registered.subject, ON_PORTAL):
        patiently(run)
