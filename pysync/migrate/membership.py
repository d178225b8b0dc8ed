"""Decide which enrollments count, and have every course's members be those, online.

The decision is in the functions that the triggers run: it takes effect in one transaction, between
enrollments. Then each course's fan-out is brought there, batch by batch; which are still to come is
noted in the registry, so ``pysync migrate`` finishes what was interrupted.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

from psycopg import sql
from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.holders import waiting
from pysync.db.transactions import patiently
from pysync.errors import MigrationError, PysyncError
from pysync.findings import ON_PORTAL
from pysync.migrate import carried, plan, publications
from pysync.migrate.carried import ENROLLMENTS, QUERIES, key
from pysync.migrate.functions import fallback, functions, no_fallback
from pysync.migrate.installed import record
from pysync.migrate.lineage import PORTAL
from pysync.migrate.revisions import require_head
from pysync.migrate.wanted import NAME
from pysync.replication import fan_out, identities, registry
from pysync.types import RELAY_PREFIX, CourseId, Progress

UNFILLED: Final = "membership"
"""What a course's ``unfilled`` has until its members are those that count."""

USUAL: Final = "is_active"
"""The column with which Open edX marks who has left."""


@dataclass(frozen=True)
class Decision:
    """Which enrollments count: those whose column of a name is true, or all."""

    column: str | None
    decided_at: datetime


@dataclass(frozen=True)
class Change:
    """How many enrollments leave a course by a decision, and how many come."""

    course_id: CourseId
    leave: int
    come: int


def decided(portal: Connection) -> Decision | None:
    """Return what was decided, if anything was."""
    with portal.cursor(row_factory=class_row(Decision)) as cursor:
        return cursor.execute(QUERIES["decision"], prepare=False).fetchone()


def booleans(portal: Connection) -> list[str]:
    """Return the columns of the portal's enrollments that are boolean."""
    return [name for (name,) in portal.execute(QUERIES["booleans"], {"table": ENROLLMENTS})]


def preview(portal_conninfo: str, column: str | None) -> list[Change]:
    """Return what :func:`decide` would change.

    :raises PysyncError: if that column can't say who counts.
    """
    with plan.exclusive(portal_conninfo, offline=True) as portal:
        _require(portal, column)
        return _changes(portal, column)


def decide(portal_conninfo: str, column: str | None, progress: Progress) -> list[Change]:
    """Have enrollments count while a column of theirs is true; or all of them.

    :returns: what that changed.
    :raises PysyncError: if that column can't say who counts; nothing is changed then.
    :raises LockedError: if enrollments under way don't end in time; likewise.
    :raises MigrationError: if it counts, but not all courses are as it says yet.
    """
    with plan.exclusive(portal_conninfo) as portal:
        _require(portal, column)
        before = carried.counting(portal)
        changes = [] if before is None and column is None else _changes(portal, column)
        with waiting(portal, "portal", ON_PORTAL):
            patiently(partial(_switch, portal, before, column))
        failures = []
        for course in registry.subscribers(portal):
            if UNFILLED not in course.unfilled:
                continue
            try:
                publications.fill(portal, course, progress)
            except PysyncError as error:
                failures.append(f"{course.subject}: {error.message}")
        if failures:
            raise MigrationError(
                f"membership isn't as decided yet in {len(failures)} courses: "
                f"{'; '.join(failures)}",
                "run 'pysync migrate'",
            )
        return changes


def _require(portal: Connection, column: str | None) -> None:
    require_head(portal)
    identities.require_claimed(portal)
    found = [name for name in booleans(portal) if NAME.fullmatch(name)]
    if column is not None and column not in found:
        raise PysyncError(
            f"column '{column}' of {ENROLLMENTS} can't say who counts: {ON_PORTAL} there is no "
            "boolean column of that name",
            f"name one of: {', '.join(found)}" if found else "add it there first",
        )


def _changes(portal: Connection, column: str | None) -> list[Change]:
    name = sql.SQL("true") if column is None else sql.Identifier("enrollment", column)
    counts = sql.SQL("{} is true").format(name)
    query = QUERIES["membership_changes"].format(counts=counts)
    with fan_out.as_triggers(portal) as triggers:
        rows = triggers.fetch(query, "course_id text, leave bigint, come bigint")
    return [Change(*row) for row in rows]


def _switch(portal: Connection, before: str | None, column: str | None) -> None:
    """Enter a decision and make the functions by which it counts, between enrollments."""
    known = carried.registered(portal)
    is_as_before = before is None and column is None
    with portal.transaction():
        if not is_as_before:
            for made in fallback((ENROLLMENTS, column)) if column else ():
                portal.execute(made)
            for statement in functions(PORTAL, known, column):
                portal.execute(sql.SQL(statement))
            others = {column, *(c.column_name for c in known.columns if key(c)[0] == ENROLLMENTS)}
            if before is not None and before not in others:
                portal.execute(no_fallback((ENROLLMENTS, before)))
            for recorded in record(PORTAL):
                portal.execute(recorded)
        # Last: applications wait for it.
        portal.execute(QUERIES["decide_membership"], (column,))
        if not is_as_before:
            unfill = QUERIES["unfill_membership"]
            portal.execute(unfill.format(sql.Literal(UNFILLED), sql.Literal(RELAY_PREFIX)))
