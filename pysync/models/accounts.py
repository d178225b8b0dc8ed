"""Accounts, pending changes, groups and roles: tables of the portal, in schema public."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from pysync.models.columns import foreign_key
from pysync.models.portal import PortalBase, User
from pysync.types import MAX_COURSE_ID_LENGTH

KEY_LENGTH = 32
"""Characters of an activation key: 128 random bits as hexadecimal digits."""


class Registration(PortalBase):
    """A user's activation key; the account is inactive until somebody shows the key."""

    __tablename__ = "auth_registration"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="auth_registration_pkey"),
        UniqueConstraint("user_id", name="auth_registration_user_id_key"),
        UniqueConstraint("activation_key", name="auth_registration_activation_key_key"),
        foreign_key("auth_registration", "user_id", "public.auth_user"),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    user_id: Mapped[int] = mapped_column(BigInteger)
    activation_key: Mapped[str] = mapped_column(String(KEY_LENGTH))

    user: Mapped[User] = relationship()


class PendingNameChange(PortalBase):
    """The name that a user asks for; one per user."""

    __tablename__ = "student_pendingnamechange"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="student_pendingnamechange_pkey"),
        UniqueConstraint("user_id", name="student_pendingnamechange_user_id_key"),
        foreign_key("student_pendingnamechange", "user_id", "public.auth_user"),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    user_id: Mapped[int] = mapped_column(BigInteger)
    new_name: Mapped[str] = mapped_column(String(255))
    rationale: Mapped[str] = mapped_column(String(1024), server_default=text("''"))

    user: Mapped[User] = relationship()


class PendingEmailChange(PortalBase):
    """The e-mail address that a user asks for, and the key sent there; one per user."""

    __tablename__ = "student_pendingemailchange"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="student_pendingemailchange_pkey"),
        UniqueConstraint("user_id", name="student_pendingemailchange_user_id_key"),
        UniqueConstraint("activation_key", name="student_pendingemailchange_activation_key_key"),
        foreign_key("student_pendingemailchange", "user_id", "public.auth_user"),
        Index("student_pendingemailchange_new_email_idx", "new_email"),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    user_id: Mapped[int] = mapped_column(BigInteger)
    new_email: Mapped[str] = mapped_column(String(255))
    activation_key: Mapped[str] = mapped_column(String(KEY_LENGTH))

    user: Mapped[User] = relationship()


class UserTestGroup(PortalBase):
    """A group of users, such as those who want e-mails about new courses."""

    __tablename__ = "student_usertestgroup"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="student_usertestgroup_pkey"),
        UniqueConstraint("name", name="student_usertestgroup_name_key"),
        CheckConstraint("name <> ''", name="student_usertestgroup_name_check"),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    name: Mapped[str] = mapped_column(String(32))
    description: Mapped[str] = mapped_column(Text, server_default=text("''"))

    users: Mapped[list[User]] = relationship(secondary="public.student_usertestgroup_users")


class UserTestGroupMember(PortalBase):
    """That a user is in a group."""

    __tablename__ = "student_usertestgroup_users"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="student_usertestgroup_users_pkey"),
        UniqueConstraint(
            "usertestgroup_id",
            "user_id",
            name="student_usertestgroup_users_usertestgroup_id_user_id_key",
        ),
        foreign_key(
            "student_usertestgroup_users", "usertestgroup_id", "public.student_usertestgroup"
        ),
        foreign_key("student_usertestgroup_users", "user_id", "public.auth_user"),
        Index("student_usertestgroup_users_usertestgroup_id_idx", "usertestgroup_id"),
        Index("student_usertestgroup_users_user_id_idx", "user_id"),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    usertestgroup_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int] = mapped_column(BigInteger)


class Role(PortalBase):
    """What users may do in a course's discussions: 'Student', 'Moderator' and others."""

    __tablename__ = "django_comment_client_role"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="django_comment_client_role_pkey"),
        UniqueConstraint("course_id", "name", name="django_comment_client_role_course_id_name_key"),
        Index("django_comment_client_role_course_id_idx", "course_id"),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    name: Mapped[str] = mapped_column(String(30))
    course_id: Mapped[str] = mapped_column(String(MAX_COURSE_ID_LENGTH), server_default=text("''"))

    users: Mapped[list[User]] = relationship(secondary="public.django_comment_client_role_users")


class RoleMember(PortalBase):
    """That a user has a role."""

    __tablename__ = "django_comment_client_role_users"
    __table_args__ = (
        PrimaryKeyConstraint("id", name="django_comment_client_role_users_pkey"),
        UniqueConstraint(
            "role_id", "user_id", name="django_comment_client_role_users_role_id_user_id_key"
        ),
        foreign_key(
            "django_comment_client_role_users", "role_id", "public.django_comment_client_role"
        ),
        foreign_key("django_comment_client_role_users", "user_id", "public.auth_user"),
        Index("django_comment_client_role_users_role_id_idx", "role_id"),
        Index("django_comment_client_role_users_user_id_idx", "user_id"),
        {"schema": "public"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity())
    role_id: Mapped[int] = mapped_column(BigInteger)
    user_id: Mapped[int] = mapped_column(BigInteger)
