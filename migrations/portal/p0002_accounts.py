"""Accounts, groups, roles and profile helpers, in schema student."""

from pathlib import Path

from pysync.migrate.operations import execute, replay

revision = "p0002"
down_revision = "p0001"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0002")


def upgrade() -> None:
    execute("create schema student")
    replay(FROZEN)


def downgrade() -> None:
    execute("drop schema student")
