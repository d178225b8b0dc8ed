"""A database that is to be migrated: whose it is, and to ourselves meanwhile."""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Final

import psycopg
from psycopg import errors, sql

from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection, connect, fetch_value
from pysync.db.errors import RUNS_CODE, detail
from pysync.db.errors import meaning as meaning_of
from pysync.db.holders import Watch
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of
from pysync.errors import AdoptionError, MigrationError, PysyncError, UnsuitableDatabaseError
from pysync.findings import IN_COURSE, ON_PORTAL
from pysync.migrate.lineage import Lineage
from pysync.migrate.revisions import VERSION_TABLE, current_revision, revisions
from pysync.replication import turns
from pysync.replication.databases import connect_course
from pysync.types import Side

TURN_TIMEOUT_SECONDS: Final = 10
_QUERIES: Final = load(__file__)


def opened(conninfo: str, lineage: Lineage) -> Connection:
    """Return a session that begins a transaction with its first statement."""
    connection = (connect if lineage.side is Side.PORTAL else connect_course)(conninfo)
    connection.autocommit = False
    return connection


@contextmanager
def translated(conninfo: str, lineage: Lineage, subject: str) -> Iterator[Connection]:
    """Give a session whose errors say what they mean, and whom it waited for."""
    with closing(opened(conninfo, lineage)) as connection, watched(connection, lineage, subject):
        yield connection


@contextmanager
def watched(connection: Connection, lineage: Lineage, subject: str) -> Iterator[None]:
    """Translate the block's errors; whoever holds a lock that isn't free in time is named."""
    with closing(Watch(connection, where(lineage))) as watch:
        try:
            yield
        except psycopg.Error as error:
            raise watch.named(meaning(error, subject)) from error


def wait_for_turn(connection: Connection, lineage: Lineage, subject: str) -> str | None:
    """Have a database to ourselves until the transaction ends; returns its revision.

    Locks are what only its owner can take: on the version table or, before there is one, on the
    name of the schema that will have it.

    :raises LockedError: if another process has it for too long.
    """
    set_lock_timeout = "select pg_catalog.set_config('lock_timeout', %s, true)"
    table = own(lineage, VERSION_TABLE)
    while True:
        connection.execute(set_lock_timeout, (f"{TURN_TIMEOUT_SECONDS}s",))
        before = current_revision(connection, lineage)
        try:
            if before is None:
                connection.execute(sql.SQL("create schema {}").format(own(lineage)))
                others = [name for name in lineage.schemas if name != lineage.version_schema]
                check_vacant(connection, others, subject)
            else:
                connection.execute(sql.SQL("lock table {} in exclusive mode").format(table))
                before = current_revision(connection, lineage)
        except errors.LockNotAvailable:
            connection.rollback()
            named = {"table": table.as_string(None)}
            holder = connection.execute(_QUERIES["migrating"], named).fetchone()
            raise turns.locked(f"{subject} is being migrated", holder, where(lineage)) from None
        except (errors.UniqueViolation, errors.DuplicateSchema, errors.UndefinedTable):
            connection.rollback()
            # Another process has just made it, or dropped it; or it was never ours.
            if current_revision(connection, lineage) is None:
                check_vacant(connection, lineage.schemas, subject)
        else:
            connection.execute(set_lock_timeout, (f"{LOCK_TIMEOUT_SECONDS}s",))
            return before


def where(lineage: Lineage) -> str:
    """Return a lineage's databases in words."""
    return ON_PORTAL if lineage.side is Side.PORTAL else IN_COURSE


_HOLDS_ROWS: Final = "PY006"


def meaning(error: psycopg.Error, subject: str) -> PysyncError:
    """Return what an error of a migration means."""
    if isinstance(error, errors.UniqueViolation | errors.ForeignKeyViolation):
        is_double = isinstance(error, errors.UniqueViolation)
        return AdoptionError(
            f"{error.diag.schema_name}.{error.diag.table_name}",
            detail(error),
            f"remove the {'duplicates' if is_double else 'rows without a user'} and run the "
            "command again",
        )
    if (
        isinstance(error, errors.LockNotAvailable | errors.InsufficientPrivilege)
        or error.sqlstate == RUNS_CODE
    ):
        return meaning_of(error, subject)
    translated = meaning_of(error, f"{subject} migration")
    holds_rows = error.sqlstate == _HOLDS_ROWS
    remedy = "copy them elsewhere and delete them first" if holds_rows else translated.remedy
    return MigrationError(translated.message, remedy)


def check_vacant(connection: Connection, schemas: Iterable[str], subject: str) -> None:
    """Refuse a database in which somebody else has a schema of ours."""
    for schema in schemas:
        if not fetch_value(
            connection, "select true from pg_catalog.pg_namespace where nspname = %s", schema
        ):
            continue
        what = f"schema '{schema}' is there already and isn't pysync's"
        if fetch_value(connection, "select pg_catalog.to_regclass('course.this_course')"):
            with as_owner_of(connection, "course", "this_course") as role:
                owner = role.value("select course_id from course.this_course", "text")
            what = f"it is the database of course '{owner}'"
        elif fetch_value(connection, "select pg_catalog.to_regclass('pysync.course')"):
            what = "it is a portal"
        raise UnsuitableDatabaseError(
            f"{subject} can't use database '{connection.info.dbname}': {what}",
            "choose another database",
        )


def own(lineage: Lineage, *name: str) -> sql.Identifier:
    """Return a name in the schema that has the version table, or that schema's."""
    return sql.Identifier(lineage.version_schema, *name)


def check_known(current: str | None, lineage: Lineage, subject: str) -> None:
    """Refuse a database of a newer pysync.

    :raises MigrationError: if its revision isn't one of ours.
    """
    if current is not None and current not in revisions(lineage):
        raise MigrationError(
            f"{subject} is at revision '{current}', which this pysync doesn't know "
            f"in lineage '{lineage.name}'",
            "install a newer pysync",
        )
