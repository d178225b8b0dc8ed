"""${message}."""

from pathlib import Path

from pysync.migrate.operations import execute, replay, replay_file

revision = "${up_revision}"
down_revision = "${down_revision}"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name(revision)

# Written by `make revision`, as long as this isn't released; see migrations/revise.py.
DROPPED: list[str] = []
UP_DROPS: list[str] = []
DOWN_REPLAYS: list[str] = []
DOWN_DROPS: list[str] = []


def upgrade() -> None:
    # Columns and tables that are new, before what uses them.
    replay(FROZEN)
    for statement in UP_DROPS:
        execute(statement)
    # Columns and tables that go, after what used them.


def downgrade() -> None:
    # What went is made again.
    for path in DOWN_REPLAYS:
        replay_file(FROZEN.parent / path)
    for statement in DOWN_DROPS:
        execute(statement)
    # What was new is dropped.
