"""Compare a course database's catalog with what pysync made there; it takes the models."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from pysync.adoption.completion import plan
from pysync.adoption.found import FoundTable, inspect
from pysync.adoption.types import type_fits
from pysync.db.catalog import quoted_name
from pysync.db.connections import Connection
from pysync.diagnosis.drift.objects import Compared, object_findings
from pysync.errors import AdoptionError
from pysync.findings import IN_COURSE, Finding, run
from pysync.migrate.lineage import COURSE
from pysync.models.course import CourseDatabaseBase
from pysync.models.replicated import REPLICATED_TABLES, CarriedColumn
from pysync.replication.registry import Course
from pysync.texts import Text, quoted, word
from pysync.types import Side

_MEMBERSHIP_CHECK: Final = "pysync_this_course"


def compare(database: Connection, course: Course) -> Compared:
    """Compare a course database's tables and other objects with what was made."""
    found = inspect(database, "course", REPLICATED_TABLES, rows=False)
    tables = [
        finding
        for name in REPLICATED_TABLES
        for finding in _table_findings(course, name, found.get(name))
    ]
    reinstall = f"pysync migrate course --reinstall {word(course.course_id)}"
    return Compared(tables, object_findings(database, COURSE, IN_COURSE, reinstall))


def _table_findings(course: Course, name: str, found: FoundTable | None) -> list[Finding]:
    """Compare a replicated table by what replication needs: the rest is the site's."""
    subject = f"table course.{name}"
    if found is None:
        return [Finding(subject, f"is missing {IN_COURSE}", "restore it, then 'pysync resync'")]
    ours = tuple(r for r in found.restrictions if r.name != _MEMBERSHIP_CHECK)
    table = CourseDatabaseBase.metadata.tables[f"course.{name}"]
    try:
        # A relay's has another key, and no restrictions.
        missing = (
            []
            if course.is_relay
            else plan(replace(found, restrictions=ours), table, Side.COURSE).complete
        )
    except AdoptionError as error:
        cause = f"column '{error.column}': {error.cause}" if error.column else error.cause
        return [Finding(subject, cause, error.remedy or f"change it {IN_COURSE}")]
    own = [column for column in course.carried if column.table_name == name]
    sent = {c.name for c in table.columns}.union(column.column_name for column in own)
    lacking = sorted(sent - set(found.columns))
    if lacking:
        stops = "replication stops at the next change of this table"
        cause = f"lacks column {', '.join(lacking)}: {stops}"
        repair = f"pysync repair {word(course.course_id)}"
        mend = run("; ".join(missing), IN_COURSE) if missing else Text("add it again")
        remedy = mend + Text(f"; then '{repair}' for its values")
        return [Finding(subject, cause, remedy)]
    return [
        *(
            Finding(subject, "isn't as pysync made it", run(statement, IN_COURSE))
            for statement in missing
        ),
        *(() if course.is_relay else _altered(found, own)),
    ]


def _altered(found: FoundTable, own: Sequence[CarriedColumn]) -> Iterator[Finding]:
    """Return which columns of the portal's own a course has altered, so that values don't fit."""
    for column in own:
        name, present = column.column_name, found.columns[column.column_name]
        if not type_fits(present.type, column.type, Side.COURSE):
            alter = f"alter table course.{found.name} alter column {quoted_name(name)} type"
            cause = f"is {quoted(present.type)} {IN_COURSE}, and {column.type} on the portal"
            remedy = run(f"{alter} {column.type}", IN_COURSE)
            yield Finding(f"column '{name}' of course.{found.name}", cause, remedy)
