"""Compare a table with what is needed of it: complete it, or refuse."""

from __future__ import annotations

from sqlalchemy import Column, Table

from pysync.adoption.constraints import check_course_only, plan_constraints
from pysync.adoption.found import KINDS, FoundTable
from pysync.adoption.plans import (
    Plan,
    Side,
    can_widen,
    default_clause,
    qualified,
    quoted,
    refusal,
    type_fits,
)
from pysync.errors import AdoptionError
from pysync.models.columns import type_name


def plan(found: FoundTable, expected: Table, side: Side, merging: str | None = None) -> Plan:
    """Compare a table with what is needed of it.

    :param found: the table as it is.
    :param expected: the table as a revision declares it; statements name its schema, into which a
        course's table has been moved by then.
    :param side: which database it is in.
    :param merging: the course whose rows will be merged into the table; else it must be empty.
    :returns: what to do; nothing, if the table is complete.
    :raises AdoptionError: if it can't be completed, naming table, column, found and expected.
    """
    if found.kind != "r":
        raise refusal(found, None, KINDS[found.kind], "an ordinary table")
    if side is Side.COURSE and found.has_rows and merging is None:
        raise AdoptionError(
            f"table '{found.schema}.{found.name}' holds rows: pysync can't tell whose they are",
            "give the course a database without users, empty the table first, or see what "
            "'pysync course add --adopt' would do",
        )
    if found.primary_key != ("id",):
        is_now = (
            f"primary key ({', '.join(found.primary_key)})"
            if found.primary_key
            else "no primary key"
        )
        raise refusal(found, "id", is_now, "primary key (id)")
    if side is Side.PORTAL and found.row_security:
        # pysync_owner, who runs the triggers, would see the rows that policies show it: none.
        raise refusal(found, None, "row-level security", "none")
    if found.duplicates:
        raise AdoptionError(
            f"table '{found.schema}.{found.name}' can't be adopted: {' '.join(found.duplicates)}",
            "remove the duplicates and run the command again",
        )
    result = Plan()
    for column in expected.columns:
        if merging is not None and column.name == "course_id":
            _plan_course_id(result, found, column, merging)
        else:
            _plan_column(result, found, column, side)
    plan_constraints(result, found, expected, side)
    if side is Side.COURSE:
        check_course_only(found, expected)
    return result


def _plan_course_id(result: Plan, found: FoundTable, column: Column[object], merging: str) -> None:
    """Say of rows that are there that they are this course's; enrollments in others go."""
    table, name, course = qualified(column.table), quoted(column.name), _literal(merging)
    if column.name not in found.columns:
        alter = f"ALTER TABLE {table}"
        result.complete.append(
            f"{alter} ADD COLUMN {name} {type_name(column)} DEFAULT {course} NOT NULL"
        )
        result.complete.append(f"{alter} ALTER COLUMN {name} DROP DEFAULT")
        result.undo.append(f"{alter} DROP COLUMN {name}")
        return
    if column.table.name == "student_courseenrollment":
        result.complete.append(
            f"DELETE FROM {table} WHERE {name} IS DISTINCT FROM {course}"  # noqa: S608 - quoted
        )
        # What its foreign keys have still to check would be in the way of ALTER TABLE.
        result.complete.append("SET CONSTRAINTS ALL IMMEDIATE")
    _plan_column(result, found, column, Side.COURSE)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _plan_column(result: Plan, found: FoundTable, column: Column[object], side: Side) -> None:
    present = found.columns.get(column.name)
    if present is None:
        _add_column(result, found, column, side)
        return
    alter = f"ALTER TABLE {qualified(column.table)} ALTER COLUMN {quoted(column.name)}"
    if not type_fits(present.type, column, side):
        if side is Side.PORTAL or not can_widen(present.type, column):
            raise refusal(found, column.name, present.type, type_name(column))
        result.complete.append(f"{alter} TYPE {type_name(column)}")
        result.undo.append(_if_data_allow(f"{alter} TYPE {present.type}"))
    default = default_clause(column)
    if side is Side.PORTAL and default and not present.has_default:
        # Django fills columns in itself; plain SQL leaves out what it doesn't care about.
        result.complete.append(f"{alter} SET {default}")
        result.undo.append(f"{alter} DROP DEFAULT")
    if not column.nullable and not present.not_null:
        if present.holds_null:
            raise refusal(found, column.name, "nullable, with nulls in it", "NOT NULL")
        result.complete.append(f"{alter} SET NOT NULL")
        result.undo.append(f"{alter} DROP NOT NULL")
    if column.nullable and present.not_null and side is Side.COURSE:
        result.complete.append(f"{alter} DROP NOT NULL")
        result.undo.append(_if_data_allow(f"{alter} SET NOT NULL"))


def _add_column(result: Plan, found: FoundTable, column: Column[object], side: Side) -> None:
    alter = f"ALTER TABLE {qualified(column.table)}"
    name = quoted(column.name)
    default = default_clause(column)
    if column.nullable:
        # The default is for rows to come: of those that are there the value isn't known.
        result.complete.append(f"{alter} ADD COLUMN {name} {type_name(column)}")
        if default:
            result.complete.append(f"{alter} ALTER COLUMN {name} SET {default}")
        return
    if default:
        result.complete.append(f"{alter} ADD COLUMN {name} {type_name(column)} {default} NOT NULL")
        return
    if found.has_rows:
        raise refusal(found, column.name, "no such column", f"{type_name(column)} NOT NULL")
    result.complete.append(f"{alter} ADD COLUMN {name} {type_name(column)} NOT NULL")
    # Whose table it is again then doesn't know this column, and inserts nothing into it.
    if side is Side.COURSE and column.name == "course_id":
        result.undo.append(f"{alter} DROP COLUMN {name}")
    else:
        result.undo.append(f"{alter} ALTER COLUMN {name} DROP NOT NULL")


def _if_data_allow(statement: str) -> str:
    return (
        f"DO $$ BEGIN {statement}; EXCEPTION WHEN not_null_violation"
        " OR string_data_right_truncation OR numeric_value_out_of_range THEN NULL; END $$"
    )
