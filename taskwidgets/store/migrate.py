"""Bring the schema up to this release, once, whoever comes first."""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from taskwidgets.errors import SchemaTooNew
from taskwidgets.store.schema import SCHEMA

__all__ = ["is_current", "migrate"]

LOCK = 0x7461736B776964  # "taskwid": the advisory lock under which one process at a time migrates


def migrate(connection: Connection) -> None:
    """Create or upgrade the schema inside the caller's transaction.

    Raises SchemaTooNew when a newer release has been here: its tables may mean other things, and
    to guess would put data at risk.
    """
    config = _config()
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    # Rolled back, the look leaves no lock: a migration has to lock this table as well, while others
    # wait here.
    with connection.begin_nested() as look:
        current = _current(connection)
        look.rollback()
    if current == head:
        return
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    current = _current(connection)  # somebody may have migrated while this one waited
    if current == head:
        return
    _check_known(scripts, current)
    if not connection.scalar(
        text("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = :schema)"),
        {"schema": SCHEMA},
    ):  # asked first: IF NOT EXISTS would still demand the right to create schemas
        connection.execute(text(f'CREATE SCHEMA "{SCHEMA}"'))
    # Alembic reports each step to the log of whoever runs it, here in the middle of a notebook.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(config, "head")


def is_current(connection: Connection) -> bool:
    """Whether the schema is of this release, not of an earlier one; SchemaTooNew for a later."""
    scripts = ScriptDirectory.from_config(_config())
    current = _current(connection)
    _check_known(scripts, current)
    return current == scripts.get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _check_known(scripts: ScriptDirectory, current: str | None) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        head = scripts.get_current_head()
        raise SchemaTooNew(
            f'the schema "{SCHEMA}" of this database is at revision {current}, made by a newer '
            f"release of taskwidgets than this one, which knows up to {head}; "
            "upgrade the package: pip install --upgrade taskwidgets"
        )


def _current(connection: Connection) -> str | None:
    if not connection.scalar(text(f"SELECT to_regclass('{SCHEMA}.alembic_version') IS NOT NULL")):
        return None
    context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
    return context.get_current_revision()
