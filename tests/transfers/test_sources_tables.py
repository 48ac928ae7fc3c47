"""Parquet, Excel and JSON lines as sources: their own types, exact values, resumed."""

import datetime
import decimal
import gzip
import json

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, SourceError

UTC = datetime.UTC
DAY = datetime.date(2024, 2, 29)
MOMENT = datetime.datetime(2024, 2, 29, 12, 34, 56, 789012)


def parquet(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


def json_lines(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def workbook(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("on_error", ["stop", "reject"])
def test_each_type_of_parquet(workspace, home, tmp_path, look, spooled, on_error):
    """Types are the schema's; NULL, the empty text, NaN and each digit are kept."""
    columns = {
        "b": (pa.bool_(), [True, None], "boolean", [True, None]),
        "i8": (pa.int8(), [-1, 1], "smallint", [-1, 1]),
        "i": (pa.int64(), [2**62, None], "bigint", [2**62, None]),
        "u": (pa.uint64(), [2**64 - 1, 0], "numeric", [2**64 - 1, 0]),
        "f": (pa.float32(), [0.5, None], "real", [0.5, None]),
        "d": (pa.float64(), [0.1, float("inf")], "double precision", [0.1, float("inf")]),
        "dec": (pa.decimal128(10, 2), [decimal.Decimal("1.10"), None], "numeric(10,2)",
                [decimal.Decimal("1.10"), None]),
        "s": (pa.string(), ["", None], "text", ["", None]),
        "dict": (pa.dictionary(pa.int8(), pa.string()), ["x", None], "text", ["x", None]),
        "by": (pa.binary(), [b"\0\xff", None], "bytea", [b"\0\xff", None]),
        "day": (pa.date32(), [DAY, None], "date", [DAY, None]),
        "t": (pa.timestamp("us"), [MOMENT, None], "timestamp without time zone", [MOMENT, None]),
        "tz": (pa.timestamp("ns", "Europe/Berlin"),
               [datetime.datetime(2024, 7, 1, 10, tzinfo=UTC), None],
               "timestamp with time zone", [datetime.datetime(2024, 7, 1, 10, tzinfo=UTC), None]),
        "ns": (pa.timestamp("ns"), [1, None], "text", ["1970-01-01 00:00:00.000000001", None]),
        "tm": (pa.time64("us"), [datetime.time(1, 2, 3), None], "time without time zone",
               [datetime.time(1, 2, 3), None]),
        "td": (pa.duration("ms"), [datetime.timedelta(seconds=1), None], "interval",
               [datetime.timedelta(seconds=1), None]),
        "l": (pa.list_(pa.int64()), [[1, None], []], "jsonb", [[1, None], []]),
        "st": (pa.struct({"a": pa.string()}), [{"a": "ä"}, None], "jsonb", [{"a": "ä"}, None]),
        "n": (pa.null(), [None, None], "text", [None, None]),
    }  # fmt: skip
    path = parquet(
        tmp_path / "x.parquet", {k: pa.array(v, type=t) for k, (t, v, _, _) in columns.items()}
    )
    receipt = workspace.upload(path, "t", on_error=on_error).wait()
    assert look.types("t") == {name: kind for name, (_, _, kind, _) in columns.items()}
    rows = look("SELECT * FROM t ORDER BY i8")
    plain = [[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in rows]
    assert plain == [[found[n] for _, _, _, found in columns.values()] for n in (0, 1)]
    assert (receipt.rows_loaded, receipt.bytes) == (2, path.stat().st_size)
    assert receipt.source == str(path)
    assert spooled() == []


def test_json_lines_with_late_keys_and_each_digit(workspace, home, tmp_path, look):
    """Keys that come late, numbers beyond floats and bigint, nested values, missing ones."""
    path = json_lines(
        tmp_path / "x.jsonl",
        '\ufeff{"a": 1, "f": 0.10, "s": "", "mixed": 1, "js": {"z": 1.00, "a": [null]}}',
        "",
        '{"a": null, "f": 2, "n": 0.12345678901234567890, "s": "two\\nlines", "mixed": "x"}',
        '{"b": true, "big": 123456789012345678901234567890, "js": [1], "mixed": [1.50]}',
    )
    receipt = workspace.upload(path, "t", source_column=True).wait()
    assert look.types("t") == {
        "a": "bigint", "f": "double precision", "s": "text", "mixed": "text", "js": "jsonb",
        "n": "numeric", "b": "boolean", "big": "numeric", "_source": "text",
    }  # fmt: skip
    assert look("SELECT *, js::text FROM t ORDER BY f, a NULLS LAST") == [
        (1, 0.1, "", "1", {"z": 1.0, "a": [None]}, None, None, None, "x.jsonl",
         '{"a": [null], "z": 1.00}'),
        (None, 2, "two\nlines", "x", None, decimal.Decimal("0.12345678901234567890"), None, None,
         "x.jsonl", None),
        (None, None, None, "[1.50]", [1], None, True, 123456789012345678901234567890, "x.jsonl",
         "[1]"),
    ]  # fmt: skip
    assert receipt.rows_loaded == 3
    packed = tmp_path / "y.ndjson.gz"
    packed.write_bytes(gzip.compress(b'{"a": "1"}\n{"a": null}'))
    workspace.upload(packed, "packed").wait()
    assert look.rows("packed") == [(None,), ("1",)]


@pytest.mark.parametrize(
    ("line", "words"), [("[1]", "no JSON object"), ('{"a": ', "no JSON: "), ("", "not even one")]
)
def test_a_bad_json_line_is_named_and_mended(workspace, home, tmp_path, look, spooled, line, words):
    """The line's number is told; mended there, the same call loads the file."""
    path = tmp_path / "x.jsonl"
    json_lines(path, *([] if not line else ['{"a": 1}', "", line]))
    job = workspace.upload(path, "t")
    where = ", line 3: it is" if line else " is empty:"
    with pytest.raises(JobFailed, match=rf"x\.jsonl{where} .*{words}|is empty: {words}") as error:
        job.wait()
    assert error.value.line == (3 if line else None)
    json_lines(path, '{"a": 1}', '{"a": 2}')
    again = workspace.upload(path, "t")
    assert again is job
    assert again.wait().rows_loaded == 2
    assert spooled() == []


def test_a_sheet_of_a_workbook(workspace, home, tmp_path, look):
    """The first sheet, or the one that is named; dates, errors, blank rows, what is left out."""
    day, moment = datetime.datetime(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30)
    path = workbook(
        tmp_path / "x.xlsx",
        Sales=[
            ["Report 2024"], [],
            ["id", "price", "day", "at", "ok", 2024, "id", None],
            [1, 1.5, day, moment, True, "00123", "x"],
            [],
            [2, 2, None, day, None, 7, "y", None, "stray"],
            [3, "=1/0", day, None, False, None, None],
        ],
        Other=[["a"], [9]],
    )  # fmt: skip
    book = openpyxl.load_workbook(path)
    book["Sales"]["B7"].value = "#DIV/0!"
    book["Sales"]["B7"].data_type = "e"
    book.save(path)
    receipt = workspace.upload(path, "t").wait()
    assert look.types("t") == {
        "id": "bigint", "price": "double precision", "day": "date",
        "at": "timestamp without time zone", "ok": "boolean", "2024": "text", "id_2": "text",
    }  # fmt: skip
    assert look("SELECT * FROM t ORDER BY id") == [
        (1, 1.5, day.date(), moment, True, "00123", "x"),
        (2, 2.0, None, day, None, "7", "y"),
        (3, None, day.date(), None, False, None, None),
    ]
    assert receipt.notes == (
        "columns were renamed: 'id' is 'id_2'",
        "1 row above the table was left out",
        "1 cell beside the table, without a header, was left out",
        "1 cell holds the error of a formula and became NULL",
        "other sheets were left out: 'Other'",
    )
    for number, sheet in enumerate(("Other", 2)):
        job = workspace.upload(path, f"other{number}", sheet=sheet)
        assert job.wait().source == f"{path}, sheet {sheet}"
        assert look.rows(f"other{number}") == [(9,)]
    with pytest.raises(JobFailed, match="has no sheet 'None'; it has 'Sales', 'Other'"):
        workspace.upload(path, "u", sheet="None").wait()


def test_options_that_make_no_sense_are_refused_in_the_call(workspace, home, tmp_path, look):
    """A delimiter for Parquet, a sheet of a CSV file, storage options for a path."""
    path = parquet(tmp_path / "x.parquet", {"a": [1]})
    text = tmp_path / "x.csv"
    text.write_text("a\n1\n")
    with pytest.raises(OptionError, match="delimiter: only delimited text"):
        workspace.upload(path, "t", delimiter=";")
    with pytest.raises(OptionError, match="sheet goes with an Excel workbook"):
        workspace.upload(text, "t", sheet=1)
    with pytest.raises(OptionError, match="storage_options goes with a URL"):
        workspace.upload(text, "t", storage_options={})
    assert look.untouched()


def test_a_damaged_file_is_a_clear_error(workspace, home, tmp_path, spooled):
    """What only begins like Parquet or a workbook fails with the file's name."""
    for name, data in (("x.parquet", b"PAR1 nothing"), ("x.xlsx", b"PK\x03\x04 xl/ nothing")):
        path = tmp_path / name
        path.write_bytes(data)
        job = workspace.upload(path, "t")
        with pytest.raises(JobFailed, match=rf"{name} is .* that cannot be read"):
            job.wait()
        job.terminate()
    job.join(None)
    assert spooled() == []


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("module", "extra", "name"),
    [("pyarrow", "parquet", "x.parquet"), ("openpyxl", "excel", "x.xlsx")],
)
def test_a_missing_package_names_its_extra(run_script, database_url, tmp_path, module, extra, name):
    """Without the package, the call says which extra brings it; nothing is made."""
    parquet(tmp_path / "x.parquet", {"a": [1]})
    workbook(tmp_path / "x.xlsx", one=[["a"], [1]])
    out, _ = run_script(
        """
        import sys
        sys.modules[sys.argv[3]] = None
        import taskwidgets as tw
        ws = tw.Workspace(sys.argv[1])
        try:
            ws.upload(sys.argv[2], "t")
        except tw.TaskwidgetsError as error:
            print(error)
        ws.close()
        """,
        database_url,
        str(tmp_path / name),
        module,
    )
    assert f"{name} is" in out
    assert f"needs the package {module}: pip install 'taskwidgets[{extra}]'" in out


def make(kind, path, rows):
    """The same table as each kind of file."""
    if kind == "parquet":
        return parquet(path.with_suffix(".parquet"), {"a": list(range(rows))}, row_group_size=100)
    if kind == "excel":
        return workbook(path.with_suffix(".xlsx"), one=[["a"], *([n] for n in range(rows))])
    return json_lines(path.with_suffix(".jsonl"), *(json.dumps({"a": n}) for n in range(rows)))


KINDS = ["parquet", "excel", "json lines"]
CELL = """
    import sys
    import taskwidgets as tw
    ws = tw.Workspace(sys.argv[1])
    job = ws.upload(sys.argv[2], "t", if_exists="append")
    print(job.id, flush=True)
    print(job.wait().rows_loaded, flush=True)
    ws.close()
"""


@pytest.mark.sample(1)
@pytest.mark.parametrize("kind", KINDS)
def test_killed_resumed_and_run_again(
    script, run_script, database_url, home, tmp_path, points, look, spooled, kind
):
    """SIGKILL with the spool whole, resumed; run again, nothing is loaded twice."""
    path = make(kind, tmp_path / "x", 500)
    points.arm("after the rows")
    killed = script(CELL, database_url, str(path), TASKWIDGETS_FAILPOINTS=str(points.folder),
                    TASKWIDGETS_HOME=str(home))  # fmt: skip
    number = killed.line()
    points.reached("after the rows")
    killed.kill()
    points.let_go("after the rows")
    for _ in range(2):
        out, _ = run_script(CELL, database_url, str(path), TASKWIDGETS_HOME=str(home))
        assert out.split() == [number, "500"]
    assert look("SELECT count(*)::int, sum(a)::int FROM t") == [(500, 124_750)]
    assert spooled() == []


@pytest.mark.parametrize("kind", KINDS)
def test_changed_in_a_pause_is_refused_and_later_another_job(
    workspace, home, tmp_path, points, look, kind
):
    """Another file under the name is refused in a pause, and after the end it is loaded anew."""
    path = make(kind, tmp_path / "x", 10)
    before = path.read_bytes()
    points.arm("after the spool")
    job = workspace.upload(path, "t", if_exists="replace")
    points.reached("after the spool")
    job.pause()
    points.let_go("after the spool")
    job.join(None)
    assert job.state == "paused"
    make(kind, tmp_path / "x", 20)
    with pytest.raises(JobFailed, match="is not the file any more that this job began with"):
        workspace.upload(path, "t", if_exists="replace").wait()
    path.write_bytes(before)
    assert workspace.upload(path, "t", if_exists="replace").wait().rows_loaded == 10
    assert workspace.upload(path, "t", if_exists="replace") is job
    make(kind, tmp_path / "x", 30)
    later = workspace.upload(path, "t", if_exists="replace")
    assert later.wait().rows_loaded == 30
    assert later.id != job.id


def test_a_bad_value_is_told_by_its_row_and_mended(workspace, home, tmp_path, look):
    """Types of the user's can fail: the row is named; with the file mended, the job goes on."""
    path = parquet(tmp_path / "x.parquet", {"a": ["1", "2", "x"]})
    job = workspace.upload(path, "t", types={"a": "integer"})
    with pytest.raises(JobFailed, match=r'x\.parquet, row 3, column "a": invalid input'):
        job.wait()
    parquet(path, {"a": ["1", "2", "3"]})
    again = workspace.upload(path, "t", types={"a": "integer"})
    assert again is job
    assert again.wait().rows_loaded == 3
    assert look.rows("t") == [(1,), (2,), (3,)]


def test_a_folder_is_no_source(workspace, tmp_path):
    """As before: what is no file is said to be none."""
    with pytest.raises(SourceError, match="is a directory"):
        workspace.upload(tmp_path, "t")
