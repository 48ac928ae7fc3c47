"""Exports, and what one COPY gives in one go, to compare them with."""

from __future__ import annotations

import hashlib
import io
import os
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from fix_databases import Look
from fix_servers import plain, wait_until

from taskwidgets import Job, Receipt, Workspace

# The sessions of ours that are open, but for the keeper's and the pool's, which outlive a job.
EXPORTING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'taskwidgets%'
      AND (query ~* '^(COPY|BEGIN ISOLATION|SET TRANSACTION|SELECT pg_export|DO )'
           OR state LIKE 'idle in transaction%')
"""


def copied(url: str, select: str, options: str = "FORMAT csv, HEADER") -> bytes:
    """What COPY writes for a query, through one connection, in one go."""
    file = io.BytesIO()
    with closing(psycopg2.connect(plain(url))) as connection, connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({select}\n) TO STDOUT WITH ({options}, ENCODING 'UTF8')", file)
    return file.getvalue()


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pause(job: Job) -> None:
    """Pause, and wait until the driver is at rest; nothing when the job completes instead."""
    wait_until(lambda: job.state in ("running", "completed"))
    if job.state == "running":
        job.pause()
    job.join(None)
    assert job.state in ("paused", "completed"), job.error


class Exports:
    """Exports into a folder of the test's own, each compared with COPY."""

    def __init__(self, workspace: Workspace, look: Look, folder: Path) -> None:
        self.workspace = workspace
        self.look = look
        self.folder = folder

    def start(self, source: str, name: str = "out.csv", **options: Any) -> Job:
        return self.workspace.download(source, self.folder / name, **options)

    def run(self, source: str, name: str = "out.csv", **options: Any) -> bytes:
        """Export to the end; the file's bytes."""
        receipt = self.start(source, name, **options).wait(100)
        self.check(receipt)
        return (self.folder / name).read_bytes()

    def check(self, receipt: Receipt) -> None:
        """The receipt speaks of the file, and nothing else is left in the folder."""
        path = Path(receipt.target)
        assert receipt.sha256 == hash_of(path)
        assert receipt.bytes == path.stat().st_size
        assert receipt.rows_read == receipt.rows_loaded
        assert self.partials() == []
        assert self.look.staging() == []

    def same(self, table: str, **options: Any) -> bytes:
        """Export the table and the query SELECT * FROM it: both equal what COPY gives."""
        select = f"SELECT * FROM {table}"
        expected = copied(self.look.url, select)
        exported = self.run(table, "table.csv", if_exists="replace", again=True, **options)
        assert exported == expected
        queried = self.run(select, "query.csv", if_exists="replace", again=True, **options)
        assert queried == expected
        return expected

    def partials(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob(".*.partial"))


@pytest.fixture
def exports(workspace: Workspace, look: Look, tmp_path: Path) -> Exports:
    """Exports from the test's database into its folder."""
    return Exports(workspace, look, tmp_path)


@pytest.fixture
def reader(look: Look, tmp_path: Path) -> Iterator[tuple[str, Exports]]:
    """A role that may run jobs and read nothing yet, and exports under it."""
    name = "reader_" + look.url.partition("?")[0].rpartition("_")[2]
    look(f"CREATE ROLE {name} LOGIN")
    look(f"GRANT ALL ON SCHEMA taskwidgets TO {name}")
    look(f"GRANT ALL ON ALL TABLES IN SCHEMA taskwidgets TO {name}")
    look(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA taskwidgets TO {name}")
    workspace = Workspace(re.sub("//[^@]*@", f"//{name}@", look.url))
    yield name, Exports(workspace, look, tmp_path)
    workspace.close()
    look(f"DROP OWNED BY {name}")
    look(f"DROP ROLE {name}")


@pytest.fixture
def many(look: Look) -> Callable[..., str]:
    """A factory of tables: ``many(rows)`` makes ``t``, some 100 bytes a row."""

    def make(rows: int = 60_000, name: str = "t") -> str:
        look(
            f"CREATE TABLE {name} AS SELECT n AS id, md5(n::text) AS hash,"
            " CASE WHEN n % 7 = 0 THEN NULL WHEN n % 11 = 0 THEN E'two\\nlines, \"' || n"
            " ELSE repeat('ä', (n % 60)::int) END AS note, 1000 AS amount"
            f" FROM generate_series(1, {rows}) AS n"
        )
        return name

    return make


@pytest.fixture
def read_only_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that this user may look into but not write in."""
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:  # to whom everything is allowed; the real user is who access() asks for
        os.setresuid(65534, -1, -1)
    yield folder
    if root:
        os.setresuid(0, -1, -1)


class SmallDisk:
    """A folder in which a file can have 1 MB and no more, until there is room made.

    A file system of that size; where none may be mounted, a limit of the process.
    """

    SIZE = 1 << 20  # bytes

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={self.SIZE}", "tmpfs", str(folder)]
        self.mounted = subprocess.run(mounting, capture_output=True, check=False).returncode == 0
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.SIZE, self.before[1]))

    def make_room(self) -> None:
        if self.mounted:
            remounting = ["mount", "-o", "remount,size=64m", str(self.folder)]
            subprocess.run(remounting, capture_output=True, check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)

    def remove(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=True)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk that is soon full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    disk = SmallDisk(folder)
    yield disk
    disk.remove()


def is_counted(look: Look, job_id: int) -> bool:
    """Whether the job has all it needs to prove later that its table is unchanged."""
    return bool(
        look.one(
            "SELECT plan -> 'witness' ->> 'rows' FROM taskwidgets.jobs WHERE id = %s", (job_id,)
        )
    )


def is_materialized(look: Look, job_id: int) -> bool:
    """Whether the rows of the job's query are all in its staging table."""
    return bool(
        look.one("SELECT plan ->> 'materialized' FROM taskwidgets.jobs WHERE id = %s", (job_id,))
    )


@pytest.fixture
def halfway(exports: Exports, look: Look) -> Callable[..., Job]:
    """A factory: an export of ``t`` that is paused in the middle, with a checkpoint and a proof."""

    def start(source: str = "t", name: str = "out.csv", **options: Any) -> Job:
        job = exports.start(source, name, **{"workers": 2, "max_rate": 2e6, **options})
        if " " in source:
            wait_until(lambda: is_materialized(look, job.id))
        else:
            wait_until(lambda: is_counted(look, job.id))
        # What is done may still be rows of the query that were written down.
        wait_until(lambda: job.progress.done > 0 and look.ledger(job.id)[0] > 0)
        pause(job)
        assert look.ledger(job.id)[0] > 0
        assert job.state == "paused"
        return job

    return start
