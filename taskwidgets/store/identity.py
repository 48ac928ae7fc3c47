"""Which database it is, as two processes can compare it without telling how they come there."""

from __future__ import annotations

import hashlib

from sqlalchemy import text

from taskwidgets.store.database import Database
from taskwidgets.store.schema import SCHEMA, jobs

__all__ = ["fingerprint"]


def fingerprint(database: Database) -> str:
    """Equal for the same database, by whatever address or role; hexadecimal, tells nothing else.

    The cluster's identifier is made by initdb, at random
    (https://www.postgresql.org/docs/current/functions-info.html, pg_control_system). Where a role
    may not see it, the numbers of the database and of our table have to do.
    """
    with database.begin() as connection:
        may = connection.scalar(
            text("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
        )
        cluster = (
            connection.scalar(text("SELECT system_identifier FROM pg_control_system()"))
            if may
            else None
        )
        facts = connection.execute(
            text(
                "SELECT oid::bigint, datname, CAST(CAST(:jobs AS regclass) AS oid)::bigint"
                " FROM pg_database WHERE datname = current_database()"
            ),
            {"jobs": f"{SCHEMA}.{jobs.name}"},
        ).one()
    meant = "\0".join(str(fact) for fact in (cluster, *facts, SCHEMA))
    return hashlib.sha256(meant.encode()).hexdigest()[:32]
