"""A file of JSON lines: one object a line, each key a column.

Read twice, as only the last line tells which columns there are, and of what type. Numbers keep
each of their digits; what is nested is JSON again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from taskwidgets.errors import SourceError
from taskwidgets.runtime.run import Run
from taskwidgets.tabular.container import HEAD_BYTES, detect_container, open_container
from taskwidgets.tabular.decoding import visible
from taskwidgets.tabular.header import MAX_COLUMNS
from taskwidgets.tabular.limits import Limits
from taskwidgets.transfers.origins.names import table_names
from taskwidgets.transfers.origins.spool import Contents, Spool, TableWriter, check_wish
from taskwidgets.transfers.origins.texts import NULL, kind_of, quoted, type_of_kinds

__all__ = ["json_head", "spool_json_lines"]

CHUNK_LINES = 2000
CHUNK_CHARACTERS = 4 << 20
LIGHT_BYTES = 1 << 20  # of a line whose values are not counted before it is parsed
VALUE_BYTES = 70  # that a short value takes as Python has it
MOST_EXPANSION = 10  # so many times max_row may all values of a row take
HEAD_LINES = 1000  # that tell the types in a preview
LONGEST_ROW = 240  # characters of a line in a message
MARK = b"\xef\xbb\xbf"


class _Literal(str):
    """A number that is not whole, as it is written."""

    __slots__ = ()


def spool_json_lines(run: Run, spool: Spool, path: Path, limits: Limits) -> Contents:
    """Write the file as the spool's table. SourceError, with its line, for what is no object."""
    size = path.stat().st_size
    run.meter.set(done=0, rows=0, total=2 * size)
    kinds: dict[str, set[str]] = {}
    for row in _objects(path, _moving(run, size), limits):
        _note_kinds(row, kinds)
        if len(kinds) > MAX_COLUMNS:
            break
    if not kinds:
        raise SourceError(f"{path} is empty: not even one record", path=path)
    names, notes = table_names(list(kinds), path)
    decided = [type_of_kinds(found) for found in kinds.values()]
    columns = list(zip(kinds, [writer for _, writer in decided], strict=True))
    writer = TableWriter(run, spool, names, path, limits)
    try:
        lines: list[list[str]] = []
        characters = 0
        for row in _objects(path, _moving(run, size), limits):
            lines.append([_written(row.get(key), how) for key, how in columns])
            characters += sum(map(len, lines[-1]))
            if len(lines) >= CHUNK_LINES or characters >= CHUNK_CHARACTERS:
                writer.write(list(zip(*lines, strict=True)))
                lines, characters = [], 0
        if lines:
            writer.write(list(zip(*lines, strict=True)))
        types = {name: kind for name, (kind, _) in zip(names, decided, strict=True)}
        empty = [name for name, found in zip(names, kinds.values(), strict=True) if not found]
        contents = Contents(types, writer.rows, notes, {"empty": empty})
        writer.finish()
    finally:
        writer.close()
    return contents


def json_head(
    path: Path, rows: int, *, full: bool, limits: Limits
) -> tuple[dict[str, str], list[list[str]], int | None]:
    """(types by column, the first rows as texts of COPY, how many rows there are).

    As far as the first lines tell, unless ``full``; the number of rows is None then.
    """
    kinds: dict[str, set[str]] = {}
    found: list[dict[str, Any]] = []
    count, whole = 0, True
    for row in _objects(path, lambda _: None, limits):
        if not full and count >= max(rows, HEAD_LINES):
            whole = False
            break
        count += 1
        _note_kinds(row, kinds)
        if len(found) < rows:
            found.append(row)
    if not kinds:
        raise SourceError(f"{path} is empty: not even one record", path=path)
    names, _ = table_names(list(kinds), path)
    decided = [type_of_kinds(one) for one in kinds.values()]
    head = [
        [_written(row.get(key), how) for key, (_, how) in zip(kinds, decided, strict=True)]
        for row in found
    ]
    types = {name: kind for name, (kind, _) in zip(names, decided, strict=True)}
    return types, head, count if whole else None


def _moving(run: Run, size: int) -> Callable[[int], None]:
    """What is told how far the file is read: it counts, and stops after a wish."""
    at = 0

    def tell(position: int) -> None:
        nonlocal at
        check_wish(run)
        run.meter.add(min(position, size) - at)
        at = min(position, size)

    return tell


def _objects(path: Path, tell: Callable[[int], None], limits: Limits) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        container = detect_container(file.read(HEAD_BYTES))
    number = 0
    told = 0
    with open_container(path, container, limits) as file:
        while raw := file.readline(limits.row + 2):  # and a line's end
            number += 1
            if len(raw) > limits.row and len(raw.rstrip(b"\r\n")) > limits.row:
                raise limits.long_row(path, f"line {number:,}", line=number)
            if len(raw) > LIGHT_BYTES:
                _check_values(path, number, raw, limits)
            told += len(raw)
            if number % CHUNK_LINES == 1 or told >= CHUNK_CHARACTERS:
                told = 0
                tell(os.lseek(file.fileno(), 0, os.SEEK_CUR))
            text = raw.removeprefix(MARK) if number == 1 else raw
            if text.strip():
                yield _parsed(path, number, text)
        tell(path.stat().st_size)


def _check_values(path: Path, number: int, raw: bytes, limits: Limits) -> None:
    """SourceError where a line has so many values that they take too much memory."""
    values = raw.count(b",") + raw.count(b"[") + raw.count(b"{") + raw.count(b":")
    if values * VALUE_BYTES > MOST_EXPANSION * limits.row:
        raise SourceError(
            f"{path}, line {number:,}: the row that begins here has about {values:,} values, too "
            f"many for rows of at most {limits.row:,} bytes (max_row). If a row may have so many, "
            "give a larger max_row",
            path=path,
            line=number,
        )


def _parsed(path: Path, number: int, raw: bytes) -> dict[str, Any]:
    problem = "it is no JSON object"
    try:
        found = json.loads(raw.decode(), parse_float=_Literal, parse_constant=_Literal)
        if isinstance(found, dict):
            return found
    except UnicodeDecodeError as error:
        problem = f"byte 0x{raw[error.start]:02x} is not valid UTF-8"
    except (ValueError, RecursionError) as error:
        problem = f"it is no JSON: {error}"
    row = raw.decode(errors="replace").rstrip("\r\n")
    shown = visible(row if len(row) <= LONGEST_ROW else f"{row[:LONGEST_ROW]}…")
    raise SourceError(
        f"{path}, line {number:,}: {problem}. The line is: {shown}", path=path, line=number, row=row
    )


def _note_kinds(row: dict[str, Any], kinds: dict[str, set[str]]) -> None:
    for key, value in row.items():
        found = kinds.setdefault(key, set())
        if value is not None:
            found.add(_kind(value))


def _kind(value: Any) -> str:
    if isinstance(value, _Literal):
        if value in ("NaN", "Infinity", "-Infinity"):
            return "float"
        return "float" if Decimal(repr(float(value))) == Decimal(value) else "numeric"
    return kind_of(value)


def _written(value: Any, how: str) -> str:
    if value is None:
        return NULL
    if how == "json":
        return quoted(_dumped(value))
    if isinstance(value, dict | list):
        return quoted(_dumped(value))
    written = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return quoted(written) if how == "text" else written


def _dumped(value: Any) -> str:
    """JSON again, each number as it was written."""
    if isinstance(value, _Literal):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key, ensure_ascii=False)}: {_dumped(v)}" for key, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_dumped, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
