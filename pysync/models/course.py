"""A course database: the replicated tables, and what pysync keeps beside them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, MetaData, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB, OID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pysync.models.columns import (
    ENROLLMENT_INDEXES,
    NAMES,
    PROFILE_INDEXES,
    TYPES,
    CarriedColumns,
    CourseIdText,
    EnrollmentColumns,
    Id,
    InstalledColumns,
    MarkColumns,
    ProfileColumns,
    TimeOfChange,
    Undo,
    UserColumns,
    points_at,
)


class CourseDatabaseBase(DeclarativeBase):
    """Base of every table in a course database, all of them in schema ``course``."""

    metadata = MetaData(schema="course", naming_convention=NAMES)
    type_annotation_map = TYPES


class User(UserColumns, CourseDatabaseBase):
    """A user who is or was enrolled here; the course may add columns of its own."""

    __tablename__ = "auth_user"
    __table_args__ = (UniqueConstraint("username"),)

    id: Mapped[Id]
    course_id: Mapped[CourseIdText]


class UserProfile(ProfileColumns, CourseDatabaseBase):
    """The profile of a user who is or was enrolled here."""

    __tablename__ = "auth_userprofile"
    __table_args__ = tuple(Index(None, column) for column in PROFILE_INDEXES)

    id: Mapped[Id]
    course_id: Mapped[CourseIdText]
    user_id: Mapped[int] = mapped_column(points_at("course.auth_user"), unique=True)


class CourseEnrollment(EnrollmentColumns, CourseDatabaseBase):
    """That a user is enrolled here now."""

    __tablename__ = "student_courseenrollment"
    __table_args__ = (
        UniqueConstraint("user_id", "course_id"),
        *(Index(None, column) for column in ENROLLMENT_INDEXES),
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(points_at("course.auth_user"))
    course_id: Mapped[CourseIdText]


class Mark(MarkColumns, CourseDatabaseBase):
    """The latest marks that arrived here: the newest one counts."""

    __tablename__ = "mark"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    course_id: Mapped[CourseIdText]
    position: Mapped[int | None] = mapped_column(
        comment="of this server's WAL, in bytes, when it arrived; null if a merge brought it"
    )


class MissingMark(CourseDatabaseBase):
    """A mark that a later one follows and that never arrived: changes beside it are missing."""

    __tablename__ = "missing_mark"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    lost_after: Mapped[datetime | None] = mapped_column(
        comment="when the newest mark was sent that was here; null if none was"
    )
    lost_before: Mapped[datetime] = mapped_column(
        comment="when the mark was sent that came instead"
    )
    found_at: Mapped[TimeOfChange]


class ThisCourse(CourseDatabaseBase):
    """A single row: which course of which portal this database belongs to.

    Whoever gave it this part said which database it was: a copy finds itself elsewhere. All is null
    but the course while no portal has it.
    """

    __tablename__ = "this_course"
    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

    singleton: Mapped[bool] = mapped_column(server_default=text("true"), primary_key=True)
    course_id: Mapped[CourseIdText]
    portal_id: Mapped[UUID | None]
    system_identifier: Mapped[int | None] = mapped_column(comment="of the server")
    database_oid: Mapped[int | None] = mapped_column(OID)


class CourseCarriedColumn(CarriedColumns, CourseDatabaseBase):
    """A column of the portal's own that this database has."""

    __tablename__ = "carried_column"

    made: Mapped[bool] = mapped_column(comment="whether pysync added it here")


class CourseInstalled(InstalledColumns, CourseDatabaseBase):
    """What pysync made in this database."""

    __tablename__ = "installed"


class CourseAdoption(CourseDatabaseBase):
    """A table that was there before pysync and was moved; a downgrade moves it back."""

    __tablename__ = "adoption"

    table_name: Mapped[str] = mapped_column(String(63), primary_key=True)
    undo: Mapped[Undo]
    owner: Mapped[str | None] = mapped_column(comment="the role that had it")
    keeps_owner: Mapped[bool] = mapped_column(
        server_default=text("false"), comment="whether that role goes on owning it"
    )
    revoked: Mapped[list[dict[str, Any]]] = mapped_column(
        JSONB,
        server_default=text("'[]'"),
        comment="rights of others on it, which they have again when it is given back",
    )


class Loan(CourseDatabaseBase):
    """A table that a transaction under way has borrowed; nobody ever sees a row."""

    __tablename__ = "loan"

    table_name: Mapped[str] = mapped_column(String(63), primary_key=True)
    relation: Mapped[int] = mapped_column(OID)
    borrower: Mapped[str]
    may_create: Mapped[bool] = mapped_column(comment="in this schema, before")
    write_guard: Mapped[list[str] | None] = mapped_column(comment="how it was, and has to be again")
