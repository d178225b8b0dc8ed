"""A course's server and database: settings, tables, triggers, foreign keys, clock, roles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from pysync.db.connections import Connection, fetch_value
from pysync.diagnosis.checks import check_course
from pysync.diagnosis.drift import course_findings
from pysync.errors import PysyncError
from pysync.findings import IN_COURSE, Finding, run
from pysync.models.replicated import PUBLISHED_TABLES
from pysync.replication.registry import Course
from pysync.watching.doctor.portal import unindexed
from pysync.watching.status.portal import Clock

CLOCK_SECONDS: Final = 2.0
"""Difference between the servers' clocks from which it is worth a word."""

Judged = tuple[bool, bool, Finding]
"""Whether it is about the server rather than the database, whether it must be mended, what."""


def examine_course(database: Connection, course: Course, *, clock: Clock) -> list[Judged]:
    """Examine a course's database and its server.

    :param clock: the portal's.
    """
    return [
        *_server(database),
        *_clock(database, clock),
        *_our_role(database),
        *((False, True, finding) for finding in course_findings(database, course)),
        *_triggers(database),
        *((False, False, finding) for finding in unindexed(database, "course", IN_COURSE)),
    ]


def _server(database: Connection) -> Iterator[Judged]:
    try:
        warnings = check_course(database, subscription_is_there=False)
    except PysyncError as error:
        # What is there runs already; it is the next one that would fail.
        finding = Finding(
            "course server",
            f"has no room for one more course: {error.message}",
            error.remedy or "raise the setting",
        )
        yield True, _too_small(database), finding
        return
    for warning in warnings:
        cause, _, remedy = warning.partition("; set it ")
        yield (
            True,
            False,
            Finding("course server", cause.removeprefix("course server "), f"set it {remedy}"),
        )


def _too_small(database: Connection) -> bool:
    """Return whether the server can't even run the subscriptions that it has."""
    return bool(
        fetch_value(
            database,
            "select count(*) > current_setting('max_logical_replication_workers')::int"
            " from pg_catalog.pg_subscription where subenabled",
        )
    )


def _clock(database: Connection, clock: Clock) -> Iterator[Judged]:
    before = time.monotonic()
    theirs = fetch_value(database, "select clock_timestamp()")
    middle = (before + time.monotonic()) / 2
    difference = (theirs - clock.read_at).total_seconds() - (middle - clock.monotonic_seconds)
    if abs(difference) >= CLOCK_SECONDS:
        yield (
            True,
            False,
            Finding(
                "clock of the course server",
                f"is {abs(difference):.1f} s {'ahead of' if difference > 0 else 'behind'} the "
                "portal's: times that both write can't be compared",
                "synchronize both servers' clocks (NTP)",
            ),
        )


def _our_role(database: Connection) -> Iterator[Judged]:
    name, is_super = database.execute(
        "select rolname::text, rolsuper from pg_catalog.pg_roles where rolname = current_user"
    ).fetchone() or ("", True)
    if not is_super:
        yield (
            True,
            False,
            Finding(
                f"role '{name}', which pysync uses,",
                "isn't a superuser of the course server: it can't try pending changes for the "
                "cause of a standstill",
                "connect as a superuser for that",
            ),
        )


def _triggers(database: Connection) -> Iterator[Judged]:
    rows = database.execute(
        "select c.relname::text, t.tgname::text from pg_catalog.pg_trigger t"
        " join pg_catalog.pg_class c on c.oid = t.tgrelid"
        " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'course' and c.relname = any (%s)"
        " and t.tgenabled in ('A', 'R') and not t.tgisinternal"
        # Ours are compared with what they should be.
        " and t.tgname not like 'pysync\\_%%' order by 1, 2",
        (list(PUBLISHED_TABLES),),
    ).fetchall()
    for table, name in rows:
        yield (
            False,
            False,
            Finding(
                f"trigger '{name}' on course.{table}",
                f"fires for replicated rows {IN_COURSE}: an error in it stops replication",
                run(f'alter table course.{table} enable trigger "{name}"', IN_COURSE)
                + " if only local changes should fire it",
            ),
        )
