"""The first rows of a source that is no delimited text, and its types; nothing is spooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from taskwidgets.tabular.limits import Limits
from taskwidgets.tabular.source import check_readable
from taskwidgets.transfers.origins.excel import excel_head
from taskwidgets.transfers.origins.extras import check_extra
from taskwidgets.transfers.origins.json_lines import json_head
from taskwidgets.transfers.origins.pandas_values import is_frame
from taskwidgets.transfers.origins.parquet import parquet_head
from taskwidgets.transfers.origins.tabular_files import (
    EXCEL,
    PACKAGES,
    PARQUET,
    WORDS,
    check_sheet,
    table_kind,
)
from taskwidgets.transfers.origins.texts import NULL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Head", "source_head"]


@dataclass(frozen=True)
class Head:
    """What a source is in words, its types by column, and its first rows.

    ``total`` is None where not all of it was read.
    """

    name: str
    what: str
    types: dict[str, str]
    rows: Sequence[tuple[str | None, ...]]
    total: int | None


def source_head(
    source: Path | pd.DataFrame,
    rows: int,
    sheet: str | int | None,
    *,
    header: bool,
    full: bool,
    limits: Limits,
) -> Head | None:
    """The head of such a source; None for a file of delimited text."""
    if is_frame(source):
        from taskwidgets.transfers.origins.frame import frame_columns  # with all of pandas

        check_sheet(sheet, None, "a DataFrame")
        columns = list(frame_columns(source))
        first = source.head(rows)
        texts = [column.texts(first.iloc[:, place], 0) for place, column in enumerate(columns)]
        types = {column.name: column.type for column in columns}
        found = [list(row) for row in zip(*texts, strict=True)]
        return _head("DataFrame", "a pandas DataFrame", types, found, len(source))
    kind = table_kind(source)
    check_sheet(sheet, kind, str(source))
    if kind is None:
        return None
    path = check_readable(source)
    what = WORDS[kind].removeprefix("is ")
    if kind in PACKAGES:
        check_extra(PACKAGES[kind], f"{path} {WORDS[kind]}")
    if kind == PARQUET:
        types, found, total = parquet_head(path, rows, limits)
        return _head(path.name, what, types, found, total)
    if kind == EXCEL:
        types, found, counted = excel_head(
            path, sheet, rows, header=header, full=full, limits=limits
        )
    else:
        types, found, counted = json_head(path, rows, full=full, limits=limits)
    return _head(path.name, what, types, found, counted)


def _head(
    name: str, what: str, types: dict[str, str], rows: Sequence[Sequence[str]], total: int | None
) -> Head:
    return Head(name, what, types, [tuple(map(_plain, row)) for row in rows], total)


def _plain(text: str) -> str | None:
    """A field as COPY takes it, without its quotes."""
    if text == NULL:
        return None
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
