"""Limits on what a small file may become: the bytes of one row, and the bytes after unpacking.

A packed file of a few megabytes can hold a row of gigabytes, or rows without end. Memory and disk
are bounded by two limits, which are checked while the source is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.errors import OptionError, SourceError

__all__ = [
    "DEFAULT_MAX_ROW",
    "DEFAULT_RATIO",
    "DEFAULT_UNPACKED",
    "MAX_RECORD_BYTES",
    "UNLIMITED",
    "Limits",
    "checked_bytes",
]

# bytes; COPY reads a record into one string, which Postgres limits to 1 GiB (MaxAllocSize)
MAX_RECORD_BYTES = 1 << 30
# bytes; a row is in memory several times while it is parsed, repaired and sent (measured: six
# times its size), so this keeps a job below 200 MiB
DEFAULT_MAX_ROW = 16 << 20
# Delimited text is packed to a fifth or a twentieth of its size, very regular text to a fiftieth.
DEFAULT_RATIO = 100
DEFAULT_UNPACKED = 4 << 30  # bytes; that many always, however small the packed file is

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgt]?i?b|)", re.ASCII)


def checked_bytes(value: object, name: str) -> int | None:
    """A number of bytes that an option gave: a number from 1 on, or a text such as "64 MB".

    None stays None. Raises OptionError, which names the option.
    """
    if value is None:
        return None
    size: float | None = None
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip().lower())
        if found is not None and found[2] in _UNITS:
            size = float(found[1]) * _UNITS[found[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        size = value
    if size is None or not 1 <= size < float(1 << 62):  # NaN is not either
        raise OptionError(
            f"{name} must be a number of bytes from 1 on, or a text such as '64 MB' or '2 GiB', "
            f"not {value!r}"
        )
    return int(size)


@dataclass(frozen=True)
class Limits:
    """The limits of one source; None is the default of each.

    ``max_row``: bytes of one row as it is written in the file. ``max_unpacked``: bytes that the
    file may become, if it is packed, or in a format that is packed by itself (Excel, Parquet).
    """

    max_unpacked: int | None = None
    max_row: int | None = None

    @classmethod
    def of(cls, max_unpacked: object, max_row: object) -> Limits:
        """The limits that a caller gave. Raises OptionError."""
        row = checked_bytes(max_row, "max_row")
        if row is not None and row > MAX_RECORD_BYTES:
            raise OptionError(
                f"max_row={row:,} is more than Postgres takes: a row of a file has at most "
                f"{MAX_RECORD_BYTES:,} bytes (1 GiB)"
            )
        return cls(checked_bytes(max_unpacked, "max_unpacked"), row)

    @property
    def row(self) -> int:
        """Bytes of a row at most."""
        return DEFAULT_MAX_ROW if self.max_row is None else self.max_row

    def unpacked(self, packed: int) -> int:
        """Bytes that a file of ``packed`` bytes may become at most."""
        if self.max_unpacked is not None:
            return self.max_unpacked
        return max(DEFAULT_UNPACKED, DEFAULT_RATIO * packed)

    def long_row(
        self, path: Path | str, where: str, *, line: int | None = None, cause: str = ""
    ) -> SourceError:
        """The error for a row that is longer.

        ``where``: its place, such as "line 7"; ``cause``: what often makes a row so long.
        """
        return SourceError(
            f"{path}, {where}: the row that begins here has more than {self.row:,} bytes, "
            f"{_said('max_row', self.max_row)}.{cause} If a row may be so long, give a larger "
            f"max_row, such as max_row={_larger(self.row)!r}",
            path=path,
            line=line,
        )

    def check_unpacked(
        self, path: Path | str, packed: int, reached: int, *, what: str = "", is_whole: bool = False
    ) -> None:
        """SourceError where a file of ``packed`` bytes has become more than it may.

        ``reached``: the bytes so far, or all of them (``is_whole``). ``what``: what has them, if it
        is not the file's whole content.
        """
        most = self.unpacked(packed)
        if reached <= most:
            return
        default = f"the default: {DEFAULT_UNPACKED:,}, or {DEFAULT_RATIO} times the file's size"
        bound = _said("max_unpacked", self.max_unpacked, default)
        size = f"{reached:,}" if is_whole else f"more than {most:,}"
        verb = "unpacks" if not what else f"({what}) unpacks"
        raise SourceError(
            f"{path} {verb} from {packed:,} bytes to {size} bytes; at most {most:,} are allowed, "
            f"{bound}. If the file is meant to be so large, give a larger max_unpacked, such as "
            f"max_unpacked={_larger(max(most, reached))!r}",
            path=path,
        )

    def to_json(self) -> dict[str, int | None]:
        """A plain dictionary for a plan."""
        return {"max_unpacked": self.max_unpacked, "max_row": self.max_row}

    @classmethod
    def from_json(cls, stored: Mapping[str, int | None] | None) -> Limits:
        """The reverse of ``to_json``; plans that were made before there were limits have none."""
        return UNLIMITED if stored is None else cls(stored["max_unpacked"], stored["max_row"])


UNLIMITED = Limits((1 << 62) - 1, MAX_RECORD_BYTES)


def _said(name: str, given: int | None, default: str = "the default") -> str:
    """The words for a limit: who set it."""
    return f"the limit {name} ({default if given is None else 'as given'})"


def _larger(size: int) -> str:
    """A size that leaves room, as a text for the option."""
    size *= 4
    for unit in ("GiB", "MiB", "KiB"):
        if size >= _UNITS[unit.lower()]:
            return f"{size // _UNITS[unit.lower()]} {unit}"
    return f"{size} B"
