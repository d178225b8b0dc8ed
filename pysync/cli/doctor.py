"""``pysync doctor``."""

from typing import Annotated

import typer

from pysync.cli.output import Format, plain, print_rows
from pysync.cli.parameters import FormatOption, OptionalCourseArgument, Portal, checked
from pysync.texts import Text
from pysync.watching.doctor import examine
from pysync.watching.doctor.zones import Zone, document, examine_zone

ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--zone",
        metavar="NAME",
        help="List what the credentials of those can read who stream from this relay, or 'portal'.",
    ),
]


def doctor(
    portal: Portal,
    course: OptionalCourseArgument = None,
    zone: ZoneOption = None,
    format: FormatOption = Format.TABLE,
) -> None:
    """Examine servers, roles and tables; name what to mend.

    Looks at both servers' settings, roles, tables and clocks; each finding has its remedy. Ends
    with status 1 if something must be mended.
    """
    if zone is not None:
        if course is not None:
            raise typer.BadParameter("a course isn't a zone: name one of both", param_hint="--zone")
        _print_zone(examine_zone(portal, zone), format)
        return
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


def _print_zone(zone: Zone, format: Format) -> None:
    print_rows(
        format,
        document(zone),
        ("role", "used by", "streams", "selects", "by"),
        [
            (
                each.role,
                ", ".join(each.used_by) or None,
                ", ".join(each.streams) or None,
                ", ".join(each.selects) or None,
                ", ".join(each.by) or None,
            )
            for each in zone.readers
        ],
        none="no role can read anything",
        notes=[
            *(
                f"{each.role}: admitted by pg_hba.conf, {line}"
                for each in zone.readers
                if each.used_by
                for line in each.admitted or ["which we may not read"]
            ),
            *(each.text for each in zone.findings),
        ],
    )
    if any(each.must for each in zone.findings):
        raise typer.Exit(1)
