"""What courses should hold, from the source tables, and repairs of the fan-out."""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from pysync.migrate.operations import create, execute, replay

revision = "p0006"
down_revision = "p0005"
branch_labels = None
depends_on = None

FROZEN = Path(__file__).with_name("p0006")

VERIFICATION = sa.Table(
    "verification",
    sa.MetaData(),
    sa.Column("course_id", sa.String(255), nullable=False),
    sa.Column("verified_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column(
        "differences",
        sa.BigInteger,
        nullable=False,
        comment="rows that differed, on either side, or couldn't be settled",
    ),
    sa.PrimaryKeyConstraint("course_id", name="verification_pkey"),
    schema="pysync",
)


def upgrade() -> None:
    create(VERIFICATION)
    # By hand: a foreign key object would need the table it points at in this metadata.
    execute(
        "alter table pysync.verification add constraint verification_course_id_fkey"
        " foreign key (course_id) references pysync.course (course_id) on delete cascade"
    )
    replay(FROZEN)


def downgrade() -> None:
    execute("drop function pysync.fan_out_differences(text)")
    execute("drop function pysync.mend_members(text, bigint[])")
    op.drop_table(VERIFICATION.name, schema="pysync")
