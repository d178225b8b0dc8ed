"""See what adopting a database that holds users would change."""

from dataclasses import replace
from functools import partial

from pysync.adoption.completion import plan
from pysync.adoption.found import inspect
from pysync.db.errors import translated
from pysync.lifecycle import courses, replicas
from pysync.migrate import current_revision
from pysync.migrate.lineage import COURSE
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import merge, snapshots
from pysync.types import CourseId, Progress, Side


def preview(
    portal_conninfo: str,
    course_id: CourseId,
    conninfo: str,
    progress: Progress,
    *,
    portal_conninfo_for_course: str | None = None,
    keep_owner: bool = False,
) -> merge.Outcome:
    """Count what ``courses.add(…, adopt=True)`` would do to a database's users, and do nothing.

    All its checks are made. Rows written meanwhile may count.

    :raises PysyncError: one of its kinds for everything that isn't as needed.
    """
    way_back = portal_conninfo_for_course
    with (
        courses.opened(
            portal_conninfo,
            course_id,
            conninfo,
            progress,
            way_back,
            adopt=True,
            keep_owner=keep_owner,
        ) as work,
        translated(work.subject),
    ):
        schema = "public" if current_revision(work.database, COURSE) is None else "course"
        found = inspect(work.database, schema, REPLICATED_TABLES)
        if schema == "public":
            for name in filter(found.get, REPLICATED_TABLES):
                plan(found[name], COURSE.metadata.tables[f"course.{name}"], Side.COURSE, course_id)
        columns = {name: frozenset(table.columns) for name, table in found.items()}
        queries = partial(snapshots.members, work.course)
        outcome = merge.preview(
            portal_conninfo, work.database, queries, progress, schema=schema, found=columns
        )
        return replace(
            outcome,
            taken_over=replicas.to_take_over(work),
            portal_conninfo=work.course.portal_conninfo,
        )
