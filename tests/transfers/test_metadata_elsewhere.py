"""Exports from a standby, or by a role that may only read: the jobs are kept elsewhere."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from fix_databases import Look, run_sql
from fix_exports import copied, pause
from fix_poolers import Pooler
from fix_servers import PrivateServer, make_base, memory_folder, plain, wait_until

import taskwidgets as tw
from taskwidgets import JobFailed, Workspace
from taskwidgets.errors import (
    DatabaseError,
    OptionError,
    RightsMissing,
    SourceChanged,
    SourceError,
)

ROWS = 200_000
TABLE = f"""
    CREATE TABLE t AS SELECT n AS id, md5(n::text) AS hash, n / 7.0 AS part,
                             timestamptz '2024-01-01 00:00+00' + n * interval '1 s' AS at
    FROM generate_series(1, {ROWS}) AS n
"""


def is_proven(job: tw.Job) -> bool:
    """Whether another snapshot than the first has taken its place."""
    return any("proven unchanged" in cause for cause in job.events().cause)


class Replicated:
    """A primary, its standby, and another database for the jobs."""

    def __init__(self, primary: PrivateServer, standby: PrivateServer, jobs: str) -> None:
        self.primary, self.standby, self.jobs = primary, standby, jobs

    def write(self, *statements: str) -> None:
        """On the primary; returns when the standby has it."""
        for statement in statements:
            run_sql(self.primary.url(), statement)
        self.catch_up()

    def catch_up(self) -> None:
        ((position,),) = run_sql(self.primary.url(), "SELECT pg_current_wal_lsn()::text")
        wait_until(
            lambda: (
                run_sql(
                    self.standby.url(),
                    "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn",
                    (position,),
                )
                == [(True,)]
            ),
            "for the standby",
        )


@pytest.fixture
def replicated(
    private_server: PrivateServer,
    standby_of: Callable[..., PrivateServer],
    database_url: str,
    request: pytest.FixtureRequest,
) -> Replicated:
    """Its table ``t`` has 200,000 rows; ``param`` is a setting of the standby's."""
    run_sql(private_server.url(), TABLE)
    settings = [request.param] if hasattr(request, "param") else []
    made = Replicated(private_server, standby_of(private_server, *settings), database_url)
    made.catch_up()
    return made


@pytest.fixture
def connect() -> Iterator[Callable[..., Workspace]]:
    """A factory of workspaces, closed with the test."""
    made: list[Workspace] = []

    def make(url: Any, **options: Any) -> Workspace:
        made.append(Workspace(url, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_standby_alone_is_refused_with_the_way_out(replicated):
    """The message names metadata=."""
    with pytest.raises(DatabaseError, match=r"read-only standby.*metadata=other_url") as refused:
        Workspace(replicated.standby.url())
    assert "connect to the primary" in str(refused.value)


def test_all_exports_of_a_standby(replicated, connect, tmp_path, look):
    """A table, a query, a view, a folder, a URL: the bytes of COPY; no trace on the servers."""
    replicated.write("CREATE VIEW v AS SELECT id, at FROM t WHERE id <= 1000")
    url = replicated.standby.url()
    workspace = connect(url, metadata=replicated.jobs)
    for source, select in {
        "t": "SELECT * FROM t",
        "SELECT id, part, at FROM t ORDER BY hash LIMIT 5000":
            "SELECT id, part, at FROM t ORDER BY hash LIMIT 5000",
        "v": "SELECT * FROM v",
    }.items():  # fmt: skip
        path = tmp_path / "out.csv"
        job = workspace.download(source, path, if_exists="replace", workers=2)
        job.wait(60)
        assert path.read_bytes() == copied(url, select)
    folder = f"{tmp_path}/parts/"
    assert workspace.download("t", folder, format="parquet").wait(60).rows_loaded == ROWS
    remote = f"file://{tmp_path}/remote/"
    receipt = workspace.download("SELECT * FROM v", remote, format="csv.gz").wait(60)
    assert receipt.rows_loaded == 1000
    assert run_sql(url, "SELECT count(*) FROM pg_namespace WHERE nspname = 'taskwidgets'") == [(0,)]
    assert look.one("SELECT count(*) FROM taskwidgets.jobs WHERE state = 'completed'") == 5
    assert look.staging() == []
    assert str(replicated.standby.base.name) in workspace.url
    assert "jobs in" in repr(workspace)


def test_the_standby_is_looked_at_and_the_jobs_are_listed(replicated, connect, tmp_path):
    """The dashboard has the jobs of the metadata; the form and the engine have the source."""
    workspace = connect(replicated.standby.url(), metadata=replicated.jobs)
    job = workspace.download("t", tmp_path / "t.csv")
    job.wait(60)
    assert workspace.jobs().to_dataframe().id.tolist() == [job.id]
    form = tw.forms.DownloadForm(workspace)
    with form._begin() as connection:
        assert connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar() is True
    with workspace.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == ROWS
    again = workspace.download("t", tmp_path / "t.csv")
    assert again.id == job.id
    assert again.remark.startswith("already exported")


def test_a_standby_behind_a_pooler(replicated, connect, tmp_path, account):
    """Nothing that a standby refuses is sent there: neither READ WRITE nor a lock that writes."""
    pooler = Pooler(replicated.standby.url(), account)
    try:
        workspace = connect(pooler.url, metadata=replicated.jobs)
        assert workspace.database.is_pooled
        for source, name in {"t": "t.csv", "SELECT * FROM t ORDER BY id": "q.csv"}.items():
            workspace.download(source, tmp_path / name, workers=2).wait(60)
            expected = copied(
                replicated.standby.url(),
                f"SELECT * FROM ({source}) AS s" if " " in source else "SELECT * FROM t",
            )
            assert (tmp_path / name).read_bytes() == expected
        workspace.close()
        assert not pooler.locks()
    finally:
        pooler.stop()


def test_what_needs_one_database_says_so(replicated, connect, csv_file, look):
    """Uploads are refused before anything is done; a function has the metadata's database."""
    workspace = connect(replicated.standby.url(), metadata=replicated.jobs)
    with pytest.raises(OptionError, match=r"commits each batch .* that takes one database"):
        workspace.upload(csv_file("a", "1"), "u")
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 0

    @tw.job
    def note(run):
        with run.transaction() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE made AS SELECT 1 AS a")

    note.using(workspace)().wait(60)
    assert look.exists("made")


def test_a_pause_and_another_kernel(replicated, connect, tmp_path):
    """The same connect() and call go on, from a new snapshot that is proven; not by another one."""
    url = replicated.standby.url()
    first = connect(url, metadata=replicated.jobs)
    job = first.download("t", tmp_path / "t.csv", max_rate=3e6)
    wait_until(lambda: job.progress.rows > 0)
    pause(job)
    assert job.state == "paused"
    first.close()
    elsewhere = connect(replicated.primary.url(), metadata=replicated.jobs)
    with pytest.raises(OptionError, match=r"reads from .*standby|reads from .*5432/postgres"):
        elsewhere.resume(job.id)
    alone = connect(replicated.jobs)
    with pytest.raises(OptionError, match=r"connect to that one, .*metadata=other_url"):
        alone.resume(job.id)
    second = connect(url, metadata=replicated.jobs)
    resumed = second.download("t", tmp_path / "t.csv")
    assert resumed.id == job.id
    resumed.wait(60)
    assert (tmp_path / "t.csv").read_bytes() == copied(url, "SELECT * FROM t")
    assert is_proven(resumed)


def test_a_paused_export_that_cannot_go_on(replicated, connect, tmp_path):
    """What was written since the pause is replayed on the standby, and found."""
    workspace = connect(replicated.standby.url(), metadata=replicated.jobs)
    job = workspace.download("t", tmp_path / "t.csv", max_rate=3e6)
    wait_until(lambda: job.progress.rows > 0)
    pause(job)
    workspace.close()
    replicated.write("UPDATE t SET part = 0 WHERE id = 1")
    resumed = connect(replicated.standby.url(), metadata=replicated.jobs).resume(job.id)
    with pytest.raises(JobFailed) as failed:
        resumed.wait(60)
    assert isinstance(failed.value.__cause__, SourceChanged)


def test_a_job_of_another_source_can_be_terminated(replicated, connect, tmp_path):
    """Its clean-up needs the metadata and the disk alone."""
    workspace = connect(replicated.standby.url(), metadata=replicated.jobs)
    job = workspace.download("t", tmp_path / "t.csv", max_rate=3e6)
    wait_until(lambda: job.progress.rows > 0)
    pause(job)
    workspace.close()
    alone = connect(replicated.jobs)
    other = alone.job(job.id)
    other.terminate()
    other.join(60)
    assert other.state == "terminated"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("replicated", ["max_standby_streaming_delay = 0"], indirect=True)
def test_a_conflict_with_recovery_is_proven_and_passed(replicated, connect, tmp_path):
    """VACUUM on the primary ends all sessions that hold a snapshot; the export goes on."""
    replicated.write("CREATE TABLE other AS SELECT generate_series(1, 1000) AS a")
    url = replicated.standby.url()
    expected = copied(url, "SELECT * FROM t")
    workspace = connect(url, metadata=replicated.jobs)
    job = workspace.download("t", tmp_path / "t.csv", workers=2, max_rate=6e6)
    for _ in range(2):
        rows = job.progress.rows
        wait_until(
            lambda rows=rows: job.progress.rows > rows or job.state in ("failed", "completed")
        )
        assert job.error is None
        replicated.write(
            "DELETE FROM other WHERE a % 2 = 0", "VACUUM other", "UPDATE other SET a = a * 2"
        )
    job.max_rate = None
    job.wait(60)
    assert (tmp_path / "t.csv").read_bytes() == expected
    assert is_proven(job)
    ((conflicts,),) = run_sql(url, "SELECT sum(confl_snapshot) FROM pg_stat_database_conflicts")
    assert conflicts > 0


@pytest.mark.sample(1)
@pytest.mark.parametrize("statement", ["DROP TABLE t", "TRUNCATE t", "DELETE FROM t; VACUUM t"])
@pytest.mark.parametrize("replicated", ["max_standby_streaming_delay = 0"], indirect=True)
def test_a_table_that_is_gone_on_the_primary(replicated, connect, tmp_path, statement):
    """Recovery takes it from under the export, which stops and says so; nothing is published."""
    workspace = connect(replicated.standby.url(), metadata=replicated.jobs)
    job = workspace.download("t", tmp_path / "t.csv", workers=2, max_rate=2e6)
    wait_until(lambda: job.progress.rows > 0)
    replicated.write(*statement.split("; "))
    with pytest.raises(JobFailed) as failed:
        job.wait(60)
    assert isinstance(failed.value.__cause__, SourceChanged)
    assert not (tmp_path / "t.csv").exists()


def test_a_standby_that_restarts(replicated, connect, tmp_path):
    """The job waits for it, takes a new snapshot, and proves that the table is unchanged."""
    url = replicated.standby.url()
    workspace = connect(url, metadata=replicated.jobs)
    job = workspace.download("t", tmp_path / "t.csv", max_rate=2e6)
    wait_until(lambda: job.progress.rows > 0)
    replicated.standby.restart("immediate")
    job.max_rate = None
    job.wait(60)
    assert (tmp_path / "t.csv").read_bytes() == copied(url, "SELECT * FROM t")
    assert is_proven(job)


@pytest.mark.parametrize("replicated", ["max_standby_streaming_delay = 0"], indirect=True)
def test_a_query_that_is_cancelled_by_recovery_is_run_again(replicated, connect, tmp_path):
    """Its rows are from one run, whole; the panel says what it waits for."""
    replicated.write(
        "CREATE TABLE other AS SELECT generate_series(1, 1000) AS a",
        "CREATE TABLE waits AS SELECT 1.0 AS seconds",
    )
    url = replicated.standby.url()
    workspace = connect(url, metadata=replicated.jobs)
    query = "SELECT id, (SELECT pg_sleep(seconds) FROM waits WHERE t.id = 5) FROM t WHERE id < 1000"
    job = workspace.download(query, tmp_path / "q.csv")
    active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
    wait_until(lambda: run_sql(url, active) == [(1,)])
    replicated.write("DELETE FROM other WHERE a % 2 = 0", "VACUUM other")
    assert job.wait(60).rows_loaded == 999
    lines = (tmp_path / "q.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["id", *map(str, range(1, 1000))]
    ((conflicts,),) = run_sql(url, "SELECT sum(confl_snapshot) FROM pg_stat_database_conflicts")
    assert conflicts > 0


@pytest.mark.parametrize("replicated", ["max_standby_streaming_delay = 0"], indirect=True)
def test_a_query_that_is_cancelled_again_and_again_fails_with_advice(
    replicated, connect, tmp_path, monkeypatch
):
    """After the patience for an outage; then it may be resumed."""
    monkeypatch.setattr("taskwidgets.store.database.PATIENCE", 0.5)
    replicated.write("CREATE TABLE other AS SELECT generate_series(1, 1000000) AS a")
    url = replicated.standby.url()
    workspace = connect(url, metadata=replicated.jobs)
    job = workspace.download("SELECT id, pg_sleep(0.01) FROM t", tmp_path / "q.csv")
    over = threading.Event()

    def disturb() -> None:
        number = 0
        while not over.is_set():
            number += 1000
            replicated.write(f"DELETE FROM other WHERE a <= {number}", "VACUUM other")

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with pytest.raises(JobFailed, match="hot_standby_feedback = on"):
            job.wait(60)
    finally:
        over.set()
        thread.join()
    assert job.state == "failed"
    job.terminate()
    job.join(60)


# ------------------------------------------------------------------------ roles and several sources


@pytest.fixture
def reader(look: Look, database_url: str) -> Iterator[str]:
    """The URL of a role that may only read the table ``t``, and make nothing anywhere."""
    name = look.one("SELECT current_database() || '_reader'")
    look("CREATE TABLE t AS SELECT generate_series(1, 5000) AS a")
    look(f"CREATE ROLE {name} LOGIN")
    look("DROP SCHEMA taskwidgets CASCADE")
    look(f"GRANT SELECT ON t TO {name}")
    look(f"ALTER ROLE {name} SET default_transaction_read_only = on")
    yield plain(database_url).replace("postgres@", f"{name}@")
    look(f"DROP OWNED BY {name}")
    look(f"DROP ROLE {name}")


def test_a_role_that_may_only_read(reader, connect, empty_url, tmp_path, look):
    """It exports with its jobs elsewhere; alone, the message says how."""
    with pytest.raises(DatabaseError, match=r"only read .*metadata=other_url"):
        Workspace(reader)
    look(f"ALTER ROLE {reader.partition('//')[2].partition('@')[0]} RESET ALL")
    with pytest.raises(RightsMissing, match=r"metadata=other_url"):
        Workspace(reader)
    workspace = connect(reader, metadata=empty_url)
    workspace.download("t", tmp_path / "t.csv").wait(60)
    assert (tmp_path / "t.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
    workspace.download("SELECT a FROM t ORDER BY a DESC", tmp_path / "q.csv").wait(60)
    assert (tmp_path / "q.csv").read_text().startswith("a\n5000\n4999\n")
    assert not look("SELECT 1 FROM pg_namespace WHERE nspname = 'taskwidgets'")


def test_a_table_of_the_same_name_in_two_sources(connect, database_url, embedded_server, tmp_path):
    """Each source has jobs of its own, with one metadata; a call finds that of its source."""
    from fix_databases import new_database

    with new_database(embedded_server.url) as one, new_database(embedded_server.url) as two:
        for number, url in enumerate((one, two), 1):
            run_sql(url, f"CREATE TABLE t AS SELECT {number} AS a")
        first = connect(one, metadata=database_url)
        second = connect(two, metadata=database_url)
        path = tmp_path / "t.csv"
        done = [workspace.download("t", path, if_exists="replace") for workspace in (first, second)]
        receipts = [job.wait(60) for job in done]
        assert done[0].id != done[1].id
        assert receipts[0].sha256 != receipts[1].sha256
        # The file is the second's now: the first exports anew, and finds its own job else.
        again = first.download("t", path, if_exists="replace")
        again.wait(60)
        assert again.id not in (done[0].id, done[1].id)
        assert path.read_text() == "a\n1\n"
        assert first.download("t", path, if_exists="replace").id == again.id
        first.close()
        second.close()


def test_the_keys_of_jobs_in_one_database_stay(workspace, look, tmp_path):
    """Without metadata=, and with the same database as metadata, nothing of it is in a job."""
    look("CREATE TABLE t AS SELECT 1 AS a")
    job = workspace.download("t", tmp_path / "t.csv")
    job.wait(60)
    (options,) = look("SELECT options FROM taskwidgets.jobs")[0]
    assert "database" not in options
    same = Workspace(look.url, metadata=look.url)
    assert same.download("t", tmp_path / "t.csv").id == job.id
    assert same.upload  # it is one database, so uploads are possible
    same.close()


def test_an_upload_goes_on_in_the_metadata(connect, database_url, empty_url, csv_file, look):
    """A job whose rows are in the metadata's database can be resumed from any workspace there."""
    path = csv_file("a", *map(str, range(200_000)))
    alone = connect(database_url)
    job = alone.upload(path, "u", max_rate=300_000)
    wait_until(lambda: job.progress.rows > 0)
    pause(job)
    alone.close()
    both = connect(empty_url, metadata=database_url)
    assert both.resume(job.id).wait(60).rows_loaded == 200_000
    assert look.contents("u")[0] == 200_000


def test_a_cluster_exports_from_another_database(
    connect, database_url, empty_url, cluster_of, tmp_path
):
    """Slow: a cluster takes seconds to start. Parts are read there, and the claim is asked here."""
    run_sql(empty_url, "CREATE TABLE t AS SELECT generate_series(1, 50000) AS a")
    cluster = cluster_of(1, 1)
    workspace = connect(empty_url, metadata=database_url)
    for number, source in enumerate(["t", "SELECT a FROM t WHERE a > 10"]):
        folder = f"{tmp_path}/{number}/"
        job = workspace.download(source, folder, format="csv", client=cluster.address)
        assert job.wait(60).rows_loaded == 50_000 - 10 * number
    assert not run_sql(empty_url, "SELECT 1 FROM pg_namespace WHERE nspname = 'taskwidgets'")


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory for an embedded server, which ends with the process that started it."""
    base = make_base(memory_folder())
    yield base / "home"
    wait_until(lambda: not list(base.glob("home/**/postmaster.pid")), "for the server's end")
    shutil.rmtree(base)


def test_the_embedded_server_keeps_the_jobs(run_script, database_url, tmp_path, home):
    """Slow: a server is made. metadata="embedded", by argument and by variable."""
    run_sql(database_url, "CREATE TABLE t AS SELECT 1 AS a")
    out, err = run_script(
        """
        import os, sys
        import taskwidgets as tw
        workspace = tw.connect(sys.argv[1], metadata="embedded")
        print(tw.download("t", sys.argv[2]).wait(60).rows_loaded, "jobs in" in repr(workspace))
        os.environ["TASKWIDGETS_DATABASE_URL"] = sys.argv[1]
        os.environ["TASKWIDGETS_METADATA_URL"] = "embedded"
        print(tw.connect() is workspace, tw.connect(sys.argv[1]) is workspace)
        """,
        plain(database_url),
        str(tmp_path / "t.csv"),
        TASKWIDGETS_HOME=str(home),
    )
    assert (out, err) == ("1 True\nTrue False\n", "")


def test_a_source_that_does_not_exist(connect, database_url, empty_url, tmp_path):
    """What is missing is told of the source, not of the metadata, which has such a table."""
    run_sql(database_url, "CREATE TABLE only_here AS SELECT 1 AS a")
    workspace = connect(empty_url, metadata=database_url)
    with pytest.raises(SourceError, match="there is no table"):
        workspace.download("only_here", tmp_path / "t.csv")
    with closing(psycopg2.connect(plain(empty_url))) as one, one, one.cursor() as cursor:
        cursor.execute("CREATE TABLE t AS SELECT 1 AS a")
    assert workspace.download("t", tmp_path / "t.csv").wait(60).rows_loaded == 1
    assert Path(tmp_path / "t.csv").read_text() == "a\n1\n"
