"""Users' own jobs whose database goes away, and those in scripts whose loop ends."""

import asyncio
import threading

import pytest

import taskwidgets as tw
from taskwidgets import JobFailed, Workspace
from taskwidgets.store import database as database_module

PRELUDE = """
import asyncio, sys, threading, time
import taskwidgets as tw

@tw.job
async def count(run, number):
    print("from", run.state.get("next", 0), flush=True)
    for n in range(run.state.get("next", 0), number):
        await asyncio.sleep(0.002)
        await run.checkpoint({"next": n + 1}, done=n + 1, total=number)
    return "whole"

tw.connect(sys.argv[1])
"""


async def test_a_checkpoint_waits_for_a_restarting_server(private_server, until):
    """While the server is away the panel says so; the checkpoint is written when it is back."""
    workspace = Workspace(private_server.url())
    go = asyncio.Event()

    @tw.job
    async def work(run):
        await run.checkpoint({"n": 1})
        await go.wait()
        await run.checkpoint({"n": 2})
        return run.state

    job = work.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    await asyncio.to_thread(private_server.stop, "immediate")
    go.set()
    await until(lambda: job.remark == "database away, retrying")
    await asyncio.to_thread(private_server.start)
    assert (await job).result == {"n": 2}
    await asyncio.to_thread(workspace.close)


async def test_a_server_that_stays_away_ends_the_job_with_its_checkpoint(
    private_server, monkeypatch, until
):
    """After the store's patience the job is interrupted; when the server is back, it goes on."""
    monkeypatch.setattr(database_module, "PATIENCE", 0.3)
    workspace = Workspace(private_server.url())
    go, begun = asyncio.Event(), []

    @tw.job
    async def work(run):
        begun.append(run.state)
        await run.checkpoint({"n": 1})
        await go.wait()
        await run.checkpoint({"n": 2})

    call = work.using(workspace)
    job = call()
    await until(lambda: job.checkpoint_at is not None)
    await asyncio.to_thread(private_server.stop, "immediate")
    go.set()
    with pytest.raises(JobFailed, match="does not answer"):
        await job
    assert job.state == "interrupted"
    await asyncio.to_thread(private_server.start)
    await call()
    assert begun == [{}, {"n": 1}]
    await asyncio.to_thread(workspace.close)


async def test_terminate_ends_the_waiting_for_a_database(private_server, monkeypatch, until):
    """A checkpoint that waits for the database gives up at once when the job is to terminate."""
    workspace = Workspace(private_server.url())
    go = asyncio.Event()
    ended = threading.Event()

    @tw.job
    async def work(run):
        try:
            await run.checkpoint({"n": 1})
            await go.wait()
            await run.checkpoint({"n": 2})
        finally:
            ended.set()

    job = work.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    await asyncio.to_thread(private_server.stop, "immediate")
    go.set()
    await until(lambda: job.remark == "database away, retrying")
    job.terminate()
    await until(ended.is_set)
    await asyncio.to_thread(private_server.start)
    await until(lambda: job.state == "terminated")
    await asyncio.to_thread(workspace.close)


async def test_all_connections_lost_between_two_transactions(workspace, look):
    """The run's idle connection terminated: the next block has a new one, and nothing is lost."""
    look("CREATE TABLE mine (n int)")

    @tw.job
    async def work(run):
        for n in range(3):
            async with run.transaction() as connection:
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO mine VALUES (%s)", (n,))
                await run.checkpoint({"n": n})
            pid = connection.info.backend_pid
            await asyncio.to_thread(look, "SELECT pg_terminate_backend(%s)", (pid,))

    await work.using(workspace)()
    assert look.rows("mine") == [(0,), (1,), (2,)]


def test_a_script_runs_it_on_a_loop_of_its_own(run_script, database_url):
    """Three lines and job.wait() in a script without a loop; a second call finds it finished."""
    out, err = run_script(
        PRELUDE + 'print(count(5).wait().result, count(5).remark, sep=", ")\n', database_url
    )
    assert out == "from 0\nwhole, already done: job 1\n"
    assert err == ""


def test_a_script_that_ends_pauses_it(run_script, database_url, look):
    """At the interpreter's exit the job is paused durably; the next script goes on."""
    code = PRELUDE + "job = count(2000)\nwhile job.progress.done < 5: time.sleep(0.001)\n"
    out, err = run_script(code, database_url)
    assert "paused" in err
    assert look.state(1) == "paused"
    stood = look.one("SELECT state FROM taskwidgets.run_states")["next"]
    out, _ = run_script(code, database_url)
    assert out.splitlines()[0] == f"from {stood}"
    assert look.state(1) == "paused"


def test_an_asyncio_run_that_ends_leaves_a_job_that_can_be_resumed(run_script, database_url, look):
    """The end of asyncio.run() cancels the function: the job fails, saying so, and goes on."""
    out, _ = run_script(
        PRELUDE
        + """
async def main():
    job = count(50)
    while job.progress.done < 5:
        await asyncio.sleep(0.001)
    return job
job = asyncio.run(main())
job.join(None)
print(job.state, job.error)
print(count(50).wait().result)
""",
        database_url,
    )
    lines = out.splitlines()
    assert lines[1].startswith("failed count() was cancelled, and not by its job")
    assert lines[2].startswith("from ")
    assert int(lines[2].split()[1]) >= 5
    assert lines[3] == "whole"


async def test_a_job_taken_over_is_cancelled(workspace, look, until, monkeypatch):
    """When the keeper sees another owner, the function ends at its await and writes nothing."""
    monkeypatch.setattr("taskwidgets.store.keeper.HEARTBEAT", 0.05)
    ended = []

    @tw.job
    async def work(run):
        await run.checkpoint({"n": 1})
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    job = work.using(workspace)()
    await until(lambda: job.checkpoint_at is not None)
    look("UPDATE taskwidgets.jobs SET epoch = epoch + 1, owner = '{\"host\": \"h\", \"pid\": 1,"
         " \"session\": \"other\"}'")  # fmt: skip
    with pytest.raises(tw.TaskwidgetsError, match="taken over"):
        await job
    assert ended == [True]
