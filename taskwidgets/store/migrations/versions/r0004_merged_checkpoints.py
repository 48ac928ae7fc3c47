"""Checkpoints that stand for several, merged: the ledger of a long job stays short.

Written out in full, not taken from schema.py: a migration stays what it was.
"""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE taskwidgets.checkpoints ADD COLUMN segments bigint NOT NULL DEFAULT 1")
