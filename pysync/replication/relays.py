"""Which courses a relay carries: rows of these it is sent, and publishes to each its own.

A relay is registered beside courses, under an id that begins with ``relay:``. It is a subscriber
as they are, with a mark of its own, so whatever holds for a course's slot, subscription and state
holds for a relay's.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

from psycopg import sql

from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection
from pysync.db.holders import waiting
from pysync.db.queries import load
from pysync.db.transactions import patiently
from pysync.findings import ON_PORTAL
from pysync.models.replicated import PUBLISHED
from pysync.replication import publications, registry, turns
from pysync.types import CourseId

_QUERIES: Final = load(__file__)

_HOLD_WRITERS: Final = sql.SQL("lock table {} in share row exclusive mode").format(
    sql.SQL(", ").join(table.identifier for table in PUBLISHED)
)
DELETE: Final = sql.SQL("delete from {} where course_id = %s")


def carry(portal: Connection, relay: CourseId, courses: Collection[str], *, filled: bool) -> None:
    """Have a relay be sent courses' rows from now on.

    :param filled: they have rows already, which the relay awaits until it is merged: so it has
        missed changes in the meantime. No writer's transaction spans the moment.
    :raises LockedError: if it is being merged, or altered by somebody else.
    """
    _alter(portal, relay, "carry", {"courses": list(courses), "lacks": filled}, hold=filled)


def leave(portal: Connection, relay: CourseId, courses: Collection[str]) -> None:
    """Have a relay be sent courses' rows no more.

    :raises LockedError: if it is being merged, or altered by somebody else.
    """
    _alter(portal, relay, "leave", {"courses": list(courses)}, hold=True)


def _alter(
    portal: Connection, relay: CourseId, query: str, asked: dict[str, Any], *, hold: bool
) -> None:
    """Change what a relay carries, and its publication with it, in one transaction.

    What a merge takes for what the relay is to hold mustn't change under it.

    :param hold: have writers wait meanwhile.
    """
    subject = registry.get(portal, relay).subject

    def run() -> None:
        registered = registry.get(portal, relay)
        carried = {*registered.carries} & {*asked["courses"]}
        if carried == ({*asked["courses"]} if query == "carry" else set()):
            return  # it is so already
        with portal.transaction():
            if hold:
                portal.execute(_HOLD_WRITERS)
            ((carries,),) = portal.execute(_QUERIES[query], {"relay": relay, **asked}).fetchall()
            sent = publications.published(replace(registered, carries=carries))
            name = sql.Identifier(registered.replication_name)
            portal.execute(sql.SQL("alter publication {} set table {}").format(name, sent))

    with (
        turns.taken(portal, relay, subject, LOCK_TIMEOUT_SECONDS),
        waiting(portal, subject, ON_PORTAL),
    ):
        patiently(run)
