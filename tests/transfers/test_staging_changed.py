"""Other sessions change a job's staging table or checkpoints: no receipt over other rows."""

import pytest
from fix_servers import wait_until

from taskwidgets import JobFailed

ROWS = 3000
TAMPERINGS = {
    "rows deleted": "DELETE FROM {staging} WHERE ctid IN (SELECT ctid FROM {staging} LIMIT 3)",
    "rows doubled": "INSERT INTO {staging} SELECT * FROM {staging} LIMIT 5",
    "one row replaced by two": (
        "WITH gone AS (DELETE FROM {staging} WHERE ctid = (SELECT min(ctid) FROM {staging})"
        " RETURNING *) INSERT INTO {staging} SELECT g.* FROM gone g, generate_series(1, 2)"
    ),
    "truncated": "TRUNCATE {staging}",
    "a checkpoint deleted": (
        "DELETE FROM taskwidgets.checkpoints WHERE from_byte ="
        " (SELECT min(from_byte) FROM taskwidgets.checkpoints)"
    ),
    "a checkpoint's rows changed": "UPDATE taskwidgets.checkpoints SET rows = rows + 1",
}


@pytest.fixture
def path(many_rows):
    return many_rows(ROWS)


@pytest.fixture
def paused(workspace, path, look):
    """A function that makes a job, and pauses it when some rows are in its staging table."""

    def pause(**options):
        job = workspace.upload(path, "t", max_rate=5e4, **options)
        wait_until(lambda: job.progress.rows > 0)
        job.pause()
        wait_until(lambda: job.state == "paused")
        job.join(60)
        job.max_rate = None
        assert 0 < job.progress.rows < ROWS
        return job

    return pause


@pytest.mark.parametrize("if_exists", ["fail", "replace", "append"])
@pytest.mark.parametrize("tampering", TAMPERINGS)
@pytest.mark.sample(8)
def test_what_others_changed_is_not_published(workspace, paused, path, look, tampering, if_exists):
    """The job fails and says why; the target is as it was; again=True makes the exact table."""
    job = paused(if_exists=if_exists)
    look(TAMPERINGS[tampering].format(staging=f"taskwidgets.{look.staging()[0]}"))
    job.resume()
    with pytest.raises(JobFailed, match="another session changed one or the other"):
        job.wait(60)
    assert not look.exists("t")
    assert job.receipt is None
    again = workspace.upload(path, "t", if_exists=if_exists, again=True)
    assert again.wait(60).rows_loaded == ROWS
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")
    assert look.staging() == []


@pytest.mark.parametrize("if_exists", ["fail", "append"])
def test_a_staging_table_that_was_dropped_is_named(workspace, paused, path, look, if_exists):
    """The error says what is gone and what to do; that works, and leaves nothing behind."""
    job = paused(if_exists=if_exists)
    (staging,) = look.staging()
    look(f"DROP TABLE taskwidgets.{staging}")
    job.resume()
    with pytest.raises(JobFailed, match=f"taskwidgets.{staging}.*dropped it.*again=True"):
        job.wait(60)
    assert workspace.upload(path, "t", if_exists=if_exists, again=True).wait(60).rows_loaded == ROWS
    job.terminate()
    wait_until(lambda: job.state == "terminated")
    assert look.staging() == []
