"""Connections and servers that go away in the middle of a load."""

import random

import pytest
from fix_databases import Look, run_sql
from fix_servers import wait_until

from taskwidgets import Workspace
from taskwidgets.errors import TaskwidgetsError
from taskwidgets.store.keeper import LOCK_CLASS

BACKENDS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'taskwidgets%'
"""


@pytest.fixture
def path(many_rows):
    return many_rows(60_000)  # 3.5 MB


def exact(look, path, job):
    job.max_rate = None
    receipt = job.wait(100)
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")
    assert receipt.rows_loaded == 60_000 == look.ledger(job.id)[1]
    assert look.staging() == []


def test_ten_lost_connections_lose_and_double_nothing(workspace, path, look):
    """Random backends of ours terminated ten times in one load: it completes, exact."""
    chance = random.Random(5)
    job = workspace.upload(path, "t", max_rate=1.2e6)

    def end_one():
        victims = [pid for (pid,) in look(BACKENDS)]
        return victims and look.one("SELECT pg_terminate_backend(%s)", (chance.choice(victims),))

    for number in range(10):
        wait_until(lambda number=number: job.progress.rows > number * 4000)
        wait_until(end_one)
    exact(look, path, job)


def test_all_connections_lost_at_once_are_made_anew(workspace, path, look):
    """All backends of ours terminated together, keeper and pool included: it completes, exact."""
    job = workspace.upload(path, "t", max_rate=3e6)
    wait_until(lambda: job.progress.rows > 0)
    look(f"SELECT pg_terminate_backend(pid) FROM ({BACKENDS}) AS ours")
    exact(look, path, job)


def test_the_keepers_connection_lost_does_not_stop_the_job(workspace, path, look, monkeypatch):
    """With the backend that holds the job's lock terminated, the job completes and is released."""
    monkeypatch.setattr("taskwidgets.store.keeper.HEARTBEAT", 0.05)
    job = workspace.upload(path, "t", max_rate=2e6)
    wait_until(lambda: job.progress.rows > 0)
    locked = (
        f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS}"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    ((keeper,),) = look(locked)
    look("SELECT pg_terminate_backend(%s)", (keeper,))
    wait_until(lambda: bool(look(locked)) and look(locked) != [(keeper,)])
    exact(look, path, job)
    job.join(None)
    assert look(locked) == []


def test_a_connection_lost_in_the_final_append_appends_once(workspace, many_rows, look):
    """The backend of the final INSERT terminated: it is done again, and each row is in once."""
    path = many_rows(300)
    look("CREATE TABLE t (id int, amount float8, day date, note text)")
    look(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END'"
    )
    look("CREATE TRIGGER s BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION slow()")
    job = workspace.upload(path, "t", if_exists="append")
    inserting = f"{BACKENDS} AND query LIKE '%INSERT INTO \"public\".\"t\"%' AND state = 'active'"
    wait_until(lambda: bool(look(inserting)))
    look(f"SELECT pg_terminate_backend(pid) FROM ({inserting}) AS ours")
    assert job.wait(100).rows_loaded == 300
    assert look.one("SELECT count(*) FROM t") == 300


@pytest.fixture
def own(private_server):
    """A workspace on a server of the test's own: (server, workspace, look)."""
    url = private_server.url()
    made = Workspace(url)
    yield private_server, made, Look(url)
    made.close()


def test_a_server_that_crashes_and_restarts_loses_nothing(own, path):
    """Restarted with -m immediate three times in the load, it completes by itself, exact."""
    server, workspace, look = own
    job = workspace.upload(path, "t", max_rate=1.5e6)
    for number in range(3):
        wait_until(lambda number=number: job.progress.rows > number * 15_000)
        server.restart("immediate")
    exact(look, path, job)


@pytest.mark.slow
def test_a_server_that_stays_away_ends_in_a_clear_word_and_a_resume(own, path, monkeypatch):
    """Away for longer than the patience, the job stops with a clear word, then resumes exact."""
    monkeypatch.setattr("taskwidgets.store.database.PATIENCE", 0.3)
    server, workspace, look = own
    job = workspace.upload(path, "t", max_rate=1.5e6)
    wait_until(lambda: job.progress.rows > 0)
    server.stop("immediate")
    with pytest.raises(TaskwidgetsError, match="does not answer"):
        job.wait(100)
    job.join(None)
    assert job.state in ("interrupted", "failed")
    with pytest.raises(TaskwidgetsError, match="does not answer"):
        workspace.upload(path, "t")
    server.start()
    again = workspace.upload(path, "t")
    assert again is job
    exact(look, path, again)


def test_a_pause_asked_for_while_the_server_is_away_becomes_durable(own, path):
    """Pause during an outage is kept in mind, and is paused once the server is back."""
    server, workspace, look = own
    job = workspace.upload(path, "t", max_rate=1.5e6)
    wait_until(lambda: job.progress.rows > 0)
    server.stop("immediate")
    wait_until(lambda: "away" in job.remark)
    job.pause()
    server.start()
    wait_until(lambda: job.state == "paused")
    assert look.state(job.id) == "paused"
    assert job.progress.rows == look.ledger(job.id)[1]
    job.resume()
    exact(look, path, job)


def test_a_server_restarted_while_the_job_is_paused_is_no_matter(own, path):
    """Paused over a restart, the job resumes on new connections."""
    server, workspace, look = own
    job = workspace.upload(path, "t", max_rate=1.5e6)
    wait_until(lambda: job.progress.rows > 0)
    job.pause()
    wait_until(lambda: job.state == "paused")
    server.restart("immediate")
    job.resume()
    exact(look, path, job)


def test_the_probe_sees_our_connections(workspace, database_url):
    """The query for our backends finds some: the tests above hit what they aim at."""
    assert run_sql(database_url, BACKENDS)
