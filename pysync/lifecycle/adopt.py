"""See what adopting a database that holds users would change."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

from pysync.adoption import FoundTable, Side, inspect, plan
from pysync.db.connections import Connection, connect
from pysync.db.errors import translated
from pysync.diagnosis import checks
from pysync.lifecycle import courses
from pysync.migrate import current_revision
from pysync.migrate.lineage import COURSE
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import merge, registry, snapshots
from pysync.replication.merge import Comparison, Differences
from pysync.types import CourseId, Progress


def preview(
    portal_conninfo: str,
    course_id: CourseId,
    conninfo: str,
    progress: Progress,
    *,
    portal_conninfo_for_course: str | None = None,
) -> Comparison:
    """Count what ``courses.add(…, adopt=True)`` would do to a database's users, and do nothing.

    All its checks are made. Rows written meanwhile may count.

    :raises PysyncError: one of its kinds for everything that isn't as needed.
    """
    with (
        closing(registry.connect_portal(portal_conninfo)) as portal,
        closing(connect(conninfo)) as database,
        closing(connect(portal_conninfo)) as reader,
        translated(f"course '{course_id}'"),
    ):
        subscriber_conninfo = checks.portal_conninfo_for_course(portal, portal_conninfo_for_course)
        course, registered = courses.prepare(
            portal, database, course_id, conninfo, subscriber_conninfo
        )
        courses.check(
            portal,
            database,
            replace(course, adopts=True),
            subscriber_conninfo,
            progress,
            registered=registered,
        )
        schema = "public" if current_revision(database, COURSE) is None else "course"
        tables = {name: inspect(database, schema, name) for name in REPLICATED_TABLES}
        for name, found in tables.items():
            if found is not None and schema == "public":
                declared = COURSE.metadata.tables[f"course.{name}"]
                plan(found, declared, Side.COURSE, course_id)
        snapshots.begin(reader)
        for name, query in snapshots.members(course_id).items():
            progress.step(f"comparing {name}")
            merge.stage(reader, database, name, query)
        return _compare(database, schema, tables)


def _compare(database: Connection, schema: str, tables: dict[str, FoundTable | None]) -> Comparison:
    differences, keys = [], []
    for name, found in tables.items():
        if found is None:
            differences.append(Differences(name, merge.count_staged(database, name), 0, 0))
            continue
        present = frozenset(found.columns)
        differences.append(merge.compare(database, name, schema=schema, present=present))
        keys.extend(merge.foreign_keys(database, name, schema))
    renamed = merge.count_renamed(database, schema) if tables["auth_user"] else 0
    return Comparison(differences, keys, renamed)
