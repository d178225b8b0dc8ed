"""The portal database: the applications' tables, the fan-out tables, the registry."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pysync.models.columns import (
    ENROLLMENT_INDEXES,
    NAMES,
    PROFILE_CHECKS,
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


class PortalBase(DeclarativeBase):
    """Base of every table in a portal database."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = TYPES


# The applications' tables, in schema public.


class User(UserColumns, PortalBase):
    """A user of the portal: where applications write."""

    __tablename__ = "auth_user"
    __table_args__ = (
        UniqueConstraint("username"),
        Index("auth_user_email_lower_idx", text("lower(email)")),
        {"schema": "public"},
    )

    id: Mapped[Id]


class UserProfile(ProfileColumns, PortalBase):
    """A user's demographic fields: where applications write."""

    __tablename__ = "auth_userprofile"
    __table_args__ = (
        *(Index(None, column) for column in PROFILE_INDEXES),
        *(CheckConstraint(condition, name=column) for column, condition in PROFILE_CHECKS.items()),
        {"schema": "public"},
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(points_at(), unique=True)


class CourseEnrollment(EnrollmentColumns, PortalBase):
    """That a user is enrolled in a course, registered or not: where applications write."""

    __tablename__ = "student_courseenrollment"
    __table_args__ = (
        UniqueConstraint("user_id", "course_id"),
        *(Index(None, column) for column in ENROLLMENT_INDEXES),
        {"schema": "public"},
    )

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(points_at())
    course_id: Mapped[CourseIdText]


# The fan-out tables, in schema course: the exact image of what each course database must hold.
# Their unique constraints are a course database's own, per course, so that nothing is replicated
# that an apply worker would stumble over.
_COPY = {"schema": "course", "postgresql_with": {"fillfactor": "90"}}


class UserCopy(UserColumns, PortalBase):
    """A user as one course holds it: live while enrolled, frozen afterwards.

    Enrollments say the same as ``live``; it is kept beside them because a user's update is the most
    frequent change there is, and joining them made it a tenth slower. It isn't published.
    """

    __tablename__ = "auth_user"
    __table_args__ = (
        UniqueConstraint("course_id", "username"),
        _COPY,
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    course_id: Mapped[CourseIdText] = mapped_column(primary_key=True)
    live: Mapped[bool] = mapped_column(comment="whether the user is enrolled; never published")


class UserProfileCopy(ProfileColumns, PortalBase):
    """A profile as one course holds it."""

    __tablename__ = "auth_userprofile"
    __table_args__ = (
        UniqueConstraint("user_id", "course_id"),
        _COPY,
    )

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    course_id: Mapped[CourseIdText] = mapped_column(primary_key=True)
    user_id: Mapped[int]


class CourseEnrollmentCopy(EnrollmentColumns, PortalBase):
    """An enrollment as one course holds it; that it exists is what makes a user's copy live."""

    __tablename__ = "student_courseenrollment"
    __table_args__ = (UniqueConstraint("user_id", "course_id"), {"schema": "course"})

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    course_id: Mapped[CourseIdText] = mapped_column(primary_key=True)
    user_id: Mapped[int]


class Mark(MarkColumns, PortalBase):
    """The latest marks sent to each registered course: a row per sender at the same time."""

    __tablename__ = "mark"
    __table_args__ = ({"schema": "course"},)

    course_id: Mapped[CourseIdText] = mapped_column(primary_key=True)
    id: Mapped[Id]
    position: Mapped[int | None] = mapped_column(
        comment="of the WAL, in bytes: its predecessors were committed before; never published"
    )


# The registry, in schema pysync.


class Course(PortalBase):
    """A registered course: where its database is and what its replication is called."""

    __tablename__ = "course"
    __table_args__ = (
        CheckConstraint("course_id <> '' and course_id <> 'default'", name="course_id"),
        {"schema": "pysync"},
    )

    course_id: Mapped[CourseIdText] = mapped_column(
        primary_key=True, comment="as in student_courseenrollment.course_id"
    )
    replication_name: Mapped[str] = mapped_column(
        String(63), unique=True, comment="of the publication, the slot and the subscription"
    )
    conninfo: Mapped[str] = mapped_column(
        comment="how pysync reaches the course database; never holds a password"
    )
    portal_conninfo: Mapped[str] = mapped_column(
        comment="how the course's server reaches the portal; never holds a password"
    )
    replication_role: Mapped[str] = mapped_column(
        String(63), comment="the role the course's subscription has on the portal"
    )
    fans_out: Mapped[bool] = mapped_column(
        server_default=text("true"),
        comment="whether triggers copy its members; false once removal has begun",
    )
    course_system_identifier: Mapped[int | None] = mapped_column(
        comment="of the course's server: part of its synchronization slots' names"
    )
    course_database_oid: Mapped[int | None] = mapped_column(
        OID, comment="of the course database: tells it from others of its server"
    )
    subscription_oid: Mapped[int | None] = mapped_column(
        OID, comment="in the course database: part of its synchronization slots' names"
    )
    ready_at: Mapped[datetime | None] = mapped_column(comment="when the first copy was complete")
    added_at: Mapped[TimeOfChange]
    adopts: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="whether its database held users before: it is filled by a merge",
    )
    sacrificed_at: Mapped[datetime | None] = mapped_column(
        comment="when its slot was dropped to save the portal's disk"
    )
    unfilled: Mapped[list[str]] = mapped_column(
        server_default=text("'{}'"),
        comment="columns that its publication has, but whose earlier values aren't streamed",
    )
    withdrawn: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="whether columns have left its publication that it may still be sent",
    )
    paused_position: Mapped[int | None] = mapped_column(
        comment="of the WAL, in bytes: what its slot had confirmed when it was paused"
    )
    lost_at: Mapped[datetime | None] = mapped_column(
        comment="when a report first saw that it lacks changes, until a merge has brought them"
    )
    server_started_at: Mapped[datetime | None] = mapped_column(
        comment="of the course's server, when the course was last known to be whole"
    )
    missed_changes: Mapped[int | None] = mapped_column(
        comment="changes of rows that weren't there, as its server had counted them then"
    )
    durable: Mapped[bool] = mapped_column(
        server_default=text("false"),
        comment="whether its subscription flushes each change before it confirms it",
    )
    relay: Mapped[str | None] = mapped_column(
        String(255),
        ForeignKey("pysync.course.course_id"),
        comment="the relay that it streams from; null if it streams from the portal",
    )
    carries: Mapped[list[str]] = mapped_column(
        server_default=text("'{}'"),
        comment="the courses whose rows its publication has beside its own, if it is a relay",
    )
    catalog_fingerprint: Mapped[str | None] = mapped_column(
        comment="of its database's, when a report last saw nothing in it that differs"
    )
    awaits: Mapped[list[str]] = mapped_column(
        server_default=text("'{}'"),
        comment="those of them whose rows it hasn't got until its next merge",
    )


class Erasure(PortalBase):
    """A deleted user whose erasure a course hasn't confirmed yet; the row goes once it has."""

    __tablename__ = "erasure"
    __table_args__ = ({"schema": "pysync"},)

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    course_id: Mapped[CourseIdText] = mapped_column(primary_key=True)
    requested_at: Mapped[TimeOfChange]
    username_digest: Mapped[str] = mapped_column(
        String(64), comment="SHA-256 of '<user_id>:<username>', to find it by the same command"
    )


class Verification(PortalBase):
    """When a course was last compared with the portal, and how much differed; or merged since."""

    __tablename__ = "verification"
    __table_args__ = ({"schema": "pysync"},)

    course_id: Mapped[CourseIdText] = mapped_column(
        ForeignKey("pysync.course.course_id", ondelete="CASCADE"), primary_key=True
    )
    verified_at: Mapped[datetime] = mapped_column(
        comment="when that began: of what began before, nothing is recorded any more"
    )
    differences: Mapped[int | None] = mapped_column(
        comment="rows that differed on either side, or couldn't be settled; null after a merge"
    )


class Look(PortalBase):
    """When a report last looked into a course's database; without it, one looks."""

    __tablename__ = "look"
    __table_args__ = ({"schema": "pysync", "prefixes": ["UNLOGGED"]},)

    course_id: Mapped[CourseIdText] = mapped_column(
        ForeignKey("pysync.course.course_id", ondelete="CASCADE"), primary_key=True
    )
    looked_at: Mapped[datetime]


class Turn(PortalBase):
    """Which session a command has that others must not meet; it counts while that session lives."""

    __tablename__ = "turn"
    __table_args__ = ({"schema": "pysync"},)

    name: Mapped[CourseIdText] = mapped_column(
        primary_key=True, comment="a course's id; empty for a migration of all"
    )
    ticket: Mapped[int] = mapped_column(
        comment="key of the advisory lock that the session holds: random, so nobody else's"
    )
    pid: Mapped[int] = mapped_column(Integer)
    role_name: Mapped[str]
    application_name: Mapped[str]
    taken_at: Mapped[TimeOfChange]


class ThisPortal(PortalBase):
    """A single row: which portal this is, and the database it was when it was claimed.

    A copy of the database finds itself elsewhere: it must not act on the courses of the original.
    """

    __tablename__ = "this_portal"
    __table_args__ = (CheckConstraint("singleton", name="singleton"), {"schema": "pysync"})

    singleton: Mapped[bool] = mapped_column(server_default=text("true"), primary_key=True)
    portal_id: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    system_identifier: Mapped[int] = mapped_column(comment="of the server")
    database_oid: Mapped[int] = mapped_column(OID)
    claimed_at: Mapped[TimeOfChange]


class RegistryChange(PortalBase):
    """A single row, written whenever a course enters or leaves the registry."""

    __tablename__ = "registry_change"
    __table_args__ = (CheckConstraint("singleton", name="singleton"), {"schema": "pysync"})

    singleton: Mapped[bool] = mapped_column(server_default=text("true"), primary_key=True)
    changed_at: Mapped[TimeOfChange]


# What follows means something only while the transactions last that wrote it. A crash ends them,
# too, so none of it is logged.
_UNLOGGED = {"schema": "pysync", "prefixes": ["UNLOGGED"]}


class MemberChange(PortalBase):
    """A user, written whenever what courses hold of it changes: older snapshots fail with 40001."""

    __tablename__ = "member_change"
    __table_args__ = (_UNLOGGED | {"postgresql_with": {"fillfactor": "50"}},)

    user_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ProfileChange(PortalBase):
    """Whose profiles a transaction has changed, for its end; others never see a row.

    With a fixed snapshot also the users that it has changed: 40001 if they were enrolled since.
    """

    __tablename__ = "profile_change"
    __table_args__ = (_UNLOGGED,)

    transaction_id: Mapped[int] = mapped_column(
        primary_key=True,
        autoincrement=False,
        server_default=text("(pg_current_xact_id()::text)::bigint"),
    )
    id: Mapped[Id]
    user_ids: Mapped[list[int]]


class PortalCarriedColumn(CarriedColumns, PortalBase):
    """A column of the portal's own that courses are sent, until its removal is complete."""

    __tablename__ = "carried_column"
    __table_args__ = (
        CheckConstraint("removal = 'keep' or removal = 'drop'", name="removal"),
        {"schema": "pysync"},
    )

    added_at: Mapped[TimeOfChange]
    removal: Mapped[str | None] = mapped_column(
        String(8), comment="what becomes of it in courses once it has begun to be removed"
    )


class EnrollmentMembership(PortalBase):
    """A single row, once somebody has decided which enrollments count."""

    __tablename__ = "membership"
    __table_args__ = (CheckConstraint("singleton", name="singleton"), {"schema": "pysync"})

    singleton: Mapped[bool] = mapped_column(server_default=text("true"), primary_key=True)
    column_name: Mapped[str | None] = mapped_column(
        String(63), comment="those whose column of this name is true; all, if it is null"
    )
    decided_at: Mapped[TimeOfChange]


class PortalInstalled(InstalledColumns, PortalBase):
    """What pysync made in the portal."""

    __tablename__ = "installed"
    __table_args__ = ({"schema": "pysync"},)


class PortalAdoption(PortalBase):
    """A table that was there before pysync; a downgrade never drops it."""

    __tablename__ = "adoption"
    __table_args__ = ({"schema": "pysync"},)

    table_name: Mapped[str] = mapped_column(String(63), primary_key=True)
    undo: Mapped[Undo]
