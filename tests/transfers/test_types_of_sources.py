"""Each type of Arrow and pandas arrives in Postgres with its own type and its exact values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fix_scripts import ROOT
from type_table import Case, arrow_cases, docs_tables, frame_cases, int96_cases

import taskwidgets as tw

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
    path = written(tmp_path / "x.parquet", [case], store_schema=case.name in NEEDS_SCHEMA)
    load(workspace, look, path, [case], on_error)


# What Parquet itself has no type for.
NEEDS_SCHEMA = {"duration[s]", "duration[ms]", "duration[us]", "duration[ns]", "arrow.bool8"}


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


def test_the_page_has_the_table():
    """docs/reference/types.md shows what these tests try: python tests/type_table.py prints it."""
    page = (ROOT / "docs" / "reference" / "types.md").read_text(encoding="utf-8")
    for heading, table in docs_tables().items():
        assert f"## {heading}\n\n{table}\n" in page
    assert "reference/types.md" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
