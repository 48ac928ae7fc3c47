"""The first tables: jobs, checkpoints, events, and the list of legal transitions.

Written out in full, not taken from schema.py: a migration stays what it was.
"""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables and the trigger that guards the states."""
    for statement in STATEMENTS:
        op.execute(statement)


STATEMENTS = [
    """
    CREATE TABLE taskwidgets.transitions (
        from_state text NOT NULL,
        to_state text NOT NULL,
        PRIMARY KEY (from_state, to_state)
    )
    """,
    """
    INSERT INTO taskwidgets.transitions (from_state, to_state) VALUES
        ('pending', 'running'),
        ('pending', 'terminated'),
        ('running', 'pausing'),
        ('running', 'completed'),
        ('running', 'failed'),
        ('running', 'terminating'),
        ('running', 'interrupted'),
        ('pausing', 'paused'),
        ('pausing', 'completed'),
        ('pausing', 'failed'),
        ('pausing', 'interrupted'),
        ('paused', 'running'),
        ('paused', 'terminating'),
        ('interrupted', 'running'),
        ('interrupted', 'terminating'),
        ('failed', 'running'),
        ('failed', 'terminating'),
        ('terminating', 'terminated'),
        ('terminating', 'interrupted')
    """,
    """
    CREATE TABLE taskwidgets.jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key text NOT NULL,
        kind text NOT NULL,
        name text NOT NULL,
        source text NOT NULL,
        target text NOT NULL,
        options jsonb NOT NULL,
        plan jsonb NOT NULL,
        state text NOT NULL DEFAULT 'pending',
        epoch integer NOT NULL DEFAULT 0,
        owner jsonb,
        claimed_at timestamptz,
        heartbeat_at timestamptz,
        progress jsonb NOT NULL DEFAULT '{}',
        error jsonb,
        receipt jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT jobs_state_known CHECK (state IN (
            'pending', 'running', 'pausing', 'paused', 'interrupted', 'completed', 'failed',
            'terminating', 'terminated'))
    )
    """,
    "CREATE INDEX jobs_key ON taskwidgets.jobs (key, id)",
    """
    CREATE UNIQUE INDEX jobs_one_active_per_key ON taskwidgets.jobs (key)
    WHERE state NOT IN ('completed', 'terminated')
    """,
    """
    CREATE TABLE taskwidgets.checkpoints (
        job_id bigint NOT NULL REFERENCES taskwidgets.jobs (id) ON DELETE CASCADE,
        from_byte bigint NOT NULL,
        to_byte bigint NOT NULL,
        rows bigint NOT NULL,
        crc32 bigint NOT NULL,
        to_block bigint,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (job_id, from_byte),
        CONSTRAINT checkpoints_range CHECK (from_byte >= 0 AND to_byte > from_byte)
    )
    """,
    """
    CREATE TABLE taskwidgets.events (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        job_id bigint NOT NULL REFERENCES taskwidgets.jobs (id) ON DELETE CASCADE,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        kind text NOT NULL,
        from_state text,
        to_state text,
        owner text NOT NULL,
        cause text NOT NULL,
        details jsonb
    )
    """,
    "CREATE INDEX events_job ON taskwidgets.events (job_id, id)",
    """
    CREATE FUNCTION taskwidgets.check_transition() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.state IS DISTINCT FROM OLD.state AND NOT EXISTS (
            SELECT FROM taskwidgets.transitions
            WHERE from_state = OLD.state AND to_state = NEW.state
        ) THEN
            RAISE EXCEPTION 'job % is % and cannot become %', OLD.id, OLD.state, NEW.state
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END
    $$
    """,
    """
    CREATE TRIGGER check_transition BEFORE UPDATE OF state ON taskwidgets.jobs
    FOR EACH ROW EXECUTE FUNCTION taskwidgets.check_transition()
    """,
]
