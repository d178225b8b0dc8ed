"""``pysync doctor``."""

import typer

from pysync.cli.output import Format, plain, print_rows
from pysync.cli.parameters import FormatOption, OptionalCourseArgument, Portal, checked
from pysync.texts import Text
from pysync.watching.doctor import examine


def doctor(
    portal: Portal, course: OptionalCourseArgument = None, format: FormatOption = Format.TABLE
) -> None:
    """Examine servers, roles and tables; name what to mend.

    Looks at both servers' settings, roles, tables and clocks; each finding has its remedy. Ends
    with status 1 if something must be mended.
    """
    found = examine(portal, checked(course))
    print_rows(
        format,
        {"findings": [{"course_id": each.course_id, **plain(each.finding)} for each in found]},
        ("", "where", "what"),
        [
            (
                "must" if each.finding.must else "should",
                each.course_id or "portal",
                each.finding.object,
            )
            for each in found
        ],
        none="nothing to mend",
        notes=[Text.plain(f"{each.course_id or 'portal'}: ") + each.finding.text for each in found],
    )
    if any(each.finding.must for each in found):
        raise typer.Exit(1)
