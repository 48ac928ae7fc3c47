"""The header is read, or refused with its place and reason."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from pathlib import Path

import pytest

from taskwidgets.errors import SourceError
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.header import MAX_HEADER_BYTES, Layout, read_layout


def layout(tmp_path: Path, data: bytes, **dialect: object) -> Layout:
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    return read_layout(path, Dialect(**dialect))


@pytest.mark.parametrize(
    ("data", "columns", "start", "newline"),
    [
        (b"a,b\n1,2\n", ("a", "b"), 4, "\n"),
        (b"a,b\r\n1,2\r\n", ("a", "b"), 5, "\r\n"),
        (b"\xef\xbb\xbfa,b\n1,2\n", ("a", "b"), 7, "\n"),
        (b"a,b", ("a", "b"), 3, "\n"),
        (b"a,b\n", ("a", "b"), 4, "\n"),
        (b'"a,1","b\n2","c""3"\n', ("a,1", "b\n2", 'c"3'), 19, "\n"),
        (b'"a\r\n1",b\r\nx,y\r\n', ("a\r\n1", "b"), 10, "\r\n"),
        ("naïve,日本\n".encode(), ("naïve", "日本"), 14, "\n"),
        (b"a,A, a\n", ("a", "A", " a"), 7, "\n"),
        (b"x" * 63 + b"\n", ("x" * 63,), 64, "\n"),
    ],
)
def test_headers(
    tmp_path: Path, data: bytes, columns: tuple[str, ...], start: int, newline: str
) -> None:
    """Names, the data's first byte and the line ending are found."""
    assert layout(tmp_path, data) == Layout(columns, start, newline)


def test_other_dialects(tmp_path: Path) -> None:
    """Delimiter, quote and encoding are the dialect's."""
    found = layout(tmp_path, "'a;x';é\n".encode("latin-1"), delimiter=";", quotechar="'",
                   encoding="latin-1")  # fmt: skip
    assert found == Layout(("a;x", "é"), 8, "\n")


def test_without_a_header(tmp_path: Path) -> None:
    """Without a header the columns are counted and the data begins at once."""
    found = layout(tmp_path, b'\xef\xbb\xbf1,"2,\n",\r\n', header=False)
    assert found == Layout(("column_1", "column_2", "column_3"), 3, "\r\n")
    assert layout(tmp_path, b"\xff,1\n", header=False).columns == ("column_1", "column_2")
    assert layout(tmp_path, b"\n1\n", header=False).columns == ("column_1",)


@pytest.mark.parametrize(
    ("data", "text", "line", "column"),
    [
        (b"", "is empty: not even a header", None, None),
        (b"\xef\xbb\xbf", "is empty: not even a header", None, None),
        (b"\na,b\n", "line 1: is blank where the header should be", 1, None),
        (b"a,b,,d\n", "column 3 of the header has no name", 1, None),
        (b",b\n", "pandas writes its index so", 1, None),
        (b'a,"  "\n', "column 2 of the header has no name", 1, "  "),
        (b"a,b,a,c,a\n", "the name 'a' stands at positions 1, 3 and 5 of the header", 1, "a"),
        (b"abcdefgh,b\0c\n", "the name of column 2, 'b\\x00c', holds a NUL character", 1, "b\0c"),
        (b"x" * 64 + b"\n", "is 64 bytes long; Postgres would cut it after 63", 1, "x" * 64),
        ("é".encode() * 32 + b"\n", "is 64 bytes long", 1, "é" * 32),
        (b"a,\xffb\n", "line 1: byte 0xff at offset 2 is not valid utf-8", 1, None),
        (b'\xef\xbb\xbfa,"\n\xff"\n', "line 2: byte 0xff at offset 7 is not valid", 2, None),
        (b'a,"b\n1,2\n', 'a quote (") in the header is never closed', 1, None),
        (b"a,b\r1,2\r", "ends with a carriage return (CR) alone", 1, None),
        (b"a,b\rc,d\n", "ends with a carriage return (CR) alone", 1, None),
        (b",".join(b"c%d" % n for n in range(1601)), "has 1,601 columns; ", 1, None),
        (b"x" * (MAX_HEADER_BYTES + 99_999), "does not end within 1,048,576 bytes", 1, None),
        (b'"' + b"x\n" * MAX_HEADER_BYTES, "a quote is probably not closed", 1, None),
    ],
    ids=range(18),
)
def test_bad_headers(
    tmp_path: Path, data: bytes, text: str, line: int | None, column: str | None
) -> None:
    """Each fault is refused with the file, the line and the column's name."""
    with pytest.raises(SourceError, match=re.escape(text)) as caught:
        layout(tmp_path, data)
    assert caught.value.path == str(tmp_path / "a.csv")
    assert (caught.value.line, caught.value.column) == (line, column)


def test_an_empty_file_without_header(tmp_path: Path) -> None:
    """An empty file has no columns to count."""
    with pytest.raises(SourceError, match="is empty: not even one record"):
        layout(tmp_path, b"", header=False)


def test_the_wrong_encoding_for_a_byte_order_mark(tmp_path: Path) -> None:
    """A file that says it is UTF-8 is not read as something else."""
    with pytest.raises(SourceError, match="so it is not cp1252"):
        layout(tmp_path, b"\xef\xbb\xbfa\n", encoding="cp1252")


def test_a_missing_file_is_a_source_error(tmp_path: Path) -> None:
    """What the system says becomes the error of this package."""
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        read_layout(tmp_path / "none.csv", Dialect())


def _zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            text = "opendocument.spreadsheet" if name == "mimetype" else "x"
            archive.writestr(zipfile.ZipInfo(name), text)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (gzip.compress(b"a,b\n", mtime=0), "is a gzip file; unpack it first"),
        (b"\x28\xb5\x2f\xfdabc", "is a zstd file; unpack it first"),
        (b"BZh91AY&SYabc", "is a bzip2 file; unpack it first"),
        (b"\xfd7zXZ\x00", "is an xz file; unpack it first"),
        (_zip("a.csv"), "is a zip file; unpack it first"),
        (_zip("[Content_Types].xml", "xl/a"), "is an Excel workbook (.xlsx); export it as CSV"),
        (_zip("mimetype"), "is an OpenDocument spreadsheet (.ods); export it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook (.xls)"),
        (b"PAR1\x15", "is a Parquet file; export it as CSV first"),
        ("a,b\n".encode("utf-16"), "is UTF-16 text"),
        ("a,b\n".encode("utf-32"), "is UTF-32 text"),
        ("a,b\n".encode("utf-16-le"), "looks like UTF-16"),
        ("a,b\n".encode("utf-16-be"), "looks like UTF-16"),
    ],
)
def test_foreign_formats(tmp_path: Path, data: bytes, text: str) -> None:
    """A file that is no delimited text is called by its name, with what to do."""
    with pytest.raises(SourceError, match=re.escape(text)):
        layout(tmp_path, data)


def test_text_that_begins_like_an_archive_is_text(tmp_path: Path) -> None:
    """A column named BZh9 does not make a bzip2 file."""
    assert layout(tmp_path, b"BZh9,b\n").columns == ("BZh9", "b")
