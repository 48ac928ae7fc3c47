"""Settings of the schema, the first the key of the hashes that identify URLs; loaded contents.

Written out in full, not taken from schema.py: a migration stays what it was.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the tables; the key is random and has 244 bits."""
    op.execute(
        """
        CREATE TABLE taskwidgets.settings (
            name text CONSTRAINT settings_pkey PRIMARY KEY,
            value text NOT NULL
        )
        """
    )
    op.execute(
        "INSERT INTO taskwidgets.settings (name, value) SELECT 'identity_key',"
        " replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '')"
    )
    op.execute(
        """
        CREATE TABLE taskwidgets.loaded_contents (
            id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT loaded_contents_pkey PRIMARY KEY,
            job_id bigint NOT NULL
                CONSTRAINT loaded_contents_job_id_fkey
                REFERENCES taskwidgets.jobs (id) ON DELETE CASCADE,
            table_oid bigint NOT NULL,
            table_name text NOT NULL,
            xid bigint NOT NULL,
            made_table boolean NOT NULL,
            source text NOT NULL,
            source_key text,
            bytes bigint NOT NULL,
            crc32 bigint NOT NULL,
            rows bigint NOT NULL,
            at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """
    )
    for column in ("table_oid", "table_name", "job_id"):
        op.execute(
            f"CREATE INDEX loaded_contents_{column} ON taskwidgets.loaded_contents ({column})"
        )
