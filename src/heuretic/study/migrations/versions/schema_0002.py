"""Several objectives, fingerprints, hand-picked programs."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add columns with defaults, and one table."""
    op.add_column("studies", sa.Column("objectives", sa.Text, nullable=False, server_default=""))
    op.add_column("trials", sa.Column("scores", sa.Text, nullable=False, server_default="[]"))
    op.add_column("trials", sa.Column("fingerprint", sa.LargeBinary))
    op.create_table(
        "enqueued",
        sa.Column("study_id", sa.Integer, sa.ForeignKey("studies.id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("space", sa.Integer, nullable=False),
        sa.Column("genome", sa.Text, nullable=False),
    )
    op.execute("UPDATE heuretic_schema SET version = 2")
