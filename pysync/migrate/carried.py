"""Which columns of the portal's own are carried: what the registry and each database say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from psycopg.rows import class_row, dict_row

from pysync.db.connections import Connection, fetch_value
from pysync.db.queries import load
from pysync.models.replicated import CarriedColumn

QUERIES = load(__file__)

Removal = Literal["keep", "drop"]
"""What becomes of a course's column that is carried no longer."""

Key = tuple[str, str]
"""A table and a column of it."""

ENROLLMENTS: Final = "student_courseenrollment"


@dataclass(frozen=True)
class Carried:
    """What is carried, and what isn't any more but was."""

    columns: tuple[CarriedColumn, ...] = ()
    removed: Mapping[Key, Removal] = field(default_factory=dict)


@dataclass(frozen=True)
class Present:
    """A column that a replicated table has, or that the portal's own table has."""

    table_name: str
    column_name: str
    type: str
    collation_name: str | None
    not_null: bool
    default_expression: str | None


def key(column: CarriedColumn | Present) -> Key:
    """Return which column it is."""
    return column.table_name, column.column_name


def registered(portal: Connection) -> Carried:
    """Return what the registry says."""
    with portal.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(QUERIES["registered_columns"], prepare=False).fetchall()
    removals: dict[Key, Removal | None] = {
        (row["table_name"], row["column_name"]): row.pop("removal") for row in rows
    }
    columns = [CarriedColumn(**row) for row in rows]
    return Carried(
        tuple(column for column in columns if removals[key(column)] is None),
        {of: removal for of, removal in removals.items() if removal},
    )


def counting(portal: Connection) -> str | None:
    """Return the column that says which enrollments count; ``None`` if all do."""
    name = fetch_value(portal, QUERIES["membership"])
    return None if name is None else str(name)


def here(connection: Connection) -> dict[CarriedColumn, bool]:
    """Return the columns that a course database has, and whether pysync made them."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(QUERIES["columns_here"], prepare=False).fetchall()
    return {CarriedColumn(**row): made for row in rows for made in [row.pop("made")]}


def columns(connection: Connection, schema: str, keys: Sequence[Key]) -> dict[Key, Present]:
    """Return which of these columns a schema's tables have."""
    tables, names = [of[0] for of in keys], [of[1] for of in keys]
    where = {"schema": schema, "tables": tables, "names": names}
    with connection.cursor(row_factory=class_row(Present)) as cursor:
        found = cursor.execute(QUERIES["present_columns"], where)
        return {key(each): each for each in found}


def forget_removed(portal: Connection) -> None:
    """Forget the columns that no database carries any more."""
    portal.execute(QUERIES["forget_removed"])


def as_found(column: CarriedColumn, found: Present | None) -> CarriedColumn:
    """Return a carried column as courses are to have it, now that the portal's is as it was found.

    It may be null in courses if nothing says what it is for whom the portal doesn't say.
    """
    if found is None:
        return column
    not_null = found.not_null and column.scrub is not None
    return replace(column, type=found.type, collation_name=found.collation_name, not_null=not_null)
