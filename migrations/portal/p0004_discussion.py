"""The outbox of the discussion service, and settings."""

from pathlib import Path

from pysync.migrate.operations import replay

revision = "p0004"
down_revision = "p0003"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0004")


def upgrade() -> None:
    replay(FROZEN)


def downgrade() -> None:
    pass
