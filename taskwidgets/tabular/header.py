"""The header of a file: its columns' names, and the byte at which the data begins."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from taskwidgets.errors import SourceError
from taskwidgets.tabular.boundaries import scan
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_text, without_ending
from taskwidgets.tabular.formats import refuse_foreign

__all__ = ["MAX_COLUMNS", "MAX_HEADER_BYTES", "MAX_NAME_BYTES", "Layout", "read_layout"]

MAX_HEADER_BYTES = 1 << 20  # 1600 columns with names of 63 bytes are a tenth of this
MAX_COLUMNS = 1600  # Postgres manual, appendix K, "PostgreSQL Limits"
MAX_NAME_BYTES = 63  # the same appendix: NAMEDATALEN - 1

_CHUNK_BYTES = 1 << 16
_UTF8_MARK = b"\xef\xbb\xbf"
_LONE_RETURN = re.compile(rb"\r(?!\n)")


@dataclass(frozen=True)
class Layout:
    """What stands at a file's beginning.

    ``columns`` are the names in the file's order; ``data_start`` is the byte offset of the first
    data record, after byte order mark and header; ``newline`` is what ends the first record, and
    ``header_lines`` how many physical lines that has.
    """

    columns: tuple[str, ...]
    data_start: int
    newline: Literal["\n", "\r\n"]
    header_lines: int = field(default=1, compare=False)


def read_layout(path: str | Path, dialect: Dialect, *, any_names: bool = False) -> Layout:
    """Read the first record: the names, or with ``header=False`` the number of columns.

    ``any_names``: names that Postgres cannot have are fine, as they will be others. Reads 1 MiB at
    most. Raises SourceError (with path, line and column) for a file that is empty or no delimited
    text, and for names that Postgres cannot have.
    """
    path = Path(path)
    mark, record = _first_record(path, dialect)
    names = _names(path, record, mark, dialect)
    if not dialect.header:
        names = [f"column_{number}" for number in range(1, len(names) + 1)]
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"{path} has {len(names):,} columns; a Postgres table has at most {MAX_COLUMNS:,}",
            path=path,
            line=1,
        )
    if not any_names:
        _check_names(path, names)
    return Layout(
        columns=tuple(names),
        data_start=mark + (len(record) if dialect.header else 0),
        newline="\r\n" if record.endswith(b"\r\n") else "\n",
        header_lines=max(1, record.count(b"\n")),
    )


def _first_record(path: Path, dialect: Dialect) -> tuple[int, bytes]:
    """The length of the byte order mark, and the first record with its line ending."""
    try:
        with path.open("rb") as file:
            head = file.read(_CHUNK_BYTES)
            refuse_foreign(path, head)
            mark = len(_UTF8_MARK) if head.startswith(_UTF8_MARK) else 0
            if mark and dialect.postgres_encoding != "UTF8":
                raise SourceError(
                    f"{path} begins with UTF-8's byte order mark, so it is not "
                    f"{dialect.encoding}: leave encoding out, or give encoding='utf-8'",
                    path=path,
                    line=1,
                )
            record, chunk, inside = b"", head[mark:], False
            while chunk and len(record) < MAX_HEADER_BYTES:
                found = scan(chunk, dialect.quote_byte, inside)
                record += chunk[: found.first] if found.first else chunk
                if found.first:
                    inside = False
                    break
                inside = found.inside
                chunk = file.read(_CHUNK_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SourceError(f"{path} cannot be read: {reason}", path=path) from None
    _check_record(path, record, dialect, inside=inside, at_end=not chunk)
    return mark, record


def _check_record(
    path: Path, record: bytes, dialect: Dialect, *, inside: bool, at_end: bool
) -> None:
    what = "header" if dialect.header else "first record"
    if not record:
        nothing = "not even a header" if dialect.header else "not even one record"
        raise SourceError(f"{path} is empty: {nothing}", path=path)
    quote = dialect.quotechar.encode()
    outside = quote.join(record.split(quote)[::2])
    if _LONE_RETURN.search(outside):
        raise SourceError(
            f"{path}, line 1: a line ends with a carriage return (CR) alone, as on old Macs; "
            "Postgres wants LF or CR LF, so convert the line endings first",
            path=path,
            line=1,
        )
    if inside and at_end:
        raise SourceError(
            f"{path}, line 1: a quote ({dialect.quotechar}) in the {what} is never closed",
            path=path,
            line=1,
        )
    if not record.endswith(b"\n") and not at_end:
        cause = "a quote is probably not closed" if inside else "this is probably no CSV file"
        raise SourceError(
            f"{path}, line 1: the {what} does not end within {MAX_HEADER_BYTES:,} bytes; {cause}",
            path=path,
            line=1,
        )


def _names(path: Path, record: bytes, mark: int, dialect: Dialect) -> list[str]:
    try:
        text = without_ending(record).decode(dialect.codec)
    except UnicodeDecodeError as error:
        if not dialect.header:  # data: a bad byte there is for COPY to judge, only count fields
            text = without_ending(record).decode(dialect.codec, errors="replace")
        else:
            line = 1 + record.count(b"\n", 0, error.start)
            raise SourceError(
                f"{path}, line {line}: byte 0x{record[error.start]:02x} at offset "
                f"{mark + error.start:,} is not valid {dialect.encoding}; "
                "give the file's encoding with encoding=",
                path=path,
                line=line,
            ) from None
    if dialect.header and not text:
        raise SourceError(f"{path}, line 1: is blank where the header should be", path=path, line=1)
    return [name for name, _ in split_text(text, dialect.delimiter, dialect.quotechar)]


def _check_names(path: Path, names: list[str]) -> None:
    positions: dict[str, list[int]] = {}
    for number, name in enumerate(names, start=1):
        problem = None
        if not name.strip():
            problem = f"column {number} of the header has no name"
            if number == 1:
                problem += " (pandas writes its index so; to_csv(..., index=False) leaves it out)"
        elif "\0" in name:
            problem = f"the name of column {number}, {name!r}, holds a NUL character"
        elif (size := len(name.encode("utf-8"))) > MAX_NAME_BYTES:
            problem = (
                f"the name of column {number}, {name!r}, is {size} bytes long; Postgres would cut "
                f"it after {MAX_NAME_BYTES} without a word, so shorten it in the file"
            )
        if problem:
            raise SourceError(f"{path}, line 1: {problem}", path=path, line=1, column=name or None)
        positions.setdefault(name, []).append(number)
    for name, found in positions.items():
        if len(found) > 1:
            where = ", ".join(map(str, found[:-1])) + f" and {found[-1]}"
            raise SourceError(
                f"{path}, line 1: the name {name!r} stands at positions {where} of the header; "
                "a table's columns need different names",
                path=path,
                line=1,
                column=name,
            )
