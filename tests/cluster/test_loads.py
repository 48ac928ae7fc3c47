"""Uploads whose segments a Dask cluster's workers load: the same table, the same receipt."""

import asyncio
import csv
import gzip
import pickle
import threading
import time
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest
from distributed import Client
from fix_databases import Look
from fix_servers import plain, wait_until

from taskwidgets import JobFailed, Workspace
from taskwidgets.cluster import Cluster, as_scheduler
from taskwidgets.errors import OptionError
from taskwidgets.store import merging
from taskwidgets.store.budget import FEWEST_CONNECTIONS
from taskwidgets.transfers import pace, reading
from taskwidgets.transfers.lanes import Lane
from taskwidgets.transfers.remote import carry_out

LANES = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'taskwidgets job %%'
      AND state = 'active'
"""


@pytest.fixture
def small(monkeypatch):
    """Small segments: a file has many."""
    monkeypatch.setattr(pace, "SMALLEST_BATCH", 3000)
    monkeypatch.setattr("taskwidgets.transfers.lanes.SMALLEST_BATCH", 3000)
    monkeypatch.setattr("taskwidgets.transfers.lanes.LARGEST_BATCH", 3000)


@pytest.fixture
def outcomes(monkeypatch):
    """What came of each segment that a worker was sent, in the order of the answers."""
    seen = []
    call = Lane._call

    def watched(lane, errand):
        outcome = call(lane, errand)
        seen.append((errand, outcome))
        return outcome

    monkeypatch.setattr(Lane, "_call", watched)
    return seen


def kinds(outcomes):
    return {outcome.kind for _, outcome in outcomes}


# ------------------------------------------------------------------ the same as without


def strict(folder):
    path = folder / "strict.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "note"])
        writer.writerows((n, f'two\nlines "{n}"' if n % 9 == 0 else f"ä{n}") for n in range(3000))
    return path


def packed(folder):
    path = folder / "packed.csv.gz"
    path.write_bytes(gzip.compress(strict(folder).read_bytes()))
    return path


def recoded(folder):
    path = folder / "recoded.csv"
    path.write_bytes(strict(folder).read_text().encode("utf-16"))
    return path


def damaged(folder):
    path = folder / "damaged.csv"
    rows = (f"{n},2024-01-0{n % 7 + 1},{n}" + ",more" * (n % 50 == 7) for n in range(3000))
    path.write_text("id,day,note\n" + "\n".join(rows) + "\n")
    return path


def late_text(folder):
    path = folder / "late.csv"
    codes = ("x9" if n == 1100 else str(n) for n in range(2000))
    path.write_text("id,code\n" + "".join(f"{n},{code}\n" for n, code in enumerate(codes)))
    return path


def several(folder):
    for number in range(6):
        rows = "".join(f"{n},{n % 7}\n" for n in range(number * 300, number * 300 + 300))
        (folder / f"several-{number}.csv").write_text("id,seven\n" + rows)
    return str(folder / "several-*.csv")


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (strict, {}),
        (strict, {"source_column": True}),
        (packed, {}),
        (recoded, {}),
        (damaged, {"on_error": "reject"}),
        (late_text, {}),
        (late_text, {"on_error": "reject"}),
        (several, {}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or "-".join(value) or "plain",
)
def test_the_same_table_and_receipt(
    make, options, cluster, workspace, look, tmp_path, small, outcomes, monkeypatch
):
    """With a cluster and without one: equal rows, rejects and receipts, but for the time."""
    if make is late_text:  # what comes late is news
        records = reading.sample_records
        monkeypatch.setattr(reading, "sample_records", lambda *args: records(*args[:3], 300))
        monkeypatch.setattr("taskwidgets.tabular.sample._SPREAD_BLOCKS", 2)
        monkeypatch.setattr("taskwidgets.tabular.detect._MOST_ROWS", 20)
    source = make(tmp_path)
    plain_job = workspace.upload(source, "plainly", **options)
    expected = plain_job.wait()
    assert not outcomes
    job = workspace.upload(source, "t", client=cluster.address, **options)
    receipt = job.wait()
    assert "done" in kinds(outcomes)
    assert len({outcome.worker for _, outcome in outcomes}) <= 2
    assert replace(receipt, seconds=0, target="") == replace(expected, seconds=0, target="")
    assert look.contents("t") == look.contents("plainly")
    assert look.types("t") == look.types("plainly")
    rejects = [one.rejects().drop(columns=["id", "at"]) for one in (plain_job, job)]
    assert rejects[0].equals(rejects[1])
    if make is late_text:
        assert "widened" in set(job.events().kind)
    shipped = {bool(errand.segment.data) for errand, _ in outcomes}
    assert shipped == {make in (packed, recoded)}


def test_a_file_that_the_workers_do_not_see(
    cluster, workspace, look, tmp_path, outcomes, small, monkeypatch
):
    """Where a worker finds no file, or another one, the bytes travel along."""
    path = strict(tmp_path)
    monkeypatch.chdir(tmp_path)
    job = workspace.upload("/proc/self/cwd/strict.csv", "t", client=cluster.address)
    assert job.wait().rows_loaded == 3000
    assert kinds(outcomes) == {"done", "unseen"}
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


def test_a_bad_row_stops_the_job_where_it_is(cluster, workspace, look, tmp_path, small):
    """The error names line, column and value, as without a cluster; mended, the job goes on."""
    path = damaged(tmp_path)
    path.write_text(path.read_text().replace(",more", "").replace("1500,2024", "1500,2o24"))
    types = {"id": "integer", "day": "date", "note": "text"}
    job = workspace.upload(path, "t", types=types, client=cluster.address)
    with pytest.raises(JobFailed) as caught:
        job.wait()
    assert (caught.value.line, caught.value.column) == (1502, "day")
    path.write_text(path.read_text().replace("2o24", "2024"))
    job.resume()
    assert job.wait().rows_loaded == 3000
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


# ------------------------------------------------------------------ twice at once


def test_a_segment_that_runs_twice_counts_once(
    cluster, workspace, look, tmp_path, small, monkeypatch
):
    """Each segment by two workers at once, and again when it is merged with others: rows once."""
    monkeypatch.setattr(merging, "MERGE_AFTER", 3)
    path = strict(tmp_path)
    told: dict[int, list[str]] = {}  # by segment: what came of it, each time
    sent = []
    call = Cluster.call

    def twice(one, who, name, function, errand):
        answers = []

        def send(key, what):
            outcome = call(one, (who, key), f"{name}-{key}", function, what)
            answers.append(outcome)
            told[what.segment.start].append(outcome.kind)

        told[errand.segment.start] = []
        sent.append(errand)
        copies = [("first", errand), ("second", errand), *(("late", old) for old in sent[-9:-8])]
        threads = [threading.Thread(target=send, args=copy) for copy in copies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(answers, key=lambda outcome: outcome.kind == "done")

    monkeypatch.setattr(Cluster, "call", twice)
    job = workspace.upload(path, "t", client=cluster.address)
    assert job.wait().rows_loaded == 3000
    assert len(told) > 10
    assert {tuple(sorted(each)) for each in told.values()} == {
        ("done", "skipped"), ("done", "skipped", "skipped"),
    }  # fmt: skip
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


def test_what_starts_too_late_does_nothing(cluster, workspace, look, many_rows, outcomes):
    """Segments that a worker begins when the job is paused, resumed or over are not loaded."""
    path = many_rows(20_000)
    job = workspace.upload(path, "t", client=cluster.address, max_rate=4e5)
    wait_until(lambda: len(outcomes) > 2)
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.join(None)
    errand = outcomes[0][0]
    ((ahead,),) = look("SELECT max(to_byte) FROM taskwidgets.checkpoints")
    data = b"1,2.5,2024-01-01,late\n"
    late = replace(errand.segment, start=ahead, stop=ahead + len(data), data=data)
    late = replace(errand, segment=late)
    rows = look.ledger(job.id)
    with Client(cluster.address, set_as_default=False) as client:
        assert client.submit(carry_out, late, pure=False).result().kind == "fenced"
        job.resume()
        wait_until(lambda: look.ledger(job.id)[1] > rows[1])
        assert client.submit(carry_out, errand, pure=False).result().kind == "fenced"
        job.max_rate = None
        assert job.wait().rows_loaded == 20_000
        assert client.submit(carry_out, errand, pure=False).result().kind != "done"
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


def test_what_is_late_for_a_load_that_began_anew(
    cluster, workspace, look, tmp_path, small, monkeypatch
):
    """A segment as it was before the types were widened is not added to what is loaded since."""
    records = reading.sample_records
    monkeypatch.setattr(reading, "sample_records", lambda *args: records(*args[:3], 300))
    monkeypatch.setattr("taskwidgets.tabular.sample._SPREAD_BLOCKS", 2)
    path = tmp_path / "late.csv"
    path.write_text("id,a\n" + "".join(f"{n},{'x' if n == 1500 else n}.50\n" for n in range(3000)))
    first, late = [], []
    call = Lane._call

    def again(lane, errand):
        first.append(errand)
        if errand.plan.beginnings and not late:
            late.append(call(lane, first[0]).kind)
        return call(lane, errand)

    monkeypatch.setattr(Lane, "_call", again)
    job = workspace.upload(path, "t", client=cluster.address)
    assert job.wait().rows_loaded == 3000
    assert first[0].plan.types["a"] != "text" == first[-1].plan.types["a"]
    assert set(late) == {"fenced"}
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


# ------------------------------------------------------------------ controls


def test_pause_and_resume(cluster, workspace, look, many_rows, outcomes):
    """Paused is durable; resumed by the job, by its number or by the call, the cluster goes on."""
    path = many_rows(40_000)
    job = workspace.upload(path, "t", client=cluster.address, max_rate=6e5)
    for go_on in (
        job.resume,
        lambda: workspace.resume(job.id),
        lambda: workspace.upload(path, "t"),
    ):
        before = len(outcomes)
        wait_until(lambda before=before: len(outcomes) > before + 1)
        job.pause()
        wait_until(lambda: job.state == "paused")
        job.join(None)
        rows = look.ledger(job.id)[1]
        assert 0 < rows < 40_000
        assert look.contents("taskwidgets", look.staging()[0])[0] == rows
        assert not look(LANES)
        go_on()
    job.max_rate = None
    assert job.wait().rows_loaded == 40_000
    assert {outcome.worker for _, outcome in outcomes} != {""}
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


@pytest.mark.parametrize("verb", ["pause", "terminate"])
def test_segments_that_hang_are_cancelled(cluster, workspace, look, many_rows, verb):
    """What waits for a lock in a worker is broken off; after a termination nothing is left."""
    path = many_rows(20_000)
    job = workspace.upload(path, "t", client=cluster.address, max_rate=4e5)
    wait_until(lambda: job.progress.rows > 0)
    with closing(psycopg2.connect(plain(look.url))) as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE taskwidgets.{look.staging()[0]} IN SHARE MODE")
        wait_until(lambda: len(look(LANES)) == 2, "for two segments that hang")
        if verb == "pause":
            job.pause()
            wait_until(lambda: job.state == "paused")
        else:
            job.terminate()
            wait_until(lambda: not look(LANES), "for the cancelled segments")
    if verb == "pause":
        job.max_rate = None
        job.resume()
        assert job.wait().rows_loaded == 20_000
        look.copy(path, "truth", "t")
        assert look.contents("t") == look.contents("truth")
    else:
        wait_until(lambda: job.state == "terminated")
        assert not look.staging()
        assert look.one("SELECT count(*) FROM taskwidgets.checkpoints") == 0
        with Client(cluster.address, set_as_default=False) as client:
            wait_until(lambda: not client.processing() or not any(client.processing().values()))
        assert not look.staging()
        assert not look.exists("t")


def test_a_job_of_a_cluster_goes_on_without_one(
    cluster, workspace, another_workspace, look, many_rows, outcomes
):
    """client= is no part of what tells jobs apart: begun with it, a job is resumed without."""
    path = many_rows(40_000)
    job = workspace.upload(path, "t", client=cluster.address, max_rate=6e5)
    wait_until(lambda: len(outcomes) > 1)
    job.pause()
    wait_until(lambda: job.state == "paused")
    workspace.close()
    sent = len(outcomes)
    again = another_workspace().resume(job.id)
    assert (again.id, again.wait().rows_loaded) == (job.id, 40_000)
    assert len(outcomes) == sent
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


# ------------------------------------------------------------------ what client= may be


def test_clients_of_both_kinds(cluster, workspace, many_rows):
    """A synchronous Client is as good as an address; it is not used, and stays as it was."""
    with Client(cluster.address, set_as_default=False) as client:
        job = workspace.upload(many_rows(1000), "t", client=client)
        assert job.wait().rows_loaded == 1000
        assert client.status == "running"
        assert client.submit(int, "7").result() == 7
    assert job.cluster.scheduler.address == cluster.address


async def test_an_asynchronous_client_on_the_loop(cluster, workspace, many_rows):
    """Of an asynchronous Client the loop stays free."""
    async with Client(cluster.address, asynchronous=True, set_as_default=False) as client:
        job = workspace.upload(many_rows(20_000), "t", client=client, max_rate=1e6)
        ticks = 0
        waiting = asyncio.ensure_future(_wait(job))
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert (await waiting).rows_loaded == 20_000
        assert ticks > 20
        assert await client.submit(int, "7") == 7


async def _wait(job):
    return await job


def test_what_is_no_cluster(workspace, many_rows):
    """Anything else is refused, before there is a job; so are workers= beside it."""
    path = many_rows(10)
    with pytest.raises(OptionError, match=r"client must be a distributed\.Client or the address"):
        workspace.upload(path, "t", client=7)
    with pytest.raises(OptionError, match="workers= are those of this process"):
        workspace.upload(path, "t", client="127.0.0.1:1", workers=2)


def test_without_the_extra(run_script, database_url, many_rows):
    """Nothing imports Dask without client=, and where it is absent the error names the extra."""
    out, _ = run_script(
        """
        import sys
        import taskwidgets as tw
        ws = tw.Workspace(sys.argv[1])
        print(ws.upload(sys.argv[2], "t").wait().rows_loaded)
        print(sorted({"dask", "distributed"} & set(sys.modules)))
        sys.modules["distributed"] = None
        try:
            ws.upload(sys.argv[2], "u", client="127.0.0.1:1")
        except tw.TaskwidgetsError as error:
            print(error)
        ws.close()
        """,
        database_url,
        str(many_rows(10)),
    )
    assert out.splitlines() == ["10", "[]", 'client= needs Dask: pip install "taskwidgets[dask]"']


# ------------------------------------------------------------------ bounds and secrets


@pytest.mark.slow
def test_connections_are_bounded(cluster_of, database_url, many_rows, look, small):
    """Four threads of two workers each, and hardly any connections: no more than are allowed."""
    wide = cluster_of(workers=2, threads=4)
    workspace = Workspace(database_url, max_connections=FEWEST_CONNECTIONS)
    over, most = threading.Event(), [0]

    def count():
        before: set[int] = set()
        while not over.wait(0.02):
            now = {
                pid
                for (pid,) in look(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name LIKE 'taskwidgets %%'"
                )
            }
            most[0] = max(most[0], len(now & before))  # one that ends is listed for a moment
            before = now

    census = threading.Thread(target=count)
    census.start()
    try:
        job = workspace.upload(many_rows(10_000), "t", client=wide.address, max_rate=1e5)
        wait_until(lambda: job.progress.rows > 0)
        with closing(psycopg2.connect(plain(look.url))) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"LOCK TABLE taskwidgets.{look.staging()[0]} IN SHARE MODE")
            job.max_rate = None
            wait_until(lambda: len(look(LANES)) == 4, "for segments that hang")
            time.sleep(0.5)  # others have their turn to be too many
            assert len(look(LANES)) == 4
        assert job.wait().rows_loaded == 10_000
    finally:
        over.set()
        census.join()
        workspace.close()
    assert 3 < most[0] <= FEWEST_CONNECTIONS


def test_the_password_is_nowhere_to_be_seen(cluster, password_server, many_rows, outcomes):
    """Not in tasks' names, logs, events and errors of the cluster, nor in what is printed."""
    workspace = Workspace(password_server.url(password="hunter2xyz"))
    look = Look(password_server.url(password="hunter2xyz"))
    try:
        job = workspace.upload(many_rows(1000), "t", client=cluster.address)
        assert job.wait().rows_loaded == 1000
    finally:
        workspace.close()
        look("DROP TABLE IF EXISTS t")
    errand, outcome = outcomes[0]
    assert errand.access.login.count("hunter2xyz") == 1
    assert "hunter2xyz" not in errand.access.url
    assert pickle.loads(pickle.dumps(errand)) == errand
    shown = [repr(errand), str(errand), repr(errand.access), repr(outcome), errand.title]
    shown += [repr(job), repr(job.cluster), job.events().to_string()]
    with Client(cluster.address, set_as_default=False) as client:

        def fail(errand):
            raise ValueError(f"cannot do {errand}")

        def names(dask_scheduler):
            return [list(dask_scheduler.tasks), list(dask_scheduler.transition_log)]

        failed = client.submit(fail, errand, key=errand.title)
        error = failed.exception()
        shown += [repr(error), str(failed), str(client.get_worker_logs(nanny=True))]
        shown += [str(client.get_worker_logs()), str(client.get_scheduler_logs())]
        shown += [str(client.get_events()), str(client.scheduler_info())]
        shown.append(str(client.run_on_scheduler(names)))
    assert "Compute Failed" in "".join(shown)  # the log is the one that would tell
    assert errand.title in "".join(shown)
    assert not [text for text in shown if "hunter2xyz" in text]


def test_its_facts(cluster, workspace, many_rows):
    """Workers, what is under way and each one's rate are told while a job runs."""
    job = workspace.upload(many_rows(20_000), "t", client=cluster.address, max_rate=5e5)
    wait_until(lambda: len(job.cluster.facts().rates) == 2, "for both to have done something")
    facts = job.cluster.facts()
    assert facts.workers == 2
    assert 0 <= facts.in_flight <= 4
    assert facts.dashboard.startswith("http://127.0.0.1:")
    assert 0 < sum(facts.rates) < 5e6
    job.terminate()
    wait_until(lambda: job.state == "terminated")
    assert job.cluster.facts().in_flight == 0


def test_an_address_needs_no_scheme():
    """host:port is the address of a scheduler over TCP."""
    scheduler = as_scheduler("10.0.0.1:8786")
    assert scheduler is not None
    assert scheduler.address == "tcp://10.0.0.1:8786"
    assert as_scheduler(None) is None
