"""A course database: the replicated tables, and what pysync keeps beside them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pysync.models.columns import (
    ENROLLMENT_INDEXES,
    PROFILE_INDEXES,
    EnrollmentColumns,
    InstalledColumns,
    MarkColumns,
    ProfileColumns,
    UserColumns,
    foreign_key,
)
from pysync.types import MAX_COURSE_ID_LENGTH


class CourseDatabaseBase(DeclarativeBase):
    """Base of every table in a course database, all of them in schema ``course``."""


class User(UserColumns, CourseDatabaseBase):
    """A user who is or was enrolled here; the course may add columns of its own."""

    __tablename__ = "auth_user"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="auth_user_pkey"),
        UniqueConstraint("username", name="auth_user_username_key"),
        {"schema": "course"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))


class UserProfile(ProfileColumns, CourseDatabaseBase):
    """The profile of a user who is or was enrolled here."""

    __tablename__ = "auth_userprofile"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="auth_userprofile_pkey"),
        UniqueConstraint("user_id", name="auth_userprofile_user_id_key"),
        foreign_key("auth_userprofile", "user_id", "course.auth_user"),
        *(Index(f"auth_userprofile_{column}_idx", column) for column in PROFILE_INDEXES),
        {"schema": "course"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))
    user_id: Mapped[int] = mapped_column(BigInteger)


class CourseEnrollment(EnrollmentColumns, CourseDatabaseBase):
    """That a user is enrolled here now."""

    __tablename__ = "student_courseenrollment"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="student_courseenrollment_pkey"),
        UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        foreign_key("student_courseenrollment", "user_id", "course.auth_user"),
        *(Index(f"student_courseenrollment_{column}_idx", column) for column in ENROLLMENT_INDEXES),
        {"schema": "course"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    user_id: Mapped[int] = mapped_column(BigInteger)
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))


class Mark(MarkColumns, CourseDatabaseBase):
    """The latest mark that arrived here."""

    __tablename__ = "mark"
    __table_args__ = ({"schema": "course"},)


class ThisCourse(CourseDatabaseBase):
    """A single row: which course this database belongs to."""

    __tablename__ = "this_course"
    __table_args__ = (
        PrimaryKeyConstraint("singleton", name="this_course_pkey"),
        CheckConstraint("singleton", name="this_course_singleton_check"),
        {"schema": "course"},
    )

    singleton: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))


class CourseInstalled(InstalledColumns, CourseDatabaseBase):
    """What pysync made in this database."""

    __tablename__ = "installed"
    __table_args__ = ({"schema": "course"},)


class CourseAdoption(CourseDatabaseBase):
    """A table that was there before pysync and was moved; a downgrade moves it back."""

    __tablename__ = "adoption"
    __table_args__ = (
        PrimaryKeyConstraint("table_name", name="adoption_pkey"),
        {"schema": "course"},
    )

    table_name: Mapped[str] = mapped_column(String(63))
    undo: Mapped[list[str]] = mapped_column(
        ARRAY(Text),
        comment="statements that take back what adoption did, as far as the data allows",
    )
