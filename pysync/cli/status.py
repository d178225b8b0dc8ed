"""``pysync status``."""

from __future__ import annotations

from typing import Any

import typer

from pysync.cli.output import (
    Format,
    bytes_text,
    escape,
    new_table,
    print_json,
    print_table,
    printable,
    say,
)
from pysync.cli.parameters import (
    FormatOption,
    OptionalCourseArgument,
    PortalOption,
    checked,
    portal_conninfo,
)
from pysync.status import CourseStatus
from pysync.status import status as report


def status(
    context: typer.Context,
    course: OptionalCourseArgument = None,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Report how each course's replication is.

    A course that can't be reached is reported so within 3 seconds, and the others still are.
    """
    print_statuses(report(portal_conninfo(context), checked(course)), format)


def print_statuses(statuses: list[CourseStatus], format: Format) -> None:
    """Print a report as a table or as JSON."""
    if format is Format.JSON:
        print_json({"courses": [_as_json(each) for each in statuses]})
        return
    if not statuses:
        say("no courses registered")
        return
    table = new_table(
        "course",
        "state",
        "tables",
        "slot",
        "lag",
        "retained WAL",
        "errors",
        right=("tables", "lag", "retained WAL", "errors"),
    )
    for each in statuses:
        facts, slot = each.facts, each.slot
        table.add_row(
            escape(each.course_id),
            each.state.value,
            f"{facts.tables_ready}/{facts.tables_total}" if facts else "-",
            "missing" if slot is None else "active" if slot.active else "inactive",
            bytes_text(slot.lag_bytes if slot else None),
            bytes_text(slot.retained_wal_bytes if slot else None),
            str(facts.apply_errors + facts.sync_errors) if facts else "-",
        )
    print_table(table)
    for each in statuses:
        if each.cause:
            say(printable(f"{each.course_id}: {each.cause}"))


def _as_json(each: CourseStatus) -> dict[str, Any]:
    facts, slot = each.facts, each.slot
    return {
        "course_id": each.course_id,
        "state": each.state.value,
        "cause": each.cause,
        "tables_ready": facts.tables_ready if facts else None,
        "tables_total": facts.tables_total if facts else None,
        "slot_active": slot.active if slot else None,
        "lag_bytes": slot.lag_bytes if slot else None,
        "retained_wal_bytes": slot.retained_wal_bytes if slot else None,
        "apply_errors": facts.apply_errors if facts else None,
        "sync_errors": facts.sync_errors if facts else None,
    }
