"""Subscriptions in course databases: what applies a course's changes."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import psycopg
from psycopg import errors, sql
from psycopg.rows import class_row

from pysync.db.addresses import files
from pysync.db.connections import Connection, describe, fetch_value
from pysync.db.errors import meaning, translated, unconnected
from pysync.db.queries import load
from pysync.errors import PortalUnreachableError, ReplicationError
from pysync.models.replicated import PUBLISHED_TABLES
from pysync.replication import workers
from pysync.replication.registry import Course
from pysync.replication.settings import AS_MADE, Settings, known
from pysync.texts import word

MISSING_TABLE: Final = (errors.InvalidSchemaName, errors.UndefinedTable)
"""What a subscription to our publications fails with in a database not yet migrated."""

UNLOGGED: Final = {
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_min_error_statement": "panic",
    "pg_stat_statements.track_utility": "off",
}
"""Settings under which a statement is written down nowhere."""

QUERIES = load(__file__)


@dataclass(frozen=True)
class Subscription:
    """A subscription as ``pg_subscription`` has it, and how many of its tables are copied."""

    oid: int
    enabled: bool
    slot_name: str | None
    tables: int
    ready: int

    @property
    def copied(self) -> bool:
        """Return whether it has all our tables, and copies none."""
        return self.tables == self.ready == len(PUBLISHED_TABLES)


def find(database: Connection, name: str) -> Subscription | None:
    """Return the subscription of a name in this database, or ``None``."""
    with database.cursor(row_factory=class_row(Subscription)) as cursor:
        return cursor.execute(QUERIES["subscription"], {"name": name}).fetchone()


def get(database: Connection, course: Course) -> Subscription:
    """Return a course's subscription.

    :raises ReplicationError: if it is missing.
    """
    found = find(database, course.replication_name)
    if found is None:
        raise lost("subscription", course)
    return found


def lost(what: str, course: Course) -> ReplicationError:
    """Return the error for a course whose slot or subscription is gone."""
    return ReplicationError(
        f"course '{course.course_id}' has lost its {what}: changes are missing in its database",
        f"run 'pysync resync {word(course.course_id)}'",
    )


def foreign_subscription(database: Connection, name: str) -> str | None:
    """Return the name of another subscription to our tables in this database, if there is one."""
    return fetch_value(database, QUERIES["foreign_subscription"], name=name)  # type: ignore[no-any-return]


def connection_string(database: Connection, name: str) -> str | None:
    """Return how a subscription reaches the portal, with its password, where we may read it."""
    found = find(database, name)
    may_read = "select has_column_privilege('pg_catalog.pg_subscription', 'subconninfo', 'select')"
    query = "select subconninfo from pg_catalog.pg_subscription where oid = %s"
    if found is None or not fetch_value(database, may_read):
        return None
    return fetch_value(database, query, found.oid)  # type: ignore[no-any-return]


def create(
    database: Connection,
    course: Course,
    portal_conninfo: str,
    *,
    copy_data: bool = True,
    settings: Settings = AS_MADE,
) -> Subscription:
    """Create a course's subscription, disabled and without a slot yet.

    The course's server connects to the portal on the way: if it can't, nothing is created.

    :param portal_conninfo: how it connects, with a password where one is needed.
    :param copy_data: whether its first start copies the tables; a merge fills them otherwise.
    :param settings: what is to be set on it, as far as this server has it.
    :raises ReplicationError: if it can't connect, or arrives somewhere else than at the portal.
    """
    name = course.replication_name
    options = {"copy_data": f"{copy_data}"} | known(database, settings)
    with subscribing(database, name, portal_conninfo, publication=name, options=options):
        found = find(database, name)
        if settings.owner and fetch_value(database, QUERIES["may_own"], owner=settings.owner):
            _alter(database, course, sql.SQL("owner to {}").format(sql.Identifier(settings.owner)))
        if found is None or found.tables != len(PUBLISHED_TABLES):
            raise wrong_portal(portal_conninfo)
        return found


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
    options: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[None]:
    """Create a disabled subscription in a transaction that the block may still roll back."""
    create = sql.SQL(
        "create subscription {name} connection {conninfo} publication {publication}"
        " with ({options})"
    )
    fixed = {"create_slot": "false", "enabled": "false", "slot_name": name}
    chosen = [
        sql.SQL("{} = {}").format(sql.Identifier(option), sql.Literal(value))
        for option, value in {**options, **fixed}.items()
    ]
    try:
        with database.transaction():
            _keep_out_of_log(database)
            database.execute(
                create.format(
                    name=sql.Identifier(name),
                    conninfo=sql.Literal(portal_conninfo),
                    publication=sql.Identifier(publication),
                    options=sql.SQL(", ").join(chosen),
                )
            )
            yield
    except (errors.ConnectionFailure, errors.SqlclientUnableToEstablishSqlconnection) as error:
        raise PortalUnreachableError(unconnected(error), files(portal_conninfo)) from None
    except MISSING_TABLE:
        raise
    except psycopg.Error as error:
        raise meaning(error, f"subscription '{name}'") from None


def _keep_out_of_log(database: Connection) -> None:
    """Keep a statement with a password out of the server's log and pg_stat_statements."""
    for name, value in UNLOGGED.items():
        try:
            with database.transaction():
                database.execute("select pg_catalog.set_config(%s, %s, true)", (name, value))
        except errors.InsufficientPrivilege:
            continue


def reconnect(database: Connection, course: Course, portal_conninfo: str) -> None:
    """Tell a subscription how to reach the portal from now on."""
    with database.transaction():
        _keep_out_of_log(database)
        _alter(database, course, sql.SQL("connection {}").format(sql.Literal(portal_conninfo)))


def enable(database: Connection, course: Course) -> None:
    """Start (or go on with) a course's subscription."""
    with translated(f"subscription '{course.replication_name}'"), database.transaction():
        workers.restrict(database, course.replication_name)
        if course.durable:
            choose(database, course, "synchronous_commit", "on")
        _alter(database, course, sql.SQL("enable"))


def choose(database: Connection, course: Course, option: str, value: str) -> None:
    """Set an option of a course's subscription, such as ``slot_name``."""
    pair = sql.SQL("set ({} = {})").format(sql.Identifier(option), sql.Literal(value))
    _alter(database, course, pair)


def stop(database: Connection, course: Course, timeout_seconds: float = 20) -> None:
    """Disable a course's subscription and wait until none of its workers is left.

    :raises ReplicationError: if one doesn't end in time, or never would and isn't ours to end.
    """
    name = course.replication_name
    _alter(database, course, sql.SQL("disable"))
    found = find(database, name)
    deadline = time.monotonic() + timeout_seconds
    while found is not None and workers.end(database, name, found.oid):
        if time.monotonic() > deadline:
            raise ReplicationError(
                f"subscription '{name}' is disabled, but its worker doesn't end",
                "end that process on the course server, then run the command again",
            )
        time.sleep(0.02)


def drop(database: Connection, course: Course) -> None:
    """Drop a course's subscription without touching the portal, if it is there."""
    name = course.replication_name
    if find(database, name) is None:
        return
    _alter(database, course, sql.SQL("disable"))
    # At once: without a slot it is none that could go on.
    end = "alter subscription {name} set (slot_name = none); drop subscription {name}"
    with translated(f"subscription '{name}'"):
        database.execute(sql.SQL(end).format(name=sql.Identifier(name)))
        workers.drop_role(database, name)


def _alter(database: Connection, course: Course, action: sql.Composable) -> None:
    name = course.replication_name
    with translated(f"subscription '{name}'"):
        database.execute(sql.SQL("alter subscription {} {}").format(sql.Identifier(name), action))
