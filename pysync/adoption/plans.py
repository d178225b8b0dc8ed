"""What planning is made of: sides, plans, refusals, and how declared columns are written in SQL."""

from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Column, DefaultClause, Integer, String, Table
from sqlalchemy.dialects import postgresql

from pysync.adoption.found import FoundTable
from pysync.adoption.types import INTEGERS, text_length
from pysync.errors import AdoptionError

# Named parameters: the other styles would double percent signs.
DIALECT: Final = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


@dataclass
class Plan:
    """How to complete a table, and how to take that back.

    Columns that were added stay, since they may hold data, and those that were made wider stay so
    if the data needs it.
    """

    complete: list[str] = field(default_factory=list)
    undo: list[str] = field(default_factory=list)


def refusal(found: FoundTable, column: str | None, is_now: str, expected: str) -> AdoptionError:
    """Return the error for a table that isn't what is expected and can't be made so."""
    return AdoptionError(f"{found.schema}.{found.name}", is_now, expected=expected, column=column)


def can_widen(found: str, column: Column[object]) -> bool:
    """Say whether a type that doesn't fit can be changed into a declared column's type."""
    if isinstance(column.type, Integer):
        return found in INTEGERS
    if isinstance(column.type, String):
        return text_length(found) is not None
    return False


def default_clause(column: Column[object]) -> str | None:
    """Return ``default …`` if a column is declared with one; an identity isn't a default."""
    default = column.server_default
    return f"default {default.arg}" if isinstance(default, DefaultClause) else None


def qualified(table: Table) -> str:
    """Return a table's name with its schema, quoted where needed."""
    return DIALECT.identifier_preparer.format_table(table)


def quoted(identifier: str) -> str:
    """Return an identifier, quoted where needed."""
    return DIALECT.identifier_preparer.quote(identifier)


def literal(value: str) -> str:
    """Return a text constant."""
    return "'" + value.replace("'", "''") + "'"
