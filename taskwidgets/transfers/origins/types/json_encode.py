"""Nested values of Python and numpy as JSON, each scalar as Postgres' own ``to_jsonb`` writes it.

Numbers keep each digit, as jsonb holds any numeric; bytes, dates and their like are the texts that
Postgres reads. JSON has no NaN and no infinity: they are texts, too.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from taskwidgets.transfers.origins.pandas_values import is_absent
from taskwidgets.transfers.origins.types.scalars import exact_integer, exact_text

__all__ = ["JsonEncoder", "json_object", "json_string"]

json_string = json.JSONEncoder(ensure_ascii=False).encode


class JsonEncoder:
    """Writes values as JSON, and knows whether one of them was an infinity."""

    def __init__(self) -> None:
        self.has_nonfinite = False

    def encode(self, value: Any) -> str:
        """A value as JSON; what is missing, NaN included, is null, as in a column of a frame."""
        kind = type(value)
        if kind is str:
            return json_string(value)
        if kind is int:
            return exact_integer(value)
        if kind is list:
            return f"[{', '.join(map(self.encode, value))}]"
        if kind is dict:
            return json_object((_key(key), self.encode(one)) for key, one in value.items())
        if value is None or is_absent(value):
            return "null"
        if isinstance(value, bool | np.bool_):
            return "true" if value else "false"
        if isinstance(value, np.timedelta64):  # numpy counts it among the integers
            return "null" if np.isnat(value) else json_string(exact_text(value))
        if isinstance(value, int | np.integer):
            return exact_integer(value)
        if isinstance(value, float | np.floating | Decimal):
            return self._number(value)
        if isinstance(value, dict):
            return json_object((_key(key), self.encode(one)) for key, one in value.items())
        if isinstance(value, list | tuple | set | frozenset):
            return f"[{', '.join(map(self.encode, value))}]"
        if isinstance(value, np.ndarray):
            # Not by tolist(), which makes integers of datetime64[ns].
            return self.encode(list(value) if value.ndim else value[()])
        return self._text(value)

    def _number(self, value: Any) -> str:
        if isinstance(value, Decimal):
            if value.is_nan():
                return "null"
            text = str(value)
        else:
            if math.isnan(value):
                return "null"
            text = exact_text(value)
        if "inf" not in text.lower():
            return text
        self.has_nonfinite = True
        return '"-Infinity"' if text.startswith("-") else '"Infinity"'

    def _text(self, value: Any) -> str:
        if isinstance(value, str):
            return json_string(str(value))
        if isinstance(value, bytes | bytearray | memoryview):
            return json_string("\\x" + bytes(value).hex())
        if isinstance(value, datetime.date | datetime.time):
            return json_string(value.isoformat())
        if isinstance(value, np.datetime64):
            return "null" if np.isnat(value) else json_string(exact_text(value))
        if isinstance(value, np.void):
            return self.encode(value.item())
        return json_string(exact_text(value))


def json_object(pairs: Iterable[tuple[str, str]]) -> str:
    """An object of (key, value as JSON). Raises ValueError where two keys are equal."""
    found = list(pairs)
    keys = [key for key, _ in found]
    if len(set(keys)) < len(keys):
        double = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has two fields named {double!r}, of which jsonb keeps one only")
    return "{" + ", ".join([f"{json_string(key)}: {value}" for key, value in found]) + "}"


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    if isinstance(key, str):
        return str(key)
    if key is None or isinstance(key, bool | np.bool_):
        return {None: "null", True: "true", False: "false"}[None if key is None else bool(key)]
    return exact_text(key)
