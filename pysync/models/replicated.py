"""What is replicated, said once: publications, triggers, merge, proof and erasure read it here.

SQL files have places such as ``{user_columns}``, filled from here when they are frozen. So is
``replicated.json``, which has the models' columns with types and defaults: commands need no more of
them, and importing SQLAlchemy takes as long as many a command.

A portal may have columns of its own carried, too: they are in its registry, and
:func:`carrying` adds them to what is declared here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Final

from psycopg import sql

FROZEN: Final = Path(__file__).with_suffix(".json")
"""The replicated columns with types and defaults, by table; ``make revision`` writes it."""


class Membership(Enum):
    """Which of a table's rows a course has."""

    USER = "its members and who once was one, as they were when they left"
    OF_USER = "what belongs to these users"
    ENROLLMENT = "its enrollments: who has one is a member"
    COURSE = "those that are the course's own"


@dataclass(frozen=True)
class ReplicatedColumn:
    """A column that is carried.

    :param type: as a course's catalog writes it.
    :param default: what rows begin with, as SQL.
    :param carried: whether it is one of the portal's own. In the fan-out and on relays such a
        column is text: no value can fail to fit there, whatever becomes of it on the portal.
    """

    name: str
    type: str
    default: str | None = None
    carried: bool = False

    @property
    def identifier(self) -> sql.Identifier:
        """Return its name for a query."""
        return sql.Identifier(self.name)

    def compared(self, prefix: str | None = None) -> sql.Composed:
        """Return its value as it is compared; a carried column's type may know no equality."""
        name = sql.Identifier(*filter(None, (prefix, self.name)))
        as_text = "case when pg_catalog.num_nulls({0}) = 0 then pg_catalog.concat({0}) end"
        return sql.SQL(as_text if self.carried else "{}").format(name)


@dataclass(frozen=True)
class CarriedColumn:
    """A column of the portal's own that is carried, as ``pysync.carried_column`` has it.

    :param type: as the portal's catalog writes it, qualified unless it is PostgreSQL's own.
    :param scrub: what it is for whom the portal doesn't say, as text: a deleted user, or one that
        had left before it was carried.
    :param takes_over: whether courses may have had a column of that name and type before.
    """

    table_name: str
    column_name: str
    type: str
    collation_name: str | None = None
    not_null: bool = False
    scrub: str | None = None
    takes_over: bool = False

    @property
    def default(self) -> str:
        """Return what rows begin with, as SQL."""
        if self.scrub is None:
            return "null"
        # It gets into functions' bodies, and into queries with places.
        text = re.sub(r"['\\$%{}]", lambda c: f"\\x{ord(c[0]):02x}", self.scrub)
        return f"{'E' if text != self.scrub else ''}'{text}'"


@dataclass(frozen=True)
class ReplicatedTable:
    """A table that is carried: in schema ``course`` of both sides, of ``public`` if people own it.

    :param stem: what places in SQL files begin with, as in ``{user_columns}``.
    :param user_column: has the id of the user a row belongs to, if it does.
    :param unique: the column beside the key that no two rows of a course may share, if any.
    :param unguarded: columns that a course's own applications may write; the portal's next value
        wins, and until then a difference is nothing to mend.
    :param own: columns that each database fills by itself: they aren't carried.
    :param scrubbed: what is left of a deleted user's row besides its name, as SQL; without it the
        row goes.
    :param carried: columns of the portal's own.
    """

    name: str
    stem: str
    membership: Membership
    key: str = "id"
    user_column: str = "user_id"
    unique: str = "user_id"
    unguarded: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    scrubbed: Mapping[str, str] = field(default_factory=dict, hash=False)
    carried: tuple[CarriedColumn, ...] = ()

    @cached_property
    def described(self) -> tuple[ReplicatedColumn, ...]:
        """Return the replicated columns with types and defaults."""
        ours = (ReplicatedColumn(name, *of) for name, of in frozen()[self.name].items())
        own = (ReplicatedColumn(c.column_name, c.type, c.default, True) for c in self.carried)
        return (*ours, *own)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of all replicated columns."""
        return tuple(column.name for column in self.described)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Return the columns that say what a row is of."""
        return tuple(dict.fromkeys(filter(None, (self.key, "course_id", self.user_column))))

    @property
    def values(self) -> tuple[str, ...]:
        """Return the columns that aren't keys."""
        return tuple(name for name in self.columns if name not in self.keys)

    @property
    def guarded(self) -> tuple[str, ...]:
        """Return the columns that only the portal writes."""
        return tuple(name for name in (*self.keys, *self.values) if name not in self.unguarded)

    @property
    def identifier(self) -> sql.Identifier:
        """Return the table's name for a query."""
        return sql.Identifier("course", self.name)


@cache
def frozen() -> dict[str, dict[str, tuple[str, str | None]]]:
    """Return the declared columns with their types and defaults, by table."""
    found: dict[str, dict[str, tuple[str, str | None]]]
    found = json.loads(FROZEN.read_text(encoding="utf-8"))
    return found


PUBLISHED: Final = (
    ReplicatedTable(
        "auth_user",
        "user",
        Membership.USER,
        user_column="id",
        unique="username",
        # A course site's own login writes it.
        unguarded=frozenset({"last_login"}),
        scrubbed={
            "password": "'!'",
            "last_login": "null",
            "is_superuser": "false",
            "first_name": "''",
            "last_name": "''",
            "email": "''",
            "is_staff": "false",
            "is_active": "false",
        },
    ),
    ReplicatedTable("auth_userprofile", "profile", Membership.OF_USER),
    ReplicatedTable("student_courseenrollment", "enrollment", Membership.ENROLLMENT),
    ReplicatedTable(
        "mark",
        "mark",
        Membership.COURSE,
        user_column="",
        unique="",
        own=frozenset({"position"}),
    ),
)
"""Every table that courses are sent, in the order in which they point at each other."""

REPLICATED: Final = tuple(table for table in PUBLISHED if table.user_column)
"""Those with what the portal's applications write."""

PUBLISHED_TABLES: Final = tuple(table.name for table in PUBLISHED)
REPLICATED_TABLES: Final = tuple(table.name for table in REPLICATED)


def replicated(name: str) -> ReplicatedTable:
    """Return the declaration of a table that courses are sent."""
    return next(table for table in PUBLISHED if table.name == name)


def carrying(columns: Iterable[CarriedColumn]) -> tuple[ReplicatedTable, ...]:
    """Return every table that courses are sent, with these columns of the portal's own."""
    return _all_carrying(tuple(columns))


@lru_cache(maxsize=8)
def _all_carrying(columns: tuple[CarriedColumn, ...]) -> tuple[ReplicatedTable, ...]:
    # Each course of a portal asks for the same ones.
    return tuple(_carrying(table, columns) for table in PUBLISHED) if columns else PUBLISHED


def _carrying(table: ReplicatedTable, columns: tuple[CarriedColumn, ...]) -> ReplicatedTable:
    own = tuple(column for column in columns if column.table_name == table.name)
    scrubbed = {**table.scrubbed, **{c.column_name: c.default for c in own}}
    return replace(table, carried=own, scrubbed=scrubbed if table.scrubbed else {})
