"""From COPY's line number back to the record, and to the byte that it would not take."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskwidgets.tabular.boundaries import BLOCK_BYTES
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.lines import (
    Place,
    first_invalid,
    first_nul,
    first_ragged,
    line_at,
    record_at_line,
)


def test_line_at(tmp_path: Path) -> None:
    """A byte's line is one more than the newlines before it, over blocks as well."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\nb\n")
    assert [line_at(path, offset) for offset in (0, 1, 2, 3, 4, 99)] == [1, 1, 2, 2, 3, 3]
    path.write_bytes(b"\n" * (BLOCK_BYTES + 10))
    assert line_at(path, BLOCK_BYTES + 5) == BLOCK_BYTES + 6


# The line numbers are those in the errors of Postgres 18.4 for a bad value in the record that
# begins with x: COPY t(a integer, b text) FROM STDIN (FORMAT csv).
@pytest.mark.parametrize(
    ("data", "line", "first_line"),
    [
        (b'x,"a\nb\nc"\n', 1, 1),
        (b'1,"a\nb\nc"\nx,"d\ne"\n', 3, 4),
        (b'1,"a\nb\nc"\nx,d\n', 2, 4),
        (b'1,"a\r\nb\r\nc"\r\nx,"d\r\ne"\r\n', 5, 4),
        (b'x,"a\r\nb\r\nc"\r\n', 3, 1),
        (b'1,"a\nb\nc"\r\nx,"d\ne"\r\n', 2, 4),
        (b'1,"a\r\nb"\nx,"d\r\ne"\n', 4, 3),
        (b'1,"a\nb\nc"\n2,"u\nv"\nx,d\n', 4, 6),
        (b'1,a\n2,ab"c\nd"e\nx,1\n', 4, 4),
    ],
)
def test_record_at_line(data: bytes, line: int, first_line: int) -> None:
    """The record that COPY means by a line is found, though it counts in its own way."""
    start, stop, first = record_at_line(data, Dialect(), line)
    assert data[start:].startswith(b"x,")
    assert data[start - 1 : start] in (b"", b"\n")
    assert data[stop - 1 : stop] == b"\n"
    assert first == first_line == 1 + data[:start].count(b"\n")


def test_record_at_line_at_the_edges() -> None:
    """A number past the end gives the last record; without data there is none."""
    assert record_at_line(b"a\nb", Dialect(), 99) == (2, 3, 2)
    with pytest.raises(ValueError, match="no record"):
        record_at_line(b"", Dialect(), 1)


def test_first_ragged() -> None:
    """The first record with too many or too few fields is found, blank lines too."""
    assert first_ragged(b'1,"a,b\n,"\n2,b\n', Dialect(), 2) is None
    assert first_ragged(b'1,"a\nb"\n2\n3,4\n', Dialect(), 2) == Place(8, 3, 8, 10, b"2")
    assert first_ragged(b"1,2\r\n\r\n", Dialect(), 2) == Place(5, 2, 5, 7, b"")
    assert first_ragged(b'1;"a;b";c', Dialect(delimiter=";"), 2) == Place(
        0, 1, 0, 9, b'1;"a;b";c'
    )  # fmt: skip


def test_first_invalid() -> None:
    """The first wrong byte is found with its record, whatever stands before it."""
    assert first_invalid("é,日\n".encode(), Dialect()) is None
    assert first_invalid(b"", Dialect()) is None
    assert first_invalid(b'a\n"\n\xff"\nb\n', Dialect()) == Place(4, 2, 2, 7, b'"\n\xff"')
    assert first_invalid(b"\x81\n", Dialect(encoding="cp1252")) == Place(0, 1, 0, 2, b"\x81")
    assert first_invalid(b"a\xc3", Dialect()) == Place(1, 1, 0, 2, b"a\xc3")


@pytest.mark.parametrize("shift", range(4))
def test_characters_across_blocks(shift: int) -> None:
    """A character that a block's end cuts is whole, and a wrong byte behind it has its offset."""
    text = b"x" * (BLOCK_BYTES - shift) + "日本".encode()
    assert first_invalid(text, Dialect()) is None
    place = first_invalid(text[:-1] + b"\n", Dialect())
    assert place is not None
    assert place.offset == len(text) - 3


def test_first_nul() -> None:
    """A NUL byte is found with its record."""
    assert first_nul(b"a\nb\n", Dialect()) is None
    assert first_nul(b"a\nb\0c\n", Dialect()) == Place(3, 2, 2, 6, b"b\0c")
