"""What can be kept as JSON in Postgres, and what stands in the way where something cannot."""

from __future__ import annotations

import json
import math
from typing import Any

from taskwidgets.errors import OptionError

__all__ = ["json_text"]


def json_text(value: Any, name: str) -> str:
    """The value as JSON, or an OptionError that names the part of it that is none.

    Stricter than the module json, which writes NaN, turns a dictionary's numbers into strings, and
    lets pass what a jsonb column refuses (a NUL, half a surrogate pair).
    """
    try:
        _check(value, name)
        return json.dumps(value, allow_nan=False)
    except (RecursionError, ValueError, TypeError) as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"{name} cannot be kept as JSON: {error}") from None


def _check(value: Any, name: str) -> None:
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise OptionError(f"{name} is {value}, which JSON does not have; None stands for it")
    elif isinstance(value, str):
        _check_text(value, name)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _check(part, f"{name}[{index}]")
    elif isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise OptionError(
                    f"{name} has the key {key!r} of type {type(key).__name__}; "
                    "JSON has strings as keys only"
                )
            _check_text(key, f"a key of {name}")
            _check(part, f"{name}[{key!r}]")
    else:
        raise OptionError(
            f"{name} is of type {type(value).__name__}, which cannot be kept as JSON; "
            "numbers, strings, lists, dictionaries, True, False and None can"
        )


def _check_text(text: str, name: str) -> None:
    if "\0" in text:
        raise OptionError(f"{name} has a NUL character in it, which Postgres cannot keep")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise OptionError(f"{name} has half a surrogate pair in it, which is no text") from None
