"""What isn't as it should be in a course database: tables, guard, search_path, what hides them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from psycopg import errors, sql
from psycopg.rows import class_row

from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis.drift.carried import course_findings
from pysync.diagnosis.drift.fingerprint import read_fingerprint
from pysync.diagnosis.drift.objects import Compared, revision_findings
from pysync.diagnosis.drift.subscription import subscription_findings
from pysync.findings import IN_COURSE, Finding, run
from pysync.migrate.lineage import COURSE
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import identities
from pysync.replication.registry import Course
from pysync.texts import word
from pysync.types import COURSE_ROLE

_QUERIES: Final = load(__file__)


@dataclass(frozen=True)
class Drift:
    """What isn't as it should be in a course's database.

    :param findings: worst first.
    :param fingerprint: of its catalog, if nothing in that differs from what was made.
    """

    findings: list[Finding]
    fingerprint: str | None = None


def course_drift(database: Connection, course: Course, revision: str | None = None) -> Drift:
    """Return what isn't as it should be in a course's database.

    Its catalog is compared unless it still has the fingerprint under which nothing differed.

    :param revision: where it is in its lineage, if it has said so.
    :raises psycopg.Error: if the database can't be asked.
    """
    argument = word(course.course_id)
    command = f"pysync migrate course {argument}"
    if findings := revision_findings(database, COURSE, "course database", command, revision):
        return Drift(findings)
    names = {"tables": list(REPLICATED_TABLES), "name": course.replication_name}
    with database.cursor(row_factory=class_row(_Surroundings)) as cursor:
        around = cursor.execute(_QUERIES["surroundings"], names).fetchone()
    assert around is not None  # noqa: S101 - it has one row
    compared, now = Compared(), read_fingerprint(database)
    fingerprint = None if around.is_copy else now
    if now != course.catalog_fingerprint:
        from pysync.diagnosis.drift import catalog  # it takes a while to import SQLAlchemy

        compared = catalog.compare(database, course)
        # What is altered meanwhile shows the next time.
        if not compared.unaltered or read_fingerprint(database) != now:
            fingerprint = None
    findings = [
        *_copy_findings(database, course, around),
        *_search_path_findings(database, around.search_path, around.others),
        *(
            finding
            for role, path in around.own_search_paths
            for finding in _own_path_findings(database, role, path, around.others)
        ),
        *(subscription_findings(course, **around.subscription) if around.subscription else ()),
        *course_findings(database, course),
        *compared.tables,
        *(_owner_findings(database) if around.foreign else ()),
        *(
            Finding(
                f"table course.{name}",
                f"has row security of owners on {IN_COURSE}: replication can't write into it",
                run(f"alter table course.{name} no force row level security", IN_COURSE),
            )
            for name in around.forced
        ),
        *(compared.objects or ()),
    ]
    return Drift(findings, fingerprint)


@dataclass(frozen=True)
class _Surroundings:
    """What a course's database says of what is around its objects, as the query has it."""

    others: list[str]
    search_path: str | None
    is_copy: bool
    foreign: list[str]
    forced: list[str]
    own_search_paths: list[tuple[str, str]]
    subscription: dict[str, Any] | None


def _owner_findings(database: Connection) -> list[Finding]:
    names = {"tables": list(REPLICATED_TABLES)}
    with suppress(errors.InsufficientPrivilege):  # who only looks on may not read what was adopted
        found = database.execute(_QUERIES["foreign_owners"], names).fetchall()
        return [
            Finding(
                f"table course.{name}",
                f"belongs to role '{role}' rather than '{COURSE_ROLE}' {IN_COURSE}",
                run("call course.take_over()", IN_COURSE),
            )
            for name, role in found
        ]
    return []


def _copy_findings(database: Connection, course: Course, around: _Surroundings) -> list[Finding]:
    if not around.is_copy:
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
