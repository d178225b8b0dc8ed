"""What is replicated, said once: publications, triggers, merge, proof and erasure read it here.

SQL files have places such as ``{user_columns}``, filled from here when they are frozen. So is
``replicated.json``, which has the models' columns and types: most commands need no more of them,
and importing SQLAlchemy takes as long as many a command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from psycopg import sql

if TYPE_CHECKING:
    from sqlalchemy import Column

FROZEN: Final = Path(__file__).with_suffix(".json")
"""The replicated columns with their types, by table; ``make revision`` writes it."""


class Membership(Enum):
    """Which of a table's rows a course has."""

    USER = "its members and who once was one, as they were when they left"
    OF_USER = "what belongs to these users"
    ENROLLMENT = "its enrollments: who has one is a member"
    COURSE = "those that are the course's own"


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

    @cached_property
    def declared(self) -> tuple[Column[object], ...]:
        """Return the replicated columns as they are declared."""
        from pysync.models.course import CourseDatabaseBase

        found = CourseDatabaseBase.metadata.tables[f"course.{self.name}"].columns
        return tuple(column for column in found if column.name not in self.own)

    @property
    def types(self) -> dict[str, str]:
        """Return the replicated columns with their types as the catalog writes them."""
        return frozen_types()[self.name]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of all replicated columns."""
        return tuple(self.types)

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
def frozen_types() -> dict[str, dict[str, str]]:
    """Return the replicated columns with their types, by table."""
    found: dict[str, dict[str, str]] = json.loads(FROZEN.read_text(encoding="utf-8"))
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
