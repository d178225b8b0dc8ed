"""``pysync migrate``."""

from contextlib import closing
from typing import Annotated

import typer

from pysync.cli.output import Format, print_raw, print_rows, say, steps
from pysync.cli.parameters import (
    CourseArgument,
    FormatOption,
    OptionalPortal,
    Portal,
    group,
    required,
)
from pysync.db.connections import connect
from pysync.diagnosis.backups import backup_findings
from pysync.diagnosis.drift import undecided
from pysync.errors import PysyncError
from pysync.findings import ON_PORTAL
from pysync.migrate import Migrated
from pysync.migrate.plan import run_all, run_course, run_portal
from pysync.migrate.validate import validate
from pysync.texts import visible
from pysync.types import Progress, course_id
from pysync.watching.status import revisions

app = group("Bring databases to a revision of their lineage.", runs=True)

Target = Annotated[
    str, typer.Option("--to", metavar="REVISION", help="A revision, 'head' or 'base'.")
]
Sql = Annotated[bool, typer.Option("--sql", help="Print the SQL and run nothing.")]
Reinstall = Annotated[
    bool, typer.Option("--reinstall", help="Also make functions, triggers and policies anew.")
]


@app.callback()
def migrate(
    context: typer.Context,
    portal: OptionalPortal,
    to: Target = "head",
    sql: Sql = False,
    reinstall: Reinstall = False,
) -> None:
    """Bring databases to a revision of their lineage.

    All of them, unless one is named. Each database is migrated in one transaction; what can't get
    its locks within seconds gives up rather than block applications. Publications follow: courses
    are sent what new columns hold.
    """
    if context.invoked_subcommand is None:
        migrate_all(required(portal), to, sql, reinstall)
    elif sql or reinstall or to != "head":
        raise typer.BadParameter(f"write options after '{context.invoked_subcommand}'")


@app.command("all")
def migrate_all(
    portal: Portal, to: Target = "head", sql: Sql = False, reinstall: Reinstall = False
) -> None:
    """Migrate every registered course database, then the portal."""
    with steps() as progress:
        for each in run_all(portal, to, offline=sql, reinstall=reinstall, progress=progress):
            _print(*each)
            _warn(portal, *each, progress)


@app.command("portal")
def migrate_portal(
    portal: Portal, to: Target = "head", sql: Sql = False, reinstall: Reinstall = False
) -> None:
    """Migrate the portal database."""
    with steps() as progress:
        done = run_portal(portal, to, offline=sql, reinstall=reinstall)
        _print(*done)
        _warn(portal, *done, progress)


@app.command("course")
def migrate_course(
    course: CourseArgument,
    portal: Portal,
    to: Target = "head",
    sql: Sql = False,
    reinstall: Reinstall = False,
) -> None:
    """Migrate one registered course's database."""
    _print(*run_course(portal, course_id(course), to, offline=sql, reinstall=reinstall))


@app.command("status")
def migrate_status(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """Show each database's revision, and whether it is behind."""
    found = revisions(portal)
    names = ("database", "current", "head", "pending", "error")
    pending = {True: "yes", False: "no", None: "unknown"}
    print_rows(
        format,
        {"databases": [{name: getattr(each, name) for name in names} for each in found]},
        names[:-1],
        [(each.database, each.current, each.head, pending[each.pending]) for each in found],
        notes=[f"{each.database}: {each.error}" for each in found if each.error],
    )


@app.command("validate")
def migrate_validate(
    portal: Portal,
    format: FormatOption = Format.TABLE,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look for rows that break a constraint.")
    ] = False,
) -> None:
    """Validate the constraints that adopted tables have.

    So far they hold for new rows only. Rows that break one are listed by their ids, and it stays as
    it is.
    """
    found = list(validate(portal, dry_run=dry_run))
    print_rows(
        format,
        {"checks": found},
        ("table", "constraint", "valid", "offending", "ids"),
        [
            (
                each.table,
                each.constraint,
                "now" if each.validated else "no",
                each.offending_total,
                ", ".join(map(str, each.offending_ids))
                + (" …" if each.offending_total > len(each.offending_ids) else ""),
            )
            for each in found
        ],
        right=("offending",),
        none="all constraints are valid",
    )
    if total := sum(each.offending_total for each in found):
        raise PysyncError(
            f"portal can't be validated: {total:,} {'row breaks' if total == 1 else 'rows break'} "
            "constraints",
            "mend or delete them and run the command again",
        )


def _warn(portal: str, name: str, migrated: Migrated, progress: Progress) -> None:
    """Say what is to be decided or done from the first revision of a portal on."""
    if name == "portal" and migrated.script is None and not migrated.before and migrated.after:
        with closing(connect(portal)) as connection:
            for finding in (*backup_findings(connection, ON_PORTAL), *undecided(connection)):
                progress.warn(finding.text)


def _print(name: str, migrated: Migrated) -> None:
    if migrated.script is not None:
        print_raw(f"-- {visible(name)}\n\n{migrated.script}")
    elif migrated.before == migrated.after:
        if not migrated.columns:
            say(f"{name}: at {migrated.after or 'base'} already")
        for done in migrated.columns:
            say(f"{name}: {done}")
    else:
        say(f"{name}: {migrated.before or 'base'} -> {migrated.after or 'base'}")
    if (left := migrated.differences) is not None:
        still = f", {len(left)} still differ: see 'pysync doctor'" if left else ""
        say(f"{name}: all objects installed again{still}")
