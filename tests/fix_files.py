"""Files to load."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

CsvFile = Callable[..., Path]


@pytest.fixture
def csv_file(tmp_path: Path) -> CsvFile:
    """A factory: ``csv_file("a,b", "1,2", name="x.csv")`` writes these lines; bytes go as is."""

    def make(*rows: str | bytes, name: str = "file.csv", newline: str = "\n") -> Path:
        path = tmp_path / name
        if len(rows) == 1 and isinstance(rows[0], bytes):
            path.write_bytes(rows[0])
        else:
            end = newline.encode()
            path.write_bytes(
                b"".join((row if isinstance(row, bytes) else row.encode()) + end for row in rows)
            )
        return path

    return make


def write_many(path: Path, rows: int, *, start: int = 0, extra: str = "") -> Path:
    """A file of so many different rows, some 60 bytes each, always the same; quoted newlines
    stand in every tenth."""
    maker = random.Random(start)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "amount", "day", "note"])
        for number in range(start, start + rows):
            note = f"{extra}note {maker.randrange(10**12):x} ä"
            if number % 10 == 0:
                note = f'two\nlines, "{number}"'
            day = f"2013-{number % 12 + 1:02}-{number % 28 + 1:02}"
            writer.writerow([number, f"{maker.randrange(10**6) / 4}", day, note])
    return path


@pytest.fixture
def many_rows(tmp_path: Path) -> Callable[..., Path]:
    """A factory of larger files, see ``write_many``."""

    def make(rows: int = 40_000, name: str = "many.csv", **options: object) -> Path:
        return write_many(tmp_path / name, rows, **options)  # type: ignore[arg-type]

    return make


def replace_line(path: Path, number: int, text: str) -> None:
    """Replace one physical line, counted from 1."""
    lines = path.read_bytes().split(b"\n")
    lines[number - 1] = text.encode()
    path.write_bytes(b"\n".join(lines))


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """A file by Python's csv module, with LF."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
