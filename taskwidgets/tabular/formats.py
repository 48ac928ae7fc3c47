"""Files that are no delimited text: recognized by their first bytes, and refused by name.

A stranger's workbook would otherwise fail much later with an error about bytes. This is the one
place that tells such files apart. What is only packed (gzip, zstd, bzip2, xz, zip) or only in
another encoding (UTF-16, UTF-32) can be read: `container` and `detect` do; but COPY cannot take
it as it stands, so `refuse_foreign`, which guards the plain way to COPY, still refuses both.
"""

from __future__ import annotations

from pathlib import Path

from taskwidgets.errors import SourceError

__all__ = ["foreign_format", "packed_format", "refuse_foreign"]

_UNPACK = "unpack it first"
_EXPORT = "export it as CSV first"
_CONVERT = "convert it to UTF-8 first"

# First bytes -> what it is packed in, by the names of `description.CONTAINERS`.
_PACKED = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
)

# First bytes -> (what the file is, what to do).
_FOREIGN = (
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive", _UNPACK),
    (b"Rar!\x1a\x07", "is a RAR archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "is an LZ4 file", _UNPACK),
    (b"\xff\x06\x00\x00sNaPpY", "is a Snappy file", _UNPACK),
    (b"PAR1", "is a Parquet file", _EXPORT),
    (b"ARROW1", "is an Arrow file", _EXPORT),
    (b"FEA1", "is a Feather file", _EXPORT),
    (b"Obj\x01", "is an Avro file", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 file", _EXPORT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an old Excel workbook (.xls)", _EXPORT),
    (b"SQLite format 3\x00", "is an SQLite database", _EXPORT),
    (b"%PDF-", "is a PDF document", _EXPORT),
    (b"\x89PNG\r\n\x1a\n", "is a PNG picture", _EXPORT),
    (b"\x7fELF", "is a program", _EXPORT),
)

# First bytes of text that COPY cannot take: its byte order mark says so.
_MARKED = (
    (b"\xff\xfe\x00\x00", "is UTF-32 text"),
    (b"\x00\x00\xfe\xff", "is UTF-32 text"),
    (b"\xff\xfe", "is UTF-16 text (it begins with that byte order mark)"),
    (b"\xfe\xff", "is UTF-16 text (it begins with that byte order mark)"),
)

# A header may begin with these letters as well, such as ORCID: so control characters must follow.
_ORC = b"ORC"
_ORC_LOOK = 64  # bytes
_NO_TEXT = frozenset(range(0x20)) - frozenset(b"\t\n\r")

_ZIP = b"PK\x03\x04"
_BZIP2_BLOCK = b"1AY&SY"  # bzip2's block magic (pi in BCD), at byte 4; "BZh9" alone could be text
_BZIP2_EMPTY = b"\x17\x72\x45\x38\x50\x90"  # the same place in a bzip2 file of nothing
_TAR_MARK = slice(257, 262)  # POSIX's ustar and GNU's tar both write "ustar" there


def refuse_foreign(path: Path, head: bytes) -> None:
    """Raise SourceError, saying what the file is, when COPY cannot read it as it stands.

    ``head`` is the file's first bytes, some KiB of them.
    """
    found = foreign_format(head)
    if found is None:
        packed = packed_format(head)
        if packed:
            article = "an" if packed == "xz" else "a"
            found = (f"is {article} {packed} file", _UNPACK)
    if found is None:
        found = _other_text(head)
    if found is not None:
        what, remedy = found
        raise SourceError(f"{path} {what}; {remedy}", path=path)


def packed_format(head: bytes) -> str:
    """What the bytes are packed in: "gzip", "zstd", "bzip2", "xz", "zip", or "" for not at all."""
    for magic, name in _PACKED:
        if head.startswith(magic):
            return name
    if head.startswith(b"BZh") and head[4:10] in (_BZIP2_BLOCK, _BZIP2_EMPTY):
        return "bzip2"
    return "zip" if head.startswith(_ZIP) else ""


def foreign_format(head: bytes) -> tuple[str, str] | None:
    """(what the file is, what to do) for a format that holds no delimited text; else None."""
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            return what, remedy
    if head.startswith(_ORC) and any(byte in _NO_TEXT for byte in head[len(_ORC) : _ORC_LOOK]):
        return "is an ORC file", _EXPORT
    if head[_TAR_MARK] == b"ustar":
        return "is a tar archive", _UNPACK
    if head.startswith(_ZIP):
        if b"[Content_Types].xml" in head or b"xl/" in head:
            return "is an Excel workbook (.xlsx)", _EXPORT
        if b"opendocument.spreadsheet" in head:
            return "is an OpenDocument spreadsheet (.ods)", _EXPORT
    return None


def _other_text(head: bytes) -> tuple[str, str] | None:
    for magic, what in _MARKED:
        if head.startswith(magic):
            return what, _CONVERT
    # UTF-16 without a byte order mark: in Western text every second byte is NUL. A fifth of all
    # even or all odd bytes is far more than any text with a stray NUL has.
    for half in (head[::2], head[1::2]):
        if half and half.count(0) * 5 > len(half):
            return "looks like UTF-16 (NUL bytes among the letters)", _CONVERT
    return None
