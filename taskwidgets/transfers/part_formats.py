"""The formats of part files: what each is called, and what turns COPY's CSV into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from taskwidgets.transfers.compression import Compressor, compressor
from taskwidgets.transfers.reader import Piece

__all__ = ["FORMATS", "PARQUET", "PARQUET_SETTINGS", "PartWriter", "Sink", "part_writer"]

PARQUET = "parquet"
FORMATS = ("csv", "csv.gz", "csv.zst", PARQUET)
"""Each is also what a part's name ends with."""

# How values must be written to be read as their types; see ``parquet_parts``.
PARQUET_SETTINGS = {"DateStyle": "ISO, YMD", "TimeZone": "UTC"}


class Sink(Protocol):
    """Where a part's bytes go."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Add to it."""


class PartWriter(Protocol):
    """Writes one part file; ``rows`` is how many went in, None where that is not counted."""

    rows: int | None

    def take(self, piece: Piece) -> None:
        """The next bytes of CSV, good until this returns."""

    def finish(self) -> None:
        """There are no more."""


class _Packed:
    """The bytes as they come, perhaps compressed."""

    def __init__(self, file: Sink, squeeze: Compressor) -> None:
        self.rows: int | None = None
        self._file = file
        self._squeeze = squeeze

    def take(self, piece: Piece) -> None:
        self._put(self._squeeze.compress(piece))

    def finish(self) -> None:
        self._put(self._squeeze.flush())

    def _put(self, data: bytes | memoryview) -> None:
        if data:
            self._file.write(data)


def part_writer(kind: str, file: Sink, columns: Sequence[str], types: Sequence[str]) -> PartWriter:
    """What writes a part of this format into a file that is open for it.

    ``columns`` and ``types``: their names, and their types as Postgres writes them.
    """
    if kind == PARQUET:
        from taskwidgets.transfers.parquet_parts import ParquetPart  # pyarrow is an extra

        return ParquetPart(file, columns, types)
    return _Packed(file, compressor(Path(f"part.{kind}")))
