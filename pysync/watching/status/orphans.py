"""Find slots, publications and subscriptions of pysync's that belong to no course."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from contextlib import closing
from typing import Final

import psycopg

from pysync.db.catalog import quoted_name
from pysync.db.connections import Connection, fetch_value, parse
from pysync.db.queries import load
from pysync.errors import PysyncError
from pysync.findings import ON_PORTAL, run
from pysync.replication.databases import connect_course
from pysync.replication.polling import server_of
from pysync.replication.registry import Course
from pysync.texts import Text, word
from pysync.watching.status.model import Orphan
from pysync.watching.status.observation import Observation

_QUERIES: Final = load(__file__)


def find_orphans(portal: Connection) -> list[Orphan]:
    """Return slots and publications of pysync's name in this database that belong to no course."""
    database = portal.info.dbname
    found = []
    for name, retained, course_id in portal.execute(_QUERIES["orphan_slots"]).fetchall():
        cause = f"slot '{name}' belongs to no registered course and keeps WAL on the portal"
        remedy = run(f"select pg_drop_replication_slot('{name}')", ON_PORTAL)
        if course_id is not None:
            cause = f"slot '{name}' is what an interrupted merge left, and keeps WAL on the portal"
            remedy = Text(f"run 'pysync resync {word(course_id)}'")
        found.append(Orphan("slot", name, database, cause, remedy, retained))
    for (name,) in portal.execute(_QUERIES["orphan_publications"]).fetchall():
        cause = f"publication '{name}' belongs to no registered course"
        drop = run(f"drop publication {quoted_name(name)}", ON_PORTAL)
        found.append(Orphan("publication", name, database, cause, drop))
    return found


def subscriptions_without_course(seen: Sequence[Observation]) -> list[Orphan]:
    """Return subscriptions on course servers that lead to this portal and belong to no course.

    Those in a course's own database count wherever they lead: they write into its tables.
    """
    found: dict[tuple[str, str], Orphan] = {}
    servers = defaultdict[Hashable, list[Course]](list)
    for each in seen:
        servers[server_of(each.course.conninfo)].append(each.course)
    for asked in seen:
        courses = servers[server_of(asked.course.conninfo)]
        for name, database in asked.strangers:
            own = any(parse(each.conninfo).get("dbname") == database for each in courses)
            if (name, database) in found or not (
                own or any(_leads_here(each, name) for each in courses)
            ):
                continue
            where = f"in database '{database}'"
            cause = f"subscription '{name}' {where} belongs to no registered course"
            own_name = quoted_name(name)
            drop = (
                f"alter subscription {own_name} disable; alter subscription {own_name} set "
                f"(slot_name = none); drop subscription {own_name}"
            )
            found[name, database] = Orphan("subscription", name, database, cause, run(drop, where))
    return list(found.values())


def _leads_here(course: Course, name: str) -> bool:
    """Return whether a subscription connects to where this course's does; only superusers see."""
    try:
        with closing(connect_course(course.conninfo, connect_timeout_seconds=2)) as database:
            query = "select subconninfo from pg_catalog.pg_subscription where subname = %s"
            theirs = fetch_value(database, query, name)
        return _same_database(theirs or "", course.portal_conninfo)
    except (PysyncError, psycopg.Error):
        return False


def _same_database(one: str, other: str) -> bool:
    """Return whether two conninfo strings lead to the same place, as far as they say."""
    ours, theirs = parse(one), parse(other)
    return all(ours.get(key) == theirs.get(key) for key in ("host", "hostaddr", "port", "dbname"))
