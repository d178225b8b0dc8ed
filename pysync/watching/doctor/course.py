"""A course's server and database: settings, tables, triggers, foreign keys, clock, roles."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from psycopg import sql

from pysync.db.catalog import quoted_name
from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis import sessions
from pysync.diagnosis.backups import backup_findings
from pysync.diagnosis.checks import course_server
from pysync.diagnosis.drift import course_drift
from pysync.diagnosis.grants import missing
from pysync.diagnosis.references import reference_findings
from pysync.findings import IN_COURSE, Finding, run
from pysync.models.replicated import PUBLISHED_TABLES, REPLICATED_TABLES
from pysync.replication.registry import Course
from pysync.types import COURSE_ROLE
from pysync.watching.doctor import addresses, tls
from pysync.watching.doctor.publisher import long_transactions, unindexed
from pysync.watching.status.portal import Clock, read_clock

CLOCK_SECONDS: Final = 2.0
"""Difference between the servers' clocks from which it is worth a word."""

_QUERIES: Final = load(__file__)


def examine_course(
    database: Connection, course: Course, *, clock: Clock, publisher_conninfo: str
) -> tuple[list[Finding], list[Finding]]:
    """Examine a course's server and its database.

    :param clock: the portal's.
    :param publisher_conninfo: how we reach what it streams from.
    :returns: what concerns every course of the server, and what this one alone.
    """
    again = f"run '{course.command('add')} CONNINFO'"
    with_tls = f"{again} with sslmode={tls.VERIFIED} in it"
    of_server = [
        *course_server(database),
        *_clock(database, clock),
        *tls.our_connection(database, "to the course server", with_tls),
    ]
    return of_server, [
        # All is compared, whatever reports remember.
        *course_drift(database, replace(course, catalog_fingerprint=None)).findings,
        *addresses.subscription(database, course, publisher_conninfo),
        *sessions.of_workers(database, course),
        # On a relay they are looked for among what may keep its courses from getting anything.
        *(() if course.is_relay else long_transactions(database, IN_COURSE)),
        *missing(database, "course", IN_COURSE),
        *_code_of_others(database),
        *_triggers(database),
        *unindexed(database, "course", IN_COURSE),
        *reference_findings(database),
        *backup_findings(database, IN_COURSE),
    ]


def _clock(database: Connection, clock: Clock) -> Iterator[Finding]:
    theirs = read_clock(database)
    difference = (theirs.read_at - clock.read_at).total_seconds()
    difference -= theirs.monotonic_seconds - clock.monotonic_seconds
    if abs(difference) >= CLOCK_SECONDS:
        yield Finding(
            "clock of the course server",
            f"is {abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} the "
            "portal's: times that both write can't be compared",
            "synchronize both servers' clocks (NTP)",
            must=False,
        )


def _code_of_others(database: Connection) -> Iterator[Finding]:
    """Say what others have, or may put, on tables of pysync's own role."""
    tables = {"tables": [f"course.{name}" for name in REPLICATED_TABLES]}
    for table, code in database.execute(_QUERIES["code_of_others"], tables).fetchall():
        yield Finding(
            f"table {table}",
            f"runs code of others as '{COURSE_ROLE}' {IN_COURSE}: {code}",
            "drop it, or have the table belong to the role whose code it is, see 'Owners of a "
            "course database' in migrations/README.md",
        )
    for table, role in database.execute(_QUERIES["may_put_code"], tables).fetchall():
        yield Finding(
            f"role '{role}'",
            f"may put triggers or foreign keys on {table} {IN_COURSE}, with code of its own",
            run(f"revoke trigger, references on {table} from {quoted_name(role)}", IN_COURSE),
            must=False,
        )


def _triggers(database: Connection) -> Iterator[Finding]:
    for table, name in database.execute(
        _QUERIES["triggers_for_replication"], {"tables": list(PUBLISHED_TABLES)}
    ).fetchall():
        statement = sql.SQL("alter table {} enable trigger {}").format(
            sql.Identifier("course", table), sql.Identifier(name)
        )
        yield Finding(
            f"trigger '{name}' on course.{table}",
            f"fires for replicated rows {IN_COURSE}: an error in it stops replication",
            run(statement.as_string(database), IN_COURSE) + " if only local changes should fire it",
            must=False,
        )
