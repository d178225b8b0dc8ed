"""Accounts, groups, roles, and the choices of profiles."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

from pysync.adoption import Side
from pysync.migrate.operations import (
    create_or_adopt,
    drop_or_release,
    execute,
    is_adopted,
    record_adoption,
    replay,
)

revision = "p0002"
down_revision = "p0001"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0002")


def id_column() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False)


def reference(column: str) -> sa.Column[Any]:
    return sa.Column(column, sa.BigInteger, nullable=False)


def foreign_key(table: str, column: str, target: str = "auth_user") -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column],
        [f"public.{target}.id"],
        name=f"{table}_{column}_fkey",
        ondelete="CASCADE",
        deferrable=True,
        initially="DEFERRED",
    )


def unique(table: str, *columns: str) -> sa.UniqueConstraint:
    return sa.UniqueConstraint(*columns, name=f"{table}_{'_'.join(columns)}_key")


def indexes(table: str, *columns: str) -> list[sa.Index]:
    return [sa.Index(f"{table}_{column}_idx", column) for column in columns]


portal = sa.MetaData()
sa.Table("auth_user", portal, id_column(), schema="public")
TABLES = [
    sa.Table(
        "auth_registration",
        portal,
        id_column(),
        reference("user_id"),
        sa.Column("activation_key", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="auth_registration_pkey"),
        unique("auth_registration", "user_id"),
        unique("auth_registration", "activation_key"),
        foreign_key("auth_registration", "user_id"),
        schema="public",
    ),
    sa.Table(
        "student_pendingnamechange",
        portal,
        id_column(),
        reference("user_id"),
        sa.Column("new_name", sa.String(255), nullable=False),
        sa.Column("rationale", sa.String(1024), nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("id", name="student_pendingnamechange_pkey"),
        unique("student_pendingnamechange", "user_id"),
        foreign_key("student_pendingnamechange", "user_id"),
        schema="public",
    ),
    sa.Table(
        "student_pendingemailchange",
        portal,
        id_column(),
        reference("user_id"),
        sa.Column("new_email", sa.String(255), nullable=False),
        sa.Column("activation_key", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="student_pendingemailchange_pkey"),
        unique("student_pendingemailchange", "user_id"),
        unique("student_pendingemailchange", "activation_key"),
        foreign_key("student_pendingemailchange", "user_id"),
        *indexes("student_pendingemailchange", "new_email"),
        schema="public",
    ),
    sa.Table(
        "student_usertestgroup",
        portal,
        id_column(),
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("description", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("id", name="student_usertestgroup_pkey"),
        unique("student_usertestgroup", "name"),
        sa.CheckConstraint("name <> ''", name="student_usertestgroup_name_check"),
        schema="public",
    ),
    sa.Table(
        "student_usertestgroup_users",
        portal,
        id_column(),
        reference("usertestgroup_id"),
        reference("user_id"),
        sa.PrimaryKeyConstraint("id", name="student_usertestgroup_users_pkey"),
        unique("student_usertestgroup_users", "usertestgroup_id", "user_id"),
        foreign_key("student_usertestgroup_users", "usertestgroup_id", "student_usertestgroup"),
        foreign_key("student_usertestgroup_users", "user_id"),
        *indexes("student_usertestgroup_users", "usertestgroup_id", "user_id"),
        schema="public",
    ),
    sa.Table(
        "django_comment_client_role",
        portal,
        id_column(),
        sa.Column("name", sa.String(30), nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.PrimaryKeyConstraint("id", name="django_comment_client_role_pkey"),
        unique("django_comment_client_role", "course_id", "name"),
        *indexes("django_comment_client_role", "course_id"),
        schema="public",
    ),
    sa.Table(
        "django_comment_client_role_users",
        portal,
        id_column(),
        reference("role_id"),
        reference("user_id"),
        sa.PrimaryKeyConstraint("id", name="django_comment_client_role_users_pkey"),
        unique("django_comment_client_role_users", "role_id", "user_id"),
        foreign_key("django_comment_client_role_users", "role_id", "django_comment_client_role"),
        foreign_key("django_comment_client_role_users", "user_id"),
        *indexes("django_comment_client_role_users", "role_id", "user_id"),
        schema="public",
    ),
]
PROFILE_CHECKS = {
    "gender": "gender in ('', 'm', 'f', 'o')",
    "level_of_education": (
        "level_of_education in ('', 'p_se', 'p_oth', 'm', 'b', 'hs', 'jhs', 'el', 'none', 'other')"
    ),
}
PROFILE = "public.auth_userprofile"


def upgrade() -> None:
    execute("create schema student")
    for table in TABLES:
        adoption = create_or_adopt(table, Side.PORTAL)
        if adoption is not None:
            record_adoption("pysync", table, adoption)
    execute("create index auth_user_email_lower_idx on public.auth_user (lower(email))")
    not_valid = " not valid" if is_adopted("auth_userprofile") else ""
    for column, condition in PROFILE_CHECKS.items():
        name = f"auth_userprofile_{column}_check"
        execute(f"alter table {PROFILE} add constraint {name} check ({condition}){not_valid}")
    replay(FROZEN)


TRIGGERS = ["pysync_role_assigned", "pysync_role_reassigned"]
FUNCTIONS = [
    "assign_roles()",
    "give_roles(bigint[], text[])",
    "register(bigint)",
    "activate(text)",
    "request_name_change(bigint, text, text)",
    "approve_name_change(bigint)",
    "reject_name_change(bigint)",
    "request_email_change(bigint, text)",
    "approve_email_change(text)",
    "reject_email_change(bigint)",
    "check_email_free(text, bigint)",
    "find_user(text)",
    "require_user(bigint)",
    "new_key()",
    "create_group(text, text)",
    "describe_group(text, text)",
    "add_user_to_group(text, text)",
    "remove_user_from_group(text, text)",
    "add_user_to_default_group(text, text)",
    "default_groups()",
    "find_group(text)",
    "list_groups()",
    "group_members(text)",
]


def downgrade() -> None:
    for trigger in TRIGGERS:
        execute(f"drop trigger {trigger} on public.student_courseenrollment")
    for function in FUNCTIONS:
        execute(f"drop function student.{function}")
    for column in PROFILE_CHECKS:
        execute(f"alter table {PROFILE} drop constraint auth_userprofile_{column}_check")
    op.drop_index("auth_user_email_lower_idx", "auth_user", schema="public")
    execute(
        "revoke all on public.django_comment_client_role, public.django_comment_client_role_users "
        "from pysync_owner"
    )
    execute("revoke usage on all sequences in schema public from pysync_owner")
    for table in reversed(TABLES):
        drop_or_release(table)
    execute("drop schema student")
