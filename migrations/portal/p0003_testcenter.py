"""Test-center users and registrations."""

from pathlib import Path

from pysync.migrate.operations import replay

revision = "p0003"
down_revision = "p0002"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0003")


def upgrade() -> None:
    replay(FROZEN)


def downgrade() -> None:
    pass
