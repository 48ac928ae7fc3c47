"""Rows that were not loaded: rejects, and how many of them each checkpoint has.

Written out in full, not taken from schema.py: a migration stays what it was.
"""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table and the column."""
    for statement in STATEMENTS:
        op.execute(statement)


STATEMENTS = [
    "ALTER TABLE taskwidgets.checkpoints ADD COLUMN rejected bigint NOT NULL DEFAULT 0",
    """
    CREATE TABLE taskwidgets.rejects (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        job_id bigint NOT NULL REFERENCES taskwidgets.jobs (id) ON DELETE CASCADE,
        line bigint NOT NULL,
        byte_offset bigint NOT NULL,
        raw text NOT NULL,
        "column" text,
        sqlstate text,
        message text NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        replayed_at timestamptz
    )
    """,
    "CREATE INDEX rejects_place ON taskwidgets.rejects (job_id, byte_offset)",
]
