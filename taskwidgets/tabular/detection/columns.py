"""The columns of a table as its records show them: how many, of what kind, and their names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from taskwidgets.tabular.detection.cells import EMPTY, is_typed, kind_of
from taskwidgets.tabular.detection.records import Record
from taskwidgets.tabular.header import MAX_NAME_BYTES

__all__ = ["AHEAD", "BODY", "column_names", "fits", "matches", "typed_columns", "usual_width"]

AHEAD = 12  # records that tell what the usual width is at some place
BODY = 400  # records that tell what a column's cells are
_ALIKE = 0.8  # share of a column's cells of one kind, from which on the column is typed


def column_names(names: Sequence[str], width: int) -> tuple[str, ...]:
    """Names that a table can have: none empty, none twice, none too long for Postgres.

    What is missing up to ``width`` becomes ``column_3``, by its place counted from 1.
    """
    found: list[str] = []
    taken = {name.strip() for name in names}
    used: set[str] = set()
    numbers: dict[str, int] = {}
    for place in range(width):
        given = names[place] if place < len(names) else ""
        name = _cut(given.replace("\0", "").strip(), MAX_NAME_BYTES) or f"column_{place + 1}"
        if name in used:
            base, number = name, numbers.get(name, 1)
            while name in used or name in taken:
                number += 1
                ending = f"_{number}"
                name = _cut(base, MAX_NAME_BYTES - len(ending)) + ending
            numbers[base] = number
        used.add(name)
        found.append(name)
    return tuple(found)


def _cut(name: str, size: int) -> str:
    return name.encode("utf-8", errors="replace")[:size].decode("utf-8", errors="ignore").strip()


def usual_width(records: Sequence[Record]) -> int:
    widths = Counter(len(one.fields) for one in records[:BODY] if not one.blank)
    return max(widths, key=lambda one: (widths[one], one), default=0)


def typed_columns(body: Sequence[Record]) -> dict[int, str]:
    """Which columns hold one kind of value, other than words: place -> that kind."""
    width = usual_width(body)
    rows = [one for one in body if len(one.fields) == width]
    found: dict[int, str] = {}
    for place in range(width):
        kinds = Counter(kind for one in rows if (kind := kind_of(one.fields[place])) != EMPTY)
        if not kinds:
            continue
        merged = kinds["integer"] + kinds["number"]
        kind, most = kinds.most_common(1)[0]
        if kind in ("integer", "number"):
            kind, most = ("number" if kinds["number"] else "integer"), merged
        if (is_typed(kind) or kind.startswith("code:")) and most >= _ALIKE * kinds.total():
            found[place] = kind
    return found


def fits(cell: str, kind: str) -> bool:
    own = kind_of(cell)
    return own in (kind, EMPTY) or (kind == "number" and own == "integer")


def matches(record: Record, typed: dict[int, str]) -> bool:
    """Whether the record's cells are as the typed columns have them, most of them."""
    cells = [
        fits(record.fields[place], kind)
        for place, kind in typed.items()
        if place < len(record.fields) and record.fields[place].strip()
    ]
    return bool(cells) and sum(cells) * 2 > len(cells)
