"""tw.preview of sources that are not one local file of delimited text."""

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import taskwidgets as tw
from taskwidgets.errors import OptionError


def make_workbook(path):
    book = openpyxl.Workbook()
    for row in (["<b>a", "b"], [1, None], [2, 'say "x"']):
        book.active.append(row)
    book.create_sheet("other").append(["c"])
    book.save(path)
    return path


@pytest.mark.parametrize("kind", ["frame", "parquet", "excel", "json lines"])
def test_the_head_of_a_table(tmp_path, kind):
    """Columns, types, first rows as they would land, how many there are; escaped in HTML."""
    columns = {"<b>a": [1, 2], "b": [None, 'say "x"']}
    if kind == "frame":
        source, words = pd.DataFrame(columns), "a pandas DataFrame"
    elif kind == "parquet":
        source, words = tmp_path / "x.parquet", "a Parquet file"
        pq.write_table(pa.table(columns), source)
    elif kind == "excel":
        source, words = make_workbook(tmp_path / "x.xlsx"), "an Excel workbook"
    else:
        source, words = tmp_path / "x.jsonl", "a file of JSON lines"
        source.write_text('{"<b>a": 1, "b": null}\n{"<b>a": 2, "b": "say \\"x\\""}\n')
    shown = tw.preview(source)
    assert dict(shown.types) == {"<b>a": "bigint", "b": "text"}
    assert shown.rows == [("1", None), ("2", 'say "x"')]
    assert shown.total == 2
    assert words in repr(shown)
    assert "delimiter" not in repr(shown)
    assert "<b>a" not in shown._repr_html_()
    assert tw.preview(source, 1).rows == [("1", None)]
    assert tw.preview(source, 0, full=True).total == 2


def test_a_sheet_a_pattern_a_url(tmp_path):
    """The sheet that is named, the first of several files, and why a URL is not looked at."""
    assert tw.preview(make_workbook(tmp_path / "x.xlsx"), sheet="other").columns == ("c",)
    for number in (10, 9):
        (tmp_path / f"{number}.csv").write_text(f"a;b\n{number};x\n")
    shown = tw.preview(tmp_path / "*.csv")
    assert shown.rows == [("9", "x")]
    assert "2 files, of which this is the first" in repr(shown)
    assert tw.preview([tmp_path / "10.csv"]).rows == [("10", "x")]
    with pytest.raises(OptionError, match="local files"):
        tw.preview("https://example.com/x.csv")
    with pytest.raises(OptionError, match="sheet goes with"):
        tw.preview(tmp_path / "9.csv", sheet=1)
