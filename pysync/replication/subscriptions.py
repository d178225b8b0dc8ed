"""Publications, replication slots and subscriptions: the native objects that carry a course."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors, sql

from pysync.db.connections import Connection, describe, fetch_value
from pysync.db.errors import meaning, translated
from pysync.errors import ReplicationError
from pysync.models.columns import REPLICATED_TABLES
from pysync.models.course import CourseDatabaseBase
from pysync.replication.registry import Course

SLOT_TIMEOUT_SECONDS: Final = 60
"""How long creating a slot may wait for older transactions on the portal."""

PUBLISHED_TABLES: Final = (*REPLICATED_TABLES, "mark")
MISSING_TABLE: Final = (errors.InvalidSchemaName, errors.UndefinedTable)
"""What a subscription to our publications fails with in a database not yet migrated."""

READY: Final = "r"
UNCOPIED: Final = ("i", "d")
"""States in ``pg_subscription_rel``: of a table that is copied, and before its rows are there."""


# Publication, on the portal.


def ensure_publication(portal: Connection, course: Course) -> None:
    """Create a course's publication, unless it is there.

    Columns are listed: what the fan-out tables have beyond a course database's stays here. TRUNCATE
    isn't published, since row filters don't apply to it.
    """
    if fetch_value(
        portal,
        "select true from pg_catalog.pg_publication where pubname = %s",
        course.replication_name,
    ):
        return
    tables = published(course)
    with translated(f"publication '{course.replication_name}'"):
        portal.execute(
            sql.SQL(
                "create publication {} for table {} with (publish = 'insert, update, delete')"
            ).format(sql.Identifier(course.replication_name), tables)
        )


def published(course: Course) -> sql.Composed:
    """Return the tables of a course's publication, with columns and row filters."""
    return sql.SQL(", ").join(
        sql.SQL("{} ({}) where (course_id = {})").format(
            sql.Identifier("course", name),
            sql.SQL(", ").join(map(sql.Identifier, published_columns(name))),
            sql.Literal(str(course.course_id)),
        )
        for name in PUBLISHED_TABLES
    )


def drop_publication(portal: Connection, course: Course) -> None:
    """Drop a course's publication, if it is there."""
    with translated(f"publication '{course.replication_name}'"):
        portal.execute(
            sql.SQL("drop publication if exists {}").format(sql.Identifier(course.replication_name))
        )


def reading_grants(role: str) -> list[sql.Composed]:
    """Return the statements that let a replication role make the first copy."""
    statements = (
        "grant usage on schema course, pysync to {}",
        f"grant select on {', '.join(f'course.{table}' for table in PUBLISHED_TABLES)} to {{}}",
        "grant execute on function pysync.readable_courses(name) to {}",
    )
    return [sql.SQL(statement).format(sql.Identifier(role)) for statement in statements]


def grant_reading(portal: Connection, role: str) -> None:
    """Let a course's replication role make the first copy; row security limits it to its course.

    A superuser needs no grant.
    """
    if fetch_value(portal, "select rolsuper from pg_catalog.pg_roles where rolname = %s", role):
        return
    with translated(f"role '{role}'"), portal.transaction():
        for statement in reading_grants(role):
            portal.execute(statement)


def published_columns(table: str) -> list[str]:
    """Return the columns of a table that courses are sent."""
    return [c.name for c in CourseDatabaseBase.metadata.tables[f"course.{table}"].columns]


# Slot, on the portal.


def slot_exists(portal: Connection, name: str) -> bool:
    """Return whether a replication slot exists.

    :raises ReplicationError: if it does, but isn't this database's logical slot.
    """
    row = portal.execute(
        "select plugin, database, database = current_database()"
        " from pg_catalog.pg_replication_slots where slot_name = %s",
        (name,),
    ).fetchone()
    if row is None:
        return False
    plugin, database, ours = row
    if plugin != "pgoutput" or not ours:
        raise ReplicationError(
            f"slot '{name}' belongs to something else: plugin {plugin}, database {database}",
            f"drop it with pg_drop_replication_slot('{name}') if nothing needs it",
        )
    return True


def create_slot(portal: Connection, name: str) -> None:
    """Create a logical slot; PostgreSQL waits for every older transaction of the cluster first.

    :raises ReplicationError: if that takes more than 60 s; no slot is left behind.
    """
    try:
        # It waits at the locks of older transactions, and blocks nobody meanwhile.
        with _timeouts(portal, SLOT_TIMEOUT_SECONDS):
            portal.execute(
                "select pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", (name,)
            )
    except errors.QueryCanceled:
        raise slot_delayed(portal, name) from None
    except psycopg.Error as error:
        raise meaning(error, f"slot '{name}'") from error


def slot_delayed(portal: Connection, name: str) -> ReplicationError:
    """Return the error for a slot that older transactions kept from being created in time."""
    oldest = portal.execute(
        "select pid, date_trunc('second', now() - xact_start)::text"
        " from pg_catalog.pg_stat_activity"
        " where backend_xid is not null and pid <> pg_backend_pid()"
        " order by age(backend_xid) desc limit 1"
    ).fetchone()
    who = f"; the oldest has run for {oldest[1]} (pid {oldest[0]})" if oldest else ""
    return ReplicationError(
        f"slot '{name}' can't be created: older transactions on the portal's server "
        f"didn't end within {SLOT_TIMEOUT_SECONDS} s{who}",
        "run the command again when they have ended",
    )


def slot_is_usable(portal: Connection, name: str, position: str | None = None) -> bool:
    """Return whether a slot is there and still has all the WAL its course needs.

    :param position: where the course will go on, as an LSN. A slot that has confirmed more, as to a
        course that is ahead of a restored portal, would pass over what comes in between.
    """
    return bool(
        fetch_value(
            portal,
            "select wal_status is distinct from 'lost'"
            " and confirmed_flush_lsn <= coalesce(%s::pg_lsn, confirmed_flush_lsn)"
            " from pg_catalog.pg_replication_slots where slot_name = %s",
            position,
            name,
        )
    )


def drop_slots(portal: Connection, course: Course) -> None:
    """Drop a course's slot and its tables' synchronization slots, in use or not."""
    with translated(f"slot '{course.replication_name}'"):
        for name in _slots(portal, course):
            _drop_slot(portal, name)


def _slots(portal: Connection, course: Course) -> list[str]:
    # A synchronization slot is called pg_<subscription oid>_sync_<table oid>_<system identifier>.
    rows = portal.execute(
        "select slot_name::text from pg_catalog.pg_replication_slots"
        " where slot_name = %s or (slot_name ~ %s and database = current_database())",
        (
            course.replication_name,
            f"^pg_{course.subscription_oid}_sync_[0-9]+_{course.course_system_identifier}$",
        ),
    ).fetchall()
    return [name for (name,) in rows]


def _drop_slot(portal: Connection, name: str, timeout_seconds: float = 20) -> None:
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            portal.execute(
                "select pg_catalog.pg_terminate_backend(active_pid)"
                " from pg_catalog.pg_replication_slots"
                " where slot_name = %s and active_pid is not null",
                (name,),
            )
            portal.execute("select pg_catalog.pg_drop_replication_slot(%s)", (name,))
        except errors.UndefinedObject:
            return
        except errors.ObjectInUse:
            # A live apply worker reconnects at once; only its server can stop it for good.
            if time.monotonic() > deadline:
                raise ReplicationError(
                    f"slot '{name}' is still in use: a course server keeps connecting to it",
                    "stop that server or disable its subscription, then run the command again",
                ) from None
            time.sleep(0.05)
        else:
            return


# Subscription, in the course database.


@dataclass(frozen=True)
class Subscription:
    """A subscription as ``pg_subscription`` has it."""

    oid: int
    enabled: bool


@dataclass(frozen=True)
class CopyState:
    """How far the first copy is.

    ``uncopied`` are the tables whose rows aren't all there, ``rows`` those copied so far by copies
    under way, ``errors`` the failures since the subscription was made.
    """

    tables: int
    ready: int
    uncopied: list[str]
    rows: int
    errors: int

    @property
    def complete(self) -> bool:
        """Return whether every table is ready."""
        return self.tables > 0 and self.ready == self.tables


def find_subscription(database: Connection, name: str) -> Subscription | None:
    """Return the subscription of a name in this database, or ``None``."""
    row = database.execute(
        "select s.oid::bigint, s.subenabled from pg_catalog.pg_subscription s"
        " join pg_catalog.pg_database d on d.oid = s.subdbid"
        " where d.datname = current_database() and s.subname = %s",
        (name,),
    ).fetchone()
    return Subscription(*row) if row else None


def foreign_subscription(database: Connection, name: str) -> str | None:
    """Return the name of another subscription to our tables in this database, if there is one."""
    return fetch_value(  # type: ignore[no-any-return]
        database,
        "select s.subname::text from pg_catalog.pg_subscription s"
        " join pg_catalog.pg_database d on d.oid = s.subdbid"
        " join pg_catalog.pg_subscription_rel r on r.srsubid = s.oid"
        " where d.datname = current_database() and s.subname <> %s"
        " and r.srrelid = pg_catalog.to_regclass('course.auth_user')",
        name,
    )


def create_subscription(
    database: Connection, course: Course, portal_conninfo: str, *, copy_data: bool = True
) -> None:
    """Create a course's subscription, disabled and without a slot yet.

    The course's server connects to the portal on the way: if it can't, nothing is created.

    :param portal_conninfo: how it connects, with a password where one is needed.
    :param copy_data: whether its first start copies the tables; a merge fills them otherwise.
    :raises ReplicationError: if it can't connect, or arrives somewhere else than at the portal.
    """
    name = course.replication_name
    with subscribing(database, name, portal_conninfo, publication=name, copy_data=copy_data):
        if count_subscribed(database, name) != len(PUBLISHED_TABLES):
            raise wrong_portal(portal_conninfo)


def count_subscribed(database: Connection, name: str) -> int:
    """Return how many tables a subscription in this database carries."""
    return int(
        fetch_value(
            database,
            "select count(*) from pg_catalog.pg_subscription_rel r"
            " join pg_catalog.pg_subscription s on s.oid = r.srsubid"
            " join pg_catalog.pg_database d on d.oid = s.subdbid"
            " where d.datname = current_database() and s.subname = %s",
            name,
        )
    )


def wrong_portal(portal_conninfo: str) -> ReplicationError:
    """Return the error for a course's server that arrives at another database."""
    return ReplicationError(
        f"course server reaches '{describe(portal_conninfo)}', which isn't this portal: "
        "--portal-conninfo doesn't lead to this portal",
        "give one that does",
    )


@contextmanager
def subscribing(
    database: Connection,
    name: str,
    portal_conninfo: str,
    *,
    publication: str,
    copy_data: bool = True,
) -> Iterator[None]:
    """Create a disabled subscription in a transaction that the block may still roll back."""
    try:
        with database.transaction():
            _keep_out_of_log(database)
            database.execute(
                sql.SQL(
                    "create subscription {name} connection {conninfo} publication {publication}"
                    " with (create_slot = false, enabled = false, slot_name = {slot},"
                    "       copy_data = {copy_data})"
                ).format(
                    name=sql.Identifier(name),
                    conninfo=sql.Literal(portal_conninfo),
                    publication=sql.Identifier(publication),
                    slot=sql.Literal(name),
                    copy_data=sql.Literal(copy_data),
                )
            )
            yield
    except (errors.ConnectionFailure, errors.SqlclientUnableToEstablishSqlconnection) as error:
        raise _unreachable(error) from None
    except MISSING_TABLE:
        raise
    except psycopg.Error as error:
        raise meaning(error, f"subscription '{name}'") from None


def _unreachable(error: psycopg.Error) -> ReplicationError:
    lines = (error.diag.message_primary or "unknown cause").splitlines()
    reason = next((line for line in lines if "failed:" in line), lines[0])
    reason = reason.partition("publisher: ")[2] or reason
    return ReplicationError(
        f"course server can't reach the portal: {reason}",
        "set --portal-conninfo to how the course's server reaches it, and allow it in pg_hba.conf",
    )


def _keep_out_of_log(database: Connection) -> None:
    """Keep a statement with a password out of the server's log and pg_stat_statements."""
    for name, value in (
        ("log_statement", "none"),
        ("log_min_duration_statement", "-1"),
        ("log_min_duration_sample", "-1"),
        ("log_transaction_sample_rate", "0"),
        ("log_min_error_statement", "panic"),
        ("pg_stat_statements.track_utility", "off"),
    ):
        try:
            with database.transaction():
                database.execute("select pg_catalog.set_config(%s, %s, true)", (name, value))
        except errors.InsufficientPrivilege:
            continue


def reconnect(database: Connection, course: Course, portal_conninfo: str) -> None:
    """Tell a subscription how to reach the portal from now on."""
    with translated(f"subscription '{course.replication_name}'"), database.transaction():
        _keep_out_of_log(database)
        database.execute(
            sql.SQL("alter subscription {} connection {}").format(
                sql.Identifier(course.replication_name), sql.Literal(portal_conninfo)
            )
        )


def enable(database: Connection, course: Course) -> None:
    """Start (or go on with) a course's subscription."""
    _alter(database, course, sql.SQL("enable"))


def stop(database: Connection, course: Course, timeout_seconds: float = 20) -> None:
    """Disable a course's subscription and wait until none of its workers is left.

    :raises ReplicationError: if one doesn't end in time.
    """
    _alter(database, course, sql.SQL("disable"))
    deadline = time.monotonic() + timeout_seconds
    # One that waits for a lock wouldn't notice by itself.
    while database.execute(
        "select pg_catalog.pg_terminate_backend(w.pid) from pg_catalog.pg_stat_subscription w"
        " join pg_catalog.pg_subscription s on s.oid = w.subid"
        " join pg_catalog.pg_database d on d.oid = s.subdbid"
        " where d.datname = current_database() and s.subname = %s and w.pid is not null",
        (course.replication_name,),
    ).fetchall():
        if time.monotonic() > deadline:
            raise ReplicationError(
                f"subscription '{course.replication_name}' is disabled, but its worker doesn't end",
                "end that process on the course server, then run the command again",
            )
        time.sleep(0.02)


def is_whole(database: Connection, name: str) -> bool:
    """Return whether a subscription is there with its slot's name and all tables copied."""
    return bool(
        fetch_value(
            database,
            "select s.subslotname = s.subname and count(*) = %s and bool_and(r.srsubstate = %s)"
            " from pg_catalog.pg_subscription s"
            " join pg_catalog.pg_database d on d.oid = s.subdbid"
            " join pg_catalog.pg_subscription_rel r on r.srsubid = s.oid"
            " where d.datname = current_database() and s.subname = %s group by s.oid",
            len(PUBLISHED_TABLES),
            READY,
            name,
        )
    )


def connection_string(database: Connection, name: str) -> str | None:
    """Return how a subscription reaches the portal, with its password: never to be shown."""
    return fetch_value(  # type: ignore[no-any-return]
        database,
        "select s.subconninfo from pg_catalog.pg_subscription s"
        " join pg_catalog.pg_database d on d.oid = s.subdbid"
        " where d.datname = current_database() and s.subname = %s",
        name,
    )


def drop_subscription(database: Connection, course: Course) -> None:
    """Drop a course's subscription without touching the portal, if it is there."""
    if find_subscription(database, course.replication_name) is None:
        return
    _alter(database, course, sql.SQL("disable"))
    _alter(database, course, sql.SQL("set (slot_name = none)"))
    with translated(f"subscription '{course.replication_name}'"):
        database.execute(
            sql.SQL("drop subscription {}").format(sql.Identifier(course.replication_name))
        )


def _alter(database: Connection, course: Course, action: sql.SQL) -> None:
    with translated(f"subscription '{course.replication_name}'"):
        database.execute(
            sql.SQL("alter subscription {} {}").format(
                sql.Identifier(course.replication_name), action
            )
        )


def copy_state(database: Connection, course: Course) -> CopyState:
    """Return how far a course's first copy is."""
    row = database.execute(
        "select count(*), count(*) filter (where r.srsubstate = %s),"
        " coalesce(array_agg(c.relname::text order by c.relname)"
        "          filter (where r.srsubstate = any (%s)), '{}'),"
        " coalesce((select sum(p.tuples_processed) from pg_catalog.pg_stat_progress_copy p"
        "           where p.datname = current_database()"
        "             and p.relid in (select r2.srrelid from pg_catalog.pg_subscription_rel r2"
        "                              where r2.srsubid = min(s.oid::bigint)::oid)), 0)::bigint,"
        " coalesce((select to_jsonb(st) from pg_catalog.pg_stat_subscription_stats st"
        "            where st.subid = min(s.oid::bigint)::oid), '{}')"
        " from pg_catalog.pg_subscription s"
        " join pg_catalog.pg_database d on d.oid = s.subdbid"
        " join pg_catalog.pg_subscription_rel r on r.srsubid = s.oid"
        " join pg_catalog.pg_class c on c.oid = r.srrelid"
        " where d.datname = current_database() and s.subname = %s",
        (READY, list(UNCOPIED), course.replication_name),
    ).fetchone()
    assert row is not None  # noqa: S101 - an aggregate always returns a row
    tables, ready, uncopied, rows, statistics = row
    return CopyState(tables, ready, uncopied, rows, count_errors(statistics))


def count_errors(statistics: dict[str, object]) -> int:
    """Return apply and synchronization errors of a row of ``pg_stat_subscription_stats``.

    Column names changed in PostgreSQL 19, where synchronization is counted per kind of object.
    """
    return sum(
        int(str(value))
        for name, value in statistics.items()
        if name.endswith("error_count") and value is not None
    )


@contextmanager
def _timeouts(connection: Connection, seconds: float) -> Iterator[None]:
    """Bound statements by a time of their own instead of the connection's lock timeout."""
    settings = {"statement_timeout": f"{int(seconds * 1000)}ms", "lock_timeout": "0"}
    before = {name: _setting(connection, name) for name in settings}
    _set(connection, settings)
    try:
        yield
    finally:
        if not connection.closed:
            _set(connection, before)


def _setting(connection: Connection, name: str) -> str:
    return str(fetch_value(connection, "select current_setting(%s)", name))


def _set(connection: Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        connection.execute("select pg_catalog.set_config(%s, %s, false)", (name, value))
