"""Run revisions on one database: locked, checked, in one transaction."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import errors, sql
from sqlalchemy import Connection as SQLAlchemyConnection
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pysync.adoption import Side, inspect
from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection, connect, fetch_value
from pysync.db.errors import RUNS_CODE, detail, meaning
from pysync.db.holders import Watch
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of
from pysync.db.sql_files import folder, frozen, in_order
from pysync.errors import (
    AdoptionError,
    MigrationError,
    PysyncError,
    UnsuitableDatabaseError,
)
from pysync.findings import IN_COURSE, ON_PORTAL
from pysync.migrate.installed import Difference, differences, record, respell
from pysync.migrate.lineage import Lineage
from pysync.migrate.revisions import VERSION_TABLE, current_revision, revisions
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import turns
from pysync.replication.databases import connect_course
from pysync.types import CourseId

if TYPE_CHECKING:  # it takes a while to import, and most commands don't migrate
    from alembic.config import Config

TURN_TIMEOUT_SECONDS: Final = 10
_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Migrated:
    """What a migration did: revisions before and after (``None`` is "not migrated"), or its SQL.

    ``differences`` are what is left of them after objects were installed again.
    """

    before: str | None
    after: str | None
    script: str | None = None
    differences: tuple[Difference, ...] | None = None


def migrate(
    conninfo: str,
    lineage: Lineage,
    subject: str,
    *,
    course: CourseId | None = None,
    merging: bool = False,
    keep_owner: bool = False,
    target: str = "head",
    offline: bool = False,
    reinstall: bool = False,
) -> Migrated:
    """Upgrade or downgrade one database.

    :param conninfo: of the database.
    :param subject: what to call it in messages, such as ``portal`` or ``course 'X'``.
    :param course: the course a course database is for.
    :param merging: take over a course's tables with their rows: a merge is going to follow.
    :param keep_owner: leave a course's own tables to the role that owns them.
    :param target: a revision of the lineage, ``head`` or ``base``.
    :param offline: return the SQL instead of running it.
    :param reinstall: run the newest frozen copies of all objects again.
    :raises MigrationError: if the target doesn't exist or a revision fails.
    :raises AdoptionError: if a table that is there already can't be adopted.
    :raises UnsuitableDatabaseError: if the database has another part to play.
    :raises DatabaseUnreachableError: if it can't be reached.
    :raises LockedError: if locks aren't free in time; nothing is changed.
    """
    config = _config(lineage)
    target = _resolve(lineage, target, reinstall=reinstall)
    with _transaction(conninfo, lineage, subject) as (sqlalchemy_connection, connection):
        before = current_revision(connection, lineage)
        if before is None and target == "base":
            return Migrated(None, None, "" if offline else None)
        if not offline:
            before = _wait_for_turn(connection, lineage, subject)
        elif before is None:
            _check_vacant(connection, lineage.schemas, subject)
        check_known(before, lineage, subject)
        if before != target:
            config.attributes |= {
                "lineage": lineage,
                "course_id": course,
                "merging": course if merging else None,
                "keep_owner": keep_owner,
                "found_tables": _found_tables(connection, lineage),
                "adopted_tables": _adopted_tables(connection, lineage) if before else None,
            }
        if offline:
            script = _script(config, lineage, before, target, reinstall=reinstall)
            return Migrated(before, before, script)
        config.attributes["connection"] = sqlalchemy_connection
        if before == target:
            respell(connection, lineage)
        else:
            _run(config, connection, lineage, before, target)
        if target == "base":
            return Migrated(before, None)
        if not reinstall:
            return Migrated(before, target)
        for copied in _objects(lineage):
            connection.execute(sql.SQL(copied))
        return Migrated(before, target, differences=tuple(differences(connection, lineage)))


@contextmanager
def _transaction(
    conninfo: str, lineage: Lineage, subject: str
) -> Iterator[tuple[SQLAlchemyConnection, Connection]]:
    """One transaction, psycopg's errors translated."""

    def creator() -> Connection:
        connection = (connect if lineage.side is Side.PORTAL else connect_course)(conninfo)
        connection.autocommit = False
        return connection

    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    watch = None
    try:
        with ExitStack() as unwatch, engine.begin() as sqlalchemy_connection:
            connection = sqlalchemy_connection.connection.driver_connection
            assert connection is not None  # noqa: S101
            watch = unwatch.enter_context(closing(Watch(connection, _where(lineage))))
            yield sqlalchemy_connection, connection
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.Error):
            meant = _meaning(cause, subject)
            raise (watch.named(meant) if watch else meant) from error
        raise


def _wait_for_turn(connection: Connection, lineage: Lineage, subject: str) -> str | None:
    """Have a database to ourselves until the transaction ends; returns its revision.

    Locks are what only its owner can take: on the version table or, before there is one, on the
    name of the schema that will have it.

    :raises LockedError: if another process has it for too long.
    """
    set_lock_timeout = "select pg_catalog.set_config('lock_timeout', %s, true)"
    table = _own(lineage, VERSION_TABLE)
    while True:
        connection.execute(set_lock_timeout, (f"{TURN_TIMEOUT_SECONDS}s",))
        before = current_revision(connection, lineage)
        try:
            if before is None:
                connection.execute(sql.SQL("create schema {}").format(_own(lineage)))
                others = [name for name in lineage.schemas if name != lineage.version_schema]
                _check_vacant(connection, others, subject)
            else:
                connection.execute(sql.SQL("lock table {} in exclusive mode").format(table))
                before = current_revision(connection, lineage)
        except errors.LockNotAvailable:
            connection.rollback()
            named = {"table": table.as_string(None)}
            holder = connection.execute(_QUERIES["migrating"], named).fetchone()
            raise turns.locked(f"{subject} is being migrated", holder, _where(lineage)) from None
        except (errors.UniqueViolation, errors.DuplicateSchema, errors.UndefinedTable):
            connection.rollback()
            # Another process has just made it, or dropped it; or it was never ours.
            if current_revision(connection, lineage) is None:
                _check_vacant(connection, lineage.schemas, subject)
        else:
            connection.execute(set_lock_timeout, (f"{LOCK_TIMEOUT_SECONDS}s",))
            return before


def _where(lineage: Lineage) -> str:
    return ON_PORTAL if lineage.side is Side.PORTAL else IN_COURSE


_HOLDS_ROWS: Final = "PY006"


def _meaning(error: psycopg.Error, subject: str) -> PysyncError:
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
        return meaning(error, subject)
    translated = meaning(error, f"{subject} migration")
    holds_rows = error.sqlstate == _HOLDS_ROWS
    remedy = "copy them elsewhere and delete them first" if holds_rows else translated.remedy
    return MigrationError(translated.message, remedy)


def _config(lineage: Lineage) -> Config:
    from alembic.config import Config

    migrations = folder("migrations")
    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(migrations / lineage.name).replace("%", "%%"))
    return config


def _resolve(lineage: Lineage, target: str, *, reinstall: bool) -> str:
    known = revisions(lineage)
    if target == "head":
        return known[-1]
    if target != "base" and target not in known:
        raise MigrationError(
            f"revision '{target}' unknown in lineage '{lineage.name}'",
            f"choose one of: base, {', '.join(known)}, head",
        )
    if reinstall and target != known[-1]:
        raise MigrationError(
            f"objects of revision '{target}' can't be made anew: this pysync has those of "
            f"'{known[-1]}'",
            "run it without --to",
        )
    return target


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


def _check_vacant(connection: Connection, schemas: Iterable[str], subject: str) -> None:
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


def _found_tables(connection: Connection, lineage: Lineage) -> dict[str, Any]:
    """Return what schema ``public`` has under the names of tables that revisions make or adopt."""
    names = (
        [table.name for table in lineage.metadata.sorted_tables if table.schema == "public"]
        if lineage.side is Side.PORTAL
        else REPLICATED_TABLES
    )
    return inspect(connection, "public", names)


def _adopted_tables(connection: Connection, lineage: Lineage) -> dict[str, list[str]]:
    query = sql.SQL("select table_name, undo from {}").format(_own(lineage, "adoption"))
    return dict(connection.execute(query).fetchall())


def _objects(lineage: Lineage) -> Iterator[str]:
    """Return the statements of the newest frozen copies of all files, which may run twice."""
    living = folder("sql") / lineage.name
    copies = {Path(name): copy for name, copy in frozen(lineage.name).items()}
    # What has no living file any more a revision has dropped.
    return in_order(lineage.name, {n: copy for n, copy in copies.items() if (living / n).exists()})


def _run(
    config: Config, connection: Connection, lineage: Lineage, before: str | None, target: str
) -> None:
    """Run the revisions from one to another, and record what they made."""
    from alembic import command

    if _is_downgrade(lineage, before, target):
        command.downgrade(config, target)
    else:
        command.upgrade(config, target)
    if target == "base":
        connection.execute(sql.SQL("drop table {}").format(_own(lineage, VERSION_TABLE)))
        connection.execute(sql.SQL("drop schema {}").format(_own(lineage)))
        return
    for statement in record(lineage):
        connection.execute(statement)


def _script(
    config: Config, lineage: Lineage, before: str | None, target: str, *, reinstall: bool
) -> str:
    """Return what an online run would do, in one transaction and with the same settings."""
    from alembic import command

    from pysync.migrate.review import commented

    buffer = io.StringIO()
    config.output_buffer = buffer
    buffer.write(
        "begin;\n\nset local search_path = pg_catalog, pg_temp;\n\n"
        f"set local lock_timeout = '{LOCK_TIMEOUT_SECONDS}s';\n\n"
    )
    if before is None:
        buffer.write(f"create schema if not exists {lineage.version_schema};\n\n")
        command.upgrade(config, target, sql=True)
    elif _is_downgrade(lineage, before, target):
        command.downgrade(config, f"{before}:{target}", sql=True)
    elif before != target:
        command.upgrade(config, f"{before}:{target}", sql=True)
    if target == "base":
        buffer.write(
            f"drop table {lineage.version_schema}.{VERSION_TABLE};\n\n"
            f"drop schema {lineage.version_schema};\n\n"
        )
    elif before != target:
        buffer.writelines(f"{each.as_string(None)};\n\n" for each in record(lineage))
    if reinstall:
        buffer.writelines(f"{each};\n\n" for each in _objects(lineage))
    buffer.write("commit;\n")
    return commented(buffer.getvalue())


def _is_downgrade(lineage: Lineage, before: str | None, target: str) -> bool:
    if before is None:
        return False
    known = revisions(lineage)
    return target == "base" or known.index(target) < known.index(before)


def _own(lineage: Lineage, *name: str) -> sql.Identifier:
    return sql.Identifier(lineage.version_schema, *name)
