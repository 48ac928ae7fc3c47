"""The COPY of a range of blocks, and who is to make CSV of its rows: the server, or we."""

from __future__ import annotations

from taskwidgets.transfers.csv_rows import CsvForm
from taskwidgets.transfers.reader import CopyOut
from taskwidgets.transfers.snapshot import before_block, from_block

__all__ = ["IN_ORDER", "RangeCopies"]

# Settings of a session that runs them: rows come as they lie in the table, each time. A server may
# have several processes read a table, and pass their rows on as they come; or begin in its middle,
# where another session reads just now.
IN_ORDER = (
    "SET LOCAL max_parallel_workers_per_gather = 0",
    "SET LOCAL synchronize_seqscans = off",
)

# Characters of a value, on average. Binary costs the server least, but of what is neither text nor
# a whole number it has to be told to make text, value by value. Measured against text: exports of
# long texts (500 characters a value) took 0.8 of the time, of 64 characters with a time stamp 1.05,
# of flight records (5 characters, among them times and fractions) 1.8.
LONG_VALUE = 64
# Bytes of a row, on average: then some are likely to be longer than what is made here, and were
# read for nothing.
LONG_ROW = 1 << 20


class RangeCopies:
    """Makes them for one export; safe to share."""

    def __init__(
        self,
        select: str,
        options: str,
        text: CsvForm | None = None,
        binary: CsvForm | None = None,
        *,
        are_long: bool = False,
    ) -> None:
        """``select``: all rows, without a WHERE; ``options``: those of COPY in CSV.

        ``text`` and ``binary``: how the same is made here; ``are_long``: there are long values.
        """
        self._select = select
        self._options = options
        self._text = text
        self._binary = binary
        self._has_long = are_long
        self._form = binary if are_long else text

    def of(self, start: int, stop: int) -> CopyOut:
        """That of blocks [start, stop)."""
        where = f" WHERE {from_block(start)} AND {before_block(stop)}"
        return CopyOut(self._select, self._options, self._form, where)

    def learn(self, size: int, rows: int) -> None:
        """So many bytes of CSV came for so many rows."""
        if not rows or self._text is None:
            return
        if size > LONG_ROW * rows:
            self._form = None
        elif self._has_long or size > LONG_VALUE * rows * self._text.columns:
            self._form = self._binary
        else:
            self._form = self._text
