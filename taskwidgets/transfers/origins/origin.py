"""What an upload loads, as far as a plan can say it, and what only the call has of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["FILES", "FRAME", "Given", "Origin"]

FRAME = "frame"
FILES = "files"


@dataclass(frozen=True)
class Origin:
    """A source that has to be made ready before it can be loaded.

    ``kind`` is one of the constants above; ``name`` is what people see, without any secret;
    ``spool`` is the folder for what is made of it, "" where nothing is. ``columns`` are those
    that are known at once. ``facts`` are the kind's own, plain values; ``name`` among them is
    what the source column says.
    """

    kind: str
    name: str
    spool: str = ""
    columns: tuple[str, ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the plan."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Origin:
        """The reverse of ``to_json``."""
        columns = stored.get("columns")
        return cls(
            kind=stored["kind"],
            name=stored["name"],
            spool=stored.get("spool", ""),
            columns=None if columns is None else tuple(columns),
            facts=stored.get("facts", {}),
        )


@dataclass(frozen=True)
class Given:
    """What a call gave as its source.

    ``identity`` is what the job's key is made of; where it is a display form only, as of a URL,
    ``secret_identity`` is too: a text that may hold secrets, of which a hash is stored. ``origin``
    is None for one local file of delimited text. ``short`` stands in the job's name. ``material``
    is what cannot be written down, such as a data frame, or must not be, such as a password.
    """

    identity: str
    origin: Origin | None = None
    short: str = ""
    material: Any = None
    secret_identity: str | None = None
