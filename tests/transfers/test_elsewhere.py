"""Jobs that another process runs: seen, paused, terminated, resumed, and taken over from here."""

from __future__ import annotations

import os
import signal

import pytest
from fix_servers import wait_until

from taskwidgets import JobTerminated
from taskwidgets.errors import JobOwned

ROWS = 60_000

OWNER = """
    import sys, time
    import taskwidgets as tw
    tw.connect(sys.argv[1])
    job = tw.upload(sys.argv[2], "target", types={"id": "bigint"}, max_rate=float(sys.argv[3]))
    print(job.id, flush=True)
    while (order := sys.stdin.readline().strip()) != "end":
        if order == "busy":
            time.sleep(600)  # ended with the test: whatever is heard, another thread hears it
        elif order == "state":
            print(job.state, job.remark, flush=True)
        elif order == "wait":
            try:
                job.wait()
                print("completed", flush=True)
            except tw.TaskwidgetsError as error:
                print(type(error).__name__, error, flush=True)
"""


@pytest.fixture
def source(csv_file):
    """A file of 60,000 rows, 1.1 MB."""
    return csv_file("id,a", *(f"{n},{n:09}" for n in range(ROWS)))


@pytest.fixture
def owner(script, database_url, source, look):
    """A process that loads the file slowly, and the job's number there."""

    def start(rate: float = 3e5):
        process = script(OWNER, database_url, str(source), str(rate))
        number = int(process.line())
        wait_until(lambda: look.ledger(number)[1] > 0)
        return process, number

    return start


def is_loaded(look):
    return look("SELECT count(*), count(DISTINCT id) FROM target") == [(ROWS, ROWS)]


def test_a_busy_process_hears_pause_and_resume_comes_here(owner, workspace, look):
    """Paused while its main thread sleeps, seen as paused here, and taken up here to the end."""
    process, number = owner()
    job = workspace.job(number)
    wait_until(lambda: job.state == "running" and job.progress.rows > 0)
    wait_until(lambda: f"run by process {process.process.pid}" in job.remark)
    process.say("busy")
    job.pause()
    wait_until(lambda: job.state == "paused")
    rows = look.ledger(number)[1]
    assert 0 < rows < ROWS
    wait_until(lambda: job.progress.rows == rows)
    assert look.one("SELECT answer FROM taskwidgets.requests") == "heard"
    causes = look("SELECT cause FROM taskwidgets.events WHERE to_state = 'pausing'")
    assert len(causes) == 1
    assert f"{os.getpid()}@" in causes[0][0]  # who asked
    resumed = workspace.resume(number)
    assert resumed is job
    resumed.max_rate = None
    assert resumed.wait().rows_loaded == ROWS
    assert is_loaded(look)


def test_the_paused_owner_sees_what_happens_elsewhere(owner, workspace, look):
    """A job at rest in one process is shown there as another process leaves it."""
    process, number = owner()
    job = workspace.job(number)
    assert job.state == "running"
    job.pause()
    wait_until(lambda: job.state == "paused")
    workspace.resume(number, max_rate=3e5)
    wait_until(lambda: job.state == "running")

    def state():
        process.say("state")
        return process.line()

    wait_until(lambda: state().startswith(f"running run by process {os.getpid()} on "))
    job.max_rate = None
    job.wait()
    process.say("wait")
    assert process.line() == "completed"
    assert state().startswith("completed")


def test_terminate_from_elsewhere_cleans_up(owner, workspace, look):
    """The owner cleans up; here and there the job is terminated."""
    process, number = owner()
    job = workspace.job(number)
    wait_until(lambda: job.progress.rows > 0)
    job.terminate()
    with pytest.raises(JobTerminated):
        job.wait()
    assert job.state == "terminated"
    assert look.staging() == []
    process.say("wait")
    assert process.line().startswith("JobTerminated")


def test_resume_names_the_owner(owner, workspace):
    """While it runs, resume elsewhere says who has it, and how to take it from them."""
    process, number = owner()
    with pytest.raises(JobOwned, match=rf"process {process.process.pid} on .* take_over=True"):
        workspace.resume(number)


def test_a_request_that_came_too_late_does_not_stop_the_next_owner(owner, workspace, look):
    """The owner died before it heard; whoever resumes is not paused by the old wish."""
    process, number = owner()
    job = workspace.job(number)
    wait_until(lambda: job.progress.rows > 0)
    os.kill(process.process.pid, signal.SIGSTOP)
    job.pause()
    wait_until(lambda: look.one("SELECT count(*) FROM taskwidgets.requests") == 1)
    process.kill()
    wait_until(lambda: job.state == "interrupted")
    assert workspace.resume(number).wait().rows_loaded == ROWS
    assert look.one("SELECT answer FROM taskwidgets.requests") == "the owner it was for is gone"
    assert is_loaded(look)


def test_a_frozen_owner_is_fenced(owner, workspace, look):
    """Taken over while frozen: loaded once; the owner, thawed, writes nothing and says why."""
    process, number = owner()
    job = workspace.job(number)
    wait_until(lambda: job.progress.rows > 0)
    os.kill(process.process.pid, signal.SIGSTOP)
    taken = workspace.resume(number, take_over=True)
    assert taken is job
    taken.max_rate = None
    assert taken.wait().rows_loaded == ROWS
    before = look("SELECT id, epoch, state FROM taskwidgets.jobs")
    os.kill(process.process.pid, signal.SIGCONT)
    process.say("wait")
    told = process.line()
    assert told.startswith(("JobFenced", "completed")), told
    assert is_loaded(look)
    assert look("SELECT id, epoch, state FROM taskwidgets.jobs") == before
    assert look.staging() == []


def test_a_living_owner_yields(owner, workspace, look):
    """Taken over from a process that works: it stops, names the new owner, and shows its job."""
    process, number = owner()
    job = workspace.job(number)
    wait_until(lambda: job.progress.rows > 0)
    workspace.resume(number, take_over=True, max_rate=1e5)
    wait_until(lambda: job.runs_here and job.state == "running")
    process.say("wait")
    told = process.line()
    assert told.startswith("JobFenced"), told
    assert f"process {os.getpid()} on" in told

    def state():
        process.say("state")
        return process.line()

    wait_until(lambda: state().startswith(f"running taken over by process {os.getpid()} on "))
    job.max_rate = None
    assert job.wait().rows_loaded == ROWS
    assert is_loaded(look)


@pytest.mark.slow
def test_a_process_that_leaves_does_not_pause_what_others_run(owner, another_workspace, look):
    """A follower that closes its workspace asks nothing of the owner."""
    process, number = owner()
    follower = another_workspace()
    job = follower.job(number)
    wait_until(lambda: job.remark.startswith("run by"))
    follower.close()
    assert look.one("SELECT count(*) FROM taskwidgets.requests") == 0
    process.say("wait")
    assert process.line() == "completed"


def test_a_pause_counts_though_the_job_was_last_seen_paused(owner, script, database_url, workspace):
    """Paused, and gone on with by a third process a moment ago: the pause is not lost."""
    process, number = owner()
    job = workspace.job(number)
    job.pause()
    wait_until(lambda: job.state == "paused")
    process.kill()
    workspace._store.unfollow(number)  # what it hears next is up to the test
    third = script(RESUMER, database_url, str(number))
    assert third.line() == "running"
    assert job.state == "paused"
    job.pause()
    wait_until(lambda: workspace._store.record(number).state == "paused")
    assert workspace._store.record(number).owner.pid == third.process.pid


RESUMER = """
    import sys
    import taskwidgets as tw
    tw.connect(sys.argv[1])
    job = tw.resume(int(sys.argv[2]))
    job.max_rate = 1e5
    while job.state != "running":
        pass
    print(job.state, flush=True)
    sys.stdin.readline()
"""
