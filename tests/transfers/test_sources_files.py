"""Several files into one table: one job, each file's own dialect, errors that name the file."""

import gzip
import hashlib
import os

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fix_files import write_many
from fix_servers import wait_until

from taskwidgets import JobFailed, JobTerminated
from taskwidgets.errors import OptionError, SourceError


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "data"
    made.mkdir()
    return made


def write(folder, name, text, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_a_pattern_loads_all_its_files_in_natural_order(workspace, folder, look):
    """Columns in any order, types over all files, _source, rows of each in the receipt."""
    write(folder, "part-10.csv", "a,b\n3,x\n")
    write(folder, "part-9.csv", "b,a\ny,1\nz,2\n")
    write(folder, "part-11.csv", 'a,b\n4.5,"two\nlines"')  # no newline at its end
    write(folder, "other.txt", "no,part\n")
    job = workspace.upload(folder / "part-*.csv", "t", source_column=True)
    receipt = job.wait()
    assert look.types("t") == {"b": "text", "a": "double precision", "_source": "text"}
    assert look('SELECT a, b, _source FROM t ORDER BY a') == [
        (1, "y", "part-9.csv"), (2, "z", "part-9.csv"), (3, "x", "part-10.csv"),
        (4.5, "two\nlines", "part-11.csv"),
    ]  # fmt: skip
    assert look.one("SELECT count(*) FROM pg_attrdef WHERE adrelid = 't'::regclass") == 0
    assert receipt.rows_read == receipt.rows_loaded == 4
    assert receipt.source == f"{folder}/part-*.csv (3 files)"
    assert receipt.notes == ("part-9.csv: 2 rows", "part-10.csv: 1 row", "part-11.csv: 1 row")
    files = [folder / f"part-{number}.csv" for number in (9, 10, 11)]
    together = b"".join(path.read_bytes() for path in files)
    assert (receipt.bytes, receipt.sha256) == (len(together), hashlib.sha256(together).hexdigest())
    assert job.name == "part-*.csv (3 files) → t"
    assert (job.progress.done, job.progress.total) == (job.progress.total, len(together) - 12)


def test_a_list_of_paths_and_appending_to_a_table(workspace, folder, look):
    """Names from the folder that all are in; an existing table's types are kept."""
    look("CREATE TABLE t (a numeric, b text, origin varchar)")
    paths = [
        write(folder, "2024/jan.csv", "a,b\n1,x\n"),
        str(write(folder, "feb.csv", "a,b\n2,y\n")),
    ]
    for _ in range(2):
        job = workspace.upload(paths, "t", if_exists="append", source_column="origin")
        assert job.wait().rows_loaded == 2
    assert look.rows("t") == [(1, "x", "2024/jan.csv"), (2, "y", "feb.csv")]
    assert look.types("t")["a"] == "numeric"


def test_mixed_encodings_containers_and_dialects(workspace, folder, look):
    """Each file is found out alone; rejects say which file and where in it, and are replayed."""
    one = write(folder, "a.csv", "name;amount\nMüller;1.5\nMeier;2.5\nLang;3.5\nbad;x\n", "latin-1")
    write(folder, "b.csv", "name,amount\nŁódź,2.25\n")
    write(folder, "c.csv", "amount\tname\n3.75\tGröße\n4\tpuß\n", "utf-16")
    packed = b"name,amount\nzip,5\nzap,6\nzop,7\noops,x\n"
    (folder / "d.csv.gz").write_bytes(gzip.compress(packed))
    job = workspace.upload(
        f"{folder}/*", "t", on_error="reject", types={"amount": "numeric"}, source_column=True
    )
    receipt = job.wait()
    assert (receipt.rows_read, receipt.rows_rejected) == (11, 2)
    bad = job.rejects()
    assert list(zip(bad.file, bad.line, bad.byte_offset, bad.raw, strict=True)) == [
        ("a.csv", 5, one.read_bytes().index(b"bad"), "bad;x"),
        ("d.csv.gz", 5, packed.index(b"oops"), "oops,x"),
    ]
    assert "d.csv.gz: 3 rows, 1 rejected" in receipt.notes
    waiting, _ = workspace._store.waiting_rejects(job.id, 10, 0, None, 100)
    assert [message.partition(":")[0] for message in waiting.message] == ["a.csv", "d.csv.gz"]
    bad["raw"] = ["mended;7.25", "mended,8"]
    assert job.replay(bad).rows_loaded == 11
    rows = look("SELECT name, amount::float, _source FROM t ORDER BY amount")
    assert rows == [
        ("Müller", 1.5, "a.csv"), ("Łódź", 2.25, "b.csv"), ("Meier", 2.5, "a.csv"),
        ("Lang", 3.5, "a.csv"), ("Größe", 3.75, "c.csv"), ("puß", 4, "c.csv"),
        ("zip", 5, "d.csv.gz"), ("zap", 6, "d.csv.gz"), ("zop", 7, "d.csv.gz"),
        ("mended", 7.25, "a.csv"), ("mended", 8, "d.csv.gz"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("second", "words"),
    [("a,c\n1,2\n", 'lacks "b" and has "c" besides'), ("a\n1\n", 'lacks "b"'), ("", "is empty")],
)
def test_a_file_with_other_columns_is_refused_before_anything(
    workspace, folder, look, second, words
):
    """The file and the column are named; mended, the same call loads all."""
    write(folder, "1.csv", "a,b\n1,2\n")
    path = write(folder, "2.csv", second)
    job = workspace.upload(folder / "*.csv", "t")
    with pytest.raises(JobFailed, match=f"2[.]csv .*{words}"):
        job.wait()
    assert look.staging() == []
    path.write_text("b,a\n4,3\n")
    again = workspace.upload(folder / "*.csv", "t")
    assert again is job
    assert again.wait().rows_loaded == 2
    assert look.rows("t") == [(1, 2), (3, 4)]


def test_what_can_be_said_in_the_call(workspace, folder, look):
    """No match, an empty list, a missing file, one file twice: refused at once."""
    path = write(folder, "1.csv", "a\n1\n")
    with pytest.raises(SourceError, match="no file matches"):
        workspace.upload(folder / "*.parquet", "t")
    with pytest.raises(OptionError, match="empty list"):
        workspace.upload([], "t")
    with pytest.raises(SourceError, match=r"2\.csv does not exist"):
        workspace.upload([path, folder / "2.csv"], "t")
    with pytest.raises(OptionError, match=r"twice: 1\.csv"):
        workspace.upload([path, path], "t")
    assert look.untouched()


def test_a_name_with_signs_of_a_pattern_is_that_file(workspace, folder, look):
    """A file that is named like a pattern is loaded as itself."""
    write(folder, "[1].csv", "a\n7\n")
    write(folder, "1.csv", "a\n8\n")
    workspace.upload(folder / "[1].csv", "t").wait()
    assert look.rows("t") == [(7,)]


def test_the_first_bad_row_is_told_with_file_and_line_and_mended(workspace, folder, look):
    """The load stops at the file's own line; mended there, it goes on."""
    write(folder, "1.csv", "a,b\n" + "1,2\n" * 5)
    path = write(folder, "2.csv", "a,b\n1,2\n1,x\n1,2\n")
    write(folder, "3.csv", "a,b\n1,2\n")
    job = workspace.upload(folder / "*.csv", "t", types={"b": "integer"}, workers=1)
    with pytest.raises(JobFailed, match=r'2\.csv, line 3, column "b"') as error:
        job.wait()
    assert error.value.line == 3
    path.write_text("a,b\n1,2\n1,3333\n1,2\n")
    receipt = workspace.upload(folder / "*.csv", "t", types={"b": "integer"}, workers=1).wait()
    assert receipt.rows_loaded == 9
    assert look.one("SELECT sum(b) FROM t") == 8 * 2 + 3333


def test_run_all_loads_once_and_another_file_is_another_job(another_workspace, folder, look):
    """Unchanged, nothing is done; touched, the hash decides; with one file more, all is anew."""
    path = write(folder, "1.csv", "a\n1\n")
    write(folder, "2.csv", "a\n2\n")
    ids = set()
    for _ in range(2):
        job = another_workspace().upload(folder / "*.csv", "t", if_exists="replace")
        job.wait()
        ids.add(job.id)
        os.utime(path)
    assert len(ids) == 1
    write(folder, "3.csv", "a\n3\n")
    job = another_workspace().upload(folder / "*.csv", "t", if_exists="replace")
    assert job.wait().rows_loaded == 3
    assert job.id not in ids
    assert look.rows("t") == [(1,), (2,), (3,)]


CELL = """
    import sys
    import taskwidgets as tw
    ws = tw.Workspace(sys.argv[1])
    job = ws.upload(sys.argv[2], "t", max_rate=float(sys.argv[3]) or None, source_column=True)
    print(job.id, flush=True)
    print(job.wait().rows_loaded, flush=True)
    ws.close()
"""


def test_killed_in_the_middle_and_resumed(script, run_script, database_url, folder, look):
    """SIGKILL between files: the next process loads the rest, each row once."""
    for number in range(4):
        write_many(folder / f"{number}.csv", 4000, start=number * 4000)
    pattern = f"{folder}/*.csv"
    killed = script(CELL, database_url, pattern, "400000")
    number = killed.line()
    wait_until(lambda: look.ledger(int(number))[1] > 4000)
    killed.kill()
    out, _ = run_script(CELL, database_url, pattern, "0")
    assert out.split() == [number, "16000"]
    assert look("SELECT _source, count(*), min(id), max(id) FROM t GROUP BY 1 ORDER BY 1") == [
        (f"{n}.csv", 4000, n * 4000, n * 4000 + 3999) for n in range(4)
    ]
    assert look.staging() == []


def test_paused_changed_and_refused(workspace, folder, look, points):
    """A file that changed in a pause is refused by name; put back, the job goes on."""
    for number in range(3):
        write(folder, f"{number}.csv", f"a\n{number}\n")
    points.arm("before the rows")
    job = workspace.upload(folder / "*.csv", "t", workers=1)
    points.reached("before the rows")
    job.pause()
    points.let_go("before the rows")
    job.join(None)
    assert job.state == "paused"
    before = (folder / "2.csv").stat()
    write(folder, "2.csv", "a\n22\n")
    job.resume()
    with pytest.raises(JobFailed, match=r"2\.csv is not the file any more .* 1 byte longer"):
        job.wait()
    write(folder, "2.csv", "a\n2\n")
    os.utime(folder / "2.csv", ns=(before.st_atime_ns, before.st_mtime_ns))
    write(folder, "3.csv", "a\n3\n")
    job.resume()
    receipt = job.wait()
    assert look.rows("t") == [(0,), (1,), (2,)]
    assert "3.csv; again=True" in receipt.notes[-1]


def test_terminated_leaves_nothing(workspace, folder, look, points):
    """Terminate before the files are looked at, and while they are loaded."""
    write(folder, "1.csv", "a\n1\n")
    for point in ("before the files", "before the rows"):
        points.arm(point)
        job = workspace.upload([folder / "1.csv"], "t")
        points.reached(point)
        job.terminate()
        points.let_go(point)
        with pytest.raises(JobTerminated):
            job.wait()
        assert look.staging() == []
        assert not look.exists("t")


@pytest.mark.slow
def test_a_thousand_small_files(workspace, folder, look):
    """One crew, few open files, one table; the receipt does not list them all."""
    for number in range(1000):
        write(folder, f"{number}.csv", f"a,b\n{number},x\n")
    job = workspace.upload(folder / "*.csv", "t", source_column=True)
    receipt = job.wait()
    assert look("SELECT count(*), sum(a), count(DISTINCT _source) FROM t") == [
        (1000, 499_500, 1000)
    ]
    assert receipt.notes[99:] == ("99.csv: 1 row", "and 900 files more")
    left = [one.path for one in psutil.Process().open_files() if one.path.endswith(".csv")]
    assert left == []


def test_tables_of_several_kinds_in_one(workspace, home, folder, look, points, spooled):
    """Parquet, JSON lines and text together: types that hold all of them; resumed; once."""
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), folder / "1.parquet")
    (folder / "2.jsonl").write_text('{"b": null, "a": 0.5}\n')
    write(folder, "3.csv", "b,a\ny,7\n")
    points.arm("after the rows")
    job = workspace.upload(folder / "*", "t", source_column=True, if_exists="append")
    points.reached("after the rows")
    assert spooled() == ["0-table.csv", "0-table.json", "1-table.csv", "1-table.json"]
    job.pause()
    points.let_go("after the rows")
    job.join(None)
    assert job.state == "paused"
    job.resume()
    receipt = job.wait()
    assert look.types("t") == {"a": "numeric", "b": "text", "_source": "text"}
    assert look("SELECT a::float, b, _source FROM t ORDER BY a") == [
        (0.5, None, "2.jsonl"), (1, "x", "1.parquet"), (2, None, "1.parquet"), (7, "y", "3.csv"),
    ]  # fmt: skip
    assert receipt.rows_loaded == 4
    assert spooled() == []
    assert workspace.upload(folder / "*", "t", source_column=True, if_exists="append") is job


def test_a_bad_value_in_one_of_several_tables(workspace, home, folder, look, spooled):
    """It is told by file and row; mended there, the load goes on; terminated, nothing is left."""
    for number, last in ((1, "1"), (2, "x")):
        pq.write_table(pa.table({"a": ["0", last]}), folder / f"{number}.parquet")
    job = workspace.upload(folder / "*.parquet", "t", types={"a": "integer"})
    with pytest.raises(JobFailed, match=r'/2\.parquet, row 2, column "a"'):
        job.wait()
    pq.write_table(pa.table({"a": ["0", "5"]}), folder / "2.parquet")
    again = workspace.upload(folder / "*.parquet", "t", types={"a": "integer"})
    assert again is job
    assert again.wait().rows_loaded == 4
    assert look.one("SELECT sum(a) FROM t") == 6
    assert spooled() == []
    pq.write_table(pa.table({"b": ["0"]}), folder / "2.parquet")
    job = workspace.upload(folder / "*.parquet", "t", if_exists="replace")
    with pytest.raises(JobFailed, match='lacks "a" and has "b" besides'):
        job.wait()
    job.terminate()
    job.join(None)
    assert spooled() == []


def test_snake_names_of_all_sources(workspace, home, folder, look):
    """names="snake" goes for files, tables among them, and data frames; types by either name."""
    write(folder, "1.csv", "Flight No,Größe (cm)\n1,2\n")
    pq.write_table(pa.table({"Größe (cm)": [3], "Flight No": [None]}), folder / "2.parquet")
    receipt = workspace.upload(
        folder / "*", "t", names="snake", types={"Flight No": "numeric"}
    ).wait()
    assert look.types("t") == {"flight_no": "numeric", "groesse_cm": "bigint"}
    assert look.rows("t") == [(None, 3), (1, 2)]
    assert any("'Flight No' is flight_no" in note for note in receipt.notes)
    frame = pd.DataFrame({"Flight No": [1], "b": ["x"]})
    for on_error in ("stop", "reject"):
        job = workspace.upload(
            frame, on_error, names="snake", types={"flight_no": "text"}, on_error=on_error
        )
        job.wait()
        assert look.rows(on_error) == [("1", "x")]
        assert look.types(on_error) == {"flight_no": "text", "b": "text"}


def test_a_widened_column_and_the_source_column(workspace, home, tmp_path, look):
    """The transaction that widens a column names the source too; given types stay what they are."""
    path = tmp_path / "x.csv"
    path.write_text("a,b\n" + "1,x\n" * 400_000 + "0x1,y\n" + "2,z\n" * 400_000)
    workspace.upload(path, "t", source_column=True, workers=1).wait()
    assert look.types("t")["a"] == "text"
    assert look("SELECT _source, count(*)::int FROM t GROUP BY 1") == [("x.csv", 800_001)]
    job = workspace.upload(pd.DataFrame({"a": ["1"]}), "u", source_column=True)
    job.wait()
    assert look.types("u")["a"] == "text"
