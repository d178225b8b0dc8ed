"""What isn't as it should be in a course database: tables, guard, search_path, what hides them."""

from contextlib import suppress
from dataclasses import replace
from typing import Final

from psycopg import errors, sql

from pysync.adoption import FoundTable, Side, inspect, plan
from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis.drift.objects import object_findings, revision_findings
from pysync.errors import AdoptionError
from pysync.findings import IN_COURSE, Finding, run
from pysync.migrate.lineage import COURSE
from pysync.models.course import CourseDatabaseBase
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication.registry import Course
from pysync.texts import Text, word
from pysync.types import COURSE_ROLE

_MEMBERSHIP_CHECK: Final = "pysync_this_course"
_QUERIES: Final = load(__file__)


def course_findings(database: Connection, course: Course) -> list[Finding]:
    """Return what isn't as it should be in a course's database, worst first.

    :raises psycopg.Error: if the database can't be asked.
    """
    argument = word(course.course_id)
    command = f"pysync migrate course {argument}"
    reinstall = f"pysync migrate course --reinstall {argument}"
    if findings := revision_findings(database, COURSE, "course database", command):
        return findings
    shadowing, search_path = database.execute(
        _QUERIES["surroundings"], {"tables": list(REPLICATED_TABLES)}
    ).fetchone() or ([], None)
    tables = inspect(database, "course", REPLICATED_TABLES, rows=False)
    return [
        *(_hidden(name) for name in shadowing),
        *_search_path_findings(database, search_path),
        *(
            finding
            for name in REPLICATED_TABLES
            for finding in _table_findings(course, name, tables.get(name))
        ),
        *_owner_findings(database, [f"course.{name}" for name in tables]),
        *object_findings(database, COURSE, IN_COURSE, reinstall),
    ]


def _owner_findings(database: Connection, tables: list[str]) -> list[Finding]:
    with suppress(errors.InsufficientPrivilege):  # who only looks on may not read what was adopted
        found = database.execute(_QUERIES["foreign_owners"], {"tables": tables}).fetchall()
        return [
            Finding(
                f"table course.{name}",
                f"belongs to role '{role}' rather than '{COURSE_ROLE}' {IN_COURSE}",
                run("call course.take_over()", IN_COURSE),
            )
            for name, role in found
        ]
    return []


def _hidden(name: str) -> Finding:
    return Finding(
        f"critical: public.{name}",
        f"hides the replicated table course.{name} from applications",
        f"move or drop public.{name} {IN_COURSE}",
    )


def _search_path_findings(database: Connection, search_path: str | None) -> list[Finding]:
    entries = [entry.strip().strip('"') for entry in (search_path or "").split(",")]
    if "course" in entries:
        return []
    statement = sql.SQL("alter database {} set search_path = {}, course").format(
        sql.Identifier(database.info.dbname), sql.SQL(search_path or '"$user", public')
    )
    subject = f"search_path of database '{database.info.dbname}'"
    cause = "doesn't name schema course: applications don't find the replicated tables"
    return [Finding(subject, cause, run(statement.as_string(database), IN_COURSE))]


def _table_findings(course: Course, name: str, found: FoundTable | None) -> list[Finding]:
    """Compare a replicated table by what replication needs: the rest is the site's."""
    subject = f"table course.{name}"
    if found is None:
        return [Finding(subject, f"is missing {IN_COURSE}", "restore it, then 'pysync resync'")]
    ours = tuple(r for r in found.restrictions if r.name != _MEMBERSHIP_CHECK)
    table = CourseDatabaseBase.metadata.tables[f"course.{name}"]
    try:
        missing = plan(replace(found, restrictions=ours), table, Side.COURSE).complete
    except AdoptionError as error:
        cause = f"column '{error.column}': {error.cause}" if error.column else error.cause
        return [Finding(subject, cause, error.remedy or f"change it {IN_COURSE}")]
    lacking = sorted({c.name for c in table.columns} - set(found.columns))
    if lacking:
        stops = "replication stops at the next change of this table"
        cause = f"lacks column {', '.join(lacking)}: {stops}"
        repair = f"pysync repair {word(course.course_id)}"
        mend = run("; ".join(missing), IN_COURSE)
        remedy = mend + Text(f"; then '{repair}' for its values")
        return [Finding(subject, cause, remedy)]
    return [
        Finding(subject, "isn't as pysync made it", run(statement, IN_COURSE))
        for statement in missing
    ]
