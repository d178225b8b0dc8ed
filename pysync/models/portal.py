"""The portal database: the applications' tables, the fan-out tables, the registry."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, OID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pysync.models.columns import (
    ENROLLMENT_INDEXES,
    PROFILE_CHECKS,
    PROFILE_INDEXES,
    EnrollmentColumns,
    InstalledColumns,
    MarkColumns,
    ProfileColumns,
    UserColumns,
    foreign_key,
)
from pysync.types import MAX_COURSE_ID_LENGTH


class PortalBase(DeclarativeBase):
    """Base of every table in a portal database."""


# The applications' tables, in schema public.


class User(UserColumns, PortalBase):
    """A user of the portal: where applications write."""

    __tablename__ = "auth_user"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="auth_user_pkey"),
        UniqueConstraint("username", name="auth_user_username_key"),
        Index("auth_user_email_lower_idx", text("lower(email)")),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())


class UserProfile(ProfileColumns, PortalBase):
    """A user's demographic fields: where applications write."""

    __tablename__ = "auth_userprofile"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="auth_userprofile_pkey"),
        UniqueConstraint("user_id", name="auth_userprofile_user_id_key"),
        foreign_key("auth_userprofile", "user_id", "public.auth_user"),
        *(Index(f"auth_userprofile_{column}_idx", column) for column in PROFILE_INDEXES),
        *(
            CheckConstraint(condition, name=f"auth_userprofile_{column}_check")
            for column, condition in PROFILE_CHECKS.items()
        ),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    user_id: Mapped[int] = mapped_column(BigInteger)


class CourseEnrollment(EnrollmentColumns, PortalBase):
    """That a user is enrolled in a course, registered or not: where applications write."""

    __tablename__ = "student_courseenrollment"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="student_courseenrollment_pkey"),
        UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        foreign_key("student_courseenrollment", "user_id", "public.auth_user"),
        *(Index(f"student_courseenrollment_{column}_idx", column) for column in ENROLLMENT_INDEXES),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    user_id: Mapped[int] = mapped_column(BigInteger)
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))


# The fan-out tables, in schema course: the exact image of what each course database must hold.
# Their unique constraints are a course database's own, per course, so that nothing is replicated
# that an apply worker would stumble over.


class UserCopy(UserColumns, PortalBase):
    """A user as one course holds it: live while enrolled, frozen afterwards.

    Enrollments say the same as ``live``; it is kept beside them because a user's update is the most
    frequent change there is, and joining them made it a tenth slower. It isn't published.
    """

    __tablename__ = "auth_user"
    __table_args__ = (
        PrimaryKeyConstraint("id", "course_id", name="auth_user_pkey"),
        UniqueConstraint("course_id", "username", name="auth_user_course_id_username_key"),
        Index("auth_user_frozen_idx", "course_id", "username", postgresql_where=text("not live")),
        {"schema": "course", "postgresql_with": {"fillfactor": "90"}},
    )

    id: Mapped[int] = mapped_column(BigInteger, autoincrement=False)
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))
    live: Mapped[bool] = mapped_column(
        Boolean, comment="whether the user is enrolled; never published"
    )


class UserProfileCopy(ProfileColumns, PortalBase):
    """A profile as one course holds it."""

    __tablename__ = "auth_userprofile"
    __table_args__ = (
        PrimaryKeyConstraint("id", "course_id", name="auth_userprofile_pkey"),
        UniqueConstraint("user_id", "course_id", name="auth_userprofile_user_id_course_id_key"),
        {"schema": "course", "postgresql_with": {"fillfactor": "90"}},
    )

    id: Mapped[int] = mapped_column(BigInteger, autoincrement=False)
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))
    user_id: Mapped[int] = mapped_column(BigInteger)


class CourseEnrollmentCopy(EnrollmentColumns, PortalBase):
    """An enrollment as one course holds it; that it exists is what makes a user's copy live."""

    __tablename__ = "student_courseenrollment"
    __table_args__ = (
        PrimaryKeyConstraint("id", "course_id", name="student_courseenrollment_pkey"),
        UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        {"schema": "course"},
    )

    id: Mapped[int] = mapped_column(BigInteger, autoincrement=False)
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))
    user_id: Mapped[int] = mapped_column(BigInteger)


class Mark(MarkColumns, PortalBase):
    """The latest mark sent to each registered course."""

    __tablename__ = "mark"
    __table_args__ = ({"schema": "course"},)


# The registry, in schema pysync.


class Course(PortalBase):
    """A registered course: where its database is and what its replication is called."""

    __tablename__ = "course"
    __table_args__ = (
        PrimaryKeyConstraint("course_id", name="course_pkey"),
        UniqueConstraint("replication_name", name="course_replication_name_key"),
        CheckConstraint("course_id not in ('', 'default')", name="course_course_id_check"),
        {"schema": "pysync"},
    )

    course_id: Mapped[str] = mapped_column(
        String(MAX_COURSE_ID_LENGTH), comment="as in student_courseenrollment.course_id"
    )
    replication_name: Mapped[str] = mapped_column(
        String(63), comment="of the publication, the slot and the subscription"
    )
    conninfo: Mapped[str] = mapped_column(
        Text, comment="how pysync reaches the course database; never holds a password"
    )
    portal_conninfo: Mapped[str] = mapped_column(
        Text, comment="how the course's server reaches the portal; never holds a password"
    )
    replication_role: Mapped[str] = mapped_column(
        String(63), comment="the role the course's subscription has on the portal"
    )
    fans_out: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("true"),
        comment="whether triggers copy its members; false once removal has begun",
    )
    course_system_identifier: Mapped[int | None] = mapped_column(
        BigInteger, comment="of the course's server: part of its synchronization slots' names"
    )
    subscription_oid: Mapped[int | None] = mapped_column(
        OID, comment="in the course database: part of its synchronization slots' names"
    )
    ready_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when the first copy was complete"
    )
    added_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now()")
    )
    adopts: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("false"),
        comment="whether its database held users before: it is filled by a merge",
    )
    sacrificed_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="when its slot was dropped to save the portal's disk"
    )
    unfilled: Mapped[list[str]] = mapped_column(
        ARRAY(Text),
        server_default=text("'{}'"),
        comment="columns that its publication has, but whose earlier values aren't streamed",
    )
    withdrawn: Mapped[bool] = mapped_column(
        Boolean,
        server_default=text("false"),
        comment="whether columns have left its publication that it may still be sent",
    )


class Erasure(PortalBase):
    """A deleted user whose erasure a course hasn't confirmed yet; the row goes once it has."""

    __tablename__ = "erasure"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "course_id", name="erasure_pkey"),
        {"schema": "pysync"},
    )

    user_id: Mapped[int] = mapped_column(BigInteger, autoincrement=False)
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))
    requested_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now()")
    )
    username_digest: Mapped[str] = mapped_column(
        String(64), comment="SHA-256 of '<user_id>:<username>', to find it by the same command"
    )


class Verification(PortalBase):
    """When a course was last compared with the portal, and how much differed."""

    __tablename__ = "verification"
    __table_args__ = (
        PrimaryKeyConstraint("course_id", name="verification_pkey"),
        ForeignKeyConstraint(
            ["course_id"],
            ["pysync.course.course_id"],
            name="verification_course_id_fkey",
            ondelete="CASCADE",
        ),
        {"schema": "pysync"},
    )

    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH))
    verified_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    differences: Mapped[int] = mapped_column(
        BigInteger, comment="rows that differed, on either side, or couldn't be settled"
    )


class RegistryChange(PortalBase):
    """A single row, written whenever a course enters or leaves the registry."""

    __tablename__ = "registry_change"
    __table_args__ = (
        PrimaryKeyConstraint("singleton", name="registry_change_pkey"),
        CheckConstraint("singleton", name="registry_change_singleton_check"),
        {"schema": "pysync"},
    )

    singleton: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    changed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("now()")
    )


class PortalInstalled(InstalledColumns, PortalBase):
    """What pysync made in the portal."""

    __tablename__ = "installed"
    __table_args__ = ({"schema": "pysync"},)


class PortalAdoption(PortalBase):
    """A table that was there before pysync; a downgrade never drops it."""

    __tablename__ = "adoption"
    __table_args__ = (
        PrimaryKeyConstraint("table_name", name="adoption_pkey"),
        {"schema": "pysync"},
    )

    table_name: Mapped[str] = mapped_column(String(63))
    undo: Mapped[list[str]] = mapped_column(
        ARRAY(Text),
        comment="statements that take back what adoption did, as far as the data allows",
    )
