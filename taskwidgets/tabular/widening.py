"""The next wider type of a column whose inferred one turns out to be too narrow.

    integer -> bigint -> numeric -> text
    integer -> double precision -> numeric -> text
    date -> timestamp -> text
    boolean, timestamptz -> text

The type is chosen by the values that do not fit: whole numbers need bigint or numeric, decimals
numeric, which keeps them as they are written. Double precision comes only of what programs print
for floats (``1e-05``), and only after integer, all of whose numbers a float holds. A moment among
days makes them midnights. Everything else, ``00123``, ``+5``, ``1e5``, a day in
another format, is text.
"""

from __future__ import annotations

from collections.abc import Collection

from taskwidgets.tabular.types import TEXT, fits, kind_of

__all__ = ["converts_exactly", "wider"]

_NEXT = {
    "integer": ("bigint", "numeric", "double precision"),
    "bigint": ("numeric",),
    "double precision": ("numeric",),
    "date": ("timestamp",),
}
# What ALTER TABLE makes of a value of the one type is what COPY into the other would have made of
# its text. Not so of double precision (1.50 has become 1.5), numeric (.5 has become 0.5), timestamp
# (10:00 has become 10:00:00) and boolean (true has become t).
_EXACT = frozenset(
    {
        ("integer", "bigint"),
        ("integer", "numeric"),
        ("integer", "double precision"),
        ("bigint", "numeric"),
        ("date", "timestamp"),
    }
)
_SPELLED_ALIKE = ("integer", "bigint", "date")  # come out of Postgres as they went in


def wider(kind: str, misfits: Collection[str]) -> str:
    """The type to which a column of an inferred type is widened, that these values may go in."""
    for other in _NEXT.get(kind, ()):
        if other == "numeric" and any(kind_of(value) == "exponent" for value in misfits):
            continue
        if all(fits(value, other) for value in misfits):
            return other
    return TEXT


def converts_exactly(kind: str, other: str, *, as_written: bool) -> bool:
    """Whether ALTER TABLE gives what loading anew would give.

    ``as_written``: the values went into the column as they stand in the source.
    """
    if other == TEXT:
        return as_written and kind in _SPELLED_ALIKE
    return (kind, other) in _EXACT
