"""``pysync status``."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from pysync.cli.output import (
    Format,
    bytes_text,
    print_json,
    print_raw,
    print_rows,
    say,
    seconds_text,
)
from pysync.cli.parameters import OptionalCourseArgument, OptionalPortal, checked, required
from pysync.errors import PysyncError
from pysync.texts import Text
from pysync.watching.status import Level, Report, failover, report
from pysync.watching.status.document import document
from pysync.watching.status.nagios import check


class StatusFormat(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"
    PROMETHEUS = "prometheus"
    HTML = "html"


def _limit(unit: str, what: str) -> Any:
    return typer.Option(min=0, help=f"With --check: {what}.", metavar=unit)


_LagBytes = Annotated[int | None, _limit("bytes", "WAL not applied")]
_LagSeconds = Annotated[float | None, _limit("seconds", "age of the newest mark in the course")]
_RetainedBytes = Annotated[int | None, _limit("bytes", "WAL kept for a course")]
_LossSeconds = Annotated[float | None, _limit("seconds", "time left to a slot's loss")]


def status(  # noqa: PLR0917 - Typer reads options from parameters
    portal: OptionalPortal,
    course: OptionalCourseArgument = None,
    nagios: Annotated[
        bool, typer.Option("--check", help="Print one line, end with 0 to 3, as Nagios plugins do.")
    ] = False,
    format: Annotated[
        StatusFormat, typer.Option("--format", help="A table, JSON, metrics, or a page.")
    ] = StatusFormat.TABLE,
    warning_lag_bytes: _LagBytes = None,
    critical_lag_bytes: _LagBytes = None,
    warning_lag_seconds: _LagSeconds = None,
    critical_lag_seconds: _LagSeconds = None,
    warning_retained_bytes: _RetainedBytes = None,
    critical_retained_bytes: _RetainedBytes = None,
    warning_loss_seconds: _LossSeconds = None,
    critical_loss_seconds: _LossSeconds = None,
) -> None:
    """Report how replication is, with cause and remedy.

    A course that can't be reached is reported so within 3 seconds, and the others still are.
    """
    if nagios:
        thresholds = {
            "lag_bytes": (warning_lag_bytes, critical_lag_bytes),
            "lag_seconds": (warning_lag_seconds, critical_lag_seconds),
            "retained_wal_bytes": (warning_retained_bytes, critical_retained_bytes),
            "seconds_to_loss": (warning_loss_seconds, critical_loss_seconds),
        }
        try:
            level, line = check(report(required(portal), checked(course)), thresholds)
        except PysyncError as error:
            level, line = Level.UNKNOWN, f"PYSYNC UNKNOWN - {error}".replace("|", "/")
        say(line)
        raise typer.Exit(int(level))
    print_report(report(required(portal), checked(course)), format)


def print_report(found: Report, format: StatusFormat | Format) -> None:
    """Print a report in one of its formats."""
    match StatusFormat(format.value):
        case StatusFormat.JSON:
            print_json(document(found))
        case StatusFormat.PROMETHEUS:
            from pysync.watching.status.metrics import prometheus_text

            print_raw(prometheus_text(found))
        case StatusFormat.HTML:
            from pysync.watching.serving.page import static_page

            print_raw(static_page(found))
        case StatusFormat.TABLE:
            _print_table(found)


def _print_table(found: Report) -> None:
    if found.unclaimed:
        say(found.unclaimed.text)
    rows: list[tuple[object, ...]] = []
    notes = []
    for each in found.courses:
        errors = None if each.apply_errors is None else each.apply_errors + (each.sync_errors or 0)
        copied = "" if each.copied_percent is None else f" {each.copied_percent:.0f}%"
        rows.append(
            (
                each.course_id,
                f"{each.state.value}{copied}",
                None if each.tables_total is None else f"{each.tables_ready}/{each.tables_total}",
                {None: "missing", True: "active", False: "inactive"}[each.slot_active],
                bytes_text(each.lag_bytes),
                seconds_text(each.lag_seconds),
                bytes_text(each.retained_wal_bytes),
                errors,
            )
        )
        if each.cause:
            cause = Text.plain(f"{each.course_id}: {each.cause}")
            notes.append(cause + "; " + Text(each.remedy) if each.remedy else cause)
    notes += failover.unready(found)
    for orphan in found.orphans:
        retained = bytes_text(orphan.retained_wal_bytes)
        rows.append((orphan.name, "orphaned", None, orphan.kind, "-", "-", retained, None))
        notes.append(Text.plain(f"{orphan.name}: {orphan.cause}; ") + Text(orphan.remedy))
    if found.carried:
        notes.append(Text.plain(f"columns of the portal's own: {', '.join(found.carried)}"))
    print_rows(
        Format.TABLE,
        {},
        ("course", "state", "tables", "slot", "lag", "behind", "WAL kept", "errors"),
        rows,
        right=("tables", "lag", "behind", "WAL kept", "errors"),
        whole=("state", "slot"),
        none="no courses registered",
        notes=notes,
    )
