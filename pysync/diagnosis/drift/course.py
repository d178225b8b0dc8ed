"""What isn't as it should be in a course database: tables, guard, search_path, what hides them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final

from psycopg import errors, sql

from pysync.adoption import FoundTable, inspect, plan
from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis.drift.objects import object_findings, revision_findings
from pysync.diagnosis.drift.subscription import subscription_findings
from pysync.errors import AdoptionError
from pysync.findings import IN_COURSE, Finding, run
from pysync.migrate.lineage import COURSE
from pysync.models.course import CourseDatabaseBase
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import identities
from pysync.replication.registry import Course
from pysync.texts import Text, word
from pysync.types import COURSE_ROLE, Side

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
    names = {"tables": list(REPLICATED_TABLES)}
    others, search_path = database.execute(_QUERIES["surroundings"], names).fetchone() or ([], None)
    tables = inspect(database, "course", REPLICATED_TABLES, rows=False)
    return [
        *_copy_findings(database, course),
        *_search_path_findings(database, search_path, others),
        *(
            finding
            for role, path in database.execute(_QUERIES["own_search_paths"], names).fetchall()
            for finding in _own_path_findings(database, role, path, others)
        ),
        *subscription_findings(database, course),
        *(
            finding
            for name in REPLICATED_TABLES
            for finding in _table_findings(course, name, tables.get(name))
        ),
        *_owner_findings(database, [f"course.{name}" for name in tables]),
        *(
            Finding(
                f"table course.{name}",
                f"has row security of owners on {IN_COURSE}: replication can't write into it",
                run(f"alter table course.{name} no force row level security", IN_COURSE),
            )
            for (name,) in database.execute(_QUERIES["forced_row_security"], names).fetchall()
        ),
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


def _copy_findings(database: Connection, course: Course) -> list[Finding]:
    if not identities.is_copy(database):
        return []
    remedy = identities.to_take_over(course.course_id)
    return [Finding(f"database '{database.info.dbname}'", identities.COPIED, remedy)]


def _search_path_findings(
    database: Connection, search_path: str | None, others: list[str]
) -> Iterator[Finding]:
    """Return what keeps applications from finding the replicated tables.

    :param others: relations of the same names, each with its schema.
    """
    entries = _entries(search_path)
    for other in others:
        schema, _, name = other.partition(".")
        # One in public is in the way of whoever names no path of their own.
        if schema == "public" or schema in _before_course(entries):
            yield Finding(
                f"critical: {other}",
                f"hides the replicated table course.{name} from applications",
                f"move or drop {other} {IN_COURSE}",
            )
    if "course" not in entries:
        subject = f"search_path of database '{database.info.dbname}'"
        cause = "doesn't name schema course: applications don't find the replicated tables"
        path = '"$user", public' if search_path is None else search_path
        alter = sql.SQL("alter database {} set search_path = {}").format(
            sql.Identifier(database.info.dbname), _with_course(path)
        )
        yield Finding(subject, cause, run(alter.as_string(database), IN_COURSE))


def _own_path_findings(
    database: Connection, role: str, path: str, others: list[str]
) -> Iterator[Finding]:
    """Return what a role's own search_path keeps it from finding."""
    subject = f"search_path of role '{role}'"
    entries = _entries(path)
    alter = sql.SQL("alter role {} in database {} set search_path = {}").format(
        sql.Identifier(role), sql.Identifier(database.info.dbname), _with_course(path)
    )
    if "course" not in entries:
        cause = f"doesn't name schema course {IN_COURSE}: it doesn't find the replicated tables"
        yield Finding(subject, cause, run(alter.as_string(database), IN_COURSE))
    before = [role if entry == "$user" else entry for entry in _before_course(entries)]
    for other in others:
        schema, _, name = other.partition(".")
        if schema in before and schema != "public":
            cause = f"has {other} hide the replicated table course.{name} from it {IN_COURSE}"
            yield Finding(subject, cause, f"move or drop {other} {IN_COURSE}")


def _entries(search_path: str | None) -> list[str]:
    """Return the schemas of a setting, of which each may be quoted."""
    found = re.findall(r'"((?:[^"]|"")*)"|([^,\s]+)', search_path or "")
    return [plain or quoted.replace('""', '"') for quoted, plain in found]


def _before_course(entries: list[str]) -> list[str]:
    return entries[: entries.index("course")] if "course" in entries else entries


def _with_course(search_path: str) -> sql.Composed:
    entries = filter(None, [*_entries(search_path), "course"])
    return sql.SQL(", ").join(map(sql.Identifier, entries))


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
    lacking = sorted({c.name for c in table.columns} - set(found.columns))
    if lacking:
        stops = "replication stops at the next change of this table"
        cause = f"lacks column {', '.join(lacking)}: {stops}"
        repair = f"pysync repair {word(course.course_id)}"
        mend = run("; ".join(missing), IN_COURSE) if missing else Text("add it again")
        remedy = mend + Text(f"; then '{repair}' for its values")
        return [Finding(subject, cause, remedy)]
    return [
        Finding(subject, "isn't as pysync made it", run(statement, IN_COURSE))
        for statement in missing
    ]
