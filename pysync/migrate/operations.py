"""What revisions are made of: tables by Alembic operations, the rest from frozen copies."""

import re
from pathlib import Path
from typing import Any, Final, cast

from alembic import context, op
from alembic.operations.ops import CreateIndexOp, CreateTableOp
from psycopg import sql
from sqlalchemy import Table, text

from pysync.adoption.completion import plan
from pysync.adoption.found import FoundTable
from pysync.adoption.plans import Plan, literal
from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load
from pysync.db.restricted import as_owner_of
from pysync.db.sql_files import in_order
from pysync.types import Side

_QUERIES: Final = load(__file__)
_OURS: Final = re.compile(
    r"create index |alter table \S+ (set schema |add constraint \S+ unique \()"
)


def execute(statement: str) -> None:
    """Run (or, offline, print) one statement as it stands: colons aren't bind parameters.

    Backslashes aren't doubled: SQLAlchemy takes off only those that stand before a colon.
    """
    op.execute(text(statement.replace(":", "\\:")))


def replay(folder: Path) -> None:
    """Run the frozen copies beside a revision.

    :param folder: holds ``*.sql`` files, and folders with more.
    """
    files = {file.relative_to(folder): file for file in folder.rglob("*.sql")}
    for statement in in_order(attribute("lineage").name, files):
        execute(statement)


def replay_file(file: Path) -> None:
    """Run one frozen copy: on the way down, the one that a revision has replaced."""
    for statement in in_order(attribute("lineage").name, {Path(file.name): file}):
        execute(statement)


def attribute(name: str) -> Any:
    """Return what :func:`pysync.migrate.migrate` handed to the revisions under a name."""
    return context.config.attributes.get(name)


def create(table: Table) -> None:
    """Create a table and its indexes."""
    made = CreateTableOp.from_table(table)
    # SQLAlchemy keeps constraints in a set: scripts would be others each time.
    made.columns = [*table.columns, *sorted(table.constraints, key=lambda each: str(each.name))]
    op.invoke(made)
    for index in sorted(table.indexes, key=lambda i: str(i.name)):
        op.invoke(CreateIndexOp.from_index(index))


def create_or_adopt(table: Table, side: Side) -> Plan | None:
    """Create a table, or complete the one of its name that is in schema ``public`` already.

    :returns: ``None`` if it was created, else what adoption did.
    :raises AdoptionError: if the existing table can't be completed.
    """
    found: FoundTable | None = attribute("found_tables").get(table.name)
    if found is None:
        create(table)
        return None
    adoption = plan(found, table, side, attribute("merging"))
    if side is Side.COURSE:
        execute(f"alter table public.{table.name} set schema course")
        adoption.undo.insert(0, f"alter table course.{table.name} set schema public")
    if not context.is_offline_mode():
        _grant_references(table)
    for statement in adoption.complete:
        execute_as_owner(table, statement)
    return adoption


def execute_as_owner(table: Table, statement: str) -> None:
    """Run a statement on a table that was there before pysync with its owner's rights.

    ``alter table`` evaluates generated columns and constraints, some for planning only. What needs
    rights in our schema is run as we are: it evaluates nothing but an index, and PostgreSQL builds
    that with the owner's rights itself.
    """
    if context.is_offline_mode() or _OURS.match(statement):
        execute(statement)
        return
    with as_owner_of(_session(), str(table.schema), table.name) as owner:
        owner.execute(sql.SQL(statement))


def _grant_references(table: Table) -> None:
    """Let a table's owner have it point where it is to point, if that is somebody else's."""
    for foreign_key in sorted(table.foreign_keys, key=str):
        referred = foreign_key.column.table
        names = {"table": f"{table.schema}.{table.name}", "referred": str(referred)}
        if owner := fetch_value(_session(), _QUERIES["lacks_references"], **names):
            grant = sql.SQL("grant references on {} to {}").format(
                sql.Identifier(str(referred.schema), referred.name), sql.Identifier(owner)
            )
            execute(grant.as_string(None))


def _session() -> Connection:
    return cast("Connection", op.get_bind().connection.driver_connection)


def is_adopted(table_name: str) -> bool:
    """Say whether a table that an earlier revision made or adopted was there before pysync."""
    adopted: dict[str, list[str]] | None = attribute("adopted_tables")
    return table_name in (attribute("found_tables") if adopted is None else adopted)


def record_adoption(schema: str, table: Table, adoption: Plan) -> None:
    """Remember that a table was adopted, for the downgrade."""
    undo = ", ".join(map(literal, reversed(adoption.undo)))
    execute(
        f"insert into {schema}.adoption (table_name, undo) "  # noqa: S608 - both are quoted
        f"values ({literal(table.name)}, array[{undo}]::text[])"
    )


def drop_or_release(table: Table) -> None:
    """Drop an empty table that pysync made, or give back one that it adopted.

    A table with rows isn't dropped: the downgrade fails instead.
    """
    adopted: dict[str, list[str]] = attribute("adopted_tables")
    if table.name in adopted:
        for statement in adopted[table.name]:
            execute_as_owner(table, statement)
        schema = attribute("lineage").version_schema
        forget = f"delete from {schema}.adoption where table_name = {literal(table.name)}"  # noqa: S608
        # The first revision has dropped all records before its tables.
        execute(f"do $$ begin {forget}; exception when undefined_table then null; end $$")
        return
    name = f"{table.schema}.{table.name}"
    message = sql.Literal(f"table '{name}' holds rows that the downgrade would drop")
    refuse = _QUERIES["refuse_rows"].format(sql.Identifier(*name.split(".")), message)
    execute_as_owner(table, refuse.as_string(None))
    op.drop_table(table.name, schema=table.schema)
