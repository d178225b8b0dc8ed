"""What monitoring may see of replication."""

from pathlib import Path

from pysync.migrate.operations import execute, replay

revision = "p0005"
down_revision = "p0004"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0005")


def upgrade() -> None:
    replay(FROZEN)


def downgrade() -> None:
    execute("drop view pysync.subscription_status")
    execute("drop function pysync.send_beats(text[])")
