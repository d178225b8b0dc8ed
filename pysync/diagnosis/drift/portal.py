"""What isn't as it should be on the portal: triggers, functions, publications, the revision."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from psycopg import errors, sql
from psycopg.rows import class_row

from pysync.adoption.found import inspect
from pysync.adoption.types import type_fits
from pysync.db.catalog import quoted_name
from pysync.db.connections import Connection
from pysync.db.queries import load
from pysync.diagnosis.drift.carried import carried_findings
from pysync.diagnosis.drift.membership import membership_findings
from pysync.diagnosis.drift.objects import object_findings, revision_findings
from pysync.findings import ON_PORTAL, Finding, run
from pysync.migrate.lineage import PORTAL
from pysync.models.replicated import REPLICATED, REPLICATED_TABLES, Membership
from pysync.replication.publications import published, rows_of
from pysync.replication.registry import Course
from pysync.texts import Text, quoted, word
from pysync.types import Side


def portal_findings(portal: Connection) -> list[Finding]:
    """Return what concerns every course."""
    if findings := revision_findings(portal, PORTAL, "portal", "pysync migrate"):
        # What was recorded is what another revision made.
        return findings
    return [
        *_source_findings(portal),
        *carried_findings(portal),
        *membership_findings(portal),
        *(object_findings(portal, PORTAL, ON_PORTAL, "pysync migrate portal --reinstall") or []),
    ]


def _source_findings(portal: Connection) -> Iterator[Finding]:
    """Return what applications did to their own tables that their copies can't follow."""
    names = {"tables": list(REPLICATED_TABLES)}
    found = inspect(portal, "public", REPLICATED_TABLES, rows=False)
    for table in REPLICATED:
        columns = found[table.name].columns if table.name in found else {}
        for column, declared in ((each.name, each.type) for each in table.described):
            if column == "course_id" and table.membership is not Membership.ENROLLMENT:
                continue  # the fan-out alone has it
            present = columns.get(column)
            alter = f"alter table public.{table.name} alter column {quoted_name(column)} type"
            subject = f"column '{column}' of public.{table.name}"
            if present is None:
                cause = f"is missing {ON_PORTAL}: whoever enrolls, or changes a user, fails"
                yield Finding(subject, cause, f"bring it back {ON_PORTAL}, as {declared}")
            elif not type_fits(present.type, declared, Side.PORTAL):
                cause = (
                    f"is {quoted(present.type)} {ON_PORTAL}, and {declared} in courses: a value "
                    "that doesn't fit there is refused here"
                )
                yield Finding(subject, cause, run(f"{alter} {declared}", ON_PORTAL))
    for child, parent in portal.execute(_QUERIES["children"], names).fetchall():
        cause = f"inherits from public.{parent} {ON_PORTAL}: courses never get its rows"
        mend = run(f"alter table {child} no inherit public.{parent}", ON_PORTAL)
        yield Finding(f"table {child}", cause, mend)
    with suppress(errors.InsufficientPrivilege):
        for row in portal.execute(_QUERIES["hiding_policies"], names).fetchall():
            yield _hiding(*row)


def _hiding(table: str, policy: str | None, condition: str | None, check: str | None) -> Finding:
    cause = (
        f"of {table} hides rows from pysync's triggers {ON_PORTAL}: what they can't see is refused"
    )
    if policy is None:
        return Finding("row security", cause, "run 'pysync migrate portal --reinstall'")
    alter = f"alter policy {quoted_name(policy)} on {table}"
    for clause, text in (("using", condition), ("with check", check)):
        alter += f" {clause} (current_user = 'pysync_fan_out' or {text})" if text else ""
    return Finding(f"policy '{policy}'", cause, run(alter, ON_PORTAL))


@dataclass(frozen=True)
class _Published:
    """A table of a publication."""

    publication: str
    publishes_changes: bool
    table: str | None
    columns: list[str] | None
    row_filter: str | None


_QUERIES: Final = load(__file__)


def publication_findings(portal: Connection, courses: Sequence[Course]) -> dict[str, list[Finding]]:
    """Return what is wrong with each course's publication, by course id."""
    found: dict[str, list[_Published]] = defaultdict(list)
    names = [course.replication_name for course in courses]
    with portal.cursor(row_factory=class_row(_Published)) as cursor:
        for each in cursor.execute(_QUERIES["published_tables"], {"names": names}):
            found[each.publication].append(each)
    return {
        course.course_id: _publication_findings(portal, course, found[course.replication_name])
        for course in courses
    }


def _publication_findings(
    portal: Connection, course: Course, found: list[_Published]
) -> list[Finding]:
    name = course.replication_name
    subject = f"publication '{name}'"
    if not found:
        # Made anew it would have replication go on, without what was committed meanwhile.
        resync = f"run 'pysync resync {word(course.course_id)}'"
        return [Finding(subject, f"is missing {course.on_publisher}: changes are lost", resync)]
    wrong = []
    if not found[0].publishes_changes:
        set_publish = sql.SQL("alter publication {} set (publish = 'insert, update, delete')")
        mend = _run(portal, set_publish.format(sql.Identifier(name)), course)
        wrong.append(Finding(subject, "doesn't publish insert, update and delete", mend))

    def remedy() -> Text:
        set_table = sql.SQL("alter publication {} set table {}").format(
            sql.Identifier(name), published(course)
        )
        repair = f"pysync repair {word(course.course_id)}"
        return _run(portal, set_table, course) + Text(f"; then '{repair}' for what was missed")

    by_table = {each.table: each for each in found if each.table}
    for table in course.published:
        each = by_table.pop(f"course.{table.name}", None)
        if each is None:
            wrong.append(Finding(subject, f"lacks table course.{table.name}", remedy()))
            continue
        if not _is_filter_of(course, each.row_filter):
            is_now = (
                f"has row filter {quoted(each.row_filter)}"
                if each.row_filter
                else "has no row filter"
            )
            wrong.append(Finding(subject, f"{is_now} on course.{table.name}", remedy()))
        if difference := _column_difference(each.columns, table.columns):
            wrong.append(
                Finding(subject, f"{difference} of course.{table.name}", "run 'pysync migrate'")
            )
    wrong.extend(
        Finding(subject, f"publishes {table}, which isn't the course's", remedy())
        for table in sorted(filter(None, by_table))
    )
    if course.unfilled:
        unfilled = f"isn't yet what {', '.join(course.unfilled)} {ON_PORTAL} says"
        wrong.append(Finding(f"course '{course.course_id}'", unfilled, "run 'pysync migrate'"))
    return wrong


def _is_filter_of(course: Course, row_filter: str | None) -> bool:
    """Tell whether a row filter is a course's, as the server spells it or in other words."""
    ours = rows_of(course).as_string(None)
    literal = sql.Literal(str(course.course_id)).as_string(None).strip()
    spelled = f"((course_id)::text = {literal}::text)"
    if row_filter is None or (row_filter == spelled and not course.carries):
        return row_filter is not None
    from pysync.diagnosis.drift import trees  # it takes a while to import a parser

    return bool(trees.expression(row_filter) == trees.expression(ours))


def _column_difference(found: list[str] | None, expected: Sequence[str]) -> str | None:
    if found is None:
        return "publishes all columns"
    missing, extra = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    if missing:
        return f"lacks column {', '.join(missing)}"
    return f"publishes column {', '.join(extra)}" if extra else None


def _run(portal: Connection, statement: sql.Composed, course: Course) -> Text:
    return run(statement.as_string(portal), course.on_publisher)
