"""Control from anywhere, and jobs of the user's own: requests, run_states.

Written out in full, not taken from schema.py: a migration stays what it was.
"""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the two tables, and the index by which a million finished jobs are passed over."""
    for statement in STATEMENTS:
        op.execute(statement)


STATEMENTS = [
    """
    CREATE TABLE taskwidgets.requests (
        id uuid PRIMARY KEY,
        job_id bigint NOT NULL REFERENCES taskwidgets.jobs (id) ON DELETE CASCADE,
        verb text NOT NULL,
        cause text NOT NULL,
        asked_by text NOT NULL,
        asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        answered_at timestamptz,
        answer text,
        CONSTRAINT requests_verb_known CHECK (verb IN ('pause', 'resume', 'terminate'))
    )
    """,
    "CREATE INDEX requests_open ON taskwidgets.requests (job_id) WHERE answered_at IS NULL",
    "CREATE INDEX requests_job ON taskwidgets.requests (job_id)",
    """
    CREATE TABLE taskwidgets.run_states (
        job_id bigint NOT NULL REFERENCES taskwidgets.jobs (id) ON DELETE CASCADE,
        serial bigint NOT NULL,
        state jsonb NOT NULL,
        progress jsonb NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (job_id)
    )
    """,
    "CREATE INDEX jobs_state ON taskwidgets.jobs (state, id)",
]
