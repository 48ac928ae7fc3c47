"""Connections to a Postgres server, and what is known about servers."""
