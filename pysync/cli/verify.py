"""``pysync verify``, ``repair`` and ``rebuild``."""

from __future__ import annotations

import shlex
from typing import Annotated, Any, Final

import typer

from pysync import verification
from pysync.cli.output import (
    Format,
    escape,
    new_table,
    print_json,
    print_table,
    printable,
    say,
    steps,
)
from pysync.cli.parameters import (
    CourseArgument,
    FormatOption,
    OptionalCourseArgument,
    PortalOption,
    checked,
    portal_conninfo,
)
from pysync.models.replicated import REPLICATED_TABLES
from pysync.types import course_id
from pysync.verification import Difference, Kind, Place, Repair, Verification
from pysync.verification.verify import JOBS

SHOWN: Final = 20
"""Differences that a table for people lists per course; JSON has them all."""

ValuesOption = Annotated[
    bool,
    typer.Option("--show-values", help="Show the values of columns that differ: personal data."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done and change nothing.")
]


def verify(
    context: typer.Context,
    courses: Annotated[
        list[str] | None,
        typer.Argument(metavar="COURSE_ID", help="The courses' ids; all if left out."),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", metavar="N", min=1, max=64, help="Courses at a time.")
    ] = JOBS,
    show_values: ValuesOption = False,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Compare courses with the portal's own tables, every row and every replicated column.

    Safe while both sides are written to. Ends with status 1 if a row differs, or if a course
    couldn't be compared.
    """
    with steps() as progress:
        found = verification.verify(
            portal_conninfo(context),
            [course_id(each) for each in courses or ()],
            progress,
            jobs=jobs,
            with_values=show_values,
        )
    if format is Format.JSON:
        print_json({"courses": [_as_json(each) for each in found]})
    else:
        _print(found)
    if not all(each.clean for each in found):
        raise typer.Exit(1)


def repair(
    context: typer.Context,
    course: CourseArgument,
    dry_run: DryRunOption = False,
    show_values: ValuesOption = False,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Mend the rows of a course that differ, on the portal or in the course, while it streams.

    Columns and rows that the course added aren't touched. Ends with status 1 if something differs
    afterwards.
    """
    with steps() as progress:
        done = verification.repair(
            portal_conninfo(context),
            course_id(course),
            progress,
            dry_run=dry_run,
            with_values=show_values,
        )
    if format is Format.JSON:
        print_json(
            {
                "course_id": course,
                "dry_run": dry_run,
                "mended": [_difference_json(each) for each in done.mended],
                "unsettled": done.unsettled,
                "after": _as_json(done.after) if done.after else None,
            }
        )
    else:
        _print_repair(course, done, dry_run=dry_run)
    if done.unsettled or (done.after and not done.after.clean):
        raise typer.Exit(1)


def _print_repair(course: str, done: Repair, *, dry_run: bool) -> None:
    count = len(done.mended)
    for each in done.mended[:SHOWN]:
        say(f"{_line(each)}: {_action(each, dry_run=dry_run)}")
    if count > SHOWN:
        say(f"… and {count - SHOWN:,} more; --format json has them all")
    if count:
        outcome = "would be mended, nothing was changed" if dry_run else "mended"
        say(f"course '{course}': {_rows(count)} {outcome}")
    elif done.unsettled:
        say(f"course '{course}': nothing to mend, but {_rows(done.unsettled)} couldn't be settled")
    else:
        say(f"course '{course}' equals the portal: nothing to mend")
    if done.after and not done.after.clean:
        _print([done.after])


def rebuild(
    context: typer.Context,
    course: OptionalCourseArgument = None,
    dry_run: DryRunOption = False,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Make the fan-out what the portal's own tables say, after a restore without triggers.

    Only rows that are wrong are written, in batches; applications go on meanwhile.
    """
    with steps() as progress:
        done = verification.rebuild(
            portal_conninfo(context), checked(course), progress, dry_run=dry_run
        )
    if format is Format.JSON:
        print_json(
            {
                "dry_run": dry_run,
                "courses": [
                    {
                        "course_id": each.course_id,
                        "rows": {table: each.rows.get(table, 0) for table in REPLICATED_TABLES},
                    }
                    for each in done
                ],
            }
        )
        return
    for each in done:
        count = sum(each.rows.values())
        verb = "would be mended, nothing was changed" if dry_run else "mended"
        say(f"course '{each.course_id}': {_rows(count)} of the fan-out {verb}")
    if not done:
        say("no courses registered")


def _print(found: list[Verification]) -> None:
    if not found:
        say("no courses registered")
        return
    numbers = ("users", "profiles", "enrollments", "differences")
    table = new_table("course", "result", *numbers, right=numbers)
    for each in found:
        counts = [
            f"{each.rows[name]:,}{_wrong(each, name)}" if name in each.rows else "-"
            for name in REPLICATED_TABLES
        ]
        total = "-" if each.error else f"{len(each.differences):,}"
        table.add_row(escape(each.course_id), _result(each), *counts, total)
    print_table(table)
    for each in found:
        _print_causes(each)


def _wrong(each: Verification, table: str) -> str:
    count = sum(difference.table == table for difference in each.differences)
    return f" ({count:,} wrong)" if count else ""


def _result(each: Verification) -> str:
    if each.error:
        return "not compared"
    if each.differences:
        return "differs"
    return "unsettled" if each.unsettled else "equal"


def _print_causes(each: Verification) -> None:
    name = printable(each.course_id)
    if each.error:
        say(f"{name}: {each.error}")
    for difference in each.differences[:SHOWN]:
        say(f"{name}: {_line(difference)}")
    if len(each.differences) > SHOWN:
        say(f"{name}: … and {len(each.differences) - SHOWN:,} more; --format json has them all")
    if each.unsettled:
        say(
            f"{name}: {_rows(each.unsettled)} couldn't be settled: changing, locked, or behind long"
            f" transactions; run 'pysync verify {shlex.quote(each.course_id)}' again"
        )
    if each.differences:
        say(f"{name}: run 'pysync repair {shlex.quote(each.course_id)}'")
    if each.logins:
        say(f"{name}: note: last_login is another in the course for {each.logins:,} users")
    if each.kept:
        say(f"{name}: note: {_rows(each.kept)} scrubbed, kept because local rows point there")


def _line(each: Difference) -> str:
    where = "the portal's fan-out" if each.place is Place.PORTAL else "the course"
    if each.kind is Kind.MISSING:
        text = f"{each.table} {each.id} is missing in {where}"
    elif each.kind is Kind.EXTRA:
        text = f"{each.table} {each.id} shouldn't be in {where}"
    else:
        text = f"{each.table} {each.id} differs in {where}: {', '.join(each.columns)}"
    if each.values is None:
        return text
    shown = ", ".join(
        f"{name} {found!r} instead of {right!r}" for name, (right, found) in each.values.items()
    )
    return f"{text} ({shown})"


def _action(each: Difference, *, dry_run: bool) -> str:
    if each.place is Place.PORTAL:
        return "would be copied from the source tables" if dry_run else "copied again"
    would = {
        Kind.MISSING: "inserted",
        Kind.EXTRA: "deleted, or scrubbed where local rows point at it",
        Kind.DIFFERS: "updated",
    }[each.kind]
    return f"would be {would}" if dry_run else would


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _as_json(each: Verification) -> dict[str, Any]:
    return {
        "course_id": each.course_id,
        "clean": each.clean,
        "error": None if each.error is None else str(each.error),
        "rows": {table: each.rows.get(table) for table in REPLICATED_TABLES},
        "differences": [_difference_json(difference) for difference in each.differences],
        "unsettled": each.unsettled,
        "last_login_differs": each.logins,
        "scrubbed_and_kept": each.kept,
    }


def _difference_json(each: Difference) -> dict[str, Any]:
    document: dict[str, Any] = {
        "table": each.table,
        "id": each.id,
        "place": each.place.value,
        "kind": each.kind.value,
        "columns": list(each.columns),
    }
    if each.values is not None:
        document["values"] = {
            name: {"expected": right, "found": found}
            for name, (right, found) in each.values.items()
        }
    return document
