"""The tables' names of the current database, for completion: asked aside, never waited for long."""

from __future__ import annotations

import threading

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from taskwidgets import current
from taskwidgets.errors import TaskwidgetsError
from taskwidgets.runtime.threads import start_thread
from taskwidgets.transfers.tables import search_path

__all__ = ["TableNames"]

PATIENCE = 0.5  # seconds for which a key press waits for the database
# What a user can read, or load into, as it would be written in a query.
NAMES = text(
    """
    SELECT CASE WHEN visible THEN '' ELSE quote_ident(n.nspname) || '.' END
           || quote_ident(c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
    LATERAL (
        SELECT coalesce(n.nspname = (
            SELECT s.nspname FROM pg_class o JOIN pg_namespace s ON s.oid = o.relnamespace
            WHERE o.relname = c.relname AND s.nspname = ANY (:path)
            ORDER BY array_position(CAST(:path AS text[]), s.nspname::text) LIMIT 1
        ), false) AS visible
    ) AS named
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'taskwidgets')
      AND n.nspname NOT LIKE 'pg\\_%'
      AND c.relname NOT LIKE 'taskwidgets\\_staging%'
      AND has_table_privilege(c.oid, 'SELECT, INSERT')
    ORDER BY visible DESC, n.nspname, c.relname
    LIMIT 1000
    """
)


class TableNames:
    """Called, it gives the names; where the database does not answer, those of the last time."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._thread: threading.Thread | None = None

    def __call__(self) -> list[str]:
        workspace = current.connected()
        if workspace is None:
            return []  # a key press connects to nothing, and starts no server
        if self._thread is None or not self._thread.is_alive():

            def ask() -> None:
                try:
                    with workspace.database.begin() as connection:
                        path = search_path(connection)
                        self._names = list(connection.scalars(NAMES, {"path": path}))
                except (TaskwidgetsError, SQLAlchemyError):
                    return  # nothing to complete with; the next query tells why

            self._thread = start_thread(ask, name="table names")
        self._thread.join(PATIENCE)
        return self._names
