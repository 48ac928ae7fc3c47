"""The measured values: one line of a CSV file for each, written at once."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

import common
from sqlalchemy.engine import Engine


@dataclass(frozen=True)
class Value:
    """One value. ``part`` is upload, download, or what is measured of one; ``peer`` who did it."""

    part: str
    data: str
    peer: str
    round: int
    measure: str
    value: float
    unit: str
    bytes: int = 0  # of the file that was moved
    rows: int = 0
    note: str = ""
    date: str = ""
    commit: str = ""
    machine: str = ""
    versions: str = ""


class Results:
    """A CSV file of values, begun anew."""

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._common = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "commit": common.commit(),
            "machine": common.machine(),
            "versions": common.versions(engine),
        }
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(field.name for field in fields(Value))

    def add(self, value: Value) -> None:
        line = {**asdict(value), **self._common, "value": f"{value.value:.6g}"}
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, list(line), lineterminator="\n").writerow(line)


def read(path: Path) -> Iterator[Value]:
    """The values of a file."""
    numbers = {"round": int, "value": float, "bytes": int, "rows": int}
    with path.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            yield Value(**{name: numbers.get(name, str)(text) for name, text in line.items()})
