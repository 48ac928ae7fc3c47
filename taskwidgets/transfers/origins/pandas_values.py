"""Values of pandas, told without loading it: whoever gives one has loaded it already.

To load it takes a quarter of a second, half of what this package takes with all else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from typing_extensions import TypeIs  # of typing since Python 3.13

__all__ = ["is_absent", "is_frame", "is_timedelta", "is_timestamp"]


def _is_one(value: Any, *names: str) -> bool:
    """Whether a value is of one of these types of pandas."""
    pandas = sys.modules.get("pandas")
    # Another thread may be about to load it.
    return pandas is not None and isinstance(
        value, tuple(getattr(pandas, name, ()) for name in names)
    )


def is_frame(value: object) -> TypeIs[pd.DataFrame]:
    """Whether it is a DataFrame."""
    return _is_one(value, "DataFrame")


def is_absent(value: object) -> bool:
    """Whether it is NA or NaT."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and (
        value is getattr(pandas, "NA", pandas) or value is getattr(pandas, "NaT", pandas)
    )


def is_timestamp(value: object) -> bool:
    """Whether it is a Timestamp, which may be finer than Python's and have other years."""
    return _is_one(value, "Timestamp")


def is_timedelta(value: object) -> bool:
    """Whether it is a Timedelta, which may be finer than Python's, and longer."""
    return _is_one(value, "Timedelta")
