"""Names of columns, from wherever they come, made fit for a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taskwidgets.errors import SourceError
from taskwidgets.tabular.header import MAX_COLUMNS
from taskwidgets.tabular.lenient import valid_names

__all__ = ["table_names"]

MOST_NAMED = 10  # in a note


def table_names(names: Sequence[str], path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names that a table can have, notes on those that had to be changed)."""
    if not names:
        raise SourceError(f"{path} has no columns, so there is nothing to load", path=path)
    if len(names) > MAX_COLUMNS:
        raise SourceError(
            f"{path} has {len(names):,} columns; a Postgres table has at most {MAX_COLUMNS:,}",
            path=path,
        )
    valid = valid_names(list(names))
    renamed = [pair for pair in zip(names, valid, strict=True) if pair[0] != pair[1]]
    if not renamed:
        return valid, ()
    pairs = ", ".join(f"{old!r} is {new!r}" for old, new in renamed[:MOST_NAMED])
    return valid, (f"columns were renamed: {pairs}" + (" ..." if renamed[MOST_NAMED:] else ""),)
