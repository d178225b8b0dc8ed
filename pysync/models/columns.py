"""The replicated columns: the base columns of the 2012 models in the widths of today's Django.

The portal's own tables, its fan-out tables and a course database's tables all take them from here,
so none can have a column that the others lack. How the tables are carried says
:mod:`pysync.models.replicated`.
"""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    String,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.schema import DefaultClause

from pysync.types import MAX_COURSE_ID_LENGTH

NAMES: Final = {
    "pk": "%(table_name)s_pkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}
"""What constraints and indexes are called: as PostgreSQL would, so that nobody has to spell it."""

TYPES: Final = {
    int: BigInteger(),
    bool: Boolean(),
    str: Text(),
    datetime: DateTime(timezone=True),
    list[str]: ARRAY(Text),
    list[int]: ARRAY(BigInteger),
    UUID: Uuid(),
}
"""What a column is that says no more than its Python type."""

Id = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
CourseIdText = Annotated[str, mapped_column(String(MAX_COURSE_ID_LENGTH))]
TimeOfChange = Annotated[datetime, mapped_column(server_default=text("now()"))]
Undo = Annotated[
    list[str],
    mapped_column(comment="statements that take back what adoption did, as far as the data allows"),
]


class UserColumns:
    """Django's ``auth_user`` without its key: what a login and a page's greeting need."""

    password: Mapped[str] = mapped_column(String(128))
    last_login: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    is_superuser: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    username: Mapped[str] = mapped_column(String(150))
    first_name: Mapped[str] = mapped_column(String(150), server_default=text("''"))
    last_name: Mapped[str] = mapped_column(String(150), server_default=text("''"))
    email: Mapped[str] = mapped_column(String(254), server_default=text("''"))
    is_staff: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    is_active: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    date_joined: Mapped[TimeOfChange]


class ProfileColumns:
    """The 2012 ``UserProfile`` without its keys: all demographic fields."""

    name: Mapped[str] = mapped_column(String(255), server_default=text("''"))
    meta: Mapped[str] = mapped_column(Text, server_default=text("''"))
    courseware: Mapped[str] = mapped_column(String(255), server_default=text("'course.xml'"))
    language: Mapped[str] = mapped_column(String(255), server_default=text("''"))
    location: Mapped[str] = mapped_column(String(255), server_default=text("''"))
    year_of_birth: Mapped[int | None] = mapped_column(Integer)
    gender: Mapped[str | None] = mapped_column(String(6))
    level_of_education: Mapped[str | None] = mapped_column(String(6))
    mailing_address: Mapped[str | None] = mapped_column(Text)
    goals: Mapped[str | None] = mapped_column(Text)


class EnrollmentColumns:
    """The 2012 ``CourseEnrollment`` without its keys."""

    created: Mapped[datetime | None] = mapped_column(server_default=text("now()"))


class MarkColumns:
    """A mark on its way to one course: written on the portal, awaited in the course."""

    number: Mapped[int]
    marked_at: Mapped[datetime]
    predecessors: Mapped[dict[str, Any]] = mapped_column(
        JSONB,
        server_default=text("'{}'"),
        comment="what this mark follows: each row's number at the time, by the row's id",
    )


class CarriedColumns:
    """A column of the portal's own that is carried, beside those above."""

    table_name: Mapped[str] = mapped_column(String(63), primary_key=True)
    column_name: Mapped[str] = mapped_column(String(63), primary_key=True)
    type: Mapped[str] = mapped_column(comment="as the portal's catalog writes it")
    collation_name: Mapped[str | None] = mapped_column(comment="if it isn't the type's own")
    not_null: Mapped[bool]
    scrub: Mapped[str | None] = mapped_column(
        comment="what it is, as text, for whom the portal doesn't say"
    )
    takes_over: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="whether courses may have had a column of that name before",
    )


class InstalledColumns:
    """An object as a revision made it: what drift is measured by."""

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    relation: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="the table that it is on; empty for what is on none"
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    facts: Mapped[dict[str, Any]] = mapped_column(JSONB, comment="in every major the same")
    definition: Mapped[str | None] = mapped_column(comment="as the server spells it")
    major: Mapped[int] = mapped_column(Integer, comment="of the server that spelled it")


PROFILE_INDEXES = (
    "name",
    "language",
    "location",
    "year_of_birth",
    "gender",
    "level_of_education",
)
"""The profile columns that the 2012 model indexed."""

ENROLLMENT_INDEXES = ("user_id", "course_id", "created")
"""The enrollment columns that the 2012 model indexed."""

PROFILE_CHECKS = {
    "gender": "gender::text in ('', 'm', 'f', 'o')",
    "level_of_education": (
        "level_of_education::text in "
        "('', 'p_se', 'p_oth', 'm', 'b', 'hs', 'jhs', 'el', 'none', 'other')"
    ),
}
"""The profile columns with choices, on the portal: null and blank are no answer."""


def points_at(target: str = "public.auth_user") -> ForeignKey:
    """Return a foreign key as Django makes it; on the portal rows go with what they point at."""
    return ForeignKey(
        f"{target}.id",
        ondelete="CASCADE" if target.startswith("public.") else None,
        deferrable=True,
        initially="DEFERRED",
    )


@cache
def type_name(column: Column[object]) -> str:
    """Return a declared column's type as the catalog writes it."""
    compiled = column.type.compile(dialect=PGDialect())  # type: ignore[no-untyped-call]
    return compiled.lower().replace("varchar", "character varying")


def default_of(column: Column[object]) -> str | None:
    """Return what a declared column's rows begin with, as SQL, if that is said."""
    began = column.server_default
    return str(began.arg) if isinstance(began, DefaultClause) else None
