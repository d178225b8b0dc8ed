"""What both servers must be like before a course is added, and what would be better."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pysync.db.connections import Connection, describe, fetch_value, parse, same_database
from pysync.errors import UnsuitableDatabaseError, UnsuitableServerError
from pysync.models.replicated import PUBLISHED_TABLES
from pysync.replication import subscriptions
from pysync.replication.registry import Course
from pysync.types import SUPPORTED_MAJORS, CourseId

MINIMUM_VERSION: Final = SUPPORTED_MAJORS[0]
RECOMMENDED_RETRY_MILLISECONDS: Final = 200
RECOMMENDED_SYNC_WORKERS: Final = 4
RECOMMENDED_WRITER_MILLISECONDS: Final = 10
"""An apply worker commits asynchronously, and one that has just restarted confirms to the portal
whatever the one before it committed, on disk or not. What the WAL writer hasn't written by then is
lost for good if the course's server crashes in that moment: let it be quick."""

_SLOTS_FOR_COPY: Final = 5
"""One for the subscription, and one for each table that is copied at the same time."""


@dataclass(frozen=True)
class Settings:
    """A server's settings, as numbers in the server's own units."""

    version: int
    values: dict[str, str]

    def number(self, name: str) -> int:
        """Return a setting as a number; 0 where this version doesn't have it."""
        return int(self.values.get(name, "0"))


def settings(connection: Connection) -> Settings:
    """Read what :func:`check_portal` and :func:`check_course` look at."""
    rows = connection.execute(
        "select name, setting from pg_catalog.pg_settings where name = any(%s)",
        (
            [
                "wal_level",
                "max_replication_slots",
                "max_active_replication_origins",
                "max_wal_senders",
                "max_worker_processes",
                "max_logical_replication_workers",
                "max_sync_workers_per_subscription",
                "wal_retrieve_retry_interval",
                "wal_writer_delay",
                "server_encoding",
            ],
        ),
    ).fetchall()
    return Settings(connection.info.server_version // 10000, dict(rows))


def check_version(connection: Connection, subject: str) -> None:
    """Refuse a server that is too old.

    :raises UnsuitableServerError: if it is older than the oldest supported one.
    """
    version = connection.info.server_version // 10000
    if version < MINIMUM_VERSION:
        raise UnsuitableServerError(
            f"{subject} server is PostgreSQL {version}: "
            f"row filters need {MINIMUM_VERSION} or later",
            "upgrade the server",
        )


def check_portal(portal: Connection, *, slot_is_there: bool) -> None:
    """Check that the portal's server can feed one more course.

    :param slot_is_there: whether the course's slot has been made already.
    :raises UnsuitableServerError: if it can't.
    """
    check_version(portal, "portal")
    found = settings(portal)
    if found.values["wal_level"] != "logical":
        raise UnsuitableServerError(
            f"portal server has wal_level '{found.values['wal_level']}': "
            "logical replication needs 'logical'",
            "set wal_level = logical on the portal and restart it",
        )
    used_slots, used_senders = portal.execute(
        "select (select count(*) from pg_catalog.pg_replication_slots),"
        " (select count(*) from pg_catalog.pg_stat_replication)"
    ).fetchone() or (0, 0)
    needed = 0 if slot_is_there else _SLOTS_FOR_COPY
    for name, used in (("max_replication_slots", used_slots), ("max_wal_senders", used_senders)):
        if found.number(name) - used < needed:
            raise UnsuitableServerError(
                f"portal server has {name} = {found.number(name)}, {used} in use: "
                f"adding a course takes {needed} for its first copy",
                f"set {name} to at least {used + needed} on the portal and restart it",
            )


def check_course(database: Connection, *, subscription_is_there: bool) -> list[str]:
    """Check that a course's server can run one more subscription.

    :returns: warnings about settings that make it slower or less safe than it could be.
    :raises UnsuitableServerError: if it can't.
    """
    check_version(database, "course")
    found = settings(database)
    if not subscription_is_there:
        _check_workers(database, found)
    warnings = []
    retry = found.number("wal_retrieve_retry_interval")
    if retry > RECOMMENDED_RETRY_MILLISECONDS:
        warnings.append(
            f"course server has wal_retrieve_retry_interval = {retry}ms: the first copy and every "
            f"reconnect take seconds longer; set it to {RECOMMENDED_RETRY_MILLISECONDS}ms "
            "and reload"
        )
    workers = found.number("max_sync_workers_per_subscription")
    if workers < RECOMMENDED_SYNC_WORKERS:
        warnings.append(
            f"course server has max_sync_workers_per_subscription = {workers}: the four tables "
            f"are copied in turns; set it to {RECOMMENDED_SYNC_WORKERS} and reload"
        )
    delay = found.number("wal_writer_delay")
    if delay > RECOMMENDED_WRITER_MILLISECONDS:
        warnings.append(
            f"course server has wal_writer_delay = {delay}ms: should it crash that soon after its "
            "connection to the portal broke, changes would be lost; set it to "
            f"{RECOMMENDED_WRITER_MILLISECONDS}ms and reload"
        )
    return warnings


def _check_workers(database: Connection, found: Settings) -> None:
    enabled = int(
        fetch_value(database, "select count(*) from pg_catalog.pg_subscription where subenabled")
    )
    origins = (
        "max_active_replication_origins"
        if "max_active_replication_origins" in found.values
        else "max_replication_slots"
    )
    # A synchronization worker without a worker slot waits its turn; without an origin it fails.
    copying = min(found.number("max_sync_workers_per_subscription"), len(PUBLISHED_TABLES))
    for name, needed in (
        ("max_logical_replication_workers", enabled + 2),
        ("max_worker_processes", enabled + 3),
        (origins, enabled + 1 + copying),
    ):
        if found.number(name) < needed:
            raise UnsuitableServerError(
                f"course server has {name} = {found.number(name)}, and {enabled} "
                f"subscriptions already: one more needs at least {needed}",
                f"set {name} to at least {needed} on the course server and restart it",
            )


def check_database(portal: Connection, database: Connection, course: CourseId, name: str) -> None:
    """Check that a database can become (or is) this course's database.

    :param name: the course's replication name.
    :raises UnsuitableDatabaseError: if it is a portal, another course's, or can't hold the
        portal's text.
    """
    title = f"database '{database.info.dbname}'"
    if fetch_value(database, "select pg_catalog.to_regclass('pysync.course')") is not None:
        raise UnsuitableDatabaseError(
            f"{title} is a portal: one database can't be both portal and course",
            "give the course a database of its own",
        )
    if fetch_value(database, "select pg_catalog.to_regclass('course.this_course')") is not None:
        owner = fetch_value(database, "select course_id from course.this_course")
        if owner != course:
            raise UnsuitableDatabaseError(
                f"{title} belongs to course '{owner}': a database can't hold two courses",
                "give the course a database of its own",
            )
    if other := subscriptions.foreign_subscription(database, name):
        raise UnsuitableDatabaseError(
            f"{title} is subscribed to another portal already: subscription '{other}'",
            "remove the course there first, or give the course a database of its own",
        )
    ours = fetch_value(portal, "select current_setting('server_encoding')")
    theirs = fetch_value(database, "select current_setting('server_encoding')")
    if theirs not in (ours, "UTF8"):
        raise UnsuitableDatabaseError(
            f"{title} has encoding {theirs}, the portal {ours}: not every name would fit",
            "create it with ENCODING 'UTF8'",
        )


def check_reachable(
    portal: Connection, database: Connection, name: str, portal_conninfo: str
) -> None:
    """Have the course's server subscribe to the portal, and take it back.

    A publication made for the moment tells this portal from others.

    :raises ReplicationError: if it can't, or arrives elsewhere.
    """
    probe = f"{name}_probe"
    drop = sql.SQL("drop publication if exists {}").format(sql.Identifier(probe))
    portal.execute(drop)
    portal.execute(
        sql.SQL("create publication {} for table course.mark").format(sql.Identifier(probe))
    )
    try:
        with subscriptions.subscribing(database, name, portal_conninfo, publication=probe):
            found = subscriptions.find(database, name)
            if found is None or not found.tables:
                raise subscriptions.wrong_portal(portal_conninfo)
            raise psycopg.Rollback
    except subscriptions.MISSING_TABLE:
        # Before its migration the database has no table to receive it: it was offered one.
        return
    finally:
        portal.execute(drop)


def check_empty(database: Connection, course: CourseId) -> None:
    """Refuse a course database that holds replicated rows of an earlier life.

    :raises UnsuitableDatabaseError: if it does.
    """
    if fetch_value(database, "select true from course.auth_user limit 1"):
        raise UnsuitableDatabaseError(
            f"database '{database.info.dbname}' holds users of course '{course}' from before its "
            "removal: a first copy would collide with them",
            "give the course an empty database, or see what 'pysync course add --adopt' would do",
        )


def check_same_database(course: Course, conninfo: str) -> None:
    """Refuse to move a registered course to another database in passing.

    :raises UnsuitableDatabaseError: if the connection string leads elsewhere.
    """
    if not same_database(course.conninfo, conninfo):
        raise UnsuitableDatabaseError(
            f"course '{course.course_id}' is registered with database "
            f"'{describe(course.conninfo)}' already",
            f"run 'pysync course remove {shlex.quote(course.course_id)}' first",
        )


def portal_conninfo_for_course(portal: Connection, given: str | None) -> str:
    """Return how the course's server is to reach the portal, with a password if there is one.

    What `given` leaves out is taken from our own connection; its password only if the role is the
    same.
    """
    info = portal.info
    parameters = parse(given or "")
    ours = {"host": info.host, "port": str(info.port), "dbname": info.dbname, "user": info.user}
    if "hostaddr" in parameters or "service" in parameters:
        ours.pop("host")
    merged = {**ours, **parameters}
    if "password" not in merged and info.password and merged["user"] == info.user:
        merged["password"] = info.password
    return make_conninfo("", **merged)
