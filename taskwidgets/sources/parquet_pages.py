"""The pages of a Parquet file, by their headers: how large each one is once it is unpacked.

A column chunk is a row of pages, each behind a header in Thrift's compact protocol
(https://github.com/apache/parquet-format, parquet.thrift, PageHeader). The headers are read here,
as pyarrow does not give them: a page of a few kilobytes may unpack to gigabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, Any

__all__ = ["Chunk", "chunks"]

HEADER_BYTES = 1 << 12  # that are read at once
LARGEST_HEADER = 1 << 20  # with statistics of long values
DATA_PAGE, INDEX_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = range(4)


@dataclass(frozen=True)
class Chunk:
    """One column of one row group.

    ``largest`` is the bytes of its largest data page, and ``densest`` the most bytes for a value
    that a page has; ``dictionary`` the bytes of its dictionary, 0 without one. All are unpacked.
    """

    leaf: int
    values: int
    largest: int
    densest: float
    dictionary: int


def chunks(file: IO[bytes], metadata: Any, group: int) -> list[Chunk]:
    """The columns of a row group, in the order of the leaves. OSError where it cannot be read.

    Where headers cannot be understood, what the file's metadata say stands for all pages.
    """
    row_group = metadata.row_group(group)
    found = []
    for leaf in range(row_group.num_columns):
        column = row_group.column(leaf)
        try:
            found.append(_chunk(file, column, leaf))
        except (ValueError, IndexError):
            size = column.total_uncompressed_size
            found.append(Chunk(leaf, column.num_values, size, size, size))
    return found


def _chunk(file: IO[bytes], column: Any, leaf: int) -> Chunk:
    at = column.data_page_offset
    if column.has_dictionary_page and column.dictionary_page_offset:
        at = min(at, column.dictionary_page_offset)
    end = at + column.total_compressed_size
    values = largest = dictionary = 0
    densest = 0.0
    while values < column.num_values and at < end:
        header, length = _header(file, at, end)
        size = header.unpacked
        if header.kind == DICTIONARY_PAGE:
            dictionary = max(dictionary, size)
        elif header.kind in (DATA_PAGE, DATA_PAGE_V2):
            values += header.values
            largest = max(largest, size)
            densest = max(densest, size / max(header.values, 1))
        at += length + header.packed
    if values < column.num_values:
        raise ValueError("pages are missing")
    return Chunk(leaf, column.num_values, largest, densest, dictionary)


@dataclass
class _Header:
    kind: int
    unpacked: int
    packed: int
    values: int


def _header(file: IO[bytes], at: int, end: int) -> tuple[_Header, int]:
    """The page header at a position, and its length."""
    size = HEADER_BYTES
    while True:
        file.seek(at)
        data = file.read(min(size, end - at))
        try:
            fields, length = _struct(data, 0)
            break
        except IndexError:
            if size >= LARGEST_HEADER or len(data) < size:
                raise
            size *= 16
    # 5: data_page_header, 7: dictionary_page_header, 8: data_page_header_v2; 1: num_values of each
    inner = fields.get(5) or fields.get(8) or fields.get(7) or {}
    header = _Header(
        kind=_number(fields, 1),
        unpacked=_number(fields, 2),
        packed=_number(fields, 3),
        values=_number(inner, 1) if inner else 0,
    )
    if min(header.unpacked, header.packed, header.values) < 0:
        raise ValueError("negative sizes")
    return header, length


def _number(fields: Any, field: int) -> int:
    value = fields.get(field) if isinstance(fields, dict) else None
    if not isinstance(value, int):
        raise ValueError(f"field {field} is missing")
    return value


# ---------------------------------------------------------------------- Thrift's compact protocol
# https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    if depth > 8:
        raise ValueError("nested too deep")
    fields: dict[int, Any] = {}
    field = 0
    while True:
        head = data[at]
        at += 1
        kind, step = head & 0x0F, head >> 4
        if not kind:
            return fields, at
        if step:
            field += step
        else:
            number, at = _varint(data, at)
            field = (number >> 1) ^ -(number & 1)
        fields[field], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true, false
        return kind == 1, at
    if kind == 3:  # a byte
        return data[at], at + 1
    if kind in (4, 5, 6):  # 16, 32, 64 bits, as zigzag numbers
        number, at = _varint(data, at)
        return (number >> 1) ^ -(number & 1), at
    if kind == 7:  # a double
        return None, _behind(data, at + 8)
    if kind == 8:  # bytes
        length, at = _varint(data, at)
        return None, _behind(data, at + length)
    if kind in (9, 10):  # a list, a set
        head = data[at]
        at += 1
        length = head >> 4
        if length == 15:
            length, at = _varint(data, at)
        if length > len(data):
            raise IndexError
        for _ in range(length):
            inner = head & 0x0F
            if inner in (1, 2):
                at = _behind(data, at + 1)
            else:
                _, at = _value(data, at, inner, depth + 1)
        return None, at
    if kind == 12:
        return _struct(data, at, depth + 1)
    raise ValueError(f"there is no type {kind}")


def _behind(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at
