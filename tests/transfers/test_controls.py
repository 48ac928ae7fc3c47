"""Pause, resume, terminate and max_rate, at every moment and any number of times."""

import hashlib
import threading
import time

import psycopg2
import pytest
from fix_servers import plain, wait_until

from taskwidgets import JobFailed, JobTerminated
from taskwidgets.errors import IllegalTransition

SLOW = 4e5  # bytes per second: the usual file then takes some seconds


@pytest.fixture
def path(many_rows):
    return many_rows(20_000)  # 1 MB


@pytest.fixture
def running(workspace, path):
    """A job in the middle of its file."""
    job = workspace.upload(path, "t", max_rate=SLOW)
    wait_until(lambda: job.progress.rows > 0)
    return job


def paused(job):
    job.pause()
    wait_until(lambda: job.state == "paused")
    return job


def finish(job, look, path, rows=20_000):
    job.max_rate = None
    receipt = job.wait()
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")
    assert receipt.rows_read == receipt.rows_loaded == rows
    assert receipt.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert look.staging() == []
    return receipt


def test_paused_is_durable(running, look, path):
    """Paused, the staging table has the ledger's rows, and nothing of ours is open but a lock."""
    job = paused(running)
    rows = look.ledger(job.id)[1]
    assert 0 < rows < 20_000
    assert look.contents("taskwidgets", look.staging()[0])[0] == rows == job.progress.rows
    assert look.state(job.id) == "paused"
    assert not look.exists("t")
    job.join(None)
    assert not look(
        "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE locktype = 'advisory' AND datname = current_database()"
    )
    job.resume()
    finish(job, look, path)
    assert list(job.events().to_state.dropna()) == [
        "pending", "running", "pausing", "paused", "running", "completed",
    ]  # fmt: skip


def test_twenty_pauses_lose_and_double_nothing(workspace, look, many_rows):
    """Paused and resumed 20 times at once after each other, the table is exact."""
    path = many_rows(60_000)
    job = workspace.upload(path, "t", max_rate=1e5, workers=2)
    for _ in range(20):
        wait_until(lambda: job.state in ("running", "completed"))
        if job.state == "completed":
            break
        job.pause()
        wait_until(lambda: job.state in ("paused", "completed"))
        if job.state == "completed":
            break
        job.resume()
    assert list(job.events().to_state).count("paused") == 20
    finish(job, look, path, 60_000)


def test_controls_are_idempotent(running, look, path):
    """Pause, resume and terminate may be called twice in a row in each state."""
    job = running
    job.resume()
    job.pause()
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.pause()
    job.resume()
    job.resume()
    wait_until(lambda: job.state == "running")
    job.resume()
    job.terminate()
    job.terminate()
    wait_until(lambda: job.state == "terminated")
    job.terminate()
    with pytest.raises(JobTerminated):
        job.wait()


def test_pause_right_after_resume_is_heard(running, look, path):
    """The last thing asked for counts: resume() and pause() in a row leave the job paused."""
    job = paused(running)
    job.join(None)
    job.max_rate = SLOW / 4
    job.resume()
    job.pause()
    wait_until(lambda: list(job.events().to_state)[-1] == "paused" and job._thread is None)
    assert job.state == "paused"
    assert list(job.events().to_state).count("paused") == 2
    job.resume()
    finish(job, look, path)


def test_resume_in_the_moment_of_paused_is_heard(running, look, path):
    """resume() called as soon as the state is paused goes on, also while the driver leaves."""
    job = running
    for _ in range(5):
        job.pause()
        while job.state != "paused":
            pass
        job.resume()
        wait_until(lambda: job.state == "running")
    finish(job, look, path)


def test_terminate_in_the_moment_of_paused_is_heard(running, look):
    """terminate() called as soon as the state is paused terminates."""
    job = running
    job.pause()
    while job.state != "paused":
        pass
    job.terminate()
    wait_until(lambda: job.state == "terminated")
    assert look.staging() == []


@pytest.mark.parametrize("asked", ["resume", "the same call", "terminate", "terminate, resume"])
def test_what_is_asked_while_the_driver_leaves_is_done(
    asked, workspace, running, look, path, monkeypatch
):
    """Between paused and the freeing of the lock, nothing that is asked for gets lost."""
    may_leave = threading.Event()
    release = type(workspace._store).release

    def held_up(self, claim):
        may_leave.wait(60)
        release(self, claim)

    monkeypatch.setattr(type(workspace._store), "release", held_up)
    job = paused(running)
    if asked == "resume":
        job.resume()
    elif asked == "the same call":
        assert workspace.upload(path, "t") is job
    else:
        job.terminate()
    if asked == "terminate, resume":
        with pytest.raises(IllegalTransition, match="cannot be resumed"):
            job.resume()
    assert job.state == "paused"
    may_leave.set()
    if asked.startswith("terminate"):
        with pytest.raises(JobTerminated):
            job.wait(60)
        assert look.staging() == []
    else:
        finish(job, look, path)


def test_the_same_call_right_after_pause_goes_on(workspace, running, look, path):
    """The last thing asked for counts: the same call just after pause() resumes the job."""
    running.pause()
    assert workspace.upload(path, "t") is running
    finish(running, look, path)


def test_the_same_call_goes_on_where_the_pause_ends_while_it_looks(
    workspace, running, look, path, monkeypatch
):
    """The call reads "running", then the job comes to rest: the call resumes it all the same."""
    latest = workspace._store.latest

    def latest_before_the_pause_ends(key):
        record = latest(key)
        assert record.state == "running"
        paused(running)
        running.join(60)
        return record

    monkeypatch.setattr(workspace._store, "latest", latest_before_the_pause_ends)
    assert workspace.upload(path, "t") is running
    assert running.runs_here
    finish(running, look, path)


def test_terminate_right_after_upload_terminates(workspace, path, look):
    """upload() and terminate() in a row end terminated, whatever the driver had begun."""
    for number in range(10):
        job = workspace.upload(path, f"t{number}")
        job.terminate()
        with pytest.raises(JobTerminated):
            job.wait(60)
        assert look.state(job.id) == "terminated"
    assert look.staging() == []


def test_pause_right_after_upload_pauses(workspace, path, look):
    """upload() and pause() in a row end paused, and go on to the exact table."""
    job = workspace.upload(path, "t", max_rate=SLOW)
    job.pause()
    wait_until(lambda: job.state == "paused")
    job.resume()
    finish(job, look, path)


@pytest.mark.sample(3)
@pytest.mark.parametrize("state", ["running", "pausing", "paused", "failed", "interrupted"])
def test_terminate_cleans_up_from_every_state(
    state, workspace, another_workspace, path, look, script
):
    """Staging table and checkpoints are gone, the older target is untouched, the state is final."""
    look("CREATE TABLE t AS SELECT 7 AS older")
    if state == "failed":
        with path.open("ab") as file:
            file.write(b"bad\n")
    if state == "interrupted":
        code = """
            import sys, time
            import taskwidgets as tw
            ws = tw.Workspace(sys.argv[1])
            job = ws.upload(sys.argv[2], "t", if_exists="replace", max_rate=4e5)
            while job.progress.rows == 0:
                time.sleep(0.01)
            print(job.id, flush=True)
            time.sleep(100)
        """
        killed = script(code, look.url, str(path))
        job_id = int(killed.line())
        killed.kill()
        wait_until(lambda: workspace._store.record(job_id).state == "interrupted")
        job = workspace.job(job_id)
        assert job.state == "interrupted"
    else:
        job = workspace.upload(
            path, "t", if_exists="replace", max_rate=None if state == "failed" else SLOW
        )
        if state != "failed":
            wait_until(lambda: job.progress.rows > 0)
        if state in ("paused", "pausing"):
            job.pause()
            wait_until(lambda: job.state in ("paused", state))
        if state == "failed":
            with pytest.raises(JobFailed):
                job.wait()
    assert look.staging()
    job.terminate()
    with pytest.raises(JobTerminated):
        job.wait(60)
    assert look.state(job.id) == "terminated"
    assert look.staging() == []
    assert look.ledger(job.id) == (0, 0)
    assert look.rows("t") == [(7,)]


@pytest.fixture
def slow_append(look):
    """A target whose appended rows each take a while."""
    look("CREATE TABLE t (id int, amount float8, day date, note text)")
    look("INSERT INTO t (id) VALUES (-1)")
    look(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.02); RETURN NEW; END'"
    )
    look("CREATE TRIGGER s BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()")
    return lambda: bool(
        look("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%INSERT INTO \"public\".\"t\"%%'"
             " AND state = 'active' AND pid <> pg_backend_pid()"
             " AND datname = current_database()")
    )  # fmt: skip


def test_terminate_cancels_the_final_append(workspace, many_rows, look, slow_append):
    """terminate() while the last INSERT runs cancels it; the target is as it was."""
    job = workspace.upload(many_rows(20_000), "t", if_exists="append")
    wait_until(slow_append)
    job.terminate()
    with pytest.raises(JobTerminated):
        job.wait(30)
    assert look("SELECT id FROM t") == [(-1,)]
    assert look.staging() == []


def test_pause_cancels_the_final_append_and_resume_does_it_again(
    workspace, many_rows, look, slow_append
):
    """pause() while the last INSERT runs is durable; after resume each row is in once."""
    path = many_rows(300)
    job = workspace.upload(path, "t", if_exists="append")
    wait_until(slow_append)
    job.pause()
    wait_until(lambda: job.state == "paused")
    assert look("SELECT id FROM t") == [(-1,)]
    look("DROP TRIGGER s ON t")
    job.resume()
    assert job.wait().rows_loaded == 300
    assert look.one("SELECT count(*) FROM t") == 301


@pytest.mark.parametrize("wish", ["pause", "terminate"])
def test_a_wish_that_comes_with_the_last_commit_is_too_late(
    wish, workspace, csv_file, look, monkeypatch
):
    """A pause or terminate asked for just after the final commit leaves the job completed."""
    from taskwidgets.transfers.switch import Switch

    jobs = []

    def count(self, batch):
        getattr(jobs[0], wish)()

    monkeypatch.setattr(Switch, "count", count)
    job = workspace.upload(csv_file("a", *map(str, range(50_000))), "t", max_rate=1e6)
    jobs.append(job)
    job.max_rate = None
    assert job.wait(30).rows_loaded == 50_000
    assert job.state == "completed" == look.state(job.id)
    assert job.error is None


def test_what_the_state_forbids_is_refused_with_the_state(workspace, csv_file, path, running):
    """Illegal controls raise IllegalTransition with the state in the text, and change nothing."""
    done = workspace.upload(csv_file("a", "1"), "done")
    done.wait()
    done.join(None)
    for control in (done.pause, done.resume, done.terminate):
        with pytest.raises(IllegalTransition, match="is completed and cannot be") as caught:
            control()
        assert caught.value.job_id == done.id
    failed = workspace.upload(csv_file("a", "x", name="bad.csv"), "bad", types={"a": "int"})
    with pytest.raises(JobFailed):
        failed.wait()
    with pytest.raises(IllegalTransition, match="is failed and cannot be paused"):
        failed.pause()
    running.terminate()
    wait_until(lambda: running.state == "terminated")
    for control in (running.pause, running.resume):
        with pytest.raises(IllegalTransition, match="is terminated and cannot be"):
            control()


def test_elapsed_and_receipt_leave_the_pause_out(running, look, path):
    """A pause adds nothing to elapsed nor to the receipt's seconds."""
    job = paused(running)
    job.join(None)
    elapsed = job.progress.elapsed
    paused_at = time.monotonic()
    wait_until(lambda: time.monotonic() - paused_at > 0.5)
    assert job.progress.elapsed == elapsed
    began = time.monotonic()
    job.resume()
    receipt = finish(job, look, path)
    assert elapsed < receipt.seconds < elapsed + (time.monotonic() - began) + 0.05


def test_the_rate_is_kept(workspace, many_rows, look):
    """With max_rate, loading takes at least the bytes' time and not several times it."""
    path = many_rows(30_000)
    size = path.stat().st_size
    began = time.monotonic()
    workspace.upload(path, "t", max_rate=size / 1.5, workers=2).wait()
    # A batch is paid for when it is through, and the last ones' payment is waited for as well.
    assert 0.75 < time.monotonic() - began < 6


def test_the_rate_changes_while_the_job_runs(workspace, path, look):
    """Lowering max_rate holds a job; lifting it lets one that would take days end at once."""
    job = workspace.upload(path, "t", max_rate=SLOW, workers=1)
    wait_until(lambda: job.progress.rows > 0)
    assert job.max_rate == SLOW
    job.max_rate = 1.0
    before = -1
    while before != (before := job.progress.rows):  # what is under way still comes
        time.sleep(1)
    assert before < 20_000
    assert job.state == "running"
    job.max_rate = None
    assert job.wait(60).rows_loaded == 20_000


@pytest.mark.parametrize("change", ["longer", "other", "gone", "shorter"])
def test_a_file_that_changed_while_paused_is_refused(running, look, path, change):
    """Resume fails with SourceChanged, saying what changed; the old file put back goes on."""
    import os

    job = paused(running)
    job.join(None)
    old, facts = path.read_bytes(), path.stat()
    if change == "longer":
        path.write_bytes(old + b"1,2,2013-01-01,x\n")
    elif change == "shorter":
        path.write_bytes(old[:-20])
    elif change == "other":
        path.write_bytes(old.replace(b"note", b"nota"))
    else:
        path.unlink()
    job.resume()
    words = {
        "longer": "17 bytes longer",
        "shorter": "20 bytes shorter",
        "other": "other contents",
        "gone": "does not exist",
    }
    with pytest.raises(JobFailed, match=words[change]) as caught:
        job.wait()
    assert str(path) in str(caught.value)
    kind = type(caught.value.__cause__).__name__
    assert kind == ("SourceError" if change == "gone" else "SourceChanged")
    path.write_bytes(old)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    job.resume()
    finish(job, look, path)


@pytest.mark.parametrize("change", ["longer", "truncated", "gone"])
def test_a_file_that_changes_while_it_is_loaded_is_refused(running, look, path, change):
    """The job fails with SourceChanged or SourceError, and nothing of it comes into the target."""
    if change == "longer":
        with path.open("ab") as file:
            file.write(b"1,2,2013-01-01,x\n")
    elif change == "truncated":
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1000)
    else:
        path.unlink()
    running.max_rate = None
    with pytest.raises(JobFailed) as caught:
        running.wait()
    assert type(caught.value.__cause__).__name__ in ("SourceChanged", "SourceError")
    assert str(path) in str(caught.value)
    assert not look.exists("t")


def test_closing_the_workspace_pauses_its_jobs(database_url, path, look):
    """close() leaves a running job durably paused, for the next process to take up."""
    from taskwidgets import Workspace

    made = Workspace(database_url)
    job = made.upload(path, "t", max_rate=SLOW)
    wait_until(lambda: job.progress.rows > 0)
    made.close()
    assert look.state(job.id) == "paused"
    made = Workspace(database_url)
    again = made.upload(path, "t")
    assert again.remark.startswith(f"resuming job {job.id} at ")
    finish(again, look, path)
    made.close()


def test_a_frozen_owner_that_was_taken_over_writes_nothing(workspace, running, look, path):
    """With its epoch raised behind its back, a running job commits nothing more and says so."""
    look("UPDATE taskwidgets.jobs SET epoch = epoch + 1, owner = jsonb_set(owner, '{pid}', '4711')")
    rows = look.ledger(running.id)[1]
    running.max_rate = None
    from taskwidgets.errors import JobFenced

    with pytest.raises(JobFenced, match="process 4711"):
        running.wait()
    assert look.ledger(running.id)[1] == rows
    assert look.contents("taskwidgets", look.staging()[0])[0] == rows
    assert not look.exists("t")
    assert look.state(running.id) == "running"


def test_a_batch_and_its_checkpoint_are_one_transaction(running, look):
    """At no moment do staging table and ledger differ, seen from one snapshot."""
    (name,) = look.staging()
    connection = psycopg2.connect(plain(look.url))
    connection.set_session(isolation_level="REPEATABLE READ")
    seen = set()
    running.max_rate = SLOW / 2
    while len(seen) < 5 and running.state == "running":
        with connection, connection.cursor() as cursor:
            cursor.execute(
                f"SELECT (SELECT count(*) FROM taskwidgets.{name}),"
                " (SELECT sum(rows)::bigint FROM taskwidgets.checkpoints)"
            )
            counted, recorded = cursor.fetchone()
        assert counted == recorded
        seen.add(counted)
    connection.close()
    assert len(seen) == 5
    running.terminate()


@pytest.mark.parametrize("how", ["touched", "written anew"])
def test_a_file_written_anew_with_the_same_bytes_is_the_same(running, look, path, how):
    """A paused job goes on with a file that has another time of modification, and is exact."""
    job = paused(running)
    job.join(None)
    if how == "touched":
        path.touch()
    else:
        path.write_bytes(path.read_bytes())
    job.resume()
    finish(job, look, path)
