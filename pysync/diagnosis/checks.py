"""What both servers must be like, and what would be better.

``course add`` enforces it and ``doctor`` lists it; what a course's database must be like before it
becomes one is refused here, too.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import psycopg
from psycopg import sql

from pysync.db.connections import Connection, describe, fetch_row, fetch_value
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of
from pysync.errors import UnsuitableDatabaseError, UnsuitableServerError
from pysync.findings import IN_COURSE, Finding, alone, run
from pysync.models.replicated import PUBLISHED_TABLES
from pysync.replication import identities, publishers, standbys, subscriptions
from pysync.replication.databases import a_portal
from pysync.replication.registry import Course
from pysync.texts import Text, word
from pysync.types import SUPPORTED_MAJORS, CourseId, Progress

MINIMUM_VERSION: Final = SUPPORTED_MAJORS[0]
PLUGIN: Final = "pgoutput"
_SLOTS_FOR_COPY: Final = 1 + len(PUBLISHED_TABLES)
"""One for the subscription, and one for each table that is copied at the same time."""

_SLOW: Final = (
    ("wal_retrieve_retry_interval", 200, "the first copy and every reconnect take seconds longer"),
    # An apply worker commits asynchronously, and one that has just restarted confirms to the portal
    # whatever the one before it committed, on disk or not. What the WAL writer hasn't written by
    # then is lost for good if the course's server crashes in that moment: let it be quick.
    (
        "wal_writer_delay",
        10,
        "should it crash that soon after its connection to the portal broke, changes would be lost",
    ),
)
_QUERIES: Final = load(__file__)


_RELOAD: Final = "; then " + run("select pg_reload_conf()", IN_COURSE)


def _set(name: str, value: object) -> Text:
    return alone(f"alter system set {name} = {value}", IN_COURSE)


def _settings(connection: Connection) -> dict[str, str]:
    return dict(connection.execute(_QUERIES["settings"]).fetchall())


def _number(found: Mapping[str, str], name: str) -> int:
    """Return a setting as a number in the server's own unit; 0 if our role may not see it."""
    return int(found.get(name, "0"))


def enforce(findings: Iterable[Finding], progress: Progress) -> None:
    """Refuse to go on with what must be mended first, and warn of what should.

    :raises UnsuitableServerError: for the first finding that must be mended.
    """
    for finding in findings:
        if finding.must:
            raise UnsuitableServerError(str(finding), finding.remedy)
        progress.warn(finding.text)


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


def portal_server(
    portal: Connection, courses: int = 0, *, adds: int = 0, relay: Course | None = None
) -> Iterator[Finding]:
    """Say what keeps the server of a portal, or of a relay, from feeding its courses.

    :param courses: how many there are.
    :param adds: how many more are about to be added at the same time, and must have room.
    :param relay: whose server it is, if not the portal's.
    :raises UnsuitableServerError: if it is too old to be asked.
    """
    owner, where = relay.subject if relay else "portal", publishers.on(relay)
    check_version(portal, owner)
    found = _settings(portal)
    if found["wal_level"] != "logical":
        yield Finding(
            f"{owner} server",
            f"has wal_level '{found['wal_level']}': logical replication needs 'logical'",
            alone("alter system set wal_level = logical", where) + "; then restart it",
        )
    used = fetch_row(portal, _QUERIES["slots_and_senders"])
    for name, in_use in zip(("max_replication_slots", "max_wal_senders"), used, strict=True):
        taken = max(in_use, courses)
        needed = taken + max(adds, 1) * _SLOTS_FOR_COPY
        if (adds or courses) and _number(found, name) < needed:
            yield Finding(
                f"{owner} server",
                f"has {name} = {found[name]}, {taken} in use or needed for its courses: "
                f"{_first_copies(adds)} at least {needed}",
                alone(f"alter system set {name} = {needed}", where) + "; then restart it",
                must=adds > 0 or _number(found, name) < courses,
            )
    plugins = found.get("output_plugin_libraries")
    if plugins is not None and PLUGIN not in [each.strip(' "') for each in plugins.split(",")]:
        allowed = ", ".join(filter(None, [PLUGIN, plugins]))
        yield Finding(
            "setting output_plugin_libraries",
            f"is '{plugins}' {where}: {PLUGIN} isn't allowed, so no course can stream",
            alone(f"alter system set output_plugin_libraries = {allowed}", where)
            + "; then reload it",
        )
    absent, present = standbys.awaited(portal)
    if (courses or adds) and absent:
        statement = f"alter system set synchronized_standby_slots = '{present}'"
        yield Finding(
            "setting synchronized_standby_slots",
            f"names '{absent}' {where}, which no standby uses: courses are sent nothing meanwhile",
            Text("bring that standby back, or ") + alone(statement, where) + "; then reload it",
        )
    if courses and found["max_slot_wal_keep_size"] == "-1":
        yield Finding(
            "setting max_slot_wal_keep_size",
            f"is unlimited {where}: a course that stays away fills its disk",
            alone("alter system set max_slot_wal_keep_size = '…GB'", where)
            + Text(" with what the disk can spare; then reload it, or run 'pysync guard'"),
            must=False,
        )


def _first_copies(adds: int) -> str:
    return (
        f"first copies of {adds} at a time take" if adds > 1 else "the first copy of one more takes"
    )


def course_server(database: Connection, *, adds: int = 0) -> Iterator[Finding]:
    """Say what keeps a course's server from running its subscriptions, and what makes it slow.

    :param adds: how many more are about to be added, and must have room.
    :raises UnsuitableServerError: if it is too old to be asked.
    """
    check_version(database, "course")
    found = _settings(database)
    enabled = int(fetch_value(database, _QUERIES["enabled_subscriptions"]))
    origins = "max_active_replication_origins"
    if origins not in found:
        origins = "max_replication_slots"
    # A synchronization worker without a worker slot waits its turn; without an origin it fails.
    workers = _number(found, "max_sync_workers_per_subscription")
    copying = min(workers, len(PUBLISHED_TABLES))
    more = max(adds, 1)
    for name, beside in (
        ("max_logical_replication_workers", 1),
        ("max_worker_processes", 2),
        (origins, copying),
    ):
        if _number(found, name) < (needed := enabled + more + beside):
            yield Finding(
                "course server",
                f"has {name} = {found[name]}, and {enabled} subscriptions already: "
                f"{'one more needs' if more == 1 else f'{more} more need'} at least {needed}",
                _set(name, needed) + "; then restart its server",
                must=adds > 0 or _number(found, name) < enabled,
            )
    for name, most, why in _SLOW:
        if _number(found, name) > most:
            yield Finding(
                "course server",
                f"has {name} = {found[name]}ms: {why}",
                _set(name, f"'{most}ms'") + _RELOAD,
                must=False,
            )
    if workers < len(PUBLISHED_TABLES):
        yield Finding(
            "course server",
            f"has max_sync_workers_per_subscription = {workers}: its tables are copied in turns",
            _set("max_sync_workers_per_subscription", len(PUBLISHED_TABLES)) + _RELOAD,
            must=False,
        )


def check_database(portal: Connection, database: Connection, course: CourseId, name: str) -> None:
    """Check that a database can become (or is) this course's database.

    :param name: the course's replication name.
    :raises UnsuitableDatabaseError: if it is a portal, another course's, another portal's, or can't
        hold the portal's text.
    """
    title = f"database '{database.info.dbname}'"
    if fetch_value(database, "select pg_catalog.to_regclass('pysync.course')") is not None:
        raise a_portal(database)
    if (owner := identities.owner_of(database)) not in (None, course):
        raise UnsuitableDatabaseError(
            f"{title} belongs to course '{owner}': a database can't hold two courses",
            "give the course a database of its own",
        )
    identities.require_free(portal, database)
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
        with subscriptions.subscribing(database, probe, portal_conninfo, publication=probe):
            found = subscriptions.find(database, probe)
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
    if has_users(database):
        raise UnsuitableDatabaseError(
            f"database '{database.info.dbname}' holds users of course '{course}' from before its "
            "removal: a first copy would collide with them",
            "give the course an empty database, or see what 'pysync course add --adopt' would do",
        )


def has_users(database: Connection) -> bool:
    """Return whether a course database holds replicated rows."""
    with as_owner_of(database, "course", "auth_user") as owner:
        return owner.value("select true from course.auth_user limit 1", "boolean") is not None


def check_same_database(course: Course, database: Connection) -> None:
    """Refuse to move a registered course to another database in passing.

    :raises UnsuitableDatabaseError: if this isn't the one that it has.
    """
    identities.require_ours(database, course.course_id, course.portal_id)
    if None in course.place:
        raise UnsuitableDatabaseError(
            f"course '{course.course_id}' is registered, but not with which database",
            f"run 'pysync course remove {word(course.course_id)}' first",
        )
    if identities.place(database) != course.place:
        raise UnsuitableDatabaseError(
            f"course '{course.course_id}' is elsewhere: it has database "
            f"'{describe(course.conninfo)}', which isn't this one",
            f"run 'pysync course move {word(course.course_id)} CONNINFO' to have it go on there",
        )
