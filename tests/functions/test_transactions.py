"""run.transaction(): the function's rows and its checkpoint commit together, or neither."""

import asyncio
from contextlib import suppress

import psycopg2
import pytest
from fix_servers import wait_until
from fix_tiers import slow

import taskwidgets as tw
from taskwidgets import JobFailed, TaskwidgetsError
from taskwidgets.errors import DatabaseError, JobFenced
from taskwidgets.functions.ledger import RunConnection


@pytest.fixture
def table(look):
    look("CREATE TABLE mine (n int)")
    return "mine"


def put(connection, number):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO mine VALUES (%s)", (number,))


def stands(look):
    return look("SELECT serial, state FROM taskwidgets.run_states")


async def test_rows_and_checkpoint_commit_together(workspace, table, look):
    """Within the block nothing is visible; after it, rows, state and progress are."""

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            await run.checkpoint({"n": 1}, done=1, total=2)
            assert await asyncio.to_thread(look.rows, "mine") == []
            assert run.state == {}
        assert run.state == {"n": 1}
        async with run.transaction() as same:
            assert same is connection
            put(connection, 2)

    job = work.using(workspace)()
    await job
    assert look.rows("mine") == [(1,), (2,)]
    assert stands(look) == [(2, {"n": 1})]
    assert look("SELECT progress ->> 'done' FROM taskwidgets.run_states") == [("1",)]
    assert look("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%mine%%' AND pid <>"
                " pg_backend_pid() AND application_name LIKE 'taskwidgets%%'"
                " AND datname = current_database()") == []  # fmt: skip


async def test_an_exception_rolls_back_both(workspace, table, look):
    """What the block wrote and said is gone; the connection can be used again."""

    @tw.job
    async def work(run):
        with pytest.raises(ValueError, match="no"):
            async with run.transaction() as connection:
                put(connection, 1)
                await run.checkpoint({"n": 1})
                raise ValueError("no")
        with pytest.raises(psycopg2.Error):
            async with run.transaction() as connection:
                put(connection, "x")
        async with run.transaction() as connection:
            put(connection, 2)
            await run.checkpoint({"n": 2})

    await work.using(workspace)()
    assert look.rows("mine") == [(2,)]
    assert stands(look) == [(1, {"n": 2})]


async def test_a_fenced_transaction_writes_nothing(workspace, table, look):
    """The epoch is checked with the commit: a claim that comes during the block wins."""

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            await run.checkpoint({"n": 1})
            await asyncio.to_thread(look, "UPDATE taskwidgets.jobs SET epoch = epoch + 1")

    with pytest.raises(JobFenced):
        await work.using(workspace)()
    assert look.rows("mine") == []
    assert stands(look) == []


@pytest.mark.parametrize("statement_follows", [False, True])
async def test_a_connection_lost_before_the_commit_leaves_nothing(
    workspace, table, look, statement_follows
):
    """pg_terminate_backend before the end of the block: neither rows nor checkpoint."""

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            await run.checkpoint({"n": 1})
            pid = connection.info.backend_pid
            await asyncio.to_thread(look, "SELECT pg_terminate_backend(%s)", (pid,))
            if statement_follows:
                put(connection, 2)

    with pytest.raises(JobFailed):
        await work.using(workspace)()
    assert look.rows("mine") == []
    assert stands(look) == []


@pytest.mark.parametrize("arrived", [False, True])
async def test_a_lost_reply_to_commit_is_looked_up(workspace, table, look, monkeypatch, arrived):
    """With the reply lost, the serial tells: committed is fine, not committed raises."""
    commit = RunConnection.really_commit
    lost = []

    def broken(self):
        if lost:
            return commit(self)
        lost.append(True)
        if arrived:
            commit(self)
        raise psycopg2.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(RunConnection, "really_commit", broken)

    @tw.job
    async def work(run):
        try:
            async with run.transaction() as connection:
                put(connection, 1)
                await run.checkpoint({"n": 1})
        except DatabaseError:
            assert not arrived
            assert run.state == {}
        async with run.transaction() as connection:
            put(connection, 2)

    await work.using(workspace)()
    assert look.rows("mine") == ([(1,), (2,)] if arrived else [(2,)])
    assert stands(look) == [(2, {"n": 1}) if arrived else (1, {})]


async def test_a_checkpoint_whose_reply_is_lost_is_written_once(workspace, look, monkeypatch):
    """save() asks for the serial before it writes again."""
    from taskwidgets.errors import ServerUnreachable

    store = type(workspace._store)
    begin = store.in_transaction
    lost = []

    from contextlib import contextmanager

    @contextmanager
    def broken(self):
        with begin(self) as connection:
            yield connection
        if len(lost) == 1:
            lost.append("reply")
            raise ServerUnreachable("the reply is lost")

    @tw.job
    async def work(run):
        await run.checkpoint({"n": 1})
        lost.append("from now on")
        await run.checkpoint({"n": 2})
        await run.checkpoint({"n": 3})

    monkeypatch.setattr(store, "in_transaction", broken)
    await work.using(workspace)()
    assert lost == ["from now on", "reply"]
    assert stands(look) == [(3, {"n": 3})]


async def test_pause_waits_for_the_commit(workspace, table, look, until, settled):
    """A pause asked for in a block takes effect when its rows are committed."""
    inside, go, after = asyncio.Event(), asyncio.Event(), []

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            await run.checkpoint({"n": 1})
            inside.set()
            await go.wait()
            await run.checkpoint({"n": 2})
            put(connection, 2)
        after.append(True)

    job = work.using(workspace)()
    await inside.wait()
    job.pause()
    await until(lambda: job.state == "pausing")
    go.set()
    await settled(job, "paused")
    assert after == []
    assert look.rows("mine") == [(1,), (2,)]
    assert stands(look) == [(1, {"n": 2})]
    job.terminate()
    await settled(job, "terminated")


async def test_terminate_breaks_off_a_long_statement(workspace, table, look, until):
    """A statement that a thread runs in a block is cancelled; nothing of the block stays."""

    def sleep(connection):
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO mine SELECT 1 FROM pg_sleep(1000)")

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            await run.in_thread(sleep, connection)

    job = work.using(workspace)()
    await until(lambda: look("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'INSERT%pg_sleep%'"
                             " AND pid <> pg_backend_pid() AND state = 'active'"))  # fmt: skip
    job.terminate()
    with pytest.raises(TaskwidgetsError):
        await job
    assert job.state == "terminated"
    assert look.rows("mine") == []


async def test_nested_and_self_committed_blocks_are_refused(workspace, table, look):
    """A second transaction(), commit(), rollback() and "with connection" raise, saying why."""

    @tw.job
    async def work(run):
        for misuse in ("nested", "commit", "rollback", "with"):
            with pytest.raises(TaskwidgetsError, match=r"run\.transaction\(\)"):
                async with run.transaction() as connection:
                    put(connection, 1)
                    if misuse == "nested":
                        async with run.transaction():
                            pass
                    elif misuse == "with":
                        with connection:
                            pass
                    else:
                        getattr(connection, misuse)()
        with pytest.raises(TaskwidgetsError, match="autocommit"):
            async with run.transaction() as connection:
                connection.autocommit = True

    await work.using(workspace)()
    assert look.rows("mine") == []


async def test_a_checkpoint_of_another_task_does_not_wait_for_the_block(workspace, table, look):
    """A concurrent task's checkpoint is durable when it returns, whatever block is open."""

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            await asyncio.create_task(run.checkpoint({"other": 1}))
            assert await asyncio.to_thread(stands, look) == [(1, {"other": 1})]

    await work.using(workspace)()
    assert look.rows("mine") == [(1,)]
    assert stands(look) == [(2, {"other": 1})]


SCRIPT = """
    import asyncio, sys
    import taskwidgets as tw

    @tw.job
    async def fill(run, number):
        for n in range(run.state.get("next", 0), number):
            async with run.transaction() as connection:
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO mine VALUES (%s)", (n,))
                await run.checkpoint({"next": n + 1}, done=n + 1, total=number)
            print(n, flush=True)

    tw.connect(sys.argv[1])
    job = fill(200)
    print("job", job.id, flush=True)
    print("done", job.wait().rows_loaded, flush=True)
"""


@pytest.mark.parametrize("kills", [4, slow(30)])
def test_killed_again_and_again_each_row_is_written_once(script, database_url, table, look, kills):
    """SIGKILL in the middle, often; each process takes the job up, and each row is in once."""
    jobs = set()
    for number in range(kills):
        one = script(SCRIPT, database_url)
        jobs.add(one.line())
        for _ in range(3 + number % 5):
            one.line()
        one.kill()
    one = script(SCRIPT, database_url)
    out, _ = one.end()
    jobs.add(out.splitlines()[0])
    assert len(jobs) == 1
    assert out.splitlines()[-1] == "done 200"
    assert sorted(look.rows("mine")) == [(n,) for n in range(200)]


def test_another_process_resumes_by_number(script, run_script, database_url, table, look):
    """tw.resume(id) finds the function that the process has defined; without it, it says so."""
    one = script(SCRIPT, database_url)
    job_id = one.line().split()[1]
    for _ in range(5):
        one.line()
    one.kill()
    resume = """
        import sys
        import taskwidgets as tw
        tw.connect(sys.argv[1])
        try:
            tw.resume(int(sys.argv[2]))
        except tw.TaskwidgetsError as error:
            print(type(error).__name__, error)
    """
    out, _ = run_script(resume, database_url, job_id)
    assert out.startswith(
        f"FunctionUnknown job {job_id} runs the function fill of module __main__, which this "
        "process has not defined"
    )
    assert look.state(int(job_id)) == "running"
    code = SCRIPT.replace("job = fill(200)", f"job = tw.resume({job_id})")
    out, _ = run_script(code, database_url)
    assert out.splitlines()[-1] == "done 200"
    assert sorted(look.rows("mine")) == [(n,) for n in range(200)]


def terminated_here(one, workspace):
    """Kill the process, and terminate its job in this one, which does not know the function."""
    job_id = int(one.line().split()[1])
    one.line()
    one.kill()
    wait_until(lambda: workspace._store.record(job_id).state == "interrupted")
    job = workspace.job(job_id)
    job.terminate()
    job.join(None)
    return job


def test_an_unknown_function_without_on_terminate_can_be_terminated(
    script, workspace, database_url, table, look
):
    """What the job was recorded with says whether the function is needed."""
    job = terminated_here(script(SCRIPT, database_url), workspace)
    assert look.state(job.id) == "terminated"
    assert stands(look) == []


def test_an_unknown_function_with_on_terminate_is_asked_for(
    script, workspace, database_url, table, look
):
    """The clean-up of a process that has not defined the function says so, and changes nothing."""
    code = SCRIPT.replace("@tw.job", "@tw.job(on_terminate=lambda run, number: None)")
    job = terminated_here(script(code, database_url), workspace)
    assert look.state(job.id) == "interrupted"
    assert "has not defined" in job.error
    assert len(stands(look)) == 1


@pytest.mark.parametrize("statement", ["COMMIT", "ROLLBACK", "SELECT 1; COMMIT", "END", "ABORT"])
@pytest.mark.parametrize("swallowed", [False, True])
async def test_the_block_s_transaction_is_not_ended_by_sql(
    workspace, table, look, statement, swallowed
):
    """An error at once, and at the end of the block where it was swallowed; no checkpoint."""

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            await run.checkpoint({"n": 1})
            with connection.cursor() as cursor:
                if swallowed:
                    with suppress(TaskwidgetsError):
                        cursor.execute(statement)
                else:
                    cursor.execute(statement)

    with pytest.raises(JobFailed, match="a statement in the block ended the transaction"):
        await work.using(workspace)()
    assert stands(look) == []


async def test_savepoints_are_allowed(workspace, table, look):
    """They end no transaction."""

    @tw.job
    async def work(run):
        async with run.transaction() as connection:
            put(connection, 1)
            with connection.cursor() as cursor:
                cursor.execute("SAVEPOINT s")
                put(connection, 2)
                cursor.execute("ROLLBACK TO SAVEPOINT s")
                cursor.execute("RELEASE SAVEPOINT s")

    await work.using(workspace)()
    assert look.rows("mine") == [(1,)]


async def test_after_a_block_that_was_ended_by_sql_the_next_one_works(workspace, table, look):
    """A function that catches the error goes on with a transaction of its own."""

    @tw.job
    async def work(run):
        with suppress(TaskwidgetsError):
            async with run.transaction() as connection:
                with connection.cursor() as cursor:
                    cursor.execute("COMMIT")
        async with run.transaction() as connection:
            put(connection, 1)
            await run.checkpoint({"n": 1})

    await work.using(workspace)()
    assert look.rows("mine") == [(1,)]
    assert stands(look) == [(1, {"n": 1})]
