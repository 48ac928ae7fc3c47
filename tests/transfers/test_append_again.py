"""An append never loads rows again without a word, however the source looks the second time."""

import gzip
import shutil
import threading
from contextlib import suppress

import openpyxl
import pandas as pd
import pytest
from fix_databases import run_sql

from taskwidgets import JobFailed, Workspace
from taskwidgets.errors import AlreadyLoaded

ROWS = [f"{n},name {n},{n}.5" for n in range(1, 301)]


def write(path, rows, header="id,name,amount", ending="\n"):
    path.write_bytes((ending.join([header, *rows]) + ending).encode())
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "jan.csv", ROWS)


@pytest.fixture
def append(workspace):
    def make(source, table="t", **options):
        return workspace.upload(source, table, if_exists="append", **options)

    return make


@pytest.fixture
def refused(append, look):
    """A function: the append is refused, says why, and nothing is added."""

    def check(source, words, table="t", **options):
        before = look.one(f"SELECT count(*) FROM {table}")
        job = append(source, table, **options)
        with pytest.raises(JobFailed) as caught:
            job.wait(60)
        assert isinstance(caught.value.__cause__, AlreadyLoaded)
        assert words in str(caught.value)
        assert "again=True" in str(caught.value)
        assert look.one(f"SELECT count(*) FROM {table}") == before
        return job

    return check


@pytest.fixture
def loaded(append, path):
    job = append(path)
    assert job.wait(60).rows_loaded == 300
    return job


def test_the_same_bytes_under_another_name(loaded, refused, path, tmp_path):
    """The message names the job, and the file that it loaded."""
    job = refused(shutil.copy(path, tmp_path / "copy.csv"), "has the same content as what job")
    assert f"job {loaded.id} " in job.error
    assert f"from {path}" in job.error


@pytest.mark.parametrize("how", ["packed", "crlf is other text", "other header"])
def test_the_same_data_in_other_files(loaded, refused, append, path, tmp_path, how):
    """Packed, or with other names of its columns: the data are the same."""
    if how == "packed":
        other = tmp_path / "jan.csv.gz"
        other.write_bytes(gzip.compress(path.read_bytes()))
        refused(other, "the same content")
    elif how == "other header":
        other = write(tmp_path / "other.csv", ROWS, header='"id",name,amount')
        refused(other, "the same content")
    else:
        other = write(tmp_path / "windows.csv", ROWS, ending="\r\n")
        assert append(other).wait(60).rows_loaded == 300  # other bytes: not known


def test_a_stated_option_or_another_bound(loaded, refused, path):
    """What was detected, stated; and another max_rejects: another job, the same rows."""
    refused(path, "the same content", delimiter=",")
    refused(path, "the same content", on_error="reject")
    refused(path, "the same content", on_error="reject", max_rejects=5)


def test_a_grown_file(loaded, refused, path, append, tmp_path):
    """Under its name or another one: its beginning is in the table."""
    write(path, [*ROWS, "301,new,1.5"])
    refused(path, "begins with what job")
    refused(shutil.copy(path, tmp_path / "other.csv"), "300 rows would be there twice")
    new = write(tmp_path / "new.csv", ["301,new,1.5"])
    assert append(new).wait(60).rows_loaded == 1


def test_a_corrected_file(loaded, refused, path):
    """The same name, other content: the old rows are in the table."""
    write(path, ["1,corrected,1.5", *ROWS[1:]])
    refused(path, "was changed since job")


def test_a_pattern_with_a_file_more_and_a_list_in_another_order(append, refused, tmp_path):
    """The files that are in the table are counted, and the first is named."""
    one, two = write(tmp_path / "a1.csv", ROWS[:100]), write(tmp_path / "a2.csv", ROWS[100:])
    append(str(tmp_path / "a*.csv")).wait(60)
    write(tmp_path / "a3.csv", ["301,x,1.5"])
    job = refused(str(tmp_path / "a*.csv"), "2 of 3 files, the first")
    assert "a1.csv" in job.error
    refused([two, one], "2 of 2 files")
    refused([one], "the same content")


def test_a_frame_that_grew_and_one_from_a_file(workspace, home, append, refused):
    """A DataFrame has no name: its rows are compared."""
    frame = pd.DataFrame({"id": range(50), "name": [f"n{n}" for n in range(50)]})
    append(frame).wait(60)
    grown = pd.concat([frame, pd.DataFrame({"id": [50], "name": ["new"]})], ignore_index=True)
    refused(grown, "begins with what job")
    other = frame.copy()
    other["id"] += 100
    assert append(other).wait(60).rows_loaded == 50


def test_a_workbook_that_is_saved_again(home, append, refused, tmp_path):
    """Other bytes, the same table."""
    book = openpyxl.Workbook()
    for row in (["id", "name"], [1, "x"], [2, "y"]):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    append(tmp_path / "x.xlsx").wait(60)
    book.properties.creator = "somebody"
    book.save(tmp_path / "x.xlsx")
    refused(tmp_path / "x.xlsx", "the same content")


@pytest.mark.parametrize("first", ["fail", "replace"])
def test_after_a_load_that_made_the_table(workspace, append, refused, path, first):
    """The table was made of the file: an append of it is the second load."""
    workspace.upload(path, "t", if_exists=first).wait(60)
    refused(path, "the same content")


def test_a_renamed_table_and_one_made_anew(loaded, append, refused, path, look):
    """By its identity, then by its name; where the rows are cannot be told then."""
    look("ALTER TABLE t RENAME TO u")
    refused(path, "the same content", table="u")
    look("CREATE TABLE t AS SELECT * FROM u")
    job = refused(path, "the table was made anew since", delimiter=",")
    job.terminate()
    look("TRUNCATE t")
    assert append(path, delimiter=",").wait(60).rows_loaded == 300  # proven to be absent


def test_rows_that_were_changed_or_deleted(loaded, refused, path, look):
    """Not seen is not the same as not there."""
    look("UPDATE t SET amount = amount + 1")
    refused(path, "all of its rows were changed or deleted since", delimiter=",")


def test_row_security(database_url, look, path):
    """A role that sees no row of the table cannot know that it is empty."""
    if not look("SELECT FROM pg_roles WHERE rolname = 'clerk'"):
        look("CREATE ROLE clerk LOGIN")
    run_sql(database_url, "GRANT ALL ON SCHEMA taskwidgets, public TO clerk")
    run_sql(database_url, "GRANT ALL ON ALL TABLES IN SCHEMA taskwidgets TO clerk")
    run_sql(database_url, "CREATE TABLE t (id int, name text, amount float)")
    run_sql(database_url, "GRANT ALL ON t TO clerk")
    run_sql(database_url, "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    run_sql(database_url, "CREATE POLICY writes ON t FOR INSERT WITH CHECK (true)")
    workspace = Workspace(database_url.replace("postgres@", "clerk@"))
    try:
        workspace.upload(path, "t", if_exists="append").wait(60)
        job = workspace.upload(path, "t", if_exists="append", delimiter=",")
        with pytest.raises(JobFailed, match="row security hides rows from this role"):
            job.wait(60)
    finally:
        workspace.close()
    assert look.one("SELECT count(*) FROM t") == 300


def test_again_loads_it_all_the_same(loaded, append, path, tmp_path, look):
    """That is what it says; and so is the next refusal's way out."""
    assert append(path, again=True).wait(60).rows_loaded == 300
    other = shutil.copy(path, tmp_path / "copy.csv")
    assert append(other, again=True).wait(60).rows_loaded == 300
    assert look.one("SELECT count(*) FROM t") == 900


def test_a_failed_load_and_a_terminated_one_are_no_loads(append, path, look, tmp_path):
    """Only what is in the table counts."""
    look("CREATE TABLE t (id int, name text, amount float)")
    broken = write(tmp_path / "broken.csv", [*ROWS[:10], "x,x,x"])
    job = append(broken)
    with pytest.raises(JobFailed):
        job.wait(60)
    job.terminate()
    job.join(60)
    write(broken, ROWS[:10])
    assert append(broken).wait(60).rows_loaded == 10


def test_two_callers_at_once_load_it_once(append, another_workspace, path, tmp_path, look):
    """Both look before either has loaded: the second one's cutover finds the first one's."""
    look("CREATE TABLE t (id int, name text, amount float)")
    look("INSERT INTO t VALUES (0, 'other', 0)")
    append(write(tmp_path / "first.csv", ["1000,x,1.5"])).wait(60)
    copy = shutil.copy(path, tmp_path / "copy.csv")
    jobs = []
    barrier = threading.Barrier(2)

    def load(source):
        workspace = another_workspace()
        barrier.wait()
        jobs.append(workspace.upload(source, "t", if_exists="append", max_rate=5e4))

    threads = [threading.Thread(target=load, args=(source,)) for source in (path, copy)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    results = []
    for job in jobs:
        with suppress(JobFailed):
            job.wait(60)
        results.append((str(job.state), "the same content" in (job.error or "")))
    assert sorted(results) == [("completed", False), ("failed", True)]
    assert look.one("SELECT count(*) FROM t") == 302
