"""What courses should hold, from the source tables, and repairs of the fan-out."""

from pathlib import Path

from pysync.migrate.operations import replay

revision = "p0006"
down_revision = "p0005"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0006")


def upgrade() -> None:
    replay(FROZEN)


def downgrade() -> None:
    pass
