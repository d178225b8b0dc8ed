"""Find slots, publications and subscriptions of pysync's that belong to no course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

import psycopg

from pysync.db.connections import Connection, connect, fetch_value, parse
from pysync.errors import PysyncError
from pysync.findings import ON_PORTAL, run
from pysync.replication.registry import Course
from pysync.types import CourseId
from pysync.watching.status.looking import Seen
from pysync.watching.status.model import Orphan


def find_orphans(portal: Connection) -> list[Orphan]:
    """Return slots and publications of pysync's name in this database that belong to no course."""
    database = portal.info.dbname
    slots = portal.execute(
        "select slot_name::text,"
        " greatest(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn),"
        "   0)::bigint"
        " from pg_catalog.pg_replication_slots"
        # A resync has a temporary one for a while.
        " where database = current_database() and slot_name like 'pysync\\_%' and not temporary"
        " and slot_name not in (select replication_name from pysync.course) order by 1"
        if not fetch_value(portal, "select pg_catalog.pg_is_in_recovery()")
        else "select slot_name::text, null::bigint from pg_catalog.pg_replication_slots where false"
    ).fetchall()
    publications = portal.execute(
        # A probe is there for a moment while a course is added.
        "select pubname::text from pg_catalog.pg_publication"
        " where pubname like 'pysync\\_%' and pubname not like '%\\_probe'"
        " and pubname not in (select replication_name from pysync.course) order by 1"
    ).fetchall()
    return [
        *(
            Orphan(
                "slot",
                name,
                database,
                f"slot '{name}' belongs to no registered course and keeps WAL on the portal",
                run(f"select pg_drop_replication_slot('{name}')", ON_PORTAL),
                retained,
            )
            for name, retained in slots
        ),
        *(
            Orphan(
                "publication",
                name,
                database,
                f"publication '{name}' belongs to no registered course",
                run(f"drop publication {name}", ON_PORTAL),
            )
            for (name,) in publications
        ),
    ]


def subscriptions_without_course(
    asked: Sequence[Course], seen: Mapping[CourseId, Seen]
) -> list[Orphan]:
    """Return subscriptions on course servers that lead to this portal and belong to no course.

    Those in a course's own database count wherever they lead: they write into its tables.
    """
    found: dict[tuple[str, str], Orphan] = {}
    for course in asked:
        for name, database in seen[course.course_id].strangers:
            own = parse(course.conninfo).get("dbname") == database
            if (name, database) in found or not (own or _leads_here(course, name)):
                continue
            found[name, database] = Orphan(
                "subscription",
                name,
                database,
                f"subscription '{name}' in database '{database}' belongs to no registered course",
                run(
                    f"alter subscription {name} disable; alter subscription {name} set "
                    f"(slot_name = none); drop subscription {name}",
                    f"in database '{database}'",
                ),
            )
    return list(found.values())


def _leads_here(course: Course, name: str) -> bool:
    """Return whether a subscription connects to where this course's does; only superusers see."""
    try:
        with closing(connect(course.conninfo, connect_timeout_seconds=2)) as database:
            row = database.execute(
                "select subconninfo from pg_catalog.pg_subscription where subname = %s", (name,)
            ).fetchone()
        theirs, ours = parse(row[0] if row else ""), parse(course.portal_conninfo)
    except (PysyncError, psycopg.Error):
        return False
    return all(theirs.get(key) == ours.get(key) for key in ("host", "hostaddr", "port", "dbname"))
