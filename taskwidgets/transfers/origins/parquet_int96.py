"""INT96 timestamps of Parquet: nanoseconds of all years, which no 64-bit integer holds.

Arrow reads them as nanoseconds, of which it keeps the lowest 64 bits, or as microseconds, and drops
what is finer. Both together tell all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from taskwidgets.transfers.origins.texts import NULL, quoted
from taskwidgets.transfers.origins.types.arrow_values import integers
from taskwidgets.transfers.origins.types.temporal import timestamp_text

__all__ = ["RowReader", "finer_parts", "int96_texts"]

Array = Any


class RowReader:
    """Hands out the rows of a column in as many as are asked for."""

    def __init__(self, arrays: Iterator[Array]) -> None:
        self._arrays = arrays
        self._left: Array = None

    def read(self, rows: int) -> Array:
        """The next rows, of which there must be so many."""
        parts = []
        while rows:
            if self._left is None or not len(self._left):
                self._left = next(self._arrays)
            part = self._left[:rows]
            self._left = self._left[len(part) :]
            rows -= len(part)
            parts.append(part)
        return parts


def finer_parts(microseconds: Array, nanoseconds: Array) -> list[Any]:
    """For each leaf of timestamps in both arrays, how many nanoseconds each has beside."""
    kind = microseconds.type
    pairs: list[tuple[Array, Array]]
    if str(kind).startswith("timestamp"):
        if str(nanoseconds.type) == str(kind):
            return []  # no INT96
        return [integers(nanoseconds) - integers(microseconds) * 1000]  # both without high bits
    if str(kind).startswith("map"):
        pairs = [(microseconds.keys, nanoseconds.keys), (microseconds.items, nanoseconds.items)]
    elif str(kind).startswith("struct"):
        pairs = list(zip(microseconds.flatten(), nanoseconds.flatten(), strict=True))
    elif "list" in str(kind).partition("<")[0]:
        pairs = [(microseconds.flatten(), nanoseconds.flatten())]
    else:
        return []
    return [part for one, other in pairs for part in finer_parts(one, other)]


def int96_texts(microseconds: Array, nanoseconds: Array) -> list[str]:
    """The timestamps as texts, with all of their nanoseconds."""
    (finer,) = finer_parts(microseconds, nanoseconds)
    values = integers(microseconds).astype(object) * 1000 + finer
    missing = microseconds.is_null().to_numpy(zero_copy_only=False)
    return [
        NULL if one else quoted(timestamp_text(value, "ns"))
        for value, one in zip(values.tolist(), np.asarray(missing).tolist(), strict=True)
    ]
