"""What a peer is, and what those of both directions need: connections, names of the types."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2.extensions import parse_dsn
from sqlalchemy import create_engine
from sqlalchemy.engine import Engine, make_url

import taskwidgets as tw

if TYPE_CHECKING:
    import duckdb

DUCKDB_TYPES = {
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "double precision": "DOUBLE",
    "text": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
}
PANDAS_CHUNK = 100_000  # rows
BLOCK = 1 << 20  # bytes that whoever reads or writes by itself takes at once


@dataclass(frozen=True)
class Task:
    """What a peer has to move: ``path`` from or to ``table``, whose columns have these types."""

    url: str
    table: str
    path: str
    types: dict[str, str]
    bytes: int  # of the file
    middle: int  # where a record begins after half of them

    @property
    def columns(self) -> str:
        return ", ".join(f'"{name}"' for name in self.types)


@dataclass(frozen=True)
class Peer:
    """Who takes part, and how it is treated."""

    name: str
    act: Callable[[Task], None]
    is_slow: bool = False  # it gets the part of 1/15
    is_very_slow: bool = False  # and only one round
    is_limit: bool = False  # no loader, but what the machine can do
    makes_table: bool = False  # the upload itself does
    is_at_server: bool = False  # the file is read or written by the server's own account
    is_file_only: bool = False  # no database takes part


def driver(url: str) -> Any:
    """A connection of psycopg2."""
    return psycopg2.connect(url)


@functools.cache
def workspace(url: str) -> tw.Workspace:
    """taskwidgets', as a notebook connects once."""
    return tw.connect(url)


@functools.cache
def engine(url: str) -> Engine:
    """SQLAlchemy's, for pandas."""
    return create_engine(make_url(url).set(drivername="postgresql+psycopg2"))


@functools.cache
def duck(url: str) -> duckdb.DuckDBPyConnection:
    """DuckDB with the database attached as ``pg``; its extension is loaded from the wheel."""
    import duckdb

    package = find_spec("duckdb_extension_postgres_scanner")
    assert package is not None
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    (extension,) = folder.glob(f"extensions/v{duckdb.__version__}/*.duckdb_extension")
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.execute(f"LOAD '{extension}'")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    words = " ".join(f"{name}='{value}'" for name, value in parse_dsn(url).items())
    connection.execute("ATTACH $$" + words + "$$ AS pg (TYPE postgres)")
    return connection


def arrow_type(kind: str) -> Any:
    """Arrow's name of a type of Postgres."""
    import pyarrow

    return {
        "integer": pyarrow.int32(),
        "bigint": pyarrow.int64(),
        "double precision": pyarrow.float64(),
        "text": pyarrow.string(),
        "date": pyarrow.date32(),
        "timestamp": pyarrow.timestamp("us"),
        "timestamptz": pyarrow.timestamp("us", "UTC"),
    }[kind]
