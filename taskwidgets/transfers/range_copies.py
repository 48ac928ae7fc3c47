"""The COPY of a range of blocks, and who is to make CSV of its rows: the server, or we."""

from __future__ import annotations

from taskwidgets.transfers.csv_rows import CsvForm
from taskwidgets.transfers.reader import CopyOut

__all__ = ["RangeCopies"]

# Characters of a value, on average. It is by the value that text costs the server less; what it
# costs us goes by the length. Measured for values of 5 characters (flight records), of 12 and of
# 520 with many quotes and line ends (notes): the export took 0.83, 0.93 and 1.2 of the time.
LONG_VALUE = 64


class RangeCopies:
    """Makes them for one export; safe to share."""

    def __init__(self, select: str, options: str, csv: CsvForm | None) -> None:
        """``select``: all rows, without a WHERE; ``options``: those of COPY.

        ``csv``: the same in our own terms; None where the server is to make it in any case.
        """
        self._select = select
        self._options = options
        self._csv = csv
        self._are_long = False

    def of(self, start: int, stop: int) -> CopyOut:
        """That of blocks [start, stop)."""
        return CopyOut(
            f"{self._select} WHERE ctid >= '({start},0)' AND ctid < '({stop},0)'",
            self._options,
            None if self._are_long else self._csv,
        )

    def learn(self, size: int, rows: int) -> None:
        """So many bytes of CSV came for so many rows."""
        if rows and self._csv is not None:
            self._are_long = size > LONG_VALUE * rows * self._csv.columns
