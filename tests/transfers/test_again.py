"""The same call again: attached, resumed, or already loaded; never loaded twice."""

import os
import threading

import pytest
from fix_files import write_many
from fix_servers import wait_until

from taskwidgets import JobFailed, JobTerminated, TaskwidgetsError
from taskwidgets.errors import IllegalTransition, JobNotFound, JobOwned, SourceError, TargetExists
from taskwidgets.transfers import planning


@pytest.mark.parametrize("if_exists", ["fail", "replace", "append"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "existing"])
def test_run_all_three_times_loads_once(if_exists, there, database_url, many_rows, look):
    """Three processes' worth of the same call make one job and load the rows once."""
    from taskwidgets import Workspace

    path = many_rows(3000)
    before = 0
    if there and if_exists != "fail":
        look("CREATE TABLE t (id int, amount float8, day date, note text)")
        look("INSERT INTO t (id) VALUES (-1)")
        before = if_exists == "append"
    ids = set()
    for _ in range(3):
        made = Workspace(database_url)
        for _ in range(2):
            job = made.upload(path, "t", if_exists=if_exists)
            assert job.wait().rows_loaded == 3000
            ids.add(job.id)
        made.close()
    assert len(ids) == 1
    assert look.one("SELECT count(*) FROM t") == 3000 + before
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 1


def test_a_finished_job_says_that_it_is(workspace, csv_file):
    """The second call's job remarks "already loaded" with its number."""
    path = csv_file("a", "1")
    job = workspace.upload(path, "t")
    job.wait()
    again = workspace.upload(path, "t")
    assert again is job
    assert again.remark == f"already loaded: job {job.id}"


def test_two_files_appended_twice_are_each_in_once(workspace, csv_file, look):
    """Appending two files and running all again leaves each file's rows in once."""
    one, two = csv_file("a", "1", name="one.csv"), csv_file("a", "2", name="two.csv")
    for _ in range(3):
        for path in (one, two):
            workspace.upload(path, "t", if_exists="append").wait()
    assert look.rows("t") == [(1,), (2,)]


def test_a_source_that_changed_makes_a_new_job(workspace, csv_file, look):
    """When the file has changed since, the same call loads it anew."""
    first = workspace.upload(csv_file("a", "1"), "t", if_exists="replace")
    first.wait()
    second = workspace.upload(csv_file("a", "2", "3"), "t", if_exists="replace")
    second.wait()
    assert second.id != first.id
    assert look.rows("t") == [(2,), (3,)]


def test_a_touched_file_with_fail_is_refused(workspace, csv_file):
    """With if_exists="fail", a file changed after completion meets its own table."""
    workspace.upload(csv_file("a", "1"), "t").wait()
    with pytest.raises(TargetExists):
        workspace.upload(csv_file("a", "2"), "t")


@pytest.mark.parametrize(
    "change",
    ["DROP TABLE t", "TRUNCATE t", "DELETE FROM t WHERE a = 1", "UPDATE t SET a = 9 WHERE a = 1",
     "INSERT INTO t VALUES (9)", "UPDATE t SET a = a"],
)  # fmt: skip
def test_a_target_that_changed_is_loaded_anew(change, workspace, csv_file, look):
    """When somebody changed the target since, a replacing call loads the file anew."""
    path = csv_file("a", "1", "2")
    first = workspace.upload(path, "t", if_exists="replace")
    first.wait()
    look(change)
    second = workspace.upload(path, "t", if_exists="replace")
    second.wait()
    assert second.id != first.id
    assert look.rows("t") == [(1,), (2,)]


def test_a_vacuumed_target_is_no_changed_one(workspace, csv_file, look):
    """VACUUM FREEZE, ANALYZE and a new index change no row: nothing is loaded again."""
    path = csv_file("a", "1", "2")
    first = workspace.upload(path, "t", if_exists="replace")
    first.wait()
    for statement in ("VACUUM FREEZE t", "ANALYZE t", "CREATE INDEX ON t (a)"):
        look(statement)
        assert workspace.upload(path, "t", if_exists="replace") is first


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        ("INSERT INTO t VALUES (9)", [(1,), (2,), (9,)]),
        ("DELETE FROM t WHERE a = 1", [(2,)]),
        ("TRUNCATE t", [(1,), (2,)]),
        ("DROP TABLE t", [(1,), (2,)]),
    ],
)
def test_an_appended_table_that_others_change_gets_no_rows_twice(
    change, rows, workspace, csv_file, look
):
    """After an append, others' changes do not make the same call append its rows again."""
    path = csv_file("a", "1", "2")
    workspace.upload(path, "t", if_exists="append").wait()
    look(change)
    workspace.upload(path, "t", if_exists="append").wait()
    assert look.rows("t") == rows


def test_appended_rows_that_were_all_rewritten_are_not_appended_again(workspace, csv_file, look):
    """When all appended rows were rewritten, the call says so instead of doubling them."""
    path = csv_file("a", "1", "2")
    workspace.upload(path, "t", if_exists="append").wait()
    look("UPDATE t SET a = a")
    with pytest.raises(TaskwidgetsError, match="again=True"):
        workspace.upload(path, "t", if_exists="append")
    workspace.upload(path, "t", if_exists="append", again=True).wait()
    assert look.rows("t") == [(1,), (1,), (2,), (2,)]


def test_other_options_are_another_job(workspace, csv_file, look):
    """Source, target and options make the key; workers and max_rate do not."""
    path = csv_file("a", "1")
    one = workspace.upload(path, "t", if_exists="replace")
    one.wait()
    assert workspace.upload(path, "t", if_exists="replace", workers=1, max_rate=1e9) is one
    two = workspace.upload(path, "t", if_exists="replace", types="text")
    two.wait()
    three = workspace.upload(path, "t2", if_exists="replace")
    three.wait()
    assert len({one.id, two.id, three.id}) == 3
    assert look.rows("t") == [("1",)]


def test_a_running_job_is_attached_to(workspace, many_rows):
    """The same call in the same process gives the very job that runs."""
    path = many_rows(20_000)
    job = workspace.upload(path, "t", max_rate=2e5)
    assert workspace.upload(path, "t") is job
    assert workspace.resume(job.id) is job
    job.max_rate = None
    job.wait()


def test_two_threads_that_call_at_once_load_once(workspace, many_rows, look):
    """Eight threads that make the same call in the same moment get one job."""
    path = many_rows(5000)
    barrier = threading.Barrier(8)
    jobs = []

    def call():
        barrier.wait()
        jobs.append(workspace.upload(path, "t"))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(job) for job in jobs}) == 1
    jobs[0].wait()
    assert look.contents("t")[0] == 5000


CALLER = """
    import sys
    import taskwidgets as tw
    url, path, if_exists = sys.argv[1:]
    ws = tw.Workspace(url)
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        print(ws.upload(path, "t", if_exists=if_exists).wait().rows_loaded, flush=True)
    except tw.TaskwidgetsError as error:
        print(type(error).__name__, error, flush=True)
    ws.close()
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("if_exists", ["fail", "replace", "append"])
def test_processes_that_call_at_once_load_once(if_exists, database_url, many_rows, look, script):
    """Three processes with the same call: the rows are in once, and each gets a clear answer."""
    path = many_rows(4000)
    callers = [script(CALLER, database_url, str(path), if_exists) for _ in range(3)]
    for caller in callers:
        assert caller.line() == "ready"
    for caller in callers:
        caller.say("go")
    answers = [caller.end()[0].strip() for caller in callers]
    assert "4000" in answers
    for answer in answers:  # the last one: where its plan was made while the table was not there
        assert (
            answer == "4000"
            or answer.startswith("TargetExists")
            or "has come into being meanwhile" in answer
        ), answers
    assert look.contents("t")[0] == 4000
    assert look.staging() == []


def test_the_other_processs_job_is_followed(workspace, another_workspace, many_rows):
    """While one owner runs the job, the same call elsewhere follows it; resume() is refused."""
    path = many_rows(20_000)
    job = workspace.upload(path, "t", max_rate=2e5)
    wait_until(lambda: job.progress.rows > 0)
    other = another_workspace()
    followed = other.upload(path, "t")
    assert followed.id == job.id
    assert not followed.runs_here
    with pytest.raises(JobOwned, match=rf"process {os.getpid()} on .* since .*; pause it"):
        other.resume(job.id)
    with pytest.raises(JobOwned, match="terminate it before you start over"):
        other.upload(path, "t", again=True)
    with pytest.raises(JobOwned, match="is running in this process; terminate it"):
        workspace.upload(path, "t", again=True)
    job.max_rate = None
    assert job.wait().rows_loaded == 20_000
    assert followed.wait(60).rows_loaded == 20_000
    assert followed.state == "completed"


@pytest.mark.parametrize("again", [False, True])
def test_the_call_right_after_terminate_waits_for_the_clean_up(
    workspace, many_rows, look, again, monkeypatch
):
    """It does not attach to a job that is about to end, and is not refused: it begins anew."""
    path = many_rows(20_000)
    job = workspace.upload(path, "t", max_rate=2e5)
    wait_until(lambda: job.progress.rows > 0)
    job.terminate()
    assert job.is_ending
    second = workspace.upload(path, "t", again=again)
    assert job.state == "terminated"
    assert second.id != job.id
    assert second.wait(60).rows_loaded == 20_000
    assert look.staging() == []
    assert look.one("SELECT count(*) FROM t") == 20_000


def test_a_job_that_another_process_finished_is_seen_as_finished(
    workspace, another_workspace, many_rows, look
):
    """A job paused here, and completed elsewhere, is returned completed by the same call."""
    path = many_rows(20_000)
    job = workspace.upload(path, "t", max_rate=3e5)
    wait_until(lambda: job.progress.rows > 0)
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.join(None)
    assert another_workspace().upload(path, "t").wait().rows_loaded == 20_000
    again = workspace.upload(path, "t")
    assert again.state == "completed"
    assert again.wait(30).rows_loaded == 20_000
    assert look.contents("t")[0] == 20_000


def test_a_terminated_job_is_begun_anew(workspace, many_rows, look):
    """After terminate, the same call makes a new job."""
    path = many_rows(20_000)
    job = workspace.upload(path, "t", max_rate=3e5)
    job.terminate()
    with pytest.raises(JobTerminated):
        job.wait()
    again = workspace.upload(path, "t")
    assert again.id != job.id
    again.wait()
    assert look.contents("t")[0] == 20_000


def test_again_starts_over_and_cleans_up_the_failed_one(workspace, csv_file, look):
    """again=True over a failed job terminates it, with its staging table, and makes a new one."""
    path = csv_file("a", "1", "x")
    first = workspace.upload(path, "t", types={"a": "int"})
    with pytest.raises(JobFailed):
        first.wait()
    csv_file("a", "1", "2")
    second = workspace.upload(path, "t", types={"a": "int"}, again=True)
    assert second.wait().rows_loaded == 2
    assert look.state(first.id) == "terminated"
    assert look.ledger(first.id) == (0, 0)
    assert look.staging() == []


def test_again_cleans_up_a_job_that_never_began(workspace, csv_file, look, run_script):
    """A job whose process died before it began is taken up, or cleaned up by again=True."""
    path = csv_file("a", "1")
    code = """
        import os, sys
        import taskwidgets as tw
        from taskwidgets.runtime.job import Job
        Job.go_on = lambda *_: os._exit(0)
        tw.Workspace(sys.argv[1]).upload(sys.argv[2], "t")
    """
    run_script(code, look.url, str(path))
    assert look("SELECT state FROM taskwidgets.jobs") == [("pending",)]
    job = workspace.upload(path, "t", again=True)
    assert job.wait().rows_loaded == 1
    assert look("SELECT state FROM taskwidgets.jobs ORDER BY id") == [
        ("terminated",), ("completed",),
    ]  # fmt: skip
    assert look.staging() == []


def test_again_loads_a_completed_job_once_more(workspace, csv_file, look):
    """again=True after completion makes a new job."""
    path = csv_file("a", "1")
    workspace.upload(path, "t", if_exists="append").wait()
    workspace.upload(path, "t", if_exists="append", again=True).wait()
    assert look.rows("t") == [(1,), (1,)]


def test_resume_by_number_refuses_what_is_over(workspace, csv_file):
    """resume() of a completed job, and of none, raise errors that say so."""
    job = workspace.upload(csv_file("a", "1"), "t")
    job.wait()
    with pytest.raises(IllegalTransition, match="is completed and cannot be resumed"):
        workspace.resume(job.id)
    with pytest.raises(JobNotFound, match="no job 4711"):
        workspace.resume(4711)


def test_a_relative_path_and_its_absolute_one_are_the_same_job(
    workspace, csv_file, monkeypatch, tmp_path
):
    """The key has the absolute path and the table's full name."""
    path = csv_file("a", "1")
    job = workspace.upload(path, "t")
    job.wait()
    monkeypatch.chdir(tmp_path)
    assert workspace.upload(path.name, "public.t") is job


def test_a_file_with_a_name_in_no_encoding_is_refused(workspace, tmp_path, look):
    """A file name that is no UTF-8 raises an error that says so, without a trace."""
    path = tmp_path / os.fsdecode(b"\xff.csv")
    path.write_bytes(b"a\n1\n")
    with pytest.raises(SourceError, match=r"is not UTF-8.*rename the file"):
        workspace.upload(path, "t")
    assert look.untouched()


def test_an_interrupted_job_says_how_far_it_is(database_url, workspace, look, script, tmp_path):
    """A job whose process was killed is taken up with the percentage that its ledger has."""
    path = write_many(tmp_path / "many.csv", 20_000)
    code = """
        import sys, time
        import taskwidgets as tw
        job = tw.Workspace(sys.argv[1]).upload(sys.argv[2], "t", max_rate=3e5)
        while job.progress.rows < 5000:
            time.sleep(0.01)
        print(job.id, flush=True)
        time.sleep(100)
    """
    killed = script(code, database_url, str(path))
    job_id = int(killed.line())
    killed.kill()
    wait_until(lambda: workspace._store.record(job_id).state == "interrupted")
    record = workspace._store.record(job_id)
    assert record.progress.rows == look.ledger(job_id)[1]
    assert 0 < record.progress.fraction < 1


def test_a_call_that_takes_long_to_plan_holds_up_no_other(workspace, csv_file, monkeypatch):
    """Only calls of the same job wait for each other."""
    slow, quick = csv_file("a", "1", name="slow.csv"), csv_file("a", "2", name="quick.csv")
    plan, begun, go = planning.find_reading, threading.Event(), threading.Event()

    def find_reading(path, *args, **options):
        if path.name == "slow.csv":
            begun.set()
            assert go.wait(60)
        return plan(path, *args, **options)

    monkeypatch.setattr(planning, "find_reading", find_reading)
    jobs = []
    thread = threading.Thread(target=lambda: jobs.append(workspace.upload(slow, "s")))
    thread.start()
    assert begun.wait(60)
    assert workspace.upload(quick, "q").wait(60).rows_loaded == 1
    go.set()
    thread.join()
    assert jobs[0].wait(60).rows_loaded == 1


def test_after_the_schema_was_dropped_numbers_are_those_of_other_jobs(
    workspace, csv_file, look, database_url
):
    """A handle that is kept from before is not taken for the new job of the same number."""
    old = workspace.upload(csv_file("a", "1", name="old.csv"), "t")
    old.wait(60)
    look("DROP SCHEMA taskwidgets CASCADE")
    workspace._database.prepare()
    new = workspace.upload(csv_file("a", "2", name="new.csv"), "u")
    assert new.id == old.id
    assert new is not old
    assert new.wait(60).rows_loaded == 1
    assert workspace.job(new.id) is new
    assert look.rows("u") == [(2,)]
