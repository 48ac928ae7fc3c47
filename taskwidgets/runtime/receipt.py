"""The receipt: what a finished job did, counted twice and reconciled."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Receipt"]


@dataclass(frozen=True)
class Receipt:
    """What a completed transfer did; ``rows_read`` = ``rows_loaded`` + ``rows_rejected``, always.

    ``rows_read`` is counted in the source, ``rows_loaded`` by the database, independently of each
    other; a job whose counts differ fails instead of completing. ``bytes`` is the size of the
    file, ``sha256`` its hash (hexadecimal), ``seconds`` the time of work without pauses.
    ``notes`` says what a reader of the receipt should know besides.

    A user's own job has counted its items itself: both counts are that number, ``bytes`` is 0,
    ``sha256`` and ``target`` are empty, ``source`` is the function, and ``result`` is what it
    returned, where that is JSON.
    """

    rows_read: int
    rows_loaded: int
    rows_rejected: int
    bytes: int
    seconds: float
    sha256: str
    source: str
    target: str
    notes: tuple[str, ...] = field(default=())
    result: Any = None

    def __post_init__(self) -> None:
        if self.rows_read != self.rows_loaded + self.rows_rejected:
            raise ValueError(
                f"{self.rows_read} rows read, but {self.rows_loaded} loaded "
                f"and {self.rows_rejected} rejected"
            )

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the store."""
        return {**asdict(self), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Receipt:
        """The reverse of ``to_json``; unknown entries of a newer release are passed over."""
        known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        return cls(**{**known, "notes": tuple(stored.get("notes", ()))})
