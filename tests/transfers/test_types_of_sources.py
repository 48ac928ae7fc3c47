"""Each type of Arrow and pandas arrives in Postgres with its own type and its exact values."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fix_scripts import ROOT
from type_table import Case, arrow_cases, docs_tables, frame_cases, int96_cases, objects, raw

import taskwidgets as tw
from taskwidgets import JobFailed
from taskwidgets.errors import SourceError
from taskwidgets.transfers.origins.types.arrow_columns import arrow_column

ARROW = arrow_cases()
IN_PARQUET = [case for case in ARROW if case.parquet]
FRAMES = frame_cases()
INT96 = int96_cases()


def padded(values: Any, rows: int) -> Any:
    """So many rows: the last one again and again."""
    missing = rows - len(values)
    if isinstance(values, pd.Series):
        return pd.concat([values, *[values.iloc[-1:]] * missing], ignore_index=True)
    return pa.concat_arrays([values, *[values[-1:]] * missing]) if missing else values


def columns_of(cases: list[Case]) -> dict[str, Any]:
    """A column "0", "1" ... of each case's values, and "n" that counts the rows."""
    made = [case.values() for case in cases]
    rows = max(map(len, made))
    return {str(n): padded(one, rows) for n, one in enumerate(made)} | {"n": list(range(rows))}


def written(path: Path, cases: list[Case], **options: Any) -> Path:
    pq.write_table(pa.table(columns_of(cases)), path, **options)
    return path


def arrow_frame(cases: list[Case]) -> pd.DataFrame:
    columns = columns_of(cases)
    rows = pd.Series(columns.pop("n"))
    frame = {
        name: pd.Series(pd.arrays.ArrowExtensionArray(values)) for name, values in columns.items()
    }
    return pd.DataFrame(frame | {"n": rows})


def assert_loaded(look: Any, cases: list[Case], notes: tuple[str, ...]) -> None:
    """Each column of the table t has its case's type, values and note."""
    types = look.types("t")
    for number, case in enumerate(cases):
        rows = look(f"SET timezone = 'UTC'; SELECT \"{number}\"::text FROM t ORDER BY n")
        found = [text for (text,) in rows]
        expected = [*case.texts, *[case.texts[-1]] * (len(found) - len(case.texts))]
        assert (case.id, types[str(number)], found) == (case.id, case.type, expected)
        told = [note for note in notes if f'"{number}"' in note]
        assert [case.note in note for note in told] == [True] * bool(case.note), (case.id, told)


def load(workspace: Any, look: Any, source: Any, cases: list[Case], on_error: str) -> None:
    receipt = workspace.upload(source, "t", on_error=on_error).wait()
    assert receipt.rows_rejected == 0
    assert_loaded(look, cases, receipt.notes)


@pytest.mark.sample(4)
@pytest.mark.parametrize("on_error", ["stop", "reject"])
@pytest.mark.parametrize("source", ["parquet", "int96", "arrow frame", "frame"])
def test_all_types_in_one_table(workspace, home, look, tmp_path, source, on_error):
    """A file or frame with every type: types, values and notes are those of the table."""
    if source == "parquet":
        cases, given = IN_PARQUET, written(tmp_path / "x.parquet", IN_PARQUET)
    elif source == "int96":
        cases, options = INT96, {"use_deprecated_int96_timestamps": True}
        given = written(tmp_path / "x.parquet", INT96, **options)
    elif source == "arrow frame":
        cases, given = ARROW, arrow_frame(ARROW)
    else:
        cases, given = FRAMES, pd.DataFrame(columns_of(FRAMES))
    load(workspace, look, given, cases, on_error)


@pytest.mark.sample(4)
@pytest.mark.parametrize("on_error", ["stop", "reject"])
@pytest.mark.parametrize("case", IN_PARQUET, ids=lambda case: case.id)
def test_a_type_of_parquet_alone(workspace, home, look, tmp_path, case, on_error):
    """Without other columns, and without the Arrow schema that pyarrow adds to a file."""
    needs_schema = "duration" in case.name or case.name == "arrow.bool8"  # Parquet has neither
    path = written(tmp_path / "x.parquet", [case], store_schema=needs_schema)
    load(workspace, look, path, [case], on_error)


@pytest.mark.sample(4)
@pytest.mark.parametrize("on_error", ["stop", "reject"])
@pytest.mark.parametrize("case", [*ARROW, *FRAMES], ids=lambda case: case.id)
def test_a_type_of_a_frame_alone(workspace, home, look, case, on_error):
    """Without other columns."""
    frame = arrow_frame([case]) if case in ARROW else pd.DataFrame(columns_of([case]))
    load(workspace, look, frame, [case], on_error)


@pytest.mark.parametrize("case", [*ARROW, *FRAMES], ids=lambda case: case.id)
def test_each_type_without_rows(case):
    """An empty column has a type, too."""
    values = case.values()[:0]
    series = values if case in FRAMES else pd.Series(pd.arrays.ArrowExtensionArray(values))
    kind = tw.preview(pd.DataFrame({"a": series})).types["a"]
    if series.dtype == object:
        assert kind == "text"
    elif case.note:
        assert kind in ("date", "time", "timestamp", "timestamptz", "interval", "jsonb")
    else:
        assert kind == SHORT.get(case.type, case.type)


SHORT = {
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "time without time zone": "time",
}


@pytest.mark.parametrize("case", ARROW, ids=lambda case: case.id)
def test_a_slice_of_an_array_is_written_like_a_part_of_it(case):
    """Batches and chunks are slices, whose offsets are not those of what they hold."""
    array = padded(case.values(), 5)
    column = arrow_column(pa, array.type)
    whole = column.texts(array)
    for start, end in ((0, 2), (1, 3), (2, 5), (4, 5), (3, 3)):
        assert column.texts(array[start:end]) == whole[start:end]


def test_the_page_has_the_table():
    """docs/reference/types.md shows what these tests try: python tests/type_table.py prints it."""
    page = (ROOT / "docs" / "reference" / "types.md").read_text(encoding="utf-8")
    for heading, table in docs_tables().items():
        assert f"## {heading}\n\n{table}\n" in page
    assert "reference/types.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_long_doubles(workspace, home, look):
    """Numpy's longest float keeps its digits where it has more than 64 bits."""
    third = np.longdouble(1) / 3
    is_wide = float(third) != third
    workspace.upload(pd.DataFrame({"a": np.array([third, np.inf])}), "t").wait()
    workspace.upload(pd.DataFrame({"a": objects(third)()}), "u").wait()
    kind = "numeric" if is_wide else "double precision"
    assert (look.types("t"), look.types("u")) == ({"a": kind}, {"a": kind})
    assert look("SELECT a::text FROM t") == [(str(third),), ("Infinity",)]
    assert look("SELECT a::text FROM u") == [(str(third),)]


def parquet_of(path: Path, values: Any, **options: Any) -> Path:
    pq.write_table(pa.table({"a": values}), path, **options)
    return path


def broken_text() -> pa.Array:
    """Strings, of which the second is no UTF-8."""
    return pa.array([b"x", b"\xff"]).view(pa.string())


def double_fields() -> pa.Array:
    return pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (broken_text(), {}, r'row 2, column "a": the value cannot be loaded: .*utf-8'),
        (double_fields(), {}, r"row 1, column \"a\": .* two fields named 'x'"),
        (pa.array([None, [1], [0]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("ns"))),
         {"use_deprecated_int96_timestamps": True},
         r'row 2, column "a": an INT96 timestamp inside a nested value is finer'),
    ],
    ids=["text", "fields", "nested INT96"],
)  # fmt: skip
def test_a_value_of_parquet_that_cannot_be_loaded(
    workspace, home, look, tmp_path, values, options, words
):
    """The error names the file, the row and the column, and nothing is loaded."""
    job = workspace.upload(parquet_of(tmp_path / "x.parquet", values, **options), "t")
    with pytest.raises(JobFailed, match=words) as error:
        job.wait()
    assert error.value.column == "a"
    job.terminate()
    job.join(None)
    assert not look.exists("t")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (objects({1: "x"}, {1: "x", "1": "y"})(), r"row 2, column \"a\": .* two fields named '1'"),
        (objects("x", "y", "\ud800z")(), r"row 3, column \"a\": .* surrogate"),
    ],
    ids=["fields", "surrogate"],
)  # fmt: skip
def test_a_value_of_a_frame_that_cannot_be_loaded(workspace, home, look, values, words):
    """The error names the frame, the column and the row, and nothing is loaded."""
    job = workspace.upload(pd.DataFrame({"a": values}), "t")
    with pytest.raises(JobFailed, match=words) as error:
        job.wait()
    assert error.value.column == "a"
    job.terminate()
    job.join(None)
    assert not look.exists("t")


def test_a_type_that_postgres_does_not_have(workspace, look):
    """A union is refused in the call."""
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    frame = pd.DataFrame({"a": pd.Series(pd.arrays.ArrowExtensionArray(union))})
    with pytest.raises(SourceError, match=r'column "a": .* no type for Arrow.s sparse_union'):
        workspace.upload(frame, "t")
    assert look.untouched()


def test_a_late_value_is_found_behind_many_rows(workspace, home, look, tmp_path):
    """In a file of several row groups the note has the row's number, not that in its batch."""
    values = np.zeros(150_000, "int64")
    values[140_000] = 1
    columns = {
        "a": pa.array(values).cast(pa.timestamp("ns")),
        "a.b": pa.array(np.zeros(150_000, "int64")).cast(pa.timestamp("ns")),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=20_000)
    receipt = workspace.upload(tmp_path / "x.parquet", "t").wait()
    assert [note.partition(", which")[0] for note in receipt.notes] == [
        'column "a" is text: row 140,001 is 1970-01-01 00:00:00.000000001'
    ]
    assert look.types("t") == {"a": "text", "a.b": "timestamp without time zone"}
    assert look('SELECT a, count(*), min("a.b")::text FROM t GROUP BY a ORDER BY a') == [
        ("1970-01-01 00:00:00", 149_999, "1970-01-01 00:00:00"),
        ("1970-01-01 00:00:00.000000001", 1, "1970-01-01 00:00:00"),
    ]


@pytest.mark.parametrize("statistics", [True, False])
def test_dates_beyond_postgres_with_and_without_statistics(
    workspace, home, look, tmp_path, statistics
):
    """What the file says of its least and largest values only saves the look at all of them."""
    values = [0] * 1000 + [-2440589]
    path = parquet_of(
        tmp_path / "x.parquet", raw(pa.date32(), *values)(), write_statistics=statistics
    )
    receipt = workspace.upload(path, "t").wait()
    assert "row 1,001 is 4714-11-23 BC" in receipt.notes[0]
    assert look("SELECT a, count(*) FROM t GROUP BY a ORDER BY a") == [
        ("1970-01-01", 1000), ("4714-11-23 BC", 1),
    ]  # fmt: skip


# DuckDB 2.0 wrote it; the type of e is changed from UTF8 to ENUM, of the same bytes.
DUCKDB = (
    "UEFSMRUAFVQVVCwVBBUAFQYVBgAAIQAAAEEBAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAB4FQAV"
    "YhViLBUEFQAVBhUGAAAhAAAAQQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADgAAAAMAAADcBQAAFQIZ"
    "PDUAGA1kdWNrZGJfc2NoZW1hFQQAFQwlAhgBZSUIABUOFRgVAhgBaSUqABYEGRwZLCYAHBUMGRUAGRgBZRUAFgQW"
    "dhZ2Jgg8GAF4GAF4FgIoAXgYAXgREQAZHBUAFQAVAgAAACYAHBUOGRUAGRgBaRUAFgQWhAEWhAEmfkkcFQAVABUC"
    "AAAAFvoBFgQmCBb6AQAZHBgcZHVja2RiLmludGVydmFsX2Jsb29tX2ZpbHRlchgNbm9ybWFsaXplZC12MQAYKER1"
    "Y2tEQiB2ZXJzaW9uIHYyLjAuMSAoYnVpbGQgOGQ3ODExNGU5MCkZLBwAABwAAAD4AAAAUEFSMQ=="
)


def test_types_that_another_writer_makes(workspace, home, look, tmp_path):
    """Parquet's INTERVAL and ENUM, which pyarrow reads as bytes."""
    path = tmp_path / "duckdb.parquet"
    path.write_bytes(base64.b64decode(DUCKDB))
    workspace.upload(path, "t").wait()
    assert look.types("t") == {"e": "text", "i": "interval"}
    assert look("SELECT e, i::text FROM t") == [
        ("x", "1 year 2 mons 3 days 00:00:01.5"), (None, None),
    ]  # fmt: skip


def test_periods_and_intervals_of_pandas_in_parquet(workspace, home, look, tmp_path):
    """They are numbers in the file, and arrive as pandas shows them."""
    frame = pd.DataFrame(
        {
            "p": pd.PeriodIndex(["2024-02", None], freq="M"),
            "i": pd.arrays.IntervalArray.from_tuples([(0, 1), None], closed="left"),
        }
    )
    frame.to_parquet(tmp_path / "x.parquet")
    workspace.upload(tmp_path / "x.parquet", "t").wait()
    assert look("SELECT p, i FROM t") == [("2024-02", "[0, 1)"), (None, None)]


def test_frames_that_differ_within_long_arrays_are_other_ones(workspace, home, look):
    """The middle of an array, which numpy does not print, is part of what is loaded."""
    for number in (0, 1):
        array = np.zeros(2000)
        array[1000] = number
        frame = pd.DataFrame({"a": objects(array)()})
        assert workspace.upload(frame, "t", if_exists="append").wait().rows_loaded == 1
    assert look("SELECT a->>1000 FROM t ORDER BY 1") == [("0.0",), ("1.0",)]
