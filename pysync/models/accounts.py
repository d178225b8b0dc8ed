"""Accounts, pending changes, groups and roles: tables of the portal, in schema public."""

from sqlalchemy import CheckConstraint, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from pysync.models.columns import CourseIdText, Id, points_at
from pysync.models.portal import PortalBase, User

KEY_LENGTH = 32
"""Characters of an activation key: 128 random bits as hexadecimal digits."""


class Registration(PortalBase):
    """A user's activation key; the account is inactive until somebody shows the key."""

    __tablename__ = "auth_registration"
    __table_args__ = ({"schema": "public"},)

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(points_at(), unique=True)
    activation_key: Mapped[str] = mapped_column(String(KEY_LENGTH), unique=True)

    user: Mapped[User] = relationship()


class PendingNameChange(PortalBase):
    """The name that a user asks for; one per user."""

    __tablename__ = "student_pendingnamechange"
    __table_args__ = ({"schema": "public"},)

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(points_at(), unique=True)
    new_name: Mapped[str] = mapped_column(String(255))
    rationale: Mapped[str] = mapped_column(String(1024), server_default=text("''"))

    user: Mapped[User] = relationship()


class PendingEmailChange(PortalBase):
    """The e-mail address that a user asks for, and the key sent there; one per user."""

    __tablename__ = "student_pendingemailchange"
    __table_args__ = ({"schema": "public"},)

    id: Mapped[Id]
    user_id: Mapped[int] = mapped_column(points_at(), unique=True)
    new_email: Mapped[str] = mapped_column(String(255), index=True)
    activation_key: Mapped[str] = mapped_column(String(KEY_LENGTH), unique=True)

    user: Mapped[User] = relationship()


class EmailClaim(PortalBase):
    """Always empty: who gives out an address inserts it, and deletes it in the same transaction."""

    __tablename__ = "email_claim"
    __table_args__ = ({"schema": "student"},)

    email: Mapped[str] = mapped_column(primary_key=True, comment="in lower case")


class UserTestGroup(PortalBase):
    """A group of users, such as those who want e-mails about new courses."""

    __tablename__ = "student_usertestgroup"
    __table_args__ = (CheckConstraint("name <> ''", name="name"), {"schema": "public"})

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(32), unique=True)
    description: Mapped[str] = mapped_column(server_default=text("''"))

    users: Mapped[list[User]] = relationship(secondary="public.student_usertestgroup_users")


class UserTestGroupMember(PortalBase):
    """That a user is in a group."""

    __tablename__ = "student_usertestgroup_users"
    __table_args__ = (UniqueConstraint("usertestgroup_id", "user_id"), {"schema": "public"})

    id: Mapped[Id]
    usertestgroup_id: Mapped[int] = mapped_column(
        points_at("public.student_usertestgroup"), index=True
    )
    user_id: Mapped[int] = mapped_column(points_at(), index=True)


class Role(PortalBase):
    """What users may do in a course's discussions: 'Student', 'Moderator' and others."""

    __tablename__ = "django_comment_client_role"
    __table_args__ = (UniqueConstraint("course_id", "name"), {"schema": "public"})

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(30))
    course_id: Mapped[CourseIdText] = mapped_column(server_default=text("''"), index=True)

    users: Mapped[list[User]] = relationship(secondary="public.django_comment_client_role_users")


class RoleMember(PortalBase):
    """That a user has a role."""

    __tablename__ = "django_comment_client_role_users"
    __table_args__ = (UniqueConstraint("role_id", "user_id"), {"schema": "public"})

    id: Mapped[Id]
    role_id: Mapped[int] = mapped_column(points_at("public.django_comment_client_role"), index=True)
    user_id: Mapped[int] = mapped_column(points_at(), index=True)
