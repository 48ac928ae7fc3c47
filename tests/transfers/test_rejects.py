"""Rows that cannot be loaded: kept with their place and reason, counted, mended, replayed."""

import bz2
import gzip
import lzma
import random
import threading

import pytest
import zstandard
from fix_servers import wait_until

from taskwidgets import JobFailed
from taskwidgets.errors import IllegalTransition, OptionError, SourceError, TargetError
from taskwidgets.transfers import sorting
from taskwidgets.widgets import markup

TYPES = {"id": "integer", "day": "date", "note": "text"}


def load(workspace, path, **options):
    options = {"types": TYPES, "on_error": "reject", **options}
    return workspace.upload(path, "t", **options)


def test_each_kind_of_bad_row_is_kept_with_its_place(workspace, csv_file, look):
    """Line, byte, text, column, SQLSTATE and reason of each; the good rows are in."""
    path = csv_file(
        "id,day,note",
        "1,2024-01-01,good",
        "x2,2024-01-02,no number",
        '3,2024-01-03,"two\nlines"',
        "4,2024-13-04,no such month",
        "5,2024-01-05,fields,too,many",
        "6,2024-01-06",
        "7,2024-01-07,good",
        "99999999999,2024-01-08,too large",
    )
    job = load(workspace, path)
    job.wait()
    rejects = job.rejects()
    assert list(rejects.raw) == [
        "x2,2024-01-02,no number",
        "4,2024-13-04,no such month",
        "5,2024-01-05,fields,too,many",
        "99999999999,2024-01-08,too large",
    ]
    assert list(rejects.line) == [3, 6, 7, 10]
    text = path.read_bytes()
    assert [text[at:].split(b"\n")[0].decode() for at in rejects.byte_offset] == list(rejects.raw)
    assert list(rejects.column[:2]) == ["id", "day"]
    assert list(rejects.sqlstate.fillna("")) == ["22P02", "22008", "", "22003"]
    assert 'invalid input syntax for type integer: "x2"' in rejects.message[0]
    assert "out of range" in rejects.message[1]
    assert rejects.replayed_at.isna().all()
    assert look("SELECT id, note FROM t ORDER BY id") == [
        (1, "good"), (3, "two\nlines"), (6, None), (7, "good"),
    ]  # fmt: skip
    assert (job.receipt.rows_read, job.receipt.rows_loaded, job.receipt.rows_rejected) == (8, 4, 4)
    assert job.progress.rejected == 4
    assert "4 rows, 4 rejected in" in repr(job)
    assert "<span>4 rejected</span>" in markup.facts(job, None)


@pytest.mark.sample(2)
@pytest.mark.parametrize("version", ["tolerant", "old"])
@pytest.mark.parametrize("share", [0.01, 0.3])
def test_read_is_loaded_and_rejected(workspace, csv_file, look, monkeypatch, version, share):
    """Of 20,000 rows each bad one is kept and each good one is in, with old servers' ways too."""
    if version == "old":
        monkeypatch.setattr(sorting, "TOLERANT", 990000)
    dice = random.Random(7)
    lines, bad = ["id,day,note"], []
    for number in range(20_000):
        if dice.random() < share:
            bad.append(number + 2)
            lines.append(f"{number}x,2024-01-01,bad")
        else:
            lines.append(f"{number},2024-01-01,good")
    job = load(workspace, csv_file(*lines))
    receipt = job.wait()
    assert (receipt.rows_read, receipt.rows_rejected) == (20_000, len(bad))
    rejects = job.rejects()
    assert list(rejects.line) == bad
    assert set(rejects.column) == {"id"}
    assert set(rejects.sqlstate) == {"22P02"}
    assert look("SELECT count(*), count(DISTINCT id) FROM t WHERE note = 'good'") == [
        (20_000 - len(bad), 20_000 - len(bad))
    ]


def test_a_stray_quote_costs_its_own_row_only(workspace, csv_file, look):
    """An unclosed quote in one row of a thousand leaves the others alone."""
    lines = [f"{number},2024-01-01,note" for number in range(1000)]
    lines[500] = '500,2024-01-01,"open'
    job = load(workspace, csv_file("id,day,note", *lines))
    receipt = job.wait()
    assert receipt.rows_read == 1000
    assert look.one("SELECT count(*) FROM t WHERE note = 'note'") == 999


def test_a_killed_load_keeps_each_reject_once(script, database_url, csv_file, look, workspace):
    """Killed in the middle and resumed: the same rows and the same rejects as in one go."""
    lines = [
        f"{number}{'x' * (number % 10 == 0)},2024-01-01,{number:09}" for number in range(60_000)
    ]
    path = csv_file("id,day,note", *lines)
    process = script(
        """
        import sys, time
        import taskwidgets as tw
        tw.connect(sys.argv[1])
        job = tw.upload(sys.argv[2], "t", types={"id": "integer", "day": "date", "note": "text"},
                        on_error="reject", max_rate=5e5)
        print(job.id, flush=True)
        time.sleep(600)
        """,
        database_url,
        str(path),
    )
    number = int(process.line())
    wait_until(lambda: look.one("SELECT count(*) FROM taskwidgets.rejects") > 0)
    process.kill()
    job = workspace.resume(number)
    job.max_rate = None
    receipt = job.wait()
    assert (receipt.rows_read, receipt.rows_rejected) == (60_000, 6_000)
    assert look("SELECT count(*), count(DISTINCT id) FROM t") == [(54_000, 54_000)]
    rejects = job.rejects()
    assert list(rejects.line) == list(range(2, 60_002, 10))
    assert rejects.byte_offset.is_unique


@pytest.mark.parametrize("most", [2, 0.4])
def test_too_many_rejects_stop_the_load(workspace, csv_file, look, most):
    """With max_rejects a load that is simply wrong fails and says so; nothing gets its name."""
    path = csv_file("id,day,note", *(f"x{number},2024-01-01,n" for number in range(50)))
    job = load(workspace, path, max_rejects=most)
    with pytest.raises(JobFailed, match=r"50 of 50 rows were rejected, more than max_rejects"):
        job.wait()
    assert look.one("SELECT to_regclass('t')") is None
    assert len(job.rejects()) == 50
    job.resume()  # nothing is left to read, and it is as wrong as before
    with pytest.raises(JobFailed, match="more than max_rejects"):
        job.wait()
    job.terminate()
    job.join(None)
    assert look.one("SELECT count(*) FROM taskwidgets.rejects") == 0


def test_as_many_rejects_as_allowed_are_allowed(workspace, csv_file):
    path = csv_file("id,day,note", "1,2024-01-01,a", "x,2024-01-01,b", "3,2024-01-01,c")
    assert load(workspace, path, max_rejects=1).wait().rows_rejected == 1


def test_mended_rows_are_loaded_once(workspace, csv_file, look):
    """The changed ones go in, exactly once; what still does not fit stays, with its new reason."""
    path = csv_file(
        "id,day,note", "1,2024-01-01,a", "x2,2024-01-02,b", "x3,2024-01-03,c", "x4,2024-01-04,d"
    )
    job = load(workspace, path)
    job.wait()
    mended = job.rejects()
    mended.loc[0, "raw"] = '2,2024-01-02,"b, mended"'
    mended.loc[1, "raw"] = "3,2024-99-03,c"
    receipt = job.replay(mended)
    assert (receipt.rows_read, receipt.rows_loaded, receipt.rows_rejected) == (4, 2, 2)
    assert job.receipt == receipt
    record = workspace._store.record(job.id)
    assert record.receipt == receipt
    assert (record.progress.rows, record.progress.rejected) == (2, 2)  # what the list shows
    assert look("SELECT id, note FROM t ORDER BY id") == [(1, "a"), (2, "b, mended")]
    left = job.rejects()
    assert list(left.replayed_at.notna()) == [True, False, False]
    assert left.raw[1] == "3,2024-99-03,c"
    assert left.column[1] == "day"
    assert job.replay(mended) == receipt  # again, with the same frame: nothing more happens
    assert look.one("SELECT count(*) FROM t") == 2
    left.loc[1, "raw"] = "3,2024-01-03,c"
    left.loc[2, "raw"] = "4,2024-01-04"
    assert job.replay(left[1:]).rows_rejected == 0
    assert look("SELECT id, note FROM t ORDER BY id")[2:] == [(3, "c"), (4, None)]
    assert workspace.upload(path, "t", types=TYPES, on_error="reject").id == job.id  # it stands
    assert "replay" in set(job.events().kind)


def test_mended_rows_that_a_trigger_holds_back_are_told(workspace, csv_file, look):
    """Of mended rows either all arrive, or none and TargetError; the rejects are as they were."""
    job = load(workspace, csv_file("id,day,note", "1,2024-01-01,a", "x2,2024-01-02,b"))
    job.wait()
    look("CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    look("CREATE TRIGGER skip BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION skip()")
    mended = job.rejects()
    mended["raw"] = ["2,2024-01-02,b"]
    with pytest.raises(TargetError, match="of 1 mended rows, 0 arrived"):
        job.replay(mended)
    assert look("SELECT id FROM t") == [(1,)]
    assert not job.rejects().replayed_at.notna().any()
    look("DROP TRIGGER skip ON t")
    assert job.replay(mended).rows_loaded == 2


def test_what_is_no_frame_of_rejects_is_refused(workspace, csv_file, look):
    """OptionError for another frame; IllegalTransition before the job is completed."""
    path = csv_file("id,day,note", "1,2024-01-01,a", "x2,2024-01-02,b")
    job = load(workspace, path)
    job.wait()
    frame = job.rejects()
    for wrong in (frame.drop(columns="raw"), "raw", frame.assign(raw=7), frame.iloc[[0, 0]]):
        with pytest.raises(OptionError, match="replay"):
            job.replay(wrong)
    slow = workspace.upload(path, "u", types=TYPES, on_error="reject", max_rejects=0)
    with pytest.raises(JobFailed):
        slow.wait()
    with pytest.raises(IllegalTransition, match="when it is completed"):
        slow.replay(slow.rejects().assign(raw="2,2024-01-02,b"))


def test_a_job_that_stops_at_errors_stops_as_before(workspace, csv_file, look):
    """on_error="stop" is the default: the first bad row ends it, with line and column."""
    path = csv_file("id,day,note", "1,2024-01-01,a", "x2,2024-01-02,b")
    job = workspace.upload(path, "t", types=TYPES)
    with pytest.raises(JobFailed) as caught:
        job.wait()
    cause = caught.value.__cause__
    assert isinstance(cause, SourceError)
    assert (cause.line, cause.column) == (3, "id")
    assert job.rejects().empty


def test_two_replays_at_once_load_each_row_once(workspace, another_workspace, csv_file, look):
    """Two processes replay the same frame in the same moment."""
    path = csv_file("id,day,note", *(f"x{number},2024-01-01,n" for number in range(200)))
    job = load(workspace, path)
    job.wait()
    mended = job.rejects()
    mended["raw"] = mended.raw.str[1:]
    jobs = [job, another_workspace().job(job.id)]
    threads = [threading.Thread(target=one.replay, args=(mended,)) for one in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert look("SELECT count(*), count(DISTINCT id) FROM t") == [(200, 200)]
    assert workspace._store.record(job.id).receipt.rows_rejected == 0


def test_columns_may_be_lined_up_with_blanks(workspace, csv_file, look):
    """A run of blanks is one delimiter, at a line's beginning and end none, in quotes text."""
    lines = [" 2.83  9.9   a", '12.80 10.1   "b  c"   ', " 3.00  1.25 d"] * 500
    lines[700:700] = ["   ", " 4 5 6 7"]
    path = csv_file("\n".join(lines) + "\n")
    job = workspace.upload(path, "t", on_error="reject")
    receipt = job.wait()
    assert (receipt.rows_loaded, receipt.rows_rejected) == (1500, 1)
    assert job.rejects()["message"].tolist() == ["4 fields instead of 3"]
    query = "SELECT column_1, column_2, column_3, count(*) FROM t GROUP BY 1, 2, 3 ORDER BY 1"
    assert look(query) == [
        (2.83, 9.9, "a", 500), (3.0, 1.25, "d", 500), (12.8, 10.1, "b  c", 500),
    ]  # fmt: skip


PACKED = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


# A plain file in another encoding is taken at its word where no rejects are kept.
@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("kind", "mode"),
    [("latin-1", "reject")]
    + [(kind, mode) for kind in [*PACKED, "utf-16", "semicolons"] for mode in ("stop", "reject")],
)
def test_files_as_they_are(workspace, tmp_path, look, kind, mode):
    """Packed, in another encoding, with another delimiter: loaded without an argument."""
    text = "id,name\n" + "".join(f"{n},n\u00e4me {n}\n" for n in range(20_000))
    data = text.encode()
    if kind in PACKED:
        data = PACKED[kind](data)
    elif kind == "semicolons":
        data = text.replace(",", ";").encode()
    else:
        data = text.encode(kind)
    path = tmp_path / "file.dat"
    path.write_bytes(data)
    receipt = workspace.upload(path, "t", on_error=mode).wait()
    assert (receipt.rows_read, receipt.rows_rejected) == (20_000, 0)
    assert receipt.bytes == len(data)
    assert look("SELECT count(*), sum(id), min(name), max(name) FROM t") == [
        (20_000, 199_990_000, "n\u00e4me 0", "n\u00e4me 9999")
    ]


def test_what_stands_around_the_table_is_left_out_and_told(workspace, csv_file, look):
    """A preamble is told of, a blank line is no row, a sum with the table's columns is one."""
    rows = [f"{n};{n},5;{n % 28 + 1:02}.02.2024" for n in range(1, 200)]
    path = csv_file(
        "Export of 2024",
        "",
        "id;Sales;day",
        *rows,
        "",
        "Sum;19999,5;",
    )
    job = workspace.upload(path, "t", on_error="reject")
    receipt = job.wait()
    types = {"id": "text", "Sales": "double precision", "day": "date"}
    assert look.types("t") == types
    assert look("SELECT count(*), min(day)::text FROM t") == [(200, "2024-02-01")]
    assert look("SELECT * FROM t WHERE day IS NULL") == [("Sum", 19999.5, None)]
    assert (receipt.rows_read, receipt.rows_loaded, receipt.rows_rejected) == (200, 200, 0)
    assert receipt.notes == ("2 lines above the table were left out: Export of 2024",)


def test_a_long_record_that_is_refused_is_one_reject(workspace, csv_file, look, monkeypatch):
    """Longer than what is tried at once, with the way of servers before 17: found, and kept."""
    monkeypatch.setattr(sorting, "TOLERANT", 990000)
    long = "x" * 200_000
    path = csv_file("id,day,note", "1,2024-01-01,a", f"2x,2024-01-01,{long}", "3,2024-01-01,c")
    receipt = load(workspace, path).wait()
    assert (receipt.rows_read, receipt.rows_rejected) == (3, 1)
    assert look("SELECT id FROM t ORDER BY id") == [(1,), (3,)]


def test_a_line_that_holds_several_bad_records(workspace, tmp_path, look):
    """A carriage return alone has ended one of them: each is a reject, at the line's place."""
    path = tmp_path / "file.csv"
    lines = [f"{n},2024-01-01,note" for n in range(100)]
    lines[50] = "50x,2024-01-01,a\r51x,2024-01-01,b"
    path.write_text("id,day,note\n" + "\n".join(lines) + "\n", newline="")
    job = load(workspace, path)
    receipt = job.wait()
    assert (receipt.rows_read, receipt.rows_loaded, receipt.rows_rejected) == (101, 99, 2)
    assert len(job.rejects()) == 2


def test_null_markers_that_are_given_count_for_text_too(workspace, csv_file, look):
    path = csv_file("id,note", "1,NA", "2,b", "NA,c")
    workspace.upload(path, "t", types="text", on_error="reject", null_values=["NA", ""]).wait()
    assert look("SELECT id, note FROM t ORDER BY note NULLS FIRST") == [
        ("1", None), ("2", "b"), (None, "c"),
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [{"escape": "x"}, {"decimal": object()}, {"booleans": {1j: 2}}])
def test_what_is_no_way_of_writing_is_refused(workspace, csv_file, wrong):
    word = {"escape": "no option escape", "decimal": "decimal must", "booleans": "plain values"}
    with pytest.raises(OptionError, match=word[next(iter(wrong))]):
        workspace.upload(csv_file("a,b", "1,2"), "t", **wrong)
