"""All of a source, read once in bounded memory: its exact types and its number of rows."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from taskwidgets.tabular.description import Description
from taskwidgets.tabular.detection.records import Record, split_records
from taskwidgets.tabular.detection.values import Values, convert
from taskwidgets.tabular.limits import DEFAULT_MAX_ROW
from taskwidgets.tabular.sample import Row, Sample
from taskwidgets.tabular.types import TEXT, infer_types

__all__ = ["Scanned", "merge_types", "scan_all"]

# Lines that stay behind at the end of each block: a quoted field may go on in the next one.
_HELD_BACK = 256
_NUMBERS = ("integer", "bigint", "numeric", "double precision")


@dataclass(frozen=True, slots=True)
class Scanned:
    """Types by column, how many rows there are, and how many have another number of fields."""

    types: dict[str, str]
    rows: int
    ragged: int


def scan_all(
    blocks: Iterable[bytes],
    description: Description,
    values: Values,
    *,
    last_line: int | None = None,
    longest: int = DEFAULT_MAX_ROW,
    too_long: Callable[[int], Exception],
) -> Scanned:
    """Read everything; ``last_line``: the physical line after which the first table is over.

    ``longest``: bytes of a record at most; ``too_long`` makes the error for one that is longer, by
    its physical line.
    """
    columns, width = description.columns, len(description.columns)
    types: dict[str, str] = {}
    rows = ragged = 0
    left = description.header_rows  # header records still to come
    batch: list[Row] = []
    held: list[Record] = []  # may be the footer
    footer = description.footer_rows

    def take(record: Record) -> None:
        nonlocal left, rows, ragged
        if record.blank and width > 1:
            return
        if left:
            left -= 1
            return
        fields = list(zip(record.fields, record.quoted, strict=True))
        if len(fields) != width:
            ragged += 1
            if any(text.strip() for text, _ in fields[width:]):
                return
            fields = fields[:width] + [("", False)] * (width - len(fields))
        rows += 1
        batch.append(
            [
                None
                if not quoted and text in description.null_values
                else convert(text.replace("\0", ""), column, values)
                for (text, quoted), column in zip(fields, columns, strict=True)
            ]
        )
        if len(batch) >= 20_000:
            merge_types(types, infer_types(Sample(batch, whole=True), columns), batch, columns)
            batch.clear()

    for record in _records(blocks, description, width, longest, too_long):
        if record.line < description.skip_rows:
            continue
        if last_line is not None and record.line >= last_line:
            break
        held.append(record)
        if len(held) > footer:
            take(held.pop(0))
    while held and footer:
        # the footer is counted in lines, so the records before its first line still belong
        end = held[-1].line + held[-1].lines
        if held[0].line + held[0].lines > end - footer:
            break
        take(held.pop(0))
    if batch:
        merge_types(types, infer_types(Sample(batch, whole=True), columns), batch, columns)
    return Scanned({column: types.get(column, TEXT) for column in columns}, rows, ragged)


def _records(
    blocks: Iterable[bytes],
    description: Description,
    width: int,
    longest: int,
    too_long: Callable[[int], Exception],
) -> Iterator[Record]:
    """All records, each with its true line."""
    decoder = codecs.getincrementaldecoder(description.encoding)(errors="replace")
    cr = description.line_terminator in ("\r", "")
    rest, line = "", 0
    seen = 0  # so much of the rest was split before
    for block in chain(blocks, (None,)):
        final = block is None
        rest += decoder.decode(block or b"", final=final)
        if not rest:
            continue
        tail = ""
        if not final and rest.endswith("\r"):
            rest, tail = rest[:-1], "\r"
        text = rest.replace("\r\n", "\n")
        if cr:
            text = text.replace("\r", "\n")
        if not final and text.find("\n", seen) < 0:  # no other record is whole than before
            if len(text) - text.rfind("\n") > longest + 1:
                raise too_long(line + text.count("\n") + 1)
            rest = text + tail
            seen = max(len(text) - 1, 0)
            continue
        records = split_records(
            text, description.delimiter, description.quotechar, description.escapechar,
            skip_space=description.skip_initial_space, width=width,
        )  # fmt: skip
        total = text.count("\n")
        sure = len(records)
        if not final:
            hold = total - _HELD_BACK
            if len(text) > longest:  # a record that begins before is whole, or too long
                hold = max(hold, text.count("\n", 0, len(text) - longest))
            while sure and records[sure - 1].line + records[sure - 1].lines > hold:
                sure -= 1
            if not sure and len(text) > 2 * longest:
                raise too_long(line + 1)
        done = records[sure].line if sure < len(records) else total
        for record in records[:sure]:
            record.line += line
            if longest < len(text) and sum(map(len, record.fields)) > longest:
                raise too_long(record.line + 1)
            yield record
        if final:
            return
        position = 0
        for _ in range(done):
            position = text.find("\n", position) + 1
        rest = text[position:] + tail
        seen = max(len(rest) - 1, 0)  # its last character may become a line's end
        line += done


def merge_types(
    types: dict[str, str], found: dict[str, str], batch: list[Row], columns: Iterable[str]
) -> None:
    """Widen the types by those of a batch; a column of which it has no value says nothing."""
    for place, column in enumerate(columns):
        new = found[column]
        if new == TEXT and all(row[place] is None for row in batch):
            continue
        old = types.get(column, new)
        types[column] = new if old == new else _wider(old, new)


def _wider(one: str, other: str) -> str:
    if one not in _NUMBERS or other not in _NUMBERS:
        return TEXT
    if "double precision" in (one, other):
        # whole numbers beyond 32 bits may not survive a float; numeric holds all of them
        return "double precision" if {one, other} == {"double precision", "integer"} else "numeric"
    return _NUMBERS[max(_NUMBERS.index(one), _NUMBERS.index(other))]
