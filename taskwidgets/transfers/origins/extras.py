"""Packages that only some sources need: where one is missing, the error names the extra."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from taskwidgets.errors import SourceError

__all__ = ["check_extra", "extra"]

# By package: the extra of taskwidgets that brings it.
EXTRAS = {
    "pyarrow": "parquet",
    "openpyxl": "excel",
    "fsspec": "remote",
    "aiohttp": "remote",
    "s3fs": "s3",
    "gcsfs": "gs",
    "adlfs": "az",
}


def check_extra(package: str, what: str) -> None:
    """SourceError unless the package is there, for ``what``: "x is a Parquet file"."""
    if importlib.util.find_spec(package) is None:
        raise _missing(package, what)


def extra(module: str, what: str) -> Any:
    """The module; SourceError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module.partition(".")[0], what) from error


def _missing(package: str, what: str) -> SourceError:
    return SourceError(
        f"{what}, which needs the package {package}: pip install 'taskwidgets[{EXTRAS[package]}]'"
    )
