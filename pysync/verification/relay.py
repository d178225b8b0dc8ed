"""A relay as a whole: what it has beside its courses' rows, and whether it may have lost any.

Its courses' rows are compared with the portal's when these are, in
:mod:`~pysync.verification.compare`.
"""

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass

from psycopg import sql

from pysync.db.restricted import as_owner_of
from pysync.errors import PysyncError
from pysync.models.replicated import ReplicatedTable
from pysync.replication import identities, registry, witness
from pysync.replication.databases import connect_course
from pysync.replication.registry import Course
from pysync.replication.witness import Witness
from pysync.verification.rows import QUERIES
from pysync.verification.types import Difference, Kind, Place, Verification


@dataclass(frozen=True)
class Looked:
    """What a relay said before its courses were compared, and rows that it has of nobody's."""

    seen: Witness
    of_nobody: list[Difference]


def look(relay: Course) -> Looked:
    """Look at a relay.

    :raises DatabaseUnreachableError: if it can't be reached.
    """
    with closing(connect_course(relay.conninfo)) as database:
        identities.require_ours(database, relay.course_id, relay.portal_id)
        seen = witness.read(database, relay)
        found = []
        for table in relay.replicated:
            with as_owner_of(database, "course", table.name) as owner:
                rows = owner.fetch(_of_nobody(relay, table), "id bigint, user_id bigint")
            found += [
                Difference(Place.RELAY, table.name, id_, Kind.EXTRA, user_ids=(user_id,))
                for id_, user_id in rows
            ]
    return Looked(seen, found)


def _of_nobody(relay: Course, table: ReplicatedTable) -> sql.Composed:
    return QUERIES["of_nobody"].format(
        user=sql.Identifier(table.user_column),
        table=table.identifier,
        carried=sql.Literal([*relay.carries]),
    )


def conclude(
    portal_conninfo: str, relay: Course, looked: Looked | PysyncError, equal: Collection[str]
) -> Verification | None:
    """Remember that a relay is whole, if it is, once its courses have been compared.

    :param equal: courses of which no row differs, nowhere.
    :returns: what is wrong with it beside these.
    """
    if isinstance(looked, PysyncError):
        return Verification(relay.course_id, error=looked)
    if looked.of_nobody:
        return Verification(relay.course_id, differences=looked.of_nobody)
    if {*relay.carries} <= {*equal}:
        with closing(registry.connect_portal(portal_conninfo)) as portal:
            witness.record_whole(portal, relay.course_id, looked.seen)
    return None
