"""Compare a table with what is needed of it: complete it, or refuse."""

from sqlalchemy import Column, Table

from pysync.adoption.constraints import check_course_only, plan_constraints
from pysync.adoption.found import KINDS, FoundTable
from pysync.adoption.plans import (
    Plan,
    can_widen,
    default_clause,
    literal,
    qualified,
    quoted,
    refusal,
)
from pysync.adoption.types import type_fits
from pysync.errors import AdoptionError
from pysync.models.columns import type_name
from pysync.types import Side


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
            f"{found.schema}.{found.name}",
            "it holds rows, and pysync can't tell whose they are",
            "give the course a database without users, empty the table first, or see what "
            "'pysync course add --adopt' would do",
        )
    if found.primary_key != ("id",):
        key = ", ".join(found.primary_key)
        is_now = f"primary key ({key})" if key else "no primary key"
        raise refusal(found, "id", is_now, "primary key (id)")
    if side is Side.PORTAL and found.row_security:
        # pysync_fan_out, who runs the triggers, would see the rows that policies show it: none.
        raise refusal(found, None, "row-level security", "none")
    if found.duplicates:
        raise AdoptionError(
            f"{found.schema}.{found.name}",
            " ".join(found.duplicates),
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
    table, name, course = qualified(column.table), quoted(column.name), literal(merging)
    if column.name not in found.columns:
        alter = f"alter table {table}"
        result.complete.append(
            f"{alter} add column {name} {type_name(column)} default {course} not null"
        )
        result.complete.append(f"{alter} alter column {name} drop default")
        result.undo.append(f"{alter} drop column {name}")
        return
    if column.table.name == "student_courseenrollment":
        result.complete.append(
            f"delete from {table} where {name} is distinct from {course}"  # noqa: S608 - quoted
        )
        # What its foreign keys have still to check would be in the way of ALTER TABLE.
        result.complete.append("set constraints all immediate")
    _plan_column(result, found, column, Side.COURSE)


def _plan_column(result: Plan, found: FoundTable, column: Column[object], side: Side) -> None:
    present = found.columns.get(column.name)
    if present is None:
        _add_column(result, found, column, side)
        return
    alter = f"alter table {qualified(column.table)} alter column {quoted(column.name)}"
    if not type_fits(present.type, type_name(column), side):
        if side is Side.PORTAL or not can_widen(present.type, column):
            raise refusal(found, column.name, present.type, type_name(column))
        result.complete.append(f"{alter} type {type_name(column)}")
        result.undo.append(_if_data_allow(f"{alter} type {present.type}"))
    default = default_clause(column)
    if side is Side.PORTAL and default and not present.has_default:
        # Django fills columns in itself; plain SQL leaves out what it doesn't care about.
        result.complete.append(f"{alter} set {default}")
        result.undo.append(f"{alter} drop default")
    if not column.nullable and not present.not_null:
        if present.holds_null:
            raise refusal(found, column.name, "nullable, with nulls in it", "NOT NULL")
        result.complete.append(f"{alter} set not null")
        result.undo.append(f"{alter} drop not null")
    if column.nullable and present.not_null and side is Side.COURSE:
        result.complete.append(f"{alter} drop not null")
        result.undo.append(_if_data_allow(f"{alter} set not null"))


def _add_column(result: Plan, found: FoundTable, column: Column[object], side: Side) -> None:
    alter = f"alter table {qualified(column.table)}"
    name = quoted(column.name)
    default = default_clause(column)
    if column.nullable:
        # The default is for rows to come: of those that are there the value isn't known.
        result.complete.append(f"{alter} add column {name} {type_name(column)}")
        if default:
            result.complete.append(f"{alter} alter column {name} set {default}")
        return
    if default:
        result.complete.append(f"{alter} add column {name} {type_name(column)} {default} not null")
        return
    if found.has_rows:
        raise refusal(found, column.name, "no such column", f"{type_name(column)} NOT NULL")
    result.complete.append(f"{alter} add column {name} {type_name(column)} not null")
    # Whose table it is again then doesn't know this column, and inserts nothing into it.
    if side is Side.COURSE and column.name == "course_id":
        result.undo.append(f"{alter} drop column {name}")
    else:
        result.undo.append(f"{alter} alter column {name} drop not null")


def _if_data_allow(statement: str) -> str:
    return (
        f"do $$ begin {statement}; exception when not_null_violation"
        " or string_data_right_truncation or numeric_value_out_of_range then null; end $$"
    )
