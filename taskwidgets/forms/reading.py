"""What an upload must be told so that it reads a file as the form has shown it.

A load that stops at its first fault takes a plain file at its word, as RFC 4180 has it, where a
preview finds out everything. What is seen is what is to be loaded: where the two differ, the form
says so in its call.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.previews import Preview
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.transfers.reading import PLAIN, find_reading

__all__ = ["needed"]

DEFAULT = Description()
# What COPY cannot be told: given, it has an upload look at the file as a preview does.
FURTHER = (
    "escapechar", "skip_initial_space", "skip_rows", "footer_rows", "decimal", "thousands",
    "date_formats", "booleans",
)  # fmt: skip


def needed(
    path: Path, given: Mapping[str, Any], shown: Preview, *, keeps_rejects: bool
) -> dict[str, object]:
    """The options, by name, that are to be added to those that were given."""
    if keeps_rejects:  # then an upload finds out everything itself
        return {}
    found = shown.description
    try:
        reading = find_reading(path, given, keeps_rejects=False, needs_types=False)
    except (OptionError, SourceError):
        if set(given) - PLAIN:
            raise
        # COPY cannot be told this, but a reader that looks at each record can.
        return {"decimal": found.decimal}
    if reading.description is not None or set(given) - PLAIN:
        return {}
    plain = _differences(reading.dialect, found)
    further = {
        name: getattr(found, name)
        for name in FURTHER
        if getattr(found, name) != getattr(DEFAULT, name)
    }
    if found.line_terminator not in ("\n", "\r\n"):
        further["line_terminator"] = found.line_terminator
    difference = {**plain, **further}
    if difference and not further and not _is_plain(plain):
        difference["decimal"] = found.decimal
    return {name: value for name, value in difference.items() if name not in given}


def _differences(dialect: Dialect, found: Description) -> dict[str, object]:
    """What COPY would be told otherwise than was found."""
    difference: dict[str, object] = {}
    if found.delimiter and len(found.columns) > 1 and found.delimiter != dialect.delimiter:
        difference["delimiter"] = found.delimiter
    if found.quotechar != dialect.quotechar:
        difference["quotechar"] = found.quotechar
    codec = codecs.lookup(found.encoding).name
    if codec != "ascii" and codec.removesuffix("-sig") != codecs.lookup(
        dialect.codec
    ).name.removesuffix("-sig"):
        difference["encoding"] = found.encoding
    if found.header_rows != int(dialect.header):
        rows = found.header_rows
        difference["header"] = rows if rows > 1 else bool(rows)
    if found.null_values != (dialect.null_value,):
        nulls = list(found.null_values)
        difference["null_values"] = nulls[0] if len(nulls) == 1 else nulls
    return difference


def _is_plain(options: Mapping[str, object]) -> bool:
    return (
        len(str(options.get("delimiter", ","))) == 1
        and bool(options.get("quotechar", True))
        and isinstance(options.get("header", True), bool)
        and not isinstance(options.get("null_values"), list)
    )
