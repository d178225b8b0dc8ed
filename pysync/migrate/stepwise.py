"""Run revisions one by one, as Alembic does, or print what they would do."""

import io
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import Connection as SQLAlchemyConnection
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from pysync.adoption.found import inspect
from pysync.db.connections import LOCK_TIMEOUT_SECONDS, Connection
from pysync.db.holders import Watch
from pysync.db.sql_files import folder, frozen, in_order
from pysync.migrate import databases
from pysync.migrate.bringing import bring
from pysync.migrate.installed import differences, record
from pysync.migrate.lineage import Lineage
from pysync.migrate.revisions import VERSION_TABLE, current_revision, revisions
from pysync.migrate.run import COURSE_PLACE, Migrated
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import Side


def run(
    conninfo: str,
    attributes: dict[str, Any],
    subject: str,
    target: str,
    *,
    offline: bool,
    reinstall: bool,
) -> Migrated:
    """Upgrade or downgrade one database; see :func:`pysync.migrate.migrate`.

    :param attributes: what revisions are told.
    """
    lineage: Lineage = attributes["lineage"]
    config = _config(lineage)
    config.attributes |= attributes
    with _transaction(conninfo, lineage, subject) as (sqlalchemy_connection, connection):
        before = current_revision(connection, lineage)
        if before is None and target == "base":
            return Migrated(None, None, "" if offline else None)
        if not offline:
            before = databases.wait_for_turn(connection, lineage, subject)
        elif before is None:
            databases.check_vacant(connection, lineage.schemas, subject)
        databases.check_known(before, lineage, subject)
        if before != target:
            config.attributes |= {
                "found_tables": _found_tables(connection, lineage),
                "adopted_tables": _adopted_tables(connection, lineage) if before else None,
            }
        if offline:
            script = _script(config, lineage, before, target, reinstall=reinstall)
            return Migrated(before, before, script)
        config.attributes["connection"] = sqlalchemy_connection
        if before != target:
            _run(config, connection, lineage, before, target)
        if target == "base":
            return Migrated(before, None)
        for copied in _objects(lineage) if reinstall else ():
            connection.execute(sql.SQL(copied))
        anew = reinstall or before != target
        done = bring(connection, lineage, subject, attributes["carried"], anew=anew)
        left = tuple(differences(connection, lineage)) if reinstall else None
        return Migrated(before, target, differences=left, columns=tuple(done))


def from_nothing(lineage: Lineage) -> str:
    """Return the script that makes a new database in one round trip; a turn has made its schema."""
    config = _config(lineage)
    config.output_buffer = buffer = io.StringIO()
    config.attributes |= {
        "lineage": lineage,
        "course_id": COURSE_PLACE.strip("'"),
        "found_tables": {},
    }
    command.upgrade(config, revisions(lineage)[-1], sql=True)
    return buffer.getvalue() + _recording(lineage)


@contextmanager
def _transaction(
    conninfo: str, lineage: Lineage, subject: str
) -> Iterator[tuple[SQLAlchemyConnection, Connection]]:
    """One transaction, psycopg's errors translated."""

    def creator() -> Connection:
        return databases.opened(conninfo, lineage)

    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    watch = None
    try:
        with ExitStack() as unwatch, engine.begin() as sqlalchemy_connection:
            connection = sqlalchemy_connection.connection.driver_connection
            assert connection is not None  # noqa: S101
            watch = unwatch.enter_context(closing(Watch(connection, databases.where(lineage))))
            yield sqlalchemy_connection, connection
    except (DBAPIError, psycopg.Error) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, psycopg.Error):
            meant = databases.meaning(cause, subject)
            raise (watch.named(meant) if watch else meant) from error
        raise


def _config(lineage: Lineage) -> Config:
    migrations = folder("migrations")
    config = Config(output_buffer=io.StringIO(), stdout=io.StringIO())
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(migrations / lineage.name).replace("%", "%%"))
    return config


def _found_tables(connection: Connection, lineage: Lineage) -> dict[str, Any]:
    """Return what schema ``public`` has under the names of tables that revisions make or adopt."""
    names = (
        [table.name for table in lineage.metadata.sorted_tables if table.schema == "public"]
        if lineage.side is Side.PORTAL
        else REPLICATED_TABLES
    )
    return inspect(connection, "public", names)


def _adopted_tables(connection: Connection, lineage: Lineage) -> dict[str, list[str]]:
    query = sql.SQL("select table_name, undo from {}").format(databases.own(lineage, "adoption"))
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
    if _is_downgrade(lineage, before, target):
        command.downgrade(config, target)
    else:
        command.upgrade(config, target)
    if target == "base":
        connection.execute(sql.SQL("drop table {}").format(databases.own(lineage, VERSION_TABLE)))
        connection.execute(sql.SQL("drop schema {}").format(databases.own(lineage)))
        return
    for statement in record(lineage):
        connection.execute(statement)


def _script(
    config: Config, lineage: Lineage, before: str | None, target: str, *, reinstall: bool
) -> str:
    """Return what an online run would do, in one transaction and with the same settings."""
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
        buffer.write(_recording(lineage))
    if reinstall:
        buffer.writelines(f"{each};\n\n" for each in _objects(lineage))
    buffer.write("commit;\n")
    return commented(buffer.getvalue())


def _recording(lineage: Lineage) -> str:
    return "".join(f"{each.as_string(None)};\n\n" for each in record(lineage))


def _is_downgrade(lineage: Lineage, before: str | None, target: str) -> bool:
    if before is None:
        return False
    known = revisions(lineage)
    return target == "base" or known.index(target) < known.index(before)
