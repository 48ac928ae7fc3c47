"""How well the dialect, the header and the records of damaged files are found: ours and others.

Each variant of tests/tabular/pollution.py is read by each reader with no arguments, and compared
with its truth: the header's names, and the records other than the damaged one (which a reader may
take as it likes, or leave out). A variant counts where all of it is right.

    python benchmarks/detection.py [--every N]

prints one line per family of pollutions, and the totals.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tabular"))

from pollution import Variant, variants

Read = tuple[list[str] | None, list[list[str]]]
Reader = Callable[[Path], Read]


def ours(path: Path) -> Read:
    """taskwidgets.tabular.detect, and the rows that it found."""
    from taskwidgets.tabular.detect import detect

    found = detect(path, {"null_values": "", "decimal": ".", "thousands": "", "date_formats": {}})
    names = list(found.description.columns)
    rows = [["" if cell is None else cell for cell in row] for row in found.sample]
    return names if found.description.header_rows or not names else None, rows


def duckdb(path: Path) -> Read:
    """DuckDB's read_csv with nothing given but text for a type: its sniffer and its reader.

    Of its lenient options, ignore_errors alone gives the best result on this corpus: measured
    with and without null_padding and strict_mode=false, which each make it worse.
    """
    import duckdb as engine

    relation = engine.sql(f"SELECT * FROM read_csv('{path}', all_varchar=true, ignore_errors=true)")
    rows = [["" if cell is None else str(cell) for cell in row] for row in relation.fetchall()]
    names = list(relation.columns)
    return None if names[0] == "column0" else names, rows


def pandas(path: Path) -> Read:
    """pandas.read_csv with sep=None, which is csv.Sniffer and Python's reader."""
    import pandas as library

    frame = library.read_csv(
        path, sep=None, engine="python", dtype=str, keep_default_na=False, on_bad_lines="skip"
    )
    return [str(name) for name in frame.columns], frame.fillna("").astype(str).to_numpy().tolist()


def sniffer(path: Path) -> Read:
    """csv.Sniffer on the first 8 KiB, and csv.reader."""
    text = path.read_bytes().decode("utf-8-sig")
    dialect = csv.Sniffer().sniff(text[:8192])
    rows = list(csv.reader(io.StringIO(text, newline=""), dialect))
    return _with_header(rows, csv.Sniffer().has_header(text[:8192]))


def clevercsv(path: Path) -> Read:
    """CleverCSV's detector and reader, and its test for a header."""
    import clevercsv as library

    text = path.read_bytes().decode(library.encoding.get_encoding(str(path)))
    dialect = library.Detector().detect(text)
    rows = list(library.reader(io.StringIO(text, newline=""), dialect))
    try:
        header = library.Detector().has_header(text)
    except Exception:  # noqa: BLE001 - then it cannot tell
        header = True
    return _with_header(rows, header)


def _with_header(rows: list[list[str]], header: bool) -> Read:
    rows = [row for row in rows if row]
    return (rows[0], rows[1:]) if header and rows else (None, rows)


READERS: dict[str, Reader] = {
    "ours": ours,
    "DuckDB": duckdb,
    "pandas": pandas,
    "Sniffer": sniffer,
    "CleverCSV": clevercsv,
}


def right(variant: Variant, read: Read) -> bool:
    """Whether header and records are the truth, but for the damaged record."""
    names, rows = read
    wanted = variant.names
    if (list(wanted) if wanted is not None else None) != names and not (
        wanted is not None and not wanted and not rows
    ):
        return False
    truth = Counter(map(_comparable, variant.records))
    found = Counter(map(_comparable, rows))
    missing, extra = truth - found, found - truth
    if variant.damaged is None:
        return not missing and not extra
    hurt = _comparable(variant.records[variant.damaged])
    missing.pop(hurt, None)
    # a damaged record may come out in pieces: a stray line break or delimiter
    return not missing and extra.total() <= 2


def _comparable(row: Sequence[str]) -> tuple[str, ...]:
    cells = [cell.replace("\r\n", "\n").replace("\r", "\n") for cell in row]
    while cells and not cells[-1]:
        cells.pop()
    return tuple(cells)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only every Nth variant of a row")
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--wrong", action="store_true", help="name what ours gets wrong")
    options = parser.parse_args()
    readers = options.readers.split(",")
    warnings.simplefilter("ignore")
    hits: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        for number, variant in enumerate(variants()):
            per_row = variant.family.startswith(("row", "cell"))
            if per_row and number % options.every:
                continue
            path.write_bytes(variant.data)
            totals[variant.family] += 1
            for reader in readers:
                start = time.perf_counter()
                try:
                    good = right(variant, READERS[reader](path))
                except Exception as error:  # noqa: BLE001 - any failure is a wrong answer
                    good = False
                    if reader == "ours":
                        print("ours raises", variant.name, repr(error))
                seconds[reader] += time.perf_counter() - start
                hits[variant.family][reader] += good
                if options.wrong and reader == "ours" and not good:
                    print("wrong:", variant.name)
    print(f"{'family':24}{'files':>7}" + "".join(f"{reader:>11}" for reader in readers))
    for family, total in totals.items():
        print(f"{family:24}{total:7}" + "".join(f"{hits[family][one]:11}" for one in readers))
    print(
        f"{'all':24}{totals.total():7}"
        + "".join(f"{sum(hits[family][one] for family in totals):11}" for one in readers)
    )
    shares = {
        one: sum(hits[family][one] / total for family, total in totals.items()) / len(totals)
        for one in readers
    }
    print(f"{'mean of families':31}" + "".join(f"{shares[one]:11.1%}" for one in readers))
    print(
        f"{'ms a file':31}"
        + "".join(f"{seconds[one] / totals.total() * 1000:11.1f}" for one in readers)
    )


if __name__ == "__main__":
    main()
