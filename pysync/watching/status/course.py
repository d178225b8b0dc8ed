"""What a course database says of its replication."""

from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, final
from uuid import UUID

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import class_row

from pysync.db.connections import Connection, connect, fetch_value, parse
from pysync.db.errors import said
from pysync.db.queries import load
from pysync.errors import PysyncError
from pysync.findings import IN_COURSE, Finding, run
from pysync.replication import identities
from pysync.replication.registry import Course
from pysync.texts import Text, word

QUERIES: Final = load(__file__)
_PARTS: Final = {
    name: sql.SQL("({})").format(QUERIES[name]) for name in ("facts", "applied_position")
}
_ALL_AT_ONCE: Final = sql.SQL(QUERIES["all_at_once"].format(**_PARTS).as_string(None))


@final
@dataclass(frozen=True)
class Facts:
    """The row of ``course.replication_status`` at one moment; positions are bytes of the WAL.

    :param owner: the course that the database belongs to.
    :param portal_id: the portal that says it has it, ``revision`` where it is in its lineage; both
        may have to be asked for.
    :param missing_until: until when the portal's changes never arrived, from ``missing_since`` on.
    :param applied_at: what is applied, where our role may see it.
    :param altered: why the view couldn't be read; only whether there is a subscription is known.
    """

    subscription_exists: bool
    subscription_enabled: bool | None
    owner: str | None = None
    portal_id: UUID | None = None
    revision: str | None = None
    mark: int | None = None
    marked_at: datetime | None = None
    worker_pid: int | None = None
    received_at: int | None = None
    applied_at: int | None = None
    tables_ready: int = 0
    tables_total: int = 0
    tables_uncopied: list[str] = field(default_factory=list)
    rows_copied: dict[str, int] = field(default_factory=dict)
    apply_errors: int = 0
    sync_errors: int = 0
    conflicts: int | None = None
    missing_since: datetime | None = None
    missing_until: datetime | None = None
    server_started_at: datetime | None = None
    missed_changes: int | None = None
    tells_position: bool = False
    altered: Finding | None = None


def read_facts(database: Connection, course: Course) -> Facts:
    """Read what a course database says; a view that is missing or altered is a finding.

    :raises ForeignDatabaseError: if it is another portal's.
    """
    names = {"name": course.replication_name, "course_id": course.course_id}
    altered = None
    with database.cursor(row_factory=class_row(Facts)) as cursor:
        try:
            facts = cursor.execute(_ALL_AT_ONCE, names).fetchone()
            assert facts is not None  # noqa: S101 - it has one row
        except (psycopg.ProgrammingError, psycopg.DataError):
            # It takes longer to say what isn't there, or isn't for us.
            identities.require_ours(database, course.course_id, course.portal_id, copies=True)
        else:
            identities.require_portals(database, facts.portal_id, course.portal_id)
            return facts
        try:
            facts = cursor.execute(QUERIES["facts"], names).fetchone()
        except errors.InsufficientPrivilege:
            raise
        except (psycopg.ProgrammingError, psycopg.DataError) as error:
            altered = Finding(
                "view course.replication_status",
                f"can't be read {IN_COURSE}: {said(error)}",
                run("drop view if exists course.replication_status", IN_COURSE)
                + Text(f"; then 'pysync migrate course --reinstall {word(course.course_id)}'"),
            )
            facts = cursor.execute(QUERIES["subscription"], names).fetchone()
    assert facts is not None  # noqa: S101 - both queries have one row
    if facts.tells_position:
        # It reads a catalog, too, which isn't open to everybody either.
        with suppress(errors.InsufficientPrivilege):
            applied_at = fetch_value(database, QUERIES["applied_position"], **names)
            facts = replace(facts, applied_at=applied_at)
    return replace(facts, altered=altered)


def read_mark(database: Connection, course: Course) -> int | None:
    """Return the newest mark that is visible here."""
    mark: int | None = fetch_value(database, QUERIES["newest_mark"], course_id=course.course_id)
    return mark


def read_strangers(database: Connection, known: list[str]) -> tuple[tuple[str, str], ...]:
    """Return name and database of subscriptions of pysync's name that aren't in `known`."""
    return tuple(database.execute(QUERIES["strangers"], {"known": known}).fetchall())


def is_gone(course: Course) -> bool:
    """Return whether a course's server is there and its database isn't."""
    conninfo = parse(course.conninfo)
    if "dbname" not in conninfo:
        return False
    with suppress(PysyncError, psycopg.Error):
        elsewhere = make_conninfo("", **{**conninfo, "dbname": "postgres"})
        with closing(connect(elsewhere, connect_timeout_seconds=2)) as server:
            query = "select true from pg_catalog.pg_database where datname = %s"
            return not fetch_value(server, query, conninfo["dbname"])
    return False
