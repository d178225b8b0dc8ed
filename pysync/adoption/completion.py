"""Compare a table with what is needed of it: complete it, or refuse."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql

from pysync.adoption.found import KINDS, FoundTable, Restriction
from pysync.errors import AdoptionError

_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_INTEGERS: Final = ("smallint", "integer", "bigint")


class Side(Enum):
    """Which database a table is in: it decides in which direction types must fit.

    The portal's values must fit into the copies; the copies' into the course's columns.
    """

    PORTAL = "portal"
    COURSE = "course"


@dataclass
class Plan:
    """How to complete a table, and how to take that back.

    Columns that were added stay, since they may hold data, and those that were made wider stay so
    if the data needs it.
    """

    complete: list[str] = field(default_factory=list)
    undo: list[str] = field(default_factory=list)


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
        raise _refusal(found, None, KINDS[found.kind], "an ordinary table")
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
        raise _refusal(found, "id", is_now, "primary key (id)")
    if side is Side.PORTAL and found.row_security:
        # pysync_owner, who runs the triggers, would see the rows that policies show it: none.
        raise _refusal(found, None, "row-level security", "none")
    result = Plan()
    for column in expected.columns:
        if merging is not None and column.name == "course_id":
            _plan_course_id(result, found, column, merging)
        else:
            _plan_column(result, found, column, side)
    _plan_constraints(result, found, expected)
    if side is Side.COURSE:
        _check_course_only(found, expected)
    return result


def _plan_course_id(result: Plan, found: FoundTable, column: Column[object], merging: str) -> None:
    """Say of rows that are there that they are this course's; enrollments in others go."""
    table, name, course = _qualified(column.table), _quoted(column.name), _literal(merging)
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


def _plan_column(result: Plan, found: FoundTable, column: Column[object], side: Side) -> None:
    table = _qualified(column.table)
    present = found.columns.get(column.name)
    if present is None:
        _add_column(result, found, column, side)
        return
    if not _type_fits(present.type, column, side):
        if side is Side.PORTAL or not _can_widen(present.type, column):
            raise _refusal(found, column.name, present.type, type_name(column))
        statement = f"ALTER TABLE {table} ALTER COLUMN {_quoted(column.name)} TYPE {{}}"
        result.complete.append(statement.format(type_name(column)))
        result.undo.append(_if_data_allow(statement.format(present.type)))
    set_not_null, drop_not_null = (
        f"ALTER TABLE {table} ALTER COLUMN {_quoted(column.name)} {verb} NOT NULL"
        for verb in ("SET", "DROP")
    )
    if not column.nullable and not present.not_null:
        if present.holds_null:
            raise _refusal(found, column.name, "nullable, with nulls in it", "NOT NULL")
        result.complete.append(set_not_null)
        result.undo.append(drop_not_null)
    if column.nullable and present.not_null and side is Side.COURSE:
        result.complete.append(drop_not_null)
        result.undo.append(_if_data_allow(set_not_null))


def _add_column(result: Plan, found: FoundTable, column: Column[object], side: Side) -> None:
    alter = f"ALTER TABLE {_qualified(column.table)}"
    name = _quoted(column.name)
    default = None if column.server_default is None else f"DEFAULT {_default(column)}"
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
        raise _refusal(found, column.name, "no such column", f"{type_name(column)} NOT NULL")
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


def _plan_constraints(result: Plan, found: FoundTable, expected: Table) -> None:
    table = _qualified(expected)
    for constraint in sorted(expected.constraints, key=lambda c: str(c.name)):
        columns = [column.name for column in getattr(constraint, "columns", ())]
        listed = ", ".join(map(_quoted, columns))
        if isinstance(constraint, UniqueConstraint):
            if frozenset(columns) in found.unique:
                continue
            definition = f"UNIQUE ({listed})"
        elif isinstance(constraint, ForeignKeyConstraint):
            if _has_foreign_key(found, columns[0], constraint.referred_table):
                continue
            target = _qualified(constraint.referred_table)
            on_delete = f" ON DELETE {constraint.ondelete}" if constraint.ondelete else ""
            definition = (
                f"FOREIGN KEY ({listed}) REFERENCES {target} (id){on_delete}"
                " DEFERRABLE INITIALLY DEFERRED"
            )
        else:
            continue
        name = _quoted(str(constraint.name))
        result.complete.append(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}")
        result.undo.append(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for index in sorted(expected.indexes, key=lambda i: str(i.name)):
        column = next(iter(index.columns)).name
        if column in found.indexed:
            continue
        result.complete.append(
            f"CREATE INDEX {_quoted(str(index.name))} ON {table} ({_quoted(column)})"
        )
        result.undo.append(f"DROP INDEX {_quoted(str(expected.schema))}.{_quoted(str(index.name))}")


def _has_foreign_key(found: FoundTable, column: str, referred: Table) -> bool:
    targets = {target for name, target in found.foreign_keys if name == column}
    # A course's tables are moved together: they point at each other in the schema they come from.
    wanted = f"{found.schema}.{referred.name}"
    if targets and wanted not in targets:
        raise _refusal(
            found, column, f"a foreign key to {', '.join(sorted(targets))}", f"one to {wanted}"
        )
    return wanted in targets


def _check_course_only(found: FoundTable, expected: Table) -> None:
    """Refuse what rows from the portal might fail on: it would stop replication."""
    replicated = {column.name for column in expected.columns}
    for column in found.columns.values():
        if column.name not in replicated and column.not_null and not column.has_default:
            raise AdoptionError(
                f"table '{found.schema}.{found.name}' column '{column.name}': found NOT NULL "
                "without a default, expected a default or nullable; the first replicated row "
                "would fail on it",
                f"run 'ALTER TABLE {_quoted(found.schema)}.{_quoted(found.name)} ALTER COLUMN "
                f"{_quoted(column.name)} SET DEFAULT …' in the course database",
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
                f"table '{found.schema}.{found.name}' column "
                f"'{', '.join(sorted(restriction.columns))}': found {restriction.kind} "
                f"('{restriction.name}'), expected none: the portal doesn't have it, and the first "
                "row that fails on it would stop replication",
                "drop it in the course database",
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


def _type_fits(found: str, column: Column[object], side: Side) -> bool:
    narrow, wide = (found, type_name(column)) if side is Side.PORTAL else (type_name(column), found)
    if narrow in _INTEGERS and wide in _INTEGERS:
        return _INTEGERS.index(narrow) <= _INTEGERS.index(wide)
    narrow_length, wide_length = _length(narrow), _length(wide)
    if narrow_length is not None and wide_length is not None:
        return narrow_length <= wide_length
    return narrow == wide


def _can_widen(found: str, column: Column[object]) -> bool:
    if isinstance(column.type, Integer):
        return found in _INTEGERS
    if isinstance(column.type, String):
        return _length(found) is not None
    return False


def type_name(column: Column[object]) -> str:
    """Return a declared column's type as the catalog writes it."""
    match column.type:
        case BigInteger():
            return "bigint"
        case Integer():
            return "integer"
        case Text():
            return "text"
        case String(length=length):
            return f"character varying({length})"
        case Boolean():
            return "boolean"
        case DateTime():
            return "timestamp with time zone"
        case other:
            raise NotImplementedError(f"no rule for type {other!r}")


def _length(type_name: str) -> float | None:
    if type_name in ("text", "character varying"):
        return float("inf")
    if type_name.startswith("character varying("):
        return float(type_name.removeprefix("character varying(").rstrip(")"))
    return None


def _refusal(found: FoundTable, column: str | None, is_now: str, expected: str) -> AdoptionError:
    where = f"table '{found.schema}.{found.name}'" + (f" column '{column}'" if column else "")
    return AdoptionError(
        f"{where} can't be adopted: found {is_now}, expected {expected}",
        "change it and run the command again",
    )


def _default(column: Column[object]) -> str:
    default = column.server_default
    return str(getattr(default, "arg", default))


def _qualified(table: Table) -> str:
    return _DIALECT.identifier_preparer.format_table(table)


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(identifier: str) -> str:
    return _DIALECT.identifier_preparer.quote(identifier)
