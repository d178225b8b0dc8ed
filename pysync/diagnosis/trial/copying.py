"""The rows of a first copy, as the changes that carry them."""

from collections.abc import Iterator, Sequence
from typing import Final

from psycopg import errors, sql

from pysync.db.connections import Connection
from pysync.db.errors import said
from pysync.db.queries import load
from pysync.diagnosis.trial.pgoutput import Change
from pysync.findings import Finding, run
from pysync.replication.publications import reading_grants
from pysync.replication.registry import Course

_BATCH: Final = 200
_QUERIES: Final = load(__file__)


def rows_to_copy(portal: Connection, course: Course, tables: Sequence[str]) -> Iterator[Change]:
    """Return the rows of tables that a course's publication carries.

    :param tables: without their schema.
    """
    for table in tables:
        if (query := _query(portal, course, table)) is None:
            continue
        with portal.transaction():
            portal.execute(sql.SQL("declare copied no scroll cursor for {}").format(query))
            fetch = sql.SQL("fetch {} from copied").format(_BATCH)
            while rows := portal.execute(fetch).fetchall():
                for (values,) in rows:
                    yield Change("insert", "course", table, {}, values, 0)


def unreadable(portal: Connection, course: Course, tables: Sequence[str]) -> Finding | None:
    """Read what a course's first copy reads, as its role does.

    :returns: why that role can't, or ``None`` if it can or we may not try.
    """
    table = None
    try:
        with portal.transaction(force_rollback=True):
            # Enough here: these tables are ours, and no code of others hangs on them.
            role = sql.Identifier(course.replication_role)
            portal.execute(sql.SQL("set local role {}").format(role))
            for table in tables:
                if query := _query(portal, course, table):
                    portal.execute(sql.SQL("{} limit 1").format(query))
    except errors.InsufficientPrivilege as error:
        if table is None:
            return None  # we may not act as that role
        grants = sql.SQL("; ").join(
            reading_grants(course.replication_role, relay=course.relay is not None)
        )
        return Finding(
            f"role '{course.replication_role}'",
            f"can't read course.{table} {course.on_publisher}: {said(error)}",
            run(grants.as_string(portal), course.on_publisher),
        )
    return None


def _query(portal: Connection, course: Course, table: str) -> sql.Composed | None:
    """Return what the publication carries of a table, a row as a JSON object of texts."""
    row = portal.execute(
        _QUERIES["published"], {"publication": course.replication_name, "table": table}
    ).fetchone()
    if row is None:
        return None
    columns, condition = row
    return sql.SQL("select jsonb_build_object({}) from {} where {}").format(
        sql.SQL(", ").join(
            sql.SQL("{}, {}::text").format(sql.Literal(name), sql.Identifier(name))
            for name in columns
        ),
        sql.Identifier("course", table),
        sql.SQL(condition or "true"),
    )
