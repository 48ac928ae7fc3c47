"""What the caller gave instead of letting it be found out, checked."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence

from taskwidgets.errors import OptionError
from taskwidgets.tabular.identifiers import NAMES

__all__ = ["OVERRIDES", "checked_overrides"]

OVERRIDES = (
    "booleans", "date_formats", "decimal", "delimiter", "encoding", "escapechar", "footer_rows",
    "header", "line_terminator", "names", "null_values", "quotechar", "skip_initial_space",
    "skip_rows", "thousands",
)  # fmt: skip
"""What a caller may give instead of letting it be found out."""


def checked_overrides(overrides: Mapping[str, object]) -> dict[str, object]:
    """What was given, None left out; OptionError for what makes no sense."""
    unknown = sorted(set(overrides) - set(OVERRIDES))
    if unknown:
        raise OptionError(
            f"there is no option {', '.join(unknown)}; there are {', '.join(OVERRIDES)}"
        )
    given = {name: value for name, value in overrides.items() if value is not None}
    for name in ("delimiter", "quotechar", "escapechar", "decimal", "thousands", "line_terminator"):
        value = given.get(name, "")
        if not isinstance(value, str):
            raise OptionError(f"{name} must be a string, not {value!r}")
    for name in ("quotechar", "escapechar", "decimal", "thousands"):
        if len(str(given.get(name, ""))) > 1:
            raise OptionError(f"{name} must be one character, not {given[name]!r}")
    if given.get("decimal") == "":
        raise OptionError("decimal must be one character, not ''")
    if any(sign in str(given.get("delimiter", "")) for sign in "\r\n\0"):
        raise OptionError("delimiter must not hold a line ending or NUL")
    if given.get("delimiter") and given.get("delimiter") == given.get("quotechar"):
        raise OptionError(
            f"delimiter and quotechar are both {given['delimiter']!r}; they must differ"
        )
    if given.get("line_terminator", "\n") not in ("\n", "\r\n", "\r", ""):
        raise OptionError(f"line_terminator={given['line_terminator']!r} ends no lines")
    for name in ("header", "skip_rows", "footer_rows"):
        value = given.get(name, 0)
        if not isinstance(value, int) or value < 0:
            raise OptionError(f"{name} must be a number of rows from 0 on, not {value!r}")
    if not isinstance(given.get("skip_initial_space", False), bool):
        raise OptionError("skip_initial_space must be True or False")
    nulls = given.get("null_values")
    if nulls is not None:
        listed = [nulls] if isinstance(nulls, str) else nulls
        if not isinstance(listed, Sequence) or not all(isinstance(one, str) for one in listed):
            raise OptionError(f"null_values must be a text or a list of texts, not {nulls!r}")
        given["null_values"] = tuple(listed)
    if given.get("names", NAMES[0]) not in NAMES:
        known = " or ".join(f'"{name}"' for name in NAMES)
        raise OptionError(f"names must be {known}, or left out, not {given['names']!r}")
    if "encoding" in given:
        try:
            codecs.lookup(given["encoding"])  # type: ignore[arg-type]
            "".encode(given["encoding"])  # type: ignore[arg-type]
        except (LookupError, TypeError, ValueError):
            raise OptionError(
                f"encoding={given['encoding']!r} is not a text encoding that Python knows"
            ) from None
    return given
