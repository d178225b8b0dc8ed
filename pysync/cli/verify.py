"""``pysync verify``, ``repair`` and ``rebuild``."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import typer

from pysync import verification
from pysync.cli.output import Format, counted, print_json, print_rows, say, steps
from pysync.cli.parameters import (
    CourseArgument,
    DryRunOption,
    FormatOption,
    JobsOption,
    OptionalCourseArgument,
    Portal,
    checked,
)
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication.polling import JOBS
from pysync.texts import Text, word
from pysync.types import RELAY_PREFIX, course_id, subscriber_id
from pysync.verification import Difference, Kind, Place, Repair, Verification

SHOWN: Final = 20
"""Differences that a table for people lists per course; JSON has them all."""

ValuesOption = Annotated[
    bool,
    typer.Option("--show-values", help="Show the values of columns that differ: personal data."),
]


def verify(
    portal: Portal,
    courses: Annotated[
        list[str] | None,
        typer.Argument(metavar="COURSE_ID", help="Courses' ids, or relay:NAME; all if left out."),
    ] = None,
    jobs: JobsOption = JOBS,
    show_values: ValuesOption = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Compare courses with the portal, row by row.

    That is with the portal's own tables, every row and every replicated column, and so its relay
    if a course streams from one. Safe while all are written to. Ends with status 1 if a row
    differs, or if a course couldn't be compared.
    """
    with steps() as progress:
        found = verification.verify(
            portal,
            [subscriber_id(each) for each in courses or ()],
            progress,
            jobs=jobs,
            with_values=show_values,
        )
    _print(found, format)
    if not all(each.clean for each in found):
        raise typer.Exit(1)


def repair(
    course: CourseArgument,
    portal: Portal,
    dry_run: DryRunOption = False,
    show_values: ValuesOption = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Mend the rows that differ, while the course streams.

    They are mended where they are wrong: on the portal, on the relay or in the course. Columns and
    rows that the course added aren't touched. Ends with status 1 if something differs afterwards.
    """
    with steps() as progress:
        done = verification.repair(
            portal, course_id(course), progress, dry_run=dry_run, with_values=show_values
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
    for line in _first(
        done.mended, lambda each: f"{_line(each)}: {_action(each, dry_run=dry_run)}"
    ):
        say(line)
    if count := len(done.mended):
        say(f"course '{course}': {counted(count, 'row')} {_mended(dry_run=dry_run)}")
    elif done.unsettled:
        rows = counted(done.unsettled, "row")
        say(f"course '{course}': nothing to mend, but {rows} couldn't be settled")
    else:
        say(f"course '{course}' equals the portal: nothing to mend")
    if done.after and not done.after.clean:
        _print([done.after], Format.TABLE)


def rebuild(
    portal: Portal,
    course: OptionalCourseArgument = None,
    dry_run: DryRunOption = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Make the fan-out what the portal's own tables say.

    For after a restore without triggers. Only rows that are wrong are written, in batches;
    applications go on meanwhile.
    """
    with steps() as progress:
        done = verification.rebuild(portal, checked(course), progress, dry_run=dry_run)
    if format is Format.JSON:
        none = dict.fromkeys(REPLICATED_TABLES, 0)
        courses = [{"course_id": each.course_id, "rows": none | each.rows} for each in done]
        print_json({"dry_run": dry_run, "courses": courses})
        return
    for each in done:
        count = counted(sum(each.rows.values()), "row")
        say(f"course '{each.course_id}': {count} of the fan-out {_mended(dry_run=dry_run)}")
    if not done:
        say("no courses registered")


def _first(differences: list[Difference], line: Callable[[Difference], str]) -> Iterator[str]:
    yield from map(line, differences[:SHOWN])
    if (more := len(differences) - SHOWN) > 0:
        yield f"… and {more:,} more; --format json has them all"


def _print(found: list[Verification], format: Format) -> None:
    numbers = ("users", "profiles", "enrollments", "differences")
    print_rows(
        format,
        {"courses": [_as_json(each) for each in found]},
        ("course", "result", *numbers),
        [
            (
                each.course_id,
                _result(each),
                *(_count(each, table) for table in REPLICATED_TABLES),
                None if each.error else len(each.differences),
            )
            for each in found
        ],
        right=numbers,
        none="no courses registered",
        notes=[
            Text.plain(f"{each.course_id}: ") + cause for each in found for cause in _causes(each)
        ],
    )


def _count(each: Verification, table: str) -> str | None:
    if table not in each.rows:
        return None
    wrong = sum(difference.table == table for difference in each.differences)
    return f"{each.rows[table]:,}" + (f" ({wrong:,} wrong)" if wrong else "")


def _result(each: Verification) -> str:
    differing = "differs" if each.differences else "unsettled" if each.unsettled else "equal"
    if each.dangling and differing == "equal":
        differing = "points at nothing"
    return "not compared" if each.error else differing


def _causes(each: Verification) -> Iterator[str]:
    name = word(each.course_id)
    if each.error:
        yield each.error.text
    yield from _first(each.differences, _line)
    if each.unsettled:
        yield Text(
            f"{counted(each.unsettled, 'row')} couldn't be settled: changing, locked, or behind "
            f"long transactions; run 'pysync verify {name}' again"
        )
    if each.differences:  # a relay's own are of courses that it doesn't carry
        yield Text(f"run 'pysync {'resync' if name.startswith(RELAY_PREFIX) else 'repair'} {name}'")
    yield from (key.text for key in each.dangling)
    if each.logins:
        yield f"note: last_login is another in the course for {each.logins:,} users"
    if each.kept:
        yield f"note: {counted(each.kept, 'row')} scrubbed, kept because local rows point there"


def _line(each: Difference) -> str:
    what = {
        Kind.MISSING: f"is missing in {each.place.words}",
        Kind.EXTRA: f"shouldn't be in {each.place.words}",
        Kind.DIFFERS: f"differs in {each.place.words}: {', '.join(each.columns)}",
    }[each.kind]
    shown = ", ".join(
        f"{name} {found!r} instead of {right!r}"
        for name, (right, found) in (each.values or {}).items()
    )
    return f"{each.table} {each.id} {what}" + ("" if each.values is None else f" ({shown})")


def _action(each: Difference, *, dry_run: bool) -> str:
    if each.place is Place.PORTAL:
        return "would be copied from the source tables" if dry_run else "copied again"
    kept = ", or scrubbed where local rows point at it" if each.place is Place.COURSE else ""
    would = {
        Kind.MISSING: "inserted",
        Kind.EXTRA: f"deleted{kept}",
        Kind.DIFFERS: "updated",
    }[each.kind]
    return f"would be {would}" if dry_run else would


def _mended(*, dry_run: bool) -> str:
    return "would be mended, nothing was changed" if dry_run else "mended"


def _as_json(each: Verification) -> dict[str, Any]:
    return {
        "course_id": each.course_id,
        "relay": each.relay,
        "clean": each.clean,
        "error": None if each.error is None else str(each.error),
        "rows": {table: each.rows.get(table) for table in REPLICATED_TABLES},
        "differences": [_difference_json(difference) for difference in each.differences],
        "unsettled": each.unsettled,
        "last_login_differs": each.logins,
        "scrubbed_and_kept": each.kept,
        "dangling": [key.document for key in each.dangling],
    }


def _difference_json(each: Difference) -> dict[str, Any]:
    names = ("table", "id", "place", "kind", "columns")
    document = {name: getattr(each, name) for name in names}
    if each.values is not None:
        document["values"] = {
            name: {"expected": right, "found": found}
            for name, (right, found) in each.values.items()
        }
    return document
