"""``pysync migrate``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pysync.cli.output import (
    Format,
    escape,
    new_table,
    print_json,
    print_raw,
    print_table,
    printable,
    say,
)
from pysync.cli.parameters import CourseArgument, FormatOption, PortalOption, portal_conninfo
from pysync.errors import PysyncError
from pysync.migrate import Migrated
from pysync.migrate.plan import run_all, run_course, run_portal
from pysync.migrate.validate import Check, validate
from pysync.types import course_id
from pysync.watching.status import revisions

app = typer.Typer(
    help="Bring databases to a revision of their lineage.",
    invoke_without_command=True,
    rich_markup_mode=None,
)

ToOption = Annotated[
    str, typer.Option("--to", metavar="REVISION", help="A revision, 'head' or 'base'.")
]
SqlOption = Annotated[bool, typer.Option("--sql", help="Print the SQL and run nothing.")]
ReinstallOption = Annotated[
    bool, typer.Option("--reinstall", help="Also make functions, triggers and policies anew.")
]


@app.callback()
def migrate(
    context: typer.Context,
    to: ToOption = "head",
    sql: SqlOption = False,
    reinstall: ReinstallOption = False,
    _portal: PortalOption = None,
) -> None:
    """Bring databases to a revision of their lineage: all of them, unless one is named.

    Each database is migrated in one transaction; what can't get its locks within seconds gives up
    rather than block applications.
    """
    if context.invoked_subcommand is None:
        _run_all(context, to, sql=sql, reinstall=reinstall)
    elif sql or reinstall or to != "head":
        raise typer.BadParameter(f"write options after '{context.invoked_subcommand}'")


@app.command("all")
def migrate_all(
    context: typer.Context,
    to: ToOption = "head",
    sql: SqlOption = False,
    reinstall: ReinstallOption = False,
    _portal: PortalOption = None,
) -> None:
    """Migrate every registered course database, then the portal."""
    _run_all(context, to, sql=sql, reinstall=reinstall)


@app.command("portal")
def migrate_portal(
    context: typer.Context,
    to: ToOption = "head",
    sql: SqlOption = False,
    reinstall: ReinstallOption = False,
    _portal: PortalOption = None,
) -> None:
    """Migrate the portal database."""
    _print(*run_portal(portal_conninfo(context), to, offline=sql, reinstall=reinstall))


@app.command("course")
def migrate_course(
    context: typer.Context,
    course: CourseArgument,
    to: ToOption = "head",
    sql: SqlOption = False,
    reinstall: ReinstallOption = False,
    _portal: PortalOption = None,
) -> None:
    """Migrate one registered course's database."""
    _print(
        *run_course(
            portal_conninfo(context), course_id(course), to, offline=sql, reinstall=reinstall
        )
    )


@app.command("status")
def migrate_status(
    context: typer.Context, format: FormatOption = Format.TABLE, _portal: PortalOption = None
) -> None:
    """Show each database's current revision, its lineage's head, and whether it is behind."""
    found = revisions(portal_conninfo(context))
    if format is Format.JSON:
        print_json(
            {
                "databases": [
                    {
                        "database": each.database,
                        "current": each.current,
                        "head": each.head,
                        "pending": each.pending,
                        "error": each.error,
                    }
                    for each in found
                ]
            }
        )
        return
    table = new_table("database", "current", "head", "pending")
    for each in found:
        pending = {True: "yes", False: "no", None: "unknown"}[each.pending]
        table.add_row(escape(each.database), each.current or "-", each.head, pending)
    print_table(table)
    for each in found:
        if each.error:
            say(printable(f"{each.database}: {each.error}"))


@app.command("validate")
def migrate_validate(
    context: typer.Context,
    format: FormatOption = Format.TABLE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look for rows that break a constraint.")
    ] = False,
    _portal: PortalOption = None,
) -> None:
    """Validate the constraints that adopted tables so far have for new rows only.

    Rows that break one are listed by their ids, and it stays as it is.
    """
    found = list(validate(portal_conninfo(context), dry_run=dry_run))
    if format is Format.JSON:
        print_json({"checks": [asdict(each) for each in found]})
    else:
        _print_checks(found)
    total = sum(each.offending_total for each in found)
    if total:
        raise PysyncError(
            f"portal can't be validated: {total:,} {'row breaks' if total == 1 else 'rows break'} "
            "constraints",
            "mend or delete them and run the command again",
        )


def _print_checks(found: list[Check]) -> None:
    if not found:
        say("all constraints are valid")
        return
    table = new_table("table", "constraint", "valid", "offending", "ids", right=("offending",))
    for each in found:
        ids = ", ".join(map(str, each.offending_ids))
        more = " …" if each.offending_total > len(each.offending_ids) else ""
        table.add_row(
            each.table,
            each.constraint,
            "now" if each.validated else "no",
            f"{each.offending_total:,}",
            ids + more,
        )
    print_table(table)


def _run_all(context: typer.Context, to: str, *, sql: bool, reinstall: bool) -> None:
    for name, migrated in run_all(portal_conninfo(context), to, offline=sql, reinstall=reinstall):
        _print(name, migrated)


def _print(name: str, migrated: Migrated) -> None:
    if migrated.script is not None:
        print_raw(f"-- {name}\n\n{migrated.script}")
    elif migrated.before == migrated.after:
        say(f"{name}: at {migrated.after or 'base'} already")
    else:
        say(f"{name}: {migrated.before or 'base'} -> {migrated.after or 'base'}")
    if (left := migrated.differences) is not None:
        still = f", {len(left)} still differ: see 'pysync doctor'" if left else ""
        say(f"{name}: all objects installed again{still}")
