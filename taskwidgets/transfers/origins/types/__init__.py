"""What values of Python, numpy, pandas and Arrow are in Postgres: types, and texts for COPY."""
