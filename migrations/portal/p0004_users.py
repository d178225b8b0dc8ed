"""Choices of profiles, functions on users, and the outbox of the discussion service."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

from pysync.migrate.operations import create, execute, replay, replay_file

revision = "p0004"
down_revision = "p0003"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0004")

timestamp = sa.DateTime(timezone=True)
metadata = sa.MetaData()


def choice_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("code", sa.String(6), nullable=False),
        sa.Column("display_name", sa.String(255), nullable=False),
        sa.Column("position", sa.Integer, nullable=False, comment="where forms list it, from 1"),
    ]


TABLES = [
    sa.Table(
        "gender",
        metadata,
        *choice_columns(),
        sa.PrimaryKeyConstraint("code", name="gender_pkey"),
        sa.UniqueConstraint("position", name="gender_position_key"),
        schema="student",
    ),
    sa.Table(
        "level_of_education",
        metadata,
        *choice_columns(),
        sa.PrimaryKeyConstraint("code", name="level_of_education_pkey"),
        sa.UniqueConstraint("position", name="level_of_education_position_key"),
        schema="student",
    ),
    sa.Table(
        "setting",
        metadata,
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.PrimaryKeyConstraint("name", name="setting_pkey"),
        schema="pysync",
    ),
    sa.Table(
        "discussion_change",
        metadata,
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("changed_at", timestamp, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="discussion_change_pkey"),
        schema="pysync",
    ),
    sa.Table(
        "discussion_outbox",
        metadata,
        sa.Column("user_id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column(
            "version",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("1"),
            comment="counts changes: a delivery that was overtaken by one isn't the last",
        ),
        sa.Column("queued_at", timestamp, nullable=False),
        sa.Column(
            "attempts",
            sa.Integer,
            nullable=False,
            server_default=sa.text("0"),
            comment="that failed, one after the other",
        ),
        sa.Column(
            "next_attempt_at",
            timestamp,
            nullable=False,
            comment="while it is claimed: when the claim runs out",
        ),
        sa.Column("claimed_until", timestamp, comment="whose claim it is: of no two the same"),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("user_id", name="discussion_outbox_pkey"),
        sa.Index("discussion_outbox_next_attempt_at_idx", "next_attempt_at"),
        schema="pysync",
    ),
]
FUNCTIONS = [
    "student.get_meta(bigint)",
    "student.set_meta(bigint, jsonb)",
    "student.valid_years_of_birth()",
    "student.is_valid_year_of_birth(integer)",
    "student.user_info(text)",
    "student.change_email(text, text)",
    "student.change_name(text, text)",
    "student.user_id_by_email(text)",
    "student.user_count()",
    "student.active_user_count()",
    "student.unique_id_for_user(bigint, text)",
    "pysync.user_inserted()",
    "pysync.user_changed(bigint)",
    "pysync.claim_deliveries(integer, double precision, timestamptz)",
    "pysync.settle_delivery(bigint, timestamptz, bigint, text)",
    "pysync.next_delivery_seconds()",
    "pysync.discussion_status()",
    "pysync.discussion_queue()",
    "pysync.retry_deliveries(text)",
    "pysync.queue_all_users()",
    "pysync.wake_pushers()",
    "pysync.feature_is_on(text)",
]


def upgrade() -> None:
    for table in TABLES:
        create(table)
    replay(FROZEN)


def downgrade() -> None:
    execute("drop trigger pysync_discussion_inserted on public.auth_user")
    replay_file(FROZEN.with_name("p0001") / "user_updated.sql")
    for function in FUNCTIONS:
        execute(f"drop function {function}")
    for table in reversed(TABLES):
        op.drop_table(table.name, schema=table.schema)
