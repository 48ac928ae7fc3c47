"""A file's head as a person reads it, its records, and values written in other ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskwidgets.errors import SourceError
from taskwidgets.tabular.conversion import conversions
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.lenient import (
    LenientLayout,
    read_lenient_layout,
    read_records,
    valid_names,
)
from taskwidgets.tabular.stream import open_stream


def layout(tmp_path: Path, content: bytes, **how: object) -> LenientLayout:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    description = Description(**how)  # type: ignore[arg-type]
    with open_stream(path, description) as stream:
        return read_lenient_layout(stream, description)


ROWS = b"1,2,3\n" * 5


@pytest.mark.parametrize(
    ("content", "how", "columns", "start", "line"),
    [
        (b"a,b,c\n" + ROWS, {}, ("a", "b", "c"), 6, 2),
        (b"\xef\xbb\xbfa,b,c\r\n", {}, ("a", "b", "c"), 10, 2),
        (b"note\n\na,b,c\n" + ROWS, {"skip_rows": 2}, ("a", "b", "c"), 12, 4),
        (b'a,"b\nb",c\n' + ROWS, {}, ("a", "b\nb", "c"), 10, 3),
        (b"x,,z\nm,n,\n" + ROWS, {"header_rows": 2}, ("x m", "n", "z"), 10, 3),
        (b"a,,a\n" + ROWS, {}, ("a", "column_2", "a_2"), 5, 2),
        (b"a,b\n" + ROWS, {}, ("column_1", "a", "b"), 4, 2),
        (b"a\n" + ROWS, {}, ("a", "column_2", "column_3"), 2, 2),
        (b"a,b\n" + b"1,2,\n" * 5, {}, ("a", "b"), 4, 2),
        (b"a,b,c,d\n" + ROWS, {}, ("a", "b", "c", "d"), 8, 2),
        (b"a,b,c,,\n" + ROWS, {}, ("a", "b", "c"), 8, 2),
        (b"a,b,c\n" + ROWS + b"1,2,3,4\n", {}, ("a", "b", "c"), 6, 2),
        (ROWS, {"header_rows": 0}, ("column_1", "column_2", "column_3"), 0, 1),
        (b"\n" + ROWS, {}, ("1", "2", "3"), 7, 3),
        (b'a,"b,c\n' + ROWS, {}, ("a", '"b', "c"), 7, 2),
    ],
)
def test_heads(
    tmp_path: Path,
    content: bytes,
    how: dict[str, object],
    columns: tuple[str, ...],
    start: int,
    line: int,
) -> None:
    """Preamble, several header rows and odd names give one name for each column."""
    found = layout(tmp_path, content, **how)
    assert (found.columns, found.data_start, found.first_line) == (columns, start, line)


def test_what_was_renamed_is_kept(tmp_path: Path) -> None:
    """The receipt can say what each changed name was."""
    assert layout(tmp_path, b"a,,a\n").renamed == (("", "column_2"), ("a", "a_2"))


def test_an_empty_file(tmp_path: Path) -> None:
    """Where there is no column there is no table."""
    for content in (b"", b"\n\n"):
        with pytest.raises(SourceError, match="is empty"):
            layout(tmp_path, content)


def test_names() -> None:
    """Names are made different, and no longer than Postgres takes."""
    assert valid_names(["a", "a", "a_2", " b ", "\0"]) == ("a", "a_3", "a_2", "b", "column_5")
    long = valid_names(["é" * 40, "é" * 40])
    assert long == ("é" * 31, "é" * 30 + "_2")
    assert len(set(valid_names([""] * 2000))) == 2000


def test_records(tmp_path: Path) -> None:
    """Records come with line and position, broken ones with what is wrong."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n1,"x\ny"\n\n2\n3,4,5\n6,7')
    with open_stream(path, Description()) as stream:
        records = list(read_records(stream, Description()))
        assert [(record.line, record.offset) for record in records] == [
            (2, 4), (5, 13), (6, 15), (7, 21),
        ]  # fmt: skip
        assert [record.problem for record in records] == [
            None, None, "3 fields instead of 2", None,
        ]  # fmt: skip
        assert records[0].fields == (("1", False), ("x\ny", True))
        assert records[1].fields == (("2", False), ("", False))
        assert len(list(read_records(stream, Description(), 2))) == 2


def test_conversions() -> None:
    """Numbers, dates and booleans become what Postgres reads; all else stays as it is."""
    description = Description(
        decimal=",",
        thousands=".",
        date_formats={"d": "%d.%m.%Y", "t": "%d.%m.%Y"},
        booleans={"b": ("ja", "nein")},
    )
    types = {"n": "numeric", "d": "date", "b": "boolean", "x": "text", "t": "text"}
    found = conversions(description, types)
    assert sorted(found) == [0, 1, 2]
    number = found[0]
    assert [number(value) for value in ("1.234,5", "-1,5", "7", "x", "", "12e3")] == [
        "1234.5", "-1.5", "7", "x", "", "12e3",
    ]  # fmt: skip
    assert found[1]("31.12.2024") == "2024-12-31"
    assert found[1]("2024-12-31") == "2024-12-31"
    for convert, value in ((number, "1.23"), (found[1], "31.13.2024"), (found[1], "02/03/2024")):
        with pytest.raises(ValueError, match="is no"):
            convert(value)
    assert [found[2](word) for word in ("ja", "nein", "?")] == ["true", "false", "?"]
