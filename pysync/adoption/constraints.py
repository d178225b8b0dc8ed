"""Complete constraints and indexes, and refuse those that replication would stumble over."""

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Table, UniqueConstraint

from pysync.adoption.found import FoundForeignKey, FoundTable, Restriction
from pysync.adoption.plans import DIALECT, Plan, qualified, quoted, refusal
from pysync.errors import AdoptionError
from pysync.findings import IN_COURSE, run
from pysync.types import Side


def plan_constraints(result: Plan, found: FoundTable, expected: Table, side: Side) -> None:
    """Plan the constraints and indexes that a table lacks.

    CHECK constraints are NOT VALID: rows that were there may break them, new ones can't.
    """
    for constraint in sorted(expected.constraints, key=lambda c: str(c.name)):
        name = str(constraint.name)
        columns = [column.name for column in getattr(constraint, "columns", ())]
        if isinstance(constraint, UniqueConstraint):
            if frozenset(columns) not in found.unique:
                listed = ", ".join(map(quoted, columns))
                _add_constraint(result, expected, name, f"unique ({listed})")
        elif isinstance(constraint, ForeignKeyConstraint):
            _plan_foreign_key(result, found, constraint, side)
        elif isinstance(constraint, CheckConstraint):
            condition = constraint.sqltext.compile(
                dialect=DIALECT, compile_kwargs={"literal_binds": True}
            )
            _add_constraint(result, expected, name, f"check ({condition}) not valid")
    table = qualified(expected)
    for index in sorted(expected.indexes, key=lambda i: str(i.name)):
        column = next(iter(index.columns), None)
        if column is None or column.name in found.indexed:
            continue
        name = quoted(str(index.name))
        result.complete.append(f"create index {name} on {table} ({quoted(column.name)})")
        result.undo.append(f"drop index {quoted(str(expected.schema))}.{name}")


def _add_constraint(result: Plan, table: Table, name: str, definition: str) -> None:
    alter = f"alter table {qualified(table)}"
    result.complete.append(f"{alter} add constraint {quoted(name)} {definition}")
    result.undo.append(f"{alter} drop constraint {quoted(name)}")


def _plan_foreign_key(
    result: Plan, found: FoundTable, constraint: ForeignKeyConstraint, side: Side
) -> None:
    (column,) = (column.name for column in constraint.columns)
    referred = constraint.referred_table
    on_delete = f" on delete {constraint.ondelete}" if constraint.ondelete else ""
    definition = (
        f"foreign key ({quoted(column)}) references {qualified(referred)} (id){on_delete}"
        " deferrable initially deferred"
    )
    present = _foreign_keys(found, column, referred)
    if not present:
        _add_constraint(result, constraint.table, str(constraint.name), definition)
        return
    if side is Side.COURSE or constraint.ondelete != "CASCADE":
        return
    # Django deletes dependants itself; for any other client the database has to. The name stays.
    alter = f"alter table {qualified(constraint.table)}"
    for foreign_key in present:
        if not foreign_key.cascades:
            name = quoted(foreign_key.name)
            replace = f"{alter} drop constraint {name}, add constraint {name} "
            result.complete.append(replace + definition)
            result.undo.append(replace + foreign_key.definition)


def _foreign_keys(found: FoundTable, column: str, referred: Table) -> list[FoundForeignKey]:
    present = [each for each in found.foreign_keys if each.column == column]
    # A course's tables are moved together: they point at each other in the schema they come from.
    wanted = f"{found.schema}.{referred.name}"
    matching = [each for each in present if each.target == wanted]
    if present and not matching:
        targets = ", ".join(sorted({each.target for each in present}))
        raise refusal(found, column, f"a foreign key to {targets}", f"one to {wanted}")
    return matching


def check_course_only(found: FoundTable, expected: Table) -> None:
    """Refuse what rows from the portal might fail on: it would stop replication."""
    replicated = {column.name for column in expected.columns}
    for column in found.columns.values():
        if column.name not in replicated and column.not_null and not column.has_default:
            raise AdoptionError(
                f"{found.schema}.{found.name}",
                "NOT NULL without a default",
                run(
                    f"alter table {quoted(found.schema)}.{quoted(found.name)} alter column "
                    f"{quoted(column.name)} set default …",
                    IN_COURSE,
                ),
                expected="a default or nullable: the first replicated row would fail on it",
                column=column.name,
            )
    keys = [
        {"id"},
        *(
            {column.name for column in constraint.columns}
            for constraint in expected.constraints
            if isinstance(constraint, UniqueConstraint)
        ),
    ]
    for restriction in found.restrictions:
        if not _is_harmless(restriction, found, replicated, keys):
            raise AdoptionError(
                f"{found.schema}.{found.name}",
                f"{restriction.kind} ('{restriction.name}')",
                "drop it in the course database",
                expected="none: the portal doesn't have it, and the first row that fails on it "
                "would stop replication",
                column=", ".join(sorted(restriction.columns)),
            )


def _is_harmless(
    restriction: Restriction, found: FoundTable, replicated: set[str], keys: list[set[str]]
) -> bool:
    if any(key <= restriction.key for key in keys):
        return True
    own = restriction.columns - replicated
    if restriction.kind == "a CHECK constraint":
        return own == restriction.columns
    # Replicated rows have the defaults of the course's own columns: alike, unless null or varying.
    return restriction.plain and any(
        found.columns[name].varies or not found.columns[name].has_default for name in own
    )
