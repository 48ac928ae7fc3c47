"""How the schema came to be what it is, one file a release; Alembic runs them in order."""
