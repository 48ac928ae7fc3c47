"""What a call gives as its source, told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from taskwidgets.errors import OptionError
from taskwidgets.transfers.origins.files import given_files, is_pattern
from taskwidgets.transfers.origins.origin import Given
from taskwidgets.transfers.origins.pandas_values import is_frame
from taskwidgets.transfers.origins.remote import given_url, is_url
from taskwidgets.transfers.origins.tabular_files import check_sheet, given_table, table_kind

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Source", "as_given"]

Source: TypeAlias = "str | Path | Sequence[str | Path] | pd.DataFrame"


def as_given(
    source: Source,
    *,
    sheet: str | int | None = None,
    storage_options: Mapping[str, object] | None = None,
) -> Given:
    """What the source is. Raises SourceError, OptionError for what can be none."""
    if storage_options is not None and not is_url(source):
        raise OptionError("storage_options goes with a URL")
    if is_frame(source):
        check_sheet(sheet, None, "a DataFrame")
        from taskwidgets.transfers.origins.frame import given_frame  # with all of pandas

        return given_frame(source)
    if isinstance(source, str) and is_url(source):
        return given_url(source, storage_options)
    if isinstance(source, str | Path):
        if is_pattern(source):
            return given_files(source)
        path = Path(source).expanduser().absolute()
        kind = table_kind(path)
        if kind is not None:
            return given_table(path, kind, sheet)
        check_sheet(sheet, None, str(path))
        return Given(str(path))
    if isinstance(source, Sequence) and all(isinstance(one, str | Path) for one in source):
        if any(map(is_url, source)):
            raise OptionError("source: of URLs, one at a time is loaded; a list has paths")
        return given_files(source)
    raise OptionError(
        "source must be a path, a list of paths, a URL or a pandas DataFrame, "
        f"not {type(source).__name__}"
    )
