"""``pysync membership``."""

from contextlib import closing
from typing import Annotated

import typer

from pysync.cli.output import Format, print_json, say, steps
from pysync.cli.parameters import DryRunOption, FormatOption, Portal
from pysync.migrate import membership as service
from pysync.migrate.carried import ENROLLMENTS
from pysync.migrate.revisions import require_head
from pysync.replication import registry


def membership(
    portal: Portal,
    *,
    column: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Enrollments count while this boolean column is true."),
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Each enrollment counts.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Say which count.")] = False,
    dry_run: DryRunOption = False,
    format: FormatOption = Format.TABLE,
) -> None:
    """Decide which enrollments count: whose users a course has.

    Everything goes on meanwhile. Who counts no longer leaves the course as if the row were deleted;
    who counts again is enrolled. After an interruption the same command goes on.
    """
    if sum((column is not None, reset, show)) != 1:
        raise typer.BadParameter("give one of --column, --reset and --show")
    if show:
        _show(portal, format)
        return
    if dry_run:
        changes = service.preview(portal, column)
    else:
        with steps() as progress:
            changes = service.decide(portal, column, progress)
    if format is Format.JSON:
        print_json({"column": column, "courses": changes})
        return
    for each in changes:
        told = f"{each.leave:,} enrollments {'would ' * dry_run}leave"
        come = f"{each.come:,} {'would ' * dry_run}come"
        say(f"{'dry run: ' * dry_run}course '{each.course_id}': {told}, {come}")
    if not dry_run:
        say(_sentence(column))


def _show(portal: str, format: Format) -> None:
    with closing(registry.connect_portal(portal)) as connection:
        require_head(connection)
        found = service.decided(connection)
    column = found.column if found else None
    if format is Format.JSON:
        decided_at = found.decided_at if found else None
        print_json({"column": column, "decided_at": decided_at})
    else:
        say(_sentence(column) + ("" if found else ", since nobody has decided"))


def _sentence(column: str | None) -> str:
    which = "each row counts" if column is None else f"a row counts while {column} is true"
    return f"{ENROLLMENTS}: {which}"
