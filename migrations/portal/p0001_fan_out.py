"""Fan-out tables, their triggers, and the registry of courses."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from pysync.adoption import Side
from pysync.migrate.operations import (
    create,
    create_or_adopt,
    drop_or_release,
    execute,
    record_adoption,
    replay,
)

revision = "p0001"
down_revision = None
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0001")

timestamp = sa.DateTime(timezone=True)


def user_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("password", sa.String(128), nullable=False),
        sa.Column("last_login", timestamp),
        sa.Column("is_superuser", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("username", sa.String(150), nullable=False),
        sa.Column("first_name", sa.String(150), nullable=False, server_default=sa.text("''")),
        sa.Column("last_name", sa.String(150), nullable=False, server_default=sa.text("''")),
        sa.Column("email", sa.String(254), nullable=False, server_default=sa.text("''")),
        sa.Column("is_staff", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("date_joined", timestamp, nullable=False, server_default=sa.text("now()")),
    ]


def profile_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("name", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.Column("meta", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column(
            "courseware", sa.String(255), nullable=False, server_default=sa.text("'course.xml'")
        ),
        sa.Column("language", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.Column("location", sa.String(255), nullable=False, server_default=sa.text("''")),
        sa.Column("year_of_birth", sa.Integer),
        sa.Column("gender", sa.String(6)),
        sa.Column("level_of_education", sa.String(6)),
        sa.Column("mailing_address", sa.Text),
        sa.Column("goals", sa.Text),
    ]


def created() -> sa.Column[Any]:
    return sa.Column("created", timestamp, server_default=sa.text("now()"))


def portal_id() -> sa.Column[Any]:
    return sa.Column("id", sa.BigInteger, sa.Identity(), nullable=False)


def copy_keys(*more: str) -> list[sa.Column[Any]]:
    return [
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        *[sa.Column(name, sa.BigInteger, nullable=False) for name in more],
    ]


def user_id_fkey(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["user_id"],
        ["public.auth_user.id"],
        name=f"{table}_user_id_fkey",
        ondelete="CASCADE",
        deferrable=True,
        initially="DEFERRED",
    )


def indexes(table: str, *columns: str) -> list[sa.Index]:
    return [sa.Index(f"{table}_{column}_idx", column) for column in columns]


portal = sa.MetaData()
PORTAL_TABLES = [
    sa.Table(
        "auth_user",
        portal,
        portal_id(),
        *user_columns(),
        sa.PrimaryKeyConstraint("id", name="auth_user_pkey"),
        sa.UniqueConstraint("username", name="auth_user_username_key"),
        schema="public",
    ),
    sa.Table(
        "auth_userprofile",
        portal,
        portal_id(),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        *profile_columns(),
        sa.PrimaryKeyConstraint("id", name="auth_userprofile_pkey"),
        sa.UniqueConstraint("user_id", name="auth_userprofile_user_id_key"),
        user_id_fkey("auth_userprofile"),
        *indexes(
            "auth_userprofile",
            "name",
            "language",
            "location",
            "year_of_birth",
            "gender",
            "level_of_education",
        ),
        schema="public",
    ),
    sa.Table(
        "student_courseenrollment",
        portal,
        portal_id(),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        created(),
        sa.PrimaryKeyConstraint("id", name="student_courseenrollment_pkey"),
        sa.UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        user_id_fkey("student_courseenrollment"),
        *indexes("student_courseenrollment", "user_id", "course_id", "created"),
        schema="public",
    ),
]

ours = sa.MetaData()
FAN_OUT_TABLES = [
    sa.Table(
        "auth_user",
        ours,
        *copy_keys(),
        sa.Column(
            "live",
            sa.Boolean,
            nullable=False,
            comment="whether the user is enrolled; never published",
        ),
        *user_columns(),
        sa.PrimaryKeyConstraint("id", "course_id", name="auth_user_pkey"),
        sa.UniqueConstraint("course_id", "username", name="auth_user_course_id_username_key"),
        sa.Index(
            "auth_user_frozen_idx",
            "course_id",
            "username",
            postgresql_where=sa.text("not live"),
        ),
        schema="course",
        postgresql_with={"fillfactor": "90"},
    ),
    sa.Table(
        "auth_userprofile",
        ours,
        *copy_keys("user_id"),
        *profile_columns(),
        sa.PrimaryKeyConstraint("id", "course_id", name="auth_userprofile_pkey"),
        sa.UniqueConstraint("user_id", "course_id", name="auth_userprofile_user_id_course_id_key"),
        schema="course",
        postgresql_with={"fillfactor": "90"},
    ),
    sa.Table(
        "student_courseenrollment",
        ours,
        *copy_keys("user_id"),
        created(),
        sa.PrimaryKeyConstraint("id", "course_id", name="student_courseenrollment_pkey"),
        sa.UniqueConstraint(
            "user_id", "course_id", name="student_courseenrollment_user_id_course_id_key"
        ),
        schema="course",
    ),
    sa.Table(
        "beat",
        ours,
        sa.Column("course_id", sa.String(255), nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("marked_at", timestamp, nullable=False),
        sa.PrimaryKeyConstraint("course_id", name="beat_pkey"),
        schema="course",
    ),
]
REGISTRY_TABLES = [
    sa.Table(
        "course",
        ours,
        sa.Column(
            "course_id",
            sa.String(255),
            nullable=False,
            comment="as in student_courseenrollment.course_id",
        ),
        sa.Column(
            "replication_name",
            sa.String(63),
            nullable=False,
            comment="of the publication, the slot and the subscription",
        ),
        sa.Column(
            "conninfo",
            sa.Text,
            nullable=False,
            comment="how pysync reaches the course database; never holds a password",
        ),
        sa.Column(
            "portal_conninfo",
            sa.Text,
            nullable=False,
            comment="how the course's server reaches the portal; never holds a password",
        ),
        sa.Column(
            "replication_role",
            sa.String(63),
            nullable=False,
            comment="the role the course's subscription has on the portal",
        ),
        sa.Column(
            "fans_out",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("true"),
            comment="whether triggers copy its members; false once removal has begun",
        ),
        sa.Column(
            "course_system_identifier",
            sa.BigInteger,
            comment="of the course's server: part of its synchronization slots' names",
        ),
        sa.Column(
            "subscription_oid",
            postgresql.OID,
            comment="in the course database: part of its synchronization slots' names",
        ),
        sa.Column("ready_at", timestamp, comment="when the first copy was complete"),
        sa.Column("added_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column(
            "adopts",
            sa.Boolean,
            nullable=False,
            server_default=sa.text("false"),
            comment="whether its database held users before: it is filled by a merge",
        ),
        sa.Column(
            "sacrificed_at",
            timestamp,
            comment="when its slot was dropped to save the portal's disk",
        ),
        sa.PrimaryKeyConstraint("course_id", name="course_pkey"),
        sa.UniqueConstraint("replication_name", name="course_replication_name_key"),
        sa.CheckConstraint("course_id not in ('', 'default')", name="course_course_id_check"),
        schema="pysync",
    ),
    sa.Table(
        "erasure",
        ours,
        sa.Column("user_id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("course_id", sa.String(255), nullable=False),
        sa.Column("requested_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.Column(
            "username_digest",
            sa.String(64),
            nullable=False,
            comment="SHA-256 of '<user_id>:<username>', to find it by the same command",
        ),
        sa.PrimaryKeyConstraint("user_id", "course_id", name="erasure_pkey"),
        schema="pysync",
    ),
    sa.Table(
        "registry_change",
        ours,
        sa.Column("singleton", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("changed_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("singleton", name="registry_change_pkey"),
        sa.CheckConstraint("singleton", name="registry_change_singleton_check"),
        schema="pysync",
    ),
    sa.Table(
        "adoption",
        ours,
        sa.Column("table_name", sa.String(63), nullable=False),
        sa.Column(
            "undo",
            postgresql.ARRAY(sa.Text),
            nullable=False,
            comment="statements that take back what adoption did, as far as the data allows",
        ),
        sa.PrimaryKeyConstraint("table_name", name="adoption_pkey"),
        schema="pysync",
    ),
]


def upgrade() -> None:
    execute("create schema course")
    adoptions = [(table, create_or_adopt(table, Side.PORTAL)) for table in PORTAL_TABLES]
    for table in [*FAN_OUT_TABLES, *REGISTRY_TABLES]:
        create(table)
    for table, adoption in adoptions:
        if adoption is not None:
            record_adoption("pysync", table, adoption)
    execute("insert into pysync.registry_change default values")
    replay(FROZEN, first="owner.sql")


# Triggers of the portal's own tables: they would outlive the fan-out.
TRIGGERS = {
    "auth_user": ["user_updated", "user_id_fixed", "user_deleted", "user_truncated"],
    "auth_userprofile": [
        "profile_inserted",
        "profile_updated",
        "profile_deleted",
        "profile_truncated",
    ],
    "student_courseenrollment": [
        "enrollment_inserted",
        "enrollment_updated",
        "enrollment_deleted",
        "enrollment_truncated",
    ],
}
FUNCTIONS = [
    "course.user_updated()",
    "course.refuse_user_id_change()",
    "course.user_deleted()",
    "course.refuse_user_truncate()",
    "course.profile_inserted()",
    "course.profile_updated()",
    "course.profile_deleted()",
    "course.profile_truncated()",
    "course.enrollment_inserted()",
    "course.enrollment_updated()",
    "course.enrollment_deleted()",
    "course.enrollment_truncated()",
    "course.refuse_truncate()",
    "course.copy_members(bigint[])",
    "course.make_way(bigint[], text[])",
    "course.remove_members(bigint[], text[])",
    "course.scrub_members(bigint[])",
    "course.copy_profiles(bigint[], text[])",
    "course.write_members(bigint[], boolean)",
    "course.lock_members(bigint[])",
    "course.lock_live_copies(bigint[])",
    "course.check_truncate()",
    "course.require_members(bigint[], bigint, text)",
    "course.free_username(text, text, bigint)",
    "course.check_registry()",
    "pysync.mark(text)",
    "pysync.backfill(text, bigint, integer)",
    "pysync.readable_courses(name)",
    "pysync.registry_changed()",
]


def downgrade() -> None:
    execute(
        "do $$ begin if exists (select from pysync.course) then "
        "raise exception using errcode = 'PY006', "
        "message = 'courses are registered: the downgrade would leave their slots behind', "
        "hint = 'Run \"pysync course remove\" for each of them first'; "
        "end if; end $$"
    )
    for table_name, triggers in TRIGGERS.items():
        for trigger in triggers:
            execute(f"drop trigger pysync_{trigger} on public.{table_name}")
    # Tables first: their triggers and policies depend on the functions.
    for table in [*FAN_OUT_TABLES, *REGISTRY_TABLES[1:]]:
        op.drop_table(table.name, schema=table.schema)
    execute("drop trigger pysync_registry_changed on pysync.course")
    for function in FUNCTIONS:
        execute(f"drop function {function}")
    op.drop_table("course", schema="pysync")
    execute("drop schema course")
    for table in reversed(PORTAL_TABLES):
        drop_or_release(table)
    # What is left to the role in this database are its grants. They go even where other portals of
    # this cluster need the role still: else nobody could ever drop it.
    execute("drop owned by pysync_owner")
    execute(
        "do $$ begin drop role pysync_owner; "
        "exception when dependent_objects_still_exist then null; end $$"
    )
