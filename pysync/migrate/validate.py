"""Validate the CHECK constraints that adoption added for new rows only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, LiteralString

from psycopg import sql
from sqlalchemy import CheckConstraint

from pysync.db.connections import Connection
from pysync.db.holders import waiting
from pysync.db.queries import load
from pysync.db.restricted import Restricted, as_owner_of
from pysync.errors import PysyncError
from pysync.findings import ON_PORTAL
from pysync.migrate.lineage import PORTAL
from pysync.migrate.plan import exclusive
from pysync.migrate.revisions import current_revision

MAX_ROWS: Final = 100
"""Offending rows that are named per constraint; all are counted."""

_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Check:
    """A CHECK constraint that was NOT VALID, and the rows that don't meet it.

    ``offending_ids`` are the first :data:`MAX_ROWS` of ``offending_total`` primary keys.
    """

    table: str
    constraint: str
    validated: bool
    offending_total: int
    offending_ids: list[int]


def validate(portal_conninfo: str, *, dry_run: bool = False) -> Iterator[Check]:
    """Validate what can be validated, constraint by constraint, each in a transaction of its own.

    A table is scanned while applications go on writing: new rows meet the constraint already.

    :param dry_run: only look for rows that don't meet the constraints.
    :returns: the constraints that weren't valid before, in order of table and name.
    :raises LockedError: if a table's lock isn't free in time.
    """
    with exclusive(portal_conninfo, offline=dry_run) as portal:
        if current_revision(portal, PORTAL) is None:
            raise PysyncError("portal isn't migrated", "run 'pysync migrate' first")
        for table, constraint, condition in _not_valid(portal):
            with (
                waiting(portal, f"constraint '{constraint}' of table '{table}'", ON_PORTAL),
                as_owner_of(portal, "public", table) as owner,
            ):
                total, ids = _offending(owner, table, condition)
                if not total and not dry_run:
                    owner.execute(
                        sql.SQL("alter table {} validate constraint {}").format(
                            sql.Identifier("public", table), sql.Identifier(constraint)
                        )
                    )
            yield Check(table, constraint, not total and not dry_run, total, ids)


def _not_valid(portal: Connection) -> list[tuple[str, str, LiteralString]]:
    """Return table, name and condition of the constraints of ours that aren't valid."""
    ours = [
        (table.name, str(constraint.name))
        for table in PORTAL.metadata.tables.values()
        if table.schema == "public"
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    ]
    names = {"tables": [table for table, _ in ours], "names": [name for _, name in ours]}
    return portal.execute(_QUERIES["not_valid"], names).fetchall()


def _offending(owner: Restricted, table: str, condition: LiteralString) -> tuple[int, list[int]]:
    # The condition is the catalog's own text of the constraint. Null passes a CHECK.
    rows = sql.SQL("from {} where ({}) is false").format(
        sql.Identifier("public", table), sql.SQL(condition)
    )
    total = owner.value(sql.SQL("select count(*) {}").format(rows), "bigint")
    if not total:
        return 0, []
    first = sql.SQL("select id {} order by id limit {}").format(rows, sql.Literal(MAX_ROWS))
    ids = owner.fetch(first, "id bigint")
    return int(total), [row[0] for row in ids]
