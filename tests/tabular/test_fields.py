"""Records split into fields."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_fields


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (b"", [("", False)]),
        (b"\r\n", [("", False)]),
        (b'"",', [("", True), ("", False)]),
        (b'a,"b,c"\n', [("a", False), ("b,c", True)]),
        (b'"a""b","""",""""""', [('a"b', True), ('"', True), ('""', True)]),
        (b'"a\r\nb",c\r\n', [("a\r\nb", True), ("c", False)]),
        (b'a"b,c"d,e', [("ab,cd", True), ("e", False)]),
        (b'a"",b', [("a", True), ("b", False)]),
        (b'a,"b,c', [("a", False), ("b,c", True)]),
        (b"\xff,a", [("�", False), ("a", False)]),
    ],
)
def test_fields_as_copy_reads_them(record: bytes, fields: list[tuple[str, bool]]) -> None:
    """Fields come out as COPY's rules make them, and broken ones leniently."""
    assert split_fields(record, Dialect()) == fields


@given(
    st.lists(st.text(st.sampled_from('ab,"; \r\n|é'), max_size=8), min_size=1, max_size=6),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.sampled_from([(",", '"'), (";", '"'), ("|", "'"), ("\t", '"')]),
)
def test_equal_to_the_csv_module(row: list[str], quoting: int, marks: tuple[str, str]) -> None:
    """Whatever the csv module writes, both readers give back alike."""
    delimiter, quotechar = marks
    out = io.StringIO()
    csv.writer(out, quoting=quoting, delimiter=delimiter, quotechar=quotechar).writerow(row)
    found = split_fields(out.getvalue().encode(), Dialect(delimiter, quotechar))
    assert [text for text, _ in found] == row
    if quoting == csv.QUOTE_ALL:
        assert all(quoted for _, quoted in found)
