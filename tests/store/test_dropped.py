"""A database that is dropped under a process, and made anew: its handles say so."""

from __future__ import annotations

import pytest
from fix_databases import new_database, run_sql
from fix_servers import wait_until

from taskwidgets import JobFailed, Workspace
from taskwidgets.errors import DatabaseError, JobNotFound
from taskwidgets.runtime.states import State

GONE = "is not in the database any more.*Run the call again"
SLOW = 50_000  # bytes per second


@pytest.fixture
def database(embedded_server, template):
    """A database, and what drops it under its sessions and makes it anew."""
    with new_database(embedded_server.url, template) as url:
        name = url.partition("?")[0].rpartition("/")[2]

        def anew() -> None:
            run_sql(embedded_server.url, f"DROP DATABASE {name} WITH (FORCE)")
            run_sql(embedded_server.url, f"CREATE DATABASE {name}")

        yield url, anew


@pytest.fixture
def files(tmp_path):
    """A small file, and one that takes seconds at a slow rate."""
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    small.write_text("a,b\n1,2\n")
    large.write_text("a,b\n" + "".join(f"{n},{n}\n" for n in range(100_000)))
    return small, large


def paused_upload(workspace, path, table):
    job = workspace.upload(path, table, max_rate=SLOW, workers=1)
    wait_until(lambda: job.progress.rows > 0)
    job.pause()
    job.join(None)
    assert job.state is State.PAUSED
    return job


def test_handles_of_a_dropped_database_say_so(database, files):
    """Before anybody connects anew: what is gone, and what makes it again."""
    url, anew = database
    workspace = Workspace(url)
    done = workspace.upload(files[0], "small")
    done.wait()
    paused = paused_upload(workspace, files[1], "large")
    anew()
    with pytest.raises(DatabaseError, match=r"dropped since .* tw\.connect\(\) makes the tables"):
        done.events()
    with pytest.raises(DatabaseError, match=r"dropped since .* tw\.connect\(\) makes the tables"):
        workspace.upload(files[0], "small")
    paused.resume()
    with pytest.raises(JobFailed, match="dropped since"):
        paused.wait()
    workspace.close()


def test_handles_do_not_touch_the_jobs_of_the_new_database(database, files, tmp_path):
    """Numbers begin anew there: an old handle is not the new job of the same number."""
    url, anew = database
    workspace = Workspace(url)
    done = workspace.upload(files[0], "small")
    done.wait()
    paused = paused_upload(workspace, files[1], "large")
    anew()
    other = Workspace(url)
    first = other.upload(files[0], "another_small")
    first.wait()
    second = paused_upload(other, files[1], "another_large")
    assert (first.id, second.id) == (done.id, paused.id)
    # A handle that is followed hears of it by itself.
    wait_until(lambda: "not in the database" in str(paused.error), "for the handle to hear of it")
    with pytest.raises(JobNotFound, match=GONE):
        done.events()
    with pytest.raises(JobNotFound, match=GONE):
        paused.rejects()
    paused.resume()
    paused.join(None)
    paused.terminate()
    paused.join(None)
    assert second.state is State.PAUSED
    assert run_sql(url, "SELECT state FROM taskwidgets.jobs ORDER BY id") == [
        ("completed",),
        ("paused",),
    ]
    assert run_sql(url, "SELECT count(*) FROM taskwidgets.requests") == [(0,)]
    with pytest.raises(JobFailed, match=GONE):
        paused.wait()
    again = workspace.upload(files[0], "small")  # the old workspace goes on in the new database
    again.wait()
    assert run_sql(url, "SELECT * FROM small") == [(1, 2)]
    workspace.close()
    other.close()


def test_who_waits_for_a_job_of_another_process_hears_of_it(database, files):
    """A handle of a job that another process runs does not wait for ever."""
    url, anew = database
    workspace, other = Workspace(url), Workspace(url)
    job = workspace.upload(files[1], "large", max_rate=SLOW, workers=1)
    wait_until(lambda: job.progress.rows > 0)
    followed = other.job(job.id)
    anew()
    with pytest.raises(JobFailed):
        job.wait()
    third = Workspace(url)  # makes the tables again
    with pytest.raises(JobFailed, match=GONE):
        followed.wait()
    assert followed.state is State.INTERRUPTED
    for one in (workspace, other, third):
        one.close()
