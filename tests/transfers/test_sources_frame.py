"""A pandas data frame as a source: exact, resumed from its spool, loaded once."""

import datetime
import decimal
import stat
import uuid

import numpy as np
import pandas as pd
import pytest

from taskwidgets import JobFailed, JobTerminated
from taskwidgets.errors import OptionError, SourceError, TargetExists

UTC = datetime.UTC


def everything():
    """A frame with each dtype; and the types and rows that it should make."""
    nothing = pd.NaT
    frame = pd.DataFrame(
        {
            "i": pd.array([1, -(2**63)], dtype="int64"),
            "n": pd.array([None, 7], dtype="Int64"),
            "tiny": np.array([1, 2], dtype="uint8"),
            "huge": np.array([2**64 - 1, 0], dtype="uint64"),
            "f": [0.1, np.nan],
            "inf": [np.inf, -1e-300],
            "single": np.array([0.1, 2.5], dtype="float32"),
            "b": [True, False],
            "nb": pd.array([None, True], dtype="boolean"),
            "t": pd.to_datetime(["2024-02-29 12:34:56.789012", nothing]),
            "tz": pd.to_datetime(["2024-07-01 12:00", nothing]).tz_localize("Europe/Berlin"),
            "ns": pd.Series([1_000_000_001, 5], dtype="datetime64[ns]"),
            "d": [datetime.date(2024, 2, 29), None],
            "td": pd.to_timedelta(["1 days 00:00:00.000001", nothing]),
            "s": ["", None],
            "odd": ['a "quoted", \\N\r\nline \\.', "\\N"],
            "c": pd.Categorical(["x", None]),
            "ci": pd.Categorical([3, 4]),
            "o": [1, "1"],
            "dec": [decimal.Decimal("1.10"), decimal.Decimal("NaN")],
            "big": [2**70, None],
            "by": [b"\x00\xff", None],
            "js": [{"a": [1, None]}, [1, "x"]],
            "u": [uuid.UUID(int=1), None],
            "none": [None, None],
            7: [1, 2],
            ("Sales", 2024): [1.5, 2.5],
        }
    )
    types = {
        "i": "bigint", "n": "bigint", "tiny": "smallint", "huge": "numeric",
        "f": "double precision", "inf": "double precision", "single": "real", "b": "boolean",
        "nb": "boolean", "t": "timestamp without time zone", "tz": "timestamp with time zone",
        "ns": "text", "d": "date", "td": "interval", "s": "text", "odd": "text", "c": "text",
        "ci": "bigint", "o": "text", "dec": "numeric", "big": "numeric", "by": "bytea",
        "js": "jsonb", "u": "uuid", "none": "text", "7": "bigint", "Sales 2024": "double precision",
    }  # fmt: skip
    rows = [
        (1, None, 1, 2**64 - 1, 0.1, float("inf"), 0.1, True, None,
         datetime.datetime(2024, 2, 29, 12, 34, 56, 789012),
         datetime.datetime(2024, 7, 1, 10, 0, tzinfo=UTC), "1970-01-01 00:00:01.000000001",
         datetime.date(2024, 2, 29), datetime.timedelta(days=1, microseconds=1), "",
         'a "quoted", \\N\r\nline \\.', "x", 3, "1", decimal.Decimal("1.10"), 2**70, b"\x00\xff",
         {"a": [1, None]}, str(uuid.UUID(int=1)), None, 1, 1.5),
        (-(2**63), 7, 2, 0, None, -1e-300, 2.5, False, True, None, None,
         "1970-01-01 00:00:00.000000005", None, None, None, "\\N", None, 4, "1", None, None, None,
         [1, "x"], None, None, 2, 2.5),
    ]  # fmt: skip
    return frame, types, rows


def as_plain(rows):
    return [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in rows]


@pytest.mark.parametrize("on_error", ["stop", "reject"])
def test_each_dtype_comes_out_as_it_went_in(workspace, home, look, spooled, on_error):
    """Types are those of the dtypes, values exact, NULL and the empty text kept apart."""
    frame, types, rows = everything()
    receipt = workspace.upload(frame, "t", on_error=on_error).wait()
    assert look.types("t") == types
    assert as_plain(look('SELECT * FROM t ORDER BY "7"')) == rows
    assert (receipt.rows_read, receipt.rows_loaded, receipt.rows_rejected) == (2, 2, 0)
    assert receipt.source == "DataFrame (2 rows, 27 columns)"
    assert receipt.notes == (
        'column "ns" is text: row 1 is 1970-01-01 00:00:01.000000001, which timestamp cannot hold '
        'exactly; with types={"ns": "timestamp"}, Postgres rounds it or refuses it',
    )
    assert spooled() == []


def test_a_frame_with_an_index_of_its_own_says_that_it_is_left_out(workspace, home, look):
    """The index is not loaded, and the receipt says so; text types and a _source column work."""
    frame = pd.DataFrame({"a": [1, 2], "b": [True, None]}, index=["x", "y"])
    receipt = workspace.upload(frame, "t", types="text", source_column=True).wait()
    assert receipt.notes == (
        "the DataFrame's index was not loaded; reset_index() makes a column of it",
    )
    assert look.rows("t") == [("1", "true", "DataFrame"), ("2", None, "DataFrame")]
    assert look.one("SELECT count(*) FROM pg_attrdef WHERE adrelid = 't'::regclass") == 0


def test_empty_frames_make_empty_tables(workspace, home, look):
    """Without rows, the columns still have the types of their dtypes."""
    workspace.upload(
        pd.DataFrame({"a": pd.array([], dtype="int64"), "b": pd.array([], dtype="str")}), "t"
    ).wait()
    assert look.types("t") == {"a": "bigint", "b": "text"}
    assert look.rows("t") == []


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame(), "no columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "2 columns named 'a'"),
        (pd.DataFrame([[1, 2]], columns=["a", None]), "column 2 of the DataFrame has no name"),
        (pd.DataFrame([[1]], columns=["ä" * 32]), "64 bytes long"),
    ],
)
def test_labels_that_are_no_names_are_refused_in_the_call(workspace, look, frame, words):
    """Nothing is made of a frame whose columns cannot be a table's."""
    with pytest.raises(SourceError, match=words):
        workspace.upload(frame, "t")
    assert look.untouched()


def test_what_stands_in_the_way_is_said_in_the_call(workspace, home, look, spooled):
    """An existing table, an unknown column in types and no source at all: nothing is spooled."""
    look("CREATE TABLE t (a int)")
    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(TargetExists):
        workspace.upload(frame, "t")
    with pytest.raises(OptionError, match="'b'"):
        workspace.upload(frame, "other", types={"b": "int"})
    with pytest.raises(OptionError, match="not int"):
        workspace.upload(7, "other")
    assert look.untouched()
    assert spooled() == []


def test_run_all_loads_a_frame_once(database_url, another_workspace, home, look):
    """The same content is the same job in every process; another content is another one."""
    ids = set()
    for _ in range(3):
        frame = pd.DataFrame({"a": [1, 2, None], "b": ["x", None, "z"]})
        job = another_workspace().upload(frame, "t", if_exists="append")
        assert job.wait().rows_loaded == 3
        ids.add(job.id)
    assert len(ids) == 1
    assert look.one("SELECT count(*) FROM t") == 3
    changed = pd.DataFrame({"a": [1, 2, None], "b": ["x", "None", "z"]})
    assert another_workspace().upload(changed, "t", if_exists="append").wait().rows_loaded == 3
    assert look.one("SELECT count(*) FROM t") == 6


def test_the_frame_is_loaded_as_it_was_in_the_call(workspace, home, points, look):
    """What becomes of the frame while it is written changes nothing of the load."""
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    points.arm("before the spool")
    job = workspace.upload(frame, "t")
    points.reached("before the spool")
    frame.loc[0, "a"] = 99
    frame["b"] = "changed"
    points.let_go("before the spool")
    job.wait()
    assert look.rows("t") == [(1, "x"), (2, "y")]


def test_a_value_that_does_not_fit_is_told_by_its_row(workspace, home, look, spooled):
    """The error speaks of the DataFrame's row, not of the spool; terminated, nothing is left."""
    frame = pd.DataFrame({"a": ["1", "2\n2", "x"], "b": [1, 2, 3]})
    job = workspace.upload(frame, "t", types={"b": "smallint", "a": "text"})
    job.wait()
    job = workspace.upload(frame, "u", types={"a": "integer"})
    with pytest.raises(JobFailed, match=r'DataFrame \(3 rows, 2 columns\), row 2, column "a"') as e:
        job.wait()
    assert str(home) not in str(e.value)
    job.terminate()
    with pytest.raises(JobTerminated):
        job.wait()
    assert spooled() == []
    assert look.staging() == []


def test_rejects_of_a_frame_are_kept_and_replayed(workspace, home, look):
    """on_error="reject" keeps what does not fit, and mended it is loaded, with its source."""
    frame = pd.DataFrame({"a": ["1", "x", "3"]})
    job = workspace.upload(
        frame, "t", types={"a": "integer"}, on_error="reject", source_column="from"
    )
    assert job.wait().rows_rejected == 1
    bad = job.rejects()
    assert list(bad.raw) == ['"x"']
    bad.loc[0, "raw"] = '"2"'
    assert job.replay(bad).rows_loaded == 3
    assert look.rows("t") == [(1, "DataFrame"), (2, "DataFrame"), (3, "DataFrame")]


def test_paused_while_it_is_written_and_resumed(workspace, home, points, look, spooled):
    """A pause in the spool phase is a pause; the same call goes on, and the spool is private."""
    frame = pd.DataFrame({"a": range(1000), "b": "text"})
    points.arm("before the spool")
    job = workspace.upload(frame, "t")
    points.reached("before the spool")
    job.pause()
    points.let_go("before the spool")
    job.join(None)
    assert job.state == "paused"
    points.arm("before the rows")
    again = workspace.upload(frame, "t")
    assert again is job
    points.reached("before the rows")
    assert spooled() == ["table.csv", "table.json"]
    for path in (home / "spool").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    job.pause()
    points.let_go("before the rows")
    job.join(None)
    assert job.state == "paused"
    job.resume()
    assert job.wait().rows_loaded == 1000
    assert look("SELECT sum(a)::int, count(DISTINCT b) FROM t") == [(499_500, 1)]
    assert spooled() == []


CELL = """
    import sys
    import numpy as np, pandas as pd
    import taskwidgets as tw
    ws = tw.Workspace(sys.argv[1])
    frame = pd.DataFrame({"a": np.arange(20_000), "b": [f"row {n}" for n in range(20_000)]})
    job = ws.upload(frame, "t")
    print(job.id, flush=True)
    print(job.wait().rows_loaded, flush=True)
    ws.close()
"""


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("point", "whole"),
    [("before the spool", False), ("after the spool", True), ("after the plan", True),
     ("after the rows", True), ("after the final switch", True)],
)  # fmt: skip
def test_killed_anywhere_and_run_again(
    script, run_script, database_url, workspace, home, points, look, spooled, point, whole
):
    """SIGKILL before, in and after the spool: the same cell ends with each row once, no spool."""
    points.arm(point)
    killed = script(CELL, database_url, TASKWIDGETS_FAILPOINTS=str(points.folder),
                    TASKWIDGETS_HOME=str(home))  # fmt: skip
    number = int(killed.line())
    points.reached(point)
    killed.kill()
    points.let_go(point)
    if not whole:
        with pytest.raises(SourceError, match=f"job {number} .* run the call again"):
            workspace.resume(number)
    out, _ = run_script(CELL, database_url, TASKWIDGETS_HOME=str(home))
    assert out.split() == [str(number), "20000"]
    assert look("SELECT count(*), sum(a), count(DISTINCT b) FROM t") == [
        (20_000, 199_990_000, 20_000)
    ]
    assert spooled() == []
    assert look.staging() == []


def test_a_whole_spool_is_enough_to_resume(script, database_url, workspace, home, points, look):
    """Once the spool is whole, tw.resume(id) needs no frame any more."""
    points.arm("after the rows")
    killed = script(CELL, database_url, TASKWIDGETS_FAILPOINTS=str(points.folder),
                    TASKWIDGETS_HOME=str(home))  # fmt: skip
    number = int(killed.line())
    points.reached("after the rows")
    killed.kill()
    points.let_go("after the rows")
    assert workspace.resume(number).wait().rows_loaded == 20_000
    assert look.one("SELECT count(*) FROM t") == 20_000


def test_terminated_before_anything_is_written(workspace, home, points, look, spooled):
    """Terminate in the spool phase leaves neither table nor spool; the call begins a new job."""
    frame = pd.DataFrame({"a": [1, 2]})
    points.arm("after the spool")
    job = workspace.upload(frame, "t")
    points.reached("after the spool")
    job.terminate()
    points.let_go("after the spool")
    with pytest.raises(JobTerminated):
        job.wait()
    assert spooled() == []
    assert not look.exists("t")
    second = workspace.upload(frame, "t")
    assert second.id != job.id
    assert second.wait().rows_loaded == 2


def test_a_spool_that_cannot_be_written_is_a_clear_error(workspace, home, monkeypatch):
    """A home that is no directory: the job fails, saying what to do."""
    home.parent.joinpath("file").touch()
    monkeypatch.setenv("TASKWIDGETS_HOME", str(home.parent / "file"))
    job = workspace.upload(pd.DataFrame({"a": [1]}), "t")
    with pytest.raises(JobFailed, match="TASKWIDGETS_HOME names another directory"):
        job.wait()
    job.terminate()


def test_what_a_killed_process_has_left_goes_with_the_next_spool(
    script, database_url, workspace, home, points, look, spooled
):
    """Killed behind the final switch: the spool that is left goes; nothing else ever does."""
    points.arm("after the final switch")
    killed = script(CELL, database_url, TASKWIDGETS_FAILPOINTS=str(points.folder),
                    TASKWIDGETS_HOME=str(home))  # fmt: skip
    killed.line()
    points.reached("after the final switch")
    killed.kill()
    points.let_go("after the final switch")
    assert spooled() == ["table.csv", "table.json"]
    (folder,) = (home / "spool").iterdir()
    other = home / "spool" / "other"
    other.mkdir()
    (other / "table.csv").touch()
    (folder / "letter.txt").touch()
    workspace.upload(pd.DataFrame({"a": [1]}), "u").wait()
    assert spooled() == ["letter.txt", "table.csv"]
