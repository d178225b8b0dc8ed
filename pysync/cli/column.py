"""``pysync column``: add, remove, list."""

from collections.abc import Callable, Iterator
from contextlib import closing
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from pysync.cli.output import Format, print_raw, print_rows, say, steps
from pysync.cli.parameters import DryRunOption, FormatOption, Portal, group
from pysync.db.connections import Connection
from pysync.migrate import columns as service
from pysync.migrate import wanted
from pysync.migrate.carried import Removal
from pysync.migrate.plan import Done
from pysync.models.replicated import REPLICATED_TABLES
from pysync.replication import registry
from pysync.texts import visible

app = group("Have columns of the portal's own carried to courses.")

Table = StrEnum("Table", {name: name for name in REPLICATED_TABLES})  # type: ignore[misc]

TableArgument = Annotated[Table, typer.Argument(help="The replicated table.")]
ColumnArgument = Annotated[
    str, typer.Argument(metavar="COLUMN", help="A column that the portal's table has.")
]
Sql = Annotated[bool, typer.Option("--sql", help="Print the SQL and run nothing.")]


@app.command()
def add(
    table: TableArgument,
    columns: Annotated[
        list[str], typer.Argument(metavar="COLUMN…", help="Columns that the portal's table has.")
    ],
    *,
    scrub: Annotated[
        str | None,
        typer.Option(
            metavar="null|empty|VALUE",
            help="What they are for deleted users, and for who left before they were carried.",
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over",
            help="Courses may have a column of that name and type: the portal's values replace it.",
        ),
    ] = False,
    dry_run: DryRunOption = False,
    sql: Sql = False,
    portal: Portal,
) -> None:
    """Have columns carried to every course.

    Everything goes on meanwhile. Courses get them first, then relays and the portal; then their
    values are streamed in batches.
    After an interruption, or once a course can be reached again, the same command goes on.
    """
    with steps() as progress:
        asked = partial(wanted.asked, table, columns, scrub=_scrub(scrub), takes_over=take_over)
        if dry_run or sql:
            _preview(service.preview_of_add(portal, asked, progress), sql=sql)
            return
        _print(service.add(portal, asked, progress))


@app.command()
def remove(
    table: TableArgument,
    column: ColumnArgument,
    *,
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Drop it in courses, unless they had it before."),
    ] = False,
    dry_run: DryRunOption = False,
    sql: Sql = False,
    portal: Portal,
) -> None:
    """Have a column carried no longer.

    The portal's column stays, and so do the courses', with the last values that they were sent.
    """
    removal: Removal = "drop" if drop else "keep"
    with steps() as progress:
        if dry_run or sql:
            _preview(service.preview_of_remove(portal, table, column, removal), sql=sql)
            return
        _print(service.remove(portal, table, column, removal, progress))


@app.command("list")
def list_columns(portal: Portal, format: FormatOption = Format.TABLE) -> None:
    """List the columns of the portal's own, and which are carried."""
    with closing(registry.connect_portal(portal)) as connection:
        found = service.listed(connection)
    print_rows(
        format,
        {"columns": found},
        ("table", "column", "type", "carried", "scrub"),
        [
            (
                each.table,
                each.column,
                each.type or "gone",
                each.state,
                "" if each.state == "no" else "null" if each.scrub is None else each.scrub,
            )
            for each in found
        ],
        none="the portal's tables have no columns of their own",
    )


def _scrub(text: str | None) -> Callable[[Connection, str, str], str | None] | None:
    """Return what gives the value that is meant, for a table and a type."""
    if text is None:
        return None
    if text == "null":
        return lambda *_: None
    value = "" if text == "empty" else text
    return lambda portal, table, type_: wanted.canonical(portal, table, value, type_)


def _preview(found: Iterator[service.Preview], *, sql: bool) -> None:
    for each in found:
        if sql:
            print_raw(f"-- {visible(each.subject)}\n\n{each.script}")
        else:
            say(f"dry run: {each.subject}: {each.what}")


def _print(done: Iterator[Done]) -> None:
    for name, each in done:
        for what in each.columns:
            say(f"{name}: {what}")
        if name.startswith("publication"):
            say(f"{name}: {each.before} -> {each.after}")
