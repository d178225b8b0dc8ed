"""Publications on the portal: one for each course, with its rows and the columns it is sent."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, LiteralString

from psycopg import sql

from pysync.db.connections import Connection, fetch_value
from pysync.db.errors import translated
from pysync.db.holders import waiting
from pysync.findings import ON_PORTAL
from pysync.models.replicated import PUBLISHED
from pysync.replication.registry import Course

_ALL: Final = "insert, update, delete"


def exists(portal: Connection, name: str) -> bool:
    """Return whether a publication exists."""
    query = "select true from pg_catalog.pg_publication where pubname = %s"
    return fetch_value(portal, query, name) is not None


def ensure(portal: Connection, course: Course) -> None:
    """Create a course's publication, unless it is there.

    Columns are listed: what the fan-out tables have beyond a course database's stays here. TRUNCATE
    isn't published, since row filters don't apply to it.
    """
    if exists(portal, course.replication_name):
        return
    create = sql.SQL("create publication {} for table {} with (publish = {})")
    name = sql.Identifier(course.replication_name)
    with waiting(portal, f"publication '{course.replication_name}'", ON_PORTAL):
        portal.execute(create.format(name, published(course), sql.Literal(_ALL)))


def published(course: Course, tables: Mapping[str, Sequence[str]] | None = None) -> sql.Composed:
    """Return the tables of a course's publication, with columns and row filters.

    :param tables: each with its columns; those that the course is to be sent by default.
    """
    if tables is None:
        tables = {table.name: table.columns for table in course.published}
    return sql.SQL(", ").join(
        sql.SQL("{} ({}) where ({})").format(
            sql.Identifier("course", name),
            sql.SQL(", ").join(map(sql.Identifier, tables[name])),
            rows_of(course),
        )
        for name in tables
    )


def rows_of(course: Course) -> sql.Composed:
    """Return the condition that rows meet which a course, or a relay, is sent."""
    ids = sql.SQL(", ").join(map(sql.Literal, course.sent))
    return sql.SQL("course_id::text in ({})" if course.carries else "course_id = {}").format(ids)


def drop(portal: Connection, course: Course) -> None:
    """Drop a course's publication, if it is there."""
    drop = sql.SQL("drop publication if exists {}")
    with waiting(portal, f"publication '{course.replication_name}'", ON_PORTAL):
        portal.execute(drop.format(sql.Identifier(course.replication_name)))


@contextmanager
def silenced(publisher: Connection, course: Course, sends: LiteralString = "") -> Iterator[None]:
    """Send a course, or a relay, only some of what the block does, in the caller's transaction.

    Decoding sees the catalogs as they were at each change, also within a transaction, and nothing
    of it is there for others before it commits: nothing of anybody else's is left out.

    :param sends: which operations, such as ``update, delete``.
    """
    alter = sql.SQL("alter publication {} set (publish = {})")
    name = sql.Identifier(course.replication_name)
    publisher.execute(alter.format(name, sql.Literal(sends)))
    yield
    publisher.execute(alter.format(name, sql.Literal(_ALL)))


def reading_grants(role: str, *, relay: bool = False) -> list[sql.Composed]:
    """Return the statements that let a replication role make first copies, from a relay or not."""
    tables = ", ".join(f"course.{table.name}" for table in PUBLISHED)
    statements = ["grant usage on schema course to {}", f"grant select on {tables} to {{}}"]
    if not relay:
        statements += [
            "grant usage on schema pysync to {}",
            "grant execute on function pysync.readable_courses(name) to {}",
        ]
    return [sql.SQL(statement).format(sql.Identifier(role)) for statement in statements]


def grant_reading(portal: Connection, role: str) -> None:
    """Let a course's replication role make the first copy; a superuser needs no grant.

    On the portal row security limits it to its courses; on a relay it reads what that carries, as
    it may by streaming.
    """
    if fetch_value(portal, "select rolsuper from pg_catalog.pg_roles where rolname = %s", role):
        return
    with translated(f"role '{role}'"), portal.transaction():
        for statement in reading_grants(role, relay=not is_portal(portal)):
            portal.execute(statement)


def is_portal(publisher: Connection) -> bool:
    """Return whether courses stream from the portal here, rather than from a relay."""
    query = "select pg_catalog.to_regclass('pysync.course') is not null"
    return bool(fetch_value(publisher, query))
