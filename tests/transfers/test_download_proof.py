"""The proof that stands in for a lost snapshot: without a count, broken off, among writers."""

import threading

import pytest
from fix_databases import run_sql
from fix_exports import copied, pause
from fix_servers import wait_until

from taskwidgets.errors import JobFailed, SourceChanged
from taskwidgets.store.translate import translated
from taskwidgets.transfers import kept_snapshot, tables
from taskwidgets.transfers.snapshot import verify

COUNTING = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND query LIKE '%SELECT pg_catalog.count(*)%' AND application_name LIKE 'taskwidgets%'"
    " AND state = 'active'"
)

UNCOUNTED = {
    "nothing": (["SELECT 1"], None),
    "delete behind what is written": (["DELETE FROM t WHERE id > 59000"], None),
    "delete among what is written": (["DELETE FROM t WHERE id = 2"], "1 of the"),
    "delete and insert": (
        ["DELETE FROM t WHERE id = 2", "INSERT INTO t (id) VALUES (2)"],
        "inserted or updated",
    ),
    "row moved behind": (["UPDATE t SET note = 'x' WHERE id = 2"], "inserted or updated"),
    "room used again": (
        [
            "DELETE FROM t WHERE id < 9",
            "VACUUM t",
            "INSERT INTO t (id) SELECT generate_series(1,8)",
        ],
        "inserted or updated",
    ),
    "insert behind": (["INSERT INTO t (id) VALUES (0)"], "inserted or updated"),
}


@pytest.fixture
def slow_count(monkeypatch):
    """A function: from now on, counting a table's rows takes a thousand times so many seconds.

    That of the count beside the export, and that of the proof.
    """

    def make(seconds):
        slow = f"SELECT pg_catalog.count(*), pg_catalog.pg_sleep({seconds * 1000})"

        def count(connection, name):
            return tables.execute(connection, slow)

        def prove(snapshot, *given):
            with snapshot._lock, translated(snapshot._database.url):
                tables.execute(snapshot.connection, slow)
            verify(snapshot, *given)

        monkeypatch.setattr("taskwidgets.transfers.kept_snapshot.tables.count_rows", count)
        monkeypatch.setattr("taskwidgets.transfers.kept_snapshot.verify", prove)

    return make


@pytest.mark.sample(3)
@pytest.mark.parametrize("attack", UNCOUNTED)
def test_a_table_that_was_not_counted(exports, look, many, another_workspace, monkeypatch, attack):
    """Cut off before the count, the export goes on where that gives the table of one moment, the
    later one; else it says what changed."""
    monkeypatch.setattr("taskwidgets.transfers.kept_snapshot.SMALL_BLOCKS", -1)
    monkeypatch.setattr("taskwidgets.transfers.export_ranges.CHECKPOINT_SECONDS", 0.05)
    many()
    statements, words = UNCOUNTED[attack]
    job = exports.start("t", workers=2, max_rate=1e6)
    wait_until(lambda: look.ledger(job.id)[0] > 2)
    pause(job)
    exports.workspace.close()
    exports.workspace = another_workspace()
    for statement in statements:
        look(statement)
    job = exports.workspace.resume(job.id)
    if words is None:
        exports.check(job.wait(60))
        assert (exports.folder / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
    else:
        with pytest.raises(JobFailed, match=words):
            job.wait(60)
        assert not (exports.folder / "out.csv").exists()


@pytest.mark.parametrize("how", ["pause", "terminate"])
def test_the_proof_can_be_broken_off(
    exports, look, many, halfway, slow_count, another_workspace, how
):
    """While a large table is being proven unchanged, pause and terminate are heard at once."""
    many()
    job_id = halfway().id
    exports.workspace.close()
    slow_count(10)  # it would take days: only a cancel ends it
    exports.workspace = another_workspace()
    job = exports.workspace.resume(job_id)
    wait_until(lambda: bool(look(COUNTING)))
    getattr(job, how)()
    job.join(None)
    assert job.state == {"pause": "paused", "terminate": "terminated"}[how]
    wait_until(lambda: not look(COUNTING))


def test_terminate_ends_the_count(exports, look, many, slow_count, another_workspace):
    """The count that is made aside ends with its job, however long it would take."""
    many()
    slow_count(10)  # it would take days
    exports.workspace = another_workspace()
    job = exports.start("t", workers=2, max_rate=1e6)
    wait_until(lambda: bool(look(COUNTING)) and job.progress.done > 0)
    job.terminate()
    job.join(None)
    assert job.state == "terminated"
    wait_until(lambda: not look(COUNTING))


def test_a_count_that_is_late_does_not_hold_up_the_end(
    exports, look, many, slow_count, another_workspace
):
    """The file is whole before the count is: the job completes without waiting for it."""
    many(20_000)
    slow_count(10)  # it would take days
    exports.workspace = another_workspace()
    exports.check(exports.start("t").wait(60))
    wait_until(lambda: not look(COUNTING))


def test_writers_while_the_proof_is_made_change_nothing(
    exports, look, many, halfway, another_workspace
):
    """Rows deleted behind what is written while it is being proven: all of one moment, or told."""
    many()
    job_id = halfway().id
    exports.workspace.close()
    exports.workspace = another_workspace()
    stop = threading.Event()

    def shrink():
        number = 60_000
        while not stop.is_set():
            run_sql(look.url, "DELETE FROM t WHERE id = %s", (number,))
            number -= 1

    shrinking = threading.Thread(target=shrink)
    job = exports.workspace.resume(job_id, max_rate=3e6)
    shrinking.start()
    job.join(None)
    stop.set()
    shrinking.join()
    if job.state == "failed":
        assert "rows instead of" in job.error
    else:
        rows = (exports.folder / "out.csv").read_bytes().count(b",1000\n")
        assert rows == job.receipt.rows_loaded == job.receipt.rows_read


@pytest.mark.sample(1)
@pytest.mark.parametrize("is_same", [True, False])
def test_the_export_goes_on_while_it_is_proven(
    exports, look, many, halfway, another_workspace, monkeypatch, is_same
):
    """Rows are written at once; but the file is published only when the proof is there."""
    many(60_000)
    expected = copied(look.url, "SELECT * FROM t")
    job = halfway()
    exports.workspace.close()
    may_end, verify = threading.Event(), kept_snapshot.verify

    def slowly(snapshot, *arguments):
        while not may_end.is_set():
            snapshot.connection.exec_driver_sql("SELECT pg_sleep(0.1)")  # to be cancelled
        if not is_same:
            raise SourceChanged("rows were changed")
        verify(snapshot, *arguments)

    monkeypatch.setattr(kept_snapshot, "verify", slowly)
    exports.workspace = another_workspace()
    before = look.ledger(job.id)[1]
    job = exports.workspace.resume(job.id)
    wait_until(lambda: look.ledger(job.id)[1] == 60_000)
    assert before < 60_000
    path = exports.folder / "out.csv"
    assert not path.exists()
    assert job.state == "running"
    pause(job)
    assert job.state == "paused"  # in the midst of the proof, which is then to be made anew
    job.resume()
    wait_until(lambda: job.state == "running")
    assert not path.exists()
    may_end.set()
    if is_same:
        exports.check(job.wait(60))
        assert path.read_bytes() == expected
    else:
        with pytest.raises(JobFailed, match="rows were changed"):
            job.wait(60)
        assert not path.exists()
