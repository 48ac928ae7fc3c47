"""Checkpoints of exports into a folder: each says which file it speaks of.

Written out in full, not taken from schema.py: a migration stays what it was.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.execute("ALTER TABLE taskwidgets.checkpoints ADD COLUMN file jsonb")
