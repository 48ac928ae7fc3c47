"""Settings of the schema itself; the first is the key of the hashes that identify URLs.

Written out in full, not taken from schema.py: a migration stays what it was.
"""

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table, with a random key of 244 bits."""
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
