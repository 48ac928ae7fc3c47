"""What the benchmarks share: a server of their own, tables, psql, and what this was measured on."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import Engine, make_url

import taskwidgets as tw
from taskwidgets.embedded import join, wheel_binaries

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "taskwidgets",
    "psycopg2-binary",
    "pandas",
    "adbc-driver-postgresql",
    "pyarrow",
    "duckdb",
)


@contextlib.contextmanager
def server() -> Iterator[tw.Workspace]:
    """A workspace on an embedded server of its own, deleted afterwards."""
    home = Path(tempfile.mkdtemp(prefix="taskwidgets-bench-"))
    home.chmod(0o755)
    os.environ["TASKWIDGETS_HOME"] = str(home)
    embedded = join()
    try:
        workspace = tw.connect()
        yield workspace
        workspace.close()
    finally:
        embedded.leave()
        for _ in range(100):
            shutil.rmtree(home, ignore_errors=True)
            if not home.exists():
                break
            time.sleep(0.1)


def plain_url(engine: Engine) -> str:
    """The database's URL as libpq takes it."""
    url = make_url(engine.url).set(drivername="postgresql")
    return url.render_as_string(hide_password=False)


def execute(engine: Engine, statement: str) -> None:
    """Run a statement that wants no transaction around it, such as VACUUM."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(statement)


def make_table(engine: Engine, table: str, types: dict[str, str]) -> None:
    """An empty table."""
    columns = ", ".join(f'"{name}" {kind}' for name, kind in types.items())
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
        connection.execute(text(f"CREATE TABLE {table} ({columns})"))


def drop_table(engine: Engine, table: str) -> None:
    """Make room for a new one, and let the file system be done with the old one's files."""
    with engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
    settle(engine)


def contents(engine: Engine, table: str) -> tuple[int, int]:
    """The number of rows, and a checksum of all their values that knows no order."""
    statement = f"SELECT count(*), coalesce(sum(hash_record_extended(t, 0)), 0) FROM {table} t"
    with engine.connect() as connection:
        rows, checksum = connection.execute(text(statement)).one()
        return int(rows), int(checksum)


def psql(url: str, command: str) -> None:
    """Run one command in the psql that comes with the embedded server."""
    programs = wheel_binaries()
    assert programs is not None
    subprocess.run(
        [programs.psql, "-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", command, url],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def settle(engine: Engine) -> None:
    """Let the server write out what earlier rounds left, so that no round pays for another."""
    autocommit = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with autocommit.connect() as connection:
        connection.execute(text("CHECKPOINT"))
    autocommit.dispose()


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def machine() -> str:
    """One line on what this was measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def versions(engine: Engine) -> str:
    """One line on the software."""
    with engine.connect() as connection:
        postgres = connection.execute(text("SHOW server_version")).scalar_one()
    others = ", ".join(f"{name.removesuffix('-binary')} {version(name)}" for name in PACKAGES)
    return f"Python {sys.version.split()[0]}, Postgres {postgres}, {others}"


def commit() -> str:
    """The commit that is checked out, with a + where files differ from it; empty without git."""
    told = [
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "-uno"))
    ]
    if any(one.returncode for one in told):
        return ""
    return told[0].stdout.strip() + ("+" if told[1].stdout.strip() else "")
