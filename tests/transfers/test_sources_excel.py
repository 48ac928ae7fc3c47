"""Excel workbooks as programs write them: wrong dimensions, tables off the corner, formulas."""

import re
import zipfile

import openpyxl
import pytest
from fix_servers import wait_until


def edited(path, edit):
    """The workbook with other text in its first sheet."""
    with zipfile.ZipFile(path) as packed:
        parts = {name: packed.read(name) for name in packed.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = edit(parts[name].decode()).encode()
    with zipfile.ZipFile(path, "w") as packed:
        for part, data in parts.items():
            packed.writestr(part, data)
    return path


def workbook(path, cells):
    """A workbook with these cells, by their names."""
    book = openpyxl.Workbook()
    for name, value in cells.items():
        book.active[name] = value
    book.save(path)
    return path


GRID = {
    "A1": "a", "B1": "b", "C1": "c",
    "A2": 1, "B2": "x", "C2": 1.5,
    "A3": 2, "B3": "y", "C3": 2.5,
    "A4": 3, "B4": "z", "C4": 3.5,
}  # fmt: skip
ROWS = [(1, "x", 1.5), (2, "y", 2.5), (3, "z", 3.5)]


@pytest.mark.parametrize("stated", ["A1", "A1:B2", "B2:B3", "A1:XFD1048576", None])
def test_a_wrong_dimension_loses_no_row_and_no_column(workspace, home, tmp_path, look, stated):
    """What the sheet says of its size is not believed."""
    path = workbook(tmp_path / "x.xlsx", GRID)
    dimension = f'<dimension ref="{stated}"/>' if stated else ""
    edited(path, lambda text: re.sub(r"<dimension [^>]*/>", dimension, text))
    receipt = workspace.upload(path, "t").wait(60)
    assert receipt.rows_loaded == 3
    assert look.rows("t") == ROWS
    assert look.types("t") == {"a": "bigint", "b": "text", "c": "double precision"}


@pytest.mark.parametrize(("column", "row"), [("C", 5), ("B", 1), ("A", 7), ("AA", 100)])
def test_a_table_that_begins_off_the_corner(workspace, home, tmp_path, look, column, row):
    """Blank columns before the table are no columns of it."""
    from openpyxl.utils import column_index_from_string, get_column_letter

    moved = {}
    for name, value in GRID.items():
        index = column_index_from_string(column) + ord(name[0]) - ord("A")
        moved[f"{get_column_letter(index)}{row + int(name[1:]) - 1}"] = value
    path = workbook(tmp_path / "x.xlsx", moved)
    workspace.upload(path, "t").wait(60)
    assert look.rows("t") == ROWS
    assert list(look.types("t")) == ["a", "b", "c"]


def test_cells_before_the_table_are_told(workspace, home, tmp_path, look):
    """A remark far below, in a column before the table's first, is left out with a note."""
    shifted = {f"{chr(ord(name[0]) + 2)}{name[1:]}": value for name, value in GRID.items()}
    more = {f"{letter}{row}": row for row in range(5, 80) for letter in "CDE"}
    path = workbook(tmp_path / "x.xlsx", {**shifted, **more, "A70": "a remark"})
    receipt = workspace.upload(path, "t").wait(60)
    assert list(look.types("t")) == ["a", "b", "c"]
    assert receipt.rows_loaded == 78
    assert any("1 cell beside the table" in note for note in receipt.notes)


def test_formulas_without_results_are_told(workspace, home, tmp_path, look):
    """They are NULL, and the receipt says how many; results that are there are loaded."""
    path = workbook(
        tmp_path / "x.xlsx",
        {"A1": "a", "B1": "b", "A2": 1, "B2": "=A2*2", "A3": 2, "B3": "=A3*2", "A4": 3, "B4": 6},
    )
    receipt = workspace.upload(path, "t").wait(60)
    assert look.rows("t") == [(1, None), (2, None), (3, 6)]
    assert [note for note in receipt.notes if note.startswith("2 formulas have no result")]
    computed = edited(path, lambda text: re.sub(r"(<f>[^<]*</f>)<v\s*/>|(<f>[^<]*</f>)<v></v>",
                                                r"\1\2<v>7</v>", text))  # fmt: skip
    receipt = workspace.upload(computed, "u").wait(60)
    assert look.rows("u") == [(1, 7), (2, 7), (3, 6)]
    assert not [note for note in receipt.notes if "formula" in note]


def test_a_formula_whose_result_is_the_empty_text_is_none_of_them(workspace, home, tmp_path):
    """Its result is in the file."""
    path = workbook(tmp_path / "x.xlsx", {"A1": "a", "B1": "b", "A2": 1, "B2": '=""'})
    edited(path, lambda text: re.sub(r'<c r="B2"[^>]*>(<f>[^<]*</f>)<v\s*/?>(</v>)?',
                                     r'<c r="B2" t="str">\1<v></v>', text))  # fmt: skip
    receipt = workspace.upload(path, "t").wait(60)
    assert not [note for note in receipt.notes if "formula" in note]


@pytest.mark.parametrize("verb", ["pause", "terminate"])
def test_a_wish_is_heard_while_blank_rows_are_skipped(workspace, home, tmp_path, look, verb):
    """A cell in the last row of a sheet is a million blank rows away."""
    path = workbook(tmp_path / "x.xlsx", {**GRID, "A1048576": 4})
    job = workspace.upload(path, "t")
    wait_until(lambda: "writing" in job.remark)
    getattr(job, verb)()
    wait_until(lambda: job.state in ("paused", "terminated"))
    assert job.state == ("paused" if verb == "pause" else "terminated")
    if verb == "pause":
        job.resume()
        assert job.wait(120).rows_loaded == 4
