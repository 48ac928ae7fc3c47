"""What a call gives as its source, told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from taskwidgets.errors import OptionError
from taskwidgets.transfers.origins.files import given_files, is_pattern
from taskwidgets.transfers.origins.frame import given_frame
from taskwidgets.transfers.origins.origin import Given

__all__ = ["Source", "as_given"]

Source = str | Path | Sequence[str | Path] | pd.DataFrame


def as_given(
    source: Source,
    *,
    sheet: str | int | None = None,
    storage_options: Mapping[str, object] | None = None,
) -> Given:
    """What the source is. Raises SourceError, OptionError for what can be none."""
    if isinstance(source, pd.DataFrame):
        return given_frame(source)
    if isinstance(source, str | Path):
        if is_pattern(source):
            return given_files(source)
        return Given(str(Path(source).expanduser().absolute()))
    if isinstance(source, Sequence) and all(isinstance(one, str | Path) for one in source):
        return given_files(source)
    raise OptionError(
        "source must be a path, a list of paths, a URL or a pandas DataFrame, "
        f"not {type(source).__name__}"
    )
