"""A sample is from the whole file, and only of rows that are certain."""

from __future__ import annotations

import csv
import io
import random
from itertools import pairwise
from pathlib import Path

import pytest

from taskwidgets.errors import SourceError
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.header import Layout, read_layout
from taskwidgets.tabular.sample import Sample, sample_records


def write(path: Path, rows: list[list[str]], **options: object) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", **options).writerows(rows)
    path.write_bytes(out.getvalue().encode())


def sample(path: Path, budget: int = 1 << 20, **dialect: object) -> Sample:
    made = Dialect(**dialect)
    return sample_records(path, made, read_layout(path, made), budget)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_small_file_is_read_whole(tmp_path: Path, newline: str) -> None:
    """Every row of a small file is in the sample, the last without a newline as well."""
    path = tmp_path / "a.csv"
    path.write_bytes(newline.join(["a,b", "1,", '"",x', '"y\n,",z']).encode())
    found = sample(path)
    assert found.rows == [["1", None], ["", "x"], ["y\n,", "z"]]
    assert found.whole
    path.write_bytes(newline.join(["a,b", "1,", "2,x", ""]).encode())
    assert sample(path).rows == [["1", None], ["2", "x"]]


def test_header_only(tmp_path: Path) -> None:
    """A file without data has an empty sample that is whole."""
    path = tmp_path / "a.csv"
    for content in (b"a,b\n", b"a,b"):
        path.write_bytes(content)
        assert sample(path) == Sample(rows=[], whole=True)


def test_null_marker(tmp_path: Path) -> None:
    """The null marker is NULL only without quotes, and nothing else is."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\nNA,"NA"\n,""\nNA,x\n')
    found = sample(path, null_value="NA")
    assert found.rows == [[None, "NA"], ["", ""], [None, "x"]]


def test_ragged_rows_are_counted_not_kept(tmp_path: Path) -> None:
    """Rows with other numbers of fields do not decide types."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,2\n\n3\n4,5,6\n7,8\n")
    found = sample(path)
    assert found.rows == [["1", "2"], ["7", "8"]]
    assert (found.ragged, found.whole) == (3, False)


def test_wrong_bytes_do_not_stop_the_sample(tmp_path: Path) -> None:
    """A byte that is wrong in the encoding is left for COPY to refuse."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\n\xff\n")
    assert sample(path).rows == [["�"]]


def test_rows_come_from_the_whole_file(tmp_path: Path) -> None:
    """In a plain large file, the sample reaches evenly from the first row to the last."""
    path = tmp_path / "a.csv"
    write(path, [["n", "text"], *([str(number), "x" * 20] for number in range(50_000))])
    found = sample(path, budget=50_000)
    numbers = [int(row[0] or "") for row in found.rows]
    assert numbers[0] == 0
    assert numbers[-1] == 49_999
    assert numbers == sorted(set(numbers))
    assert max(b - a for a, b in pairwise(numbers)) < 5_000
    assert found.bytes_read <= 50_000
    assert (found.whole, found.dropped) == (False, 0)


@pytest.mark.parametrize("quoting", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
def test_quoted_newlines_everywhere(tmp_path: Path, quoting: int) -> None:
    """Blocks that begin within quotes still give the very rows that are in the file."""
    chance = random.Random(7)
    pieces = ["a", "b\n", ",", '"', "\n1,2,3\n", '",\n', '\n"x",', "é"]
    rows = [
        [str(number), "".join(chance.choices(pieces, k=6)), "".join(chance.choices(pieces, k=3))]
        for number in range(20_000)
    ]
    path = tmp_path / "a.csv"
    write(path, [["n", "one", "two"], *rows], quoting=quoting)
    found = sample(path, budget=100_000)
    assert [rows[int(row[0] or "")] for row in found.rows] == found.rows
    assert len(found.rows) > 1000
    assert found.dropped <= 3


def test_a_block_that_can_be_read_both_ways_is_left_out(tmp_path: Path) -> None:
    """Where neither way of reading a block is certain, its rows are not in the sample."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b'1,2\n' * 3000 + b'"' + b"x\n" * 20_000 + b'",2\n')  # fmt: skip
    found = sample(path, budget=8_000)
    assert found.dropped > 15
    assert {tuple(row) for row in found.rows} == {("1", "2")}


def test_an_odd_budget_reads_no_byte_twice(tmp_path: Path) -> None:
    """However small the budget is against the file, no row is in the sample twice."""
    path = tmp_path / "a.csv"
    write(path, [["n"], *([str(number)] for number in range(400))])
    for budget in range(1, 1600, 13):
        numbers = [row[0] for row in sample(path, budget).rows]
        assert len(numbers) == len(set(numbers))


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is gone is a SourceError."""
    with pytest.raises(SourceError, match="cannot be read"):
        sample_records(tmp_path / "none.csv", Dialect(), Layout(("a",), 0, "\n"))
