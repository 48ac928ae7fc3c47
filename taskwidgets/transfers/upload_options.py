"""What the caller of an upload asked for: checked, and what tells one job from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from taskwidgets.errors import OptionError
from taskwidgets.tabular.detection.overrides import checked_overrides
from taskwidgets.tabular.limits import Limits
from taskwidgets.transfers.names import TableName

__all__ = ["KIND", "UploadOptions"]

KIND = "upload"
LONGEST_SOURCE = 1 << 16  # characters; a longer one is stored as its hash


@dataclass(frozen=True)
class UploadOptions:
    """What the caller asked for, as far as it makes the job the one that it is."""

    source: str  # absolute path
    table: str  # as given
    if_exists: str = "fail"
    on_error: str = "stop"
    types: Mapping[str, str] | Literal["text"] | None = None
    delimiter: str | None = None
    quotechar: str | None = None
    encoding: str | None = None
    header: bool | int | None = None
    null_values: str | Sequence[str] | None = None
    reading: Mapping[str, object] | None = None  # what else was given of how the file is written
    max_rejects: float | None = None
    source_column: str | None = None  # a column that says where each row comes from
    sheet: str | int | None = None
    names: str | None = None  # the rule by which columns are renamed
    cast: str = "exact"
    max_unpacked: int | None = None  # bytes; see Limits
    max_row: int | None = None
    source_hash: str | None = None  # of the whole URL, where ``source`` is its display form

    def __post_init__(self) -> None:
        if self.if_exists not in ("fail", "replace", "append"):
            raise OptionError(
                f'if_exists must be "fail", "replace" or "append", not {self.if_exists!r}'
            )
        if self.on_error not in ("stop", "reject"):
            raise OptionError(f'on_error must be "stop" or "reject", not {self.on_error!r}')
        if self.cast not in ("exact", "assignment"):
            raise OptionError(f'cast must be "exact" or "assignment", not {self.cast!r}')
        _check_max_rejects(self.max_rejects, self.on_error)
        _check_source_column(self.source_column)
        try:
            json.dumps(
                checked_overrides({**(self.reading or {}), "names": self.names})
            )  # the job's key is made of it
        except (TypeError, ValueError) as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(f"how the file is written must be plain values: {error}") from None

    @property
    def overrides(self) -> dict[str, object]:
        """What was given of how the file is written, by the names that detection knows."""
        given = {
            "delimiter": self.delimiter,
            "quotechar": self.quotechar,
            "encoding": self.encoding,
            "header": self.header,
            "null_values": self.null_values,
            "names": self.names,
            **(self.reading or {}),
        }
        return {name: value for name, value in given.items() if value is not None}

    @property
    def limits(self) -> Limits:
        """What rows, and unpacked files, may have at most."""
        return Limits(self.max_unpacked, self.max_row)

    @property
    def stored_source(self) -> str:
        """The source as the store has it: the hash of a long list of paths, which the plan has."""
        if len(self.source) <= LONGEST_SOURCE:
            return self.source
        return f"sha256 {hashlib.sha256(self.source.encode()).hexdigest()}"

    def key(self, target: TableName) -> str:
        """What says that two calls mean the same job: source, target and options."""
        meant = {**asdict(self), "table": [target.schema, target.table], "kind": KIND}
        meant["source"] = self.stored_source
        for name in ("names", "source_column", "sheet", "max_unpacked", "max_row", "source_hash"):
            if meant[name] is None:  # as it was before there were these options
                del meant[name]
        if self.cast == "exact":
            del meant["cast"]
        return hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The options that were given, for the store."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {**given, "source": self.stored_source}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> UploadOptions:
        """The reverse of ``to_json``."""
        known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        return cls(**known)


def _check_max_rejects(number: float | None, on_error: str) -> None:
    if number is None:
        return
    if on_error != "reject":
        raise OptionError('max_rejects goes with on_error="reject"')
    if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
        raise OptionError(
            f"max_rejects must be a number of rows, or a fraction between 0 and 1, not {number!r}"
        )
    if isinstance(number, float) and not number < 1:
        raise OptionError(
            f"max_rejects={number!r} is no fraction of all rows; write a whole number of rows"
        )


def _check_source_column(name: str | None) -> None:
    if name is not None and (not isinstance(name, str) or not name.strip() or len(name) > 63):
        raise OptionError(f"source_column must be True or the name of the column, not {name!r}")
