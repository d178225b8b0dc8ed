"""``pysync doctor``."""

from __future__ import annotations

from dataclasses import asdict

import typer

from pysync.cli.output import Format, escape, new_table, print_json, print_table, printable, say
from pysync.cli.parameters import (
    FormatOption,
    OptionalCourseArgument,
    PortalOption,
    checked,
    portal_conninfo,
)
from pysync.watching.doctor import Diagnosis, examine


def doctor(
    context: typer.Context,
    course: OptionalCourseArgument = None,
    format: FormatOption = Format.TABLE,
    _portal: PortalOption = None,
) -> None:
    """Examine both servers' settings, roles, tables and clocks; each finding has its remedy.

    Ends with status 1 if something must be mended.
    """
    found = examine(portal_conninfo(context), checked(course))
    if format is Format.JSON:
        print_json(
            {
                "findings": [
                    {"course_id": each.course_id, "must": each.must, **asdict(each.finding)}
                    for each in found
                ]
            }
        )
    else:
        _print_table(found)
    if any(each.must for each in found):
        raise typer.Exit(1)


def _print_table(found: list[Diagnosis]) -> None:
    if not found:
        say("nothing to mend")
        return
    table = new_table("", "where", "what")
    for each in found:
        where = "portal" if each.course_id is None else escape(each.course_id)
        table.add_row("must" if each.must else "should", where, escape(each.finding.object))
    print_table(table)
    for each in found:
        say(printable(f"{each.course_id or 'portal'}: {each.finding}; {each.finding.remedy}"))
