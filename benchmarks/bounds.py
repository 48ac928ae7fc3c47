"""Memory of loads that could need gigabytes, and the speed of many small files.

    python benchmarks/bounds.py [--files 100000] [--case NAME ...] [--sizes 1.0]

Each case is loaded in a process of its own, with the default limits. What is measured: the most
memory that the process has, above what it had before the upload; whether the job was completed, and
then whether the table has the sum that the file was made with, or which error stopped it. Of many
files, also files a second. A case fails that takes more than 200 MiB, or whose table is wrong.
``--sizes``: a factor for what the dangerous files unpack to.
"""

from __future__ import annotations

import argparse
import gzip
import io
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import common

import taskwidgets as tw

MOST = 200  # MiB
MIB = 1 << 20


def long_line(path: Path, size: int, begin: bytes, end: bytes) -> None:
    """One row of so many bytes, behind a short one."""
    packed = path.suffix == ".gz"
    with gzip.open(path, "wb", 1) if packed else path.open("wb") as file:
        file.write(begin)
        for _ in range(size // MIB):
            file.write(b"x" * MIB)
        file.write(end)


def workbook(path: Path, parts: dict[str, tuple[str, str, int, str]]) -> None:
    """A small workbook in which some parts are (beginning, item, number of items, end)."""
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.active.append(["text"])
    made = io.BytesIO()
    book.save(made)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            with new.open(name, "w", force_zip64=True) as file:
                if name not in parts:
                    file.write(old.read(name))
                    continue
                begin, item, count, end = parts[name]
                file.write(begin.encode())
                block = max(1, min(count, MIB // max(1, len(item))))
                for _ in range(count // block):
                    file.write(item.encode() * block)
                file.write(end.encode())


SPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
SHEET = "xl/worksheets/sheet1.xml"
BEGIN = f"<worksheet {SPACE}><sheetData>"
END = "</sheetData></worksheet>"
HEADER = '<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c></row>'
ONE = "<row><c><v>1</v></c></row>"


def excel(items: dict[str, tuple[str, str, int, str]]) -> Callable[[Path], None]:
    """What makes such a workbook."""
    return lambda path: workbook(path, items)


def parquet(columns: Callable[[], dict[str, object]], **options: object) -> Callable[[Path], None]:
    """What makes such a Parquet file."""

    def make(path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(columns()), path, **{"compression": "zstd", **options})

    return make


def cases(sizes: float) -> dict[str, tuple[str, Callable[[Path], None], float | None]]:
    """By name: the file's name, what makes it, and the sum of its column "a", None for an error."""
    import numpy as np

    gib = int(sizes * (1 << 30))
    rows = int(sizes * 10_000_000)
    return {
        "csv, one line": ("x.csv", lambda p: long_line(p, gib, b"a,b\n1,", b"\n"), None),
        "csv, open quote": ("x.csv", lambda p: long_line(p, gib, b'a,b\n1,"', b"\n"), None),
        "csv.gz, one line": ("x.csv.gz", lambda p: long_line(p, gib, b"a,b\n1,", b"\n"), None),
        "csv.gz, open quote": (
            "x.csv.gz", lambda p: long_line(p, gib, b'a,b\n1,"', b"\n"), None),
        "csv.gz, many lines": (
            "x.csv.gz", lambda p: lines(p, rows), float(rows)),
        "jsonl, one line": (
            "x.jsonl", lambda p: long_line(p, gib, b'{"a":1}\n{"a":"', b'"}\n'), None),
        "jsonl.gz, one line": (
            "x.jsonl.gz", lambda p: long_line(p, gib, b'{"a":1}\n{"a":"', b'"}\n'), None),
        "jsonl, many values": (
            "x.jsonl", lambda p: p.write_text('{"a":[' + "[]," * 5_000_000 + "[]]}\n") and None,
            None),
        "jsonl, long lines": (
            "x.jsonl",
            lambda p: p.write_text((f'{{"a":1,"b":"{"x" * MIB}"}}\n') * int(200 * sizes)) and None,
            float(int(200 * sizes))),
        "xlsx, one row": (
            "x.xlsx", excel({SHEET: (BEGIN + HEADER + "<row>", "<c/>", gib // 16, "</row>" + END)}),
            None),
        "xlsx, one text": (
            "x.xlsx", excel({SHEET: (
                BEGIN + HEADER + '<row><c t="inlineStr"><is><t>', "x", gib // 4,
                "</t></is></c></row>" + END)}), None),
        "xlsx, empty rows": (
            "x.xlsx", excel({SHEET: (BEGIN + HEADER + ONE, "<row/>", gib // 64, END)}), 1.0),
        "xlsx, many rows": (
            "x.xlsx", excel({SHEET: (BEGIN + HEADER, ONE, rows // 20, END)}), None),
        "xlsx, many texts": (
            "x.xlsx", excel({
                "xl/sharedStrings.xml": (
                    f"<sst {SPACE}>", "<si><t>a text of this length</t></si>",
                    rows // 10, "</sst>"),
                SHEET: (BEGIN + HEADER + ONE, "", 0, END)}), 1.0),
        "xlsx, styles": (
            "x.xlsx", excel({"xl/styles.xml": (
                f"<styleSheet {SPACE}><cellXfs>", '<xf numFmtId="1"/>', gib // 64,
                "</cellXfs></styleSheet>")}), None),
        "parquet, repeated text": (
            "x.parquet", parquet(lambda: {
                "a": np.ones(int(2200 * sizes)), "b": ["x" * 1_000_000] * int(2200 * sizes)}),
            float(int(2200 * sizes))),
        "parquet, one page": (
            "x.parquet", parquet(
                lambda: {"a": [1], "b": ["x" * (gib - 100)]}, use_dictionary=False), None),
        "parquet, large page": (
            "x.parquet", parquet(
                lambda: {"a": [1] * 1000, "b": ["x" * (gib // 2000)] * 1000},
                use_dictionary=False, data_page_size=1 << 30), None),
        "parquet, one list": (
            "x.parquet", parquet(lambda: {"a": [1], "b": [np.zeros(gib // 40)]}), None),
        "parquet, equal numbers": (
            "x.parquet", parquet(lambda: {"a": np.ones(rows // 4)}), float(rows // 4)),
        "parquet, wide": (
            "x.parquet", parquet(
                lambda: {"a": np.ones(200_000), **{
                    f"c{n}": np.random.default_rng(n).random(200_000) for n in range(60)}}),
            200_000.0),
    }  # fmt: skip


def lines(path: Path, rows: int) -> None:
    """So many rows of the number one."""
    with gzip.open(path, "wb", 1) as file:
        file.write(b"a,b\n")
        for _ in range(rows // 10_000):
            file.write(b"1,a text of some length\n" * 10_000)


def many(folder: Path, files: int) -> float:
    """So many files of five rows; the sum of their column "a"."""
    for number in range(files):
        (folder / f"part-{number}.csv").write_text(
            "a,b\n" + "".join(f"{number},{row}\n" for row in range(5))
        )
    return 5.0 * sum(range(files))


def peak() -> float:
    """MiB that this process has had at most."""
    # Not ru_maxrss: a new process begins with that of the one that has started it.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def turn(url: str, source: str) -> None:
    """Load the source in this process, and print what it took."""
    import pandas  # noqa: F401 - a notebook has it

    workspace = tw.connect(url)
    before, began, busy = peak(), time.perf_counter(), time.process_time()
    error = ""
    try:
        job = tw.upload(source, "bounds", if_exists="replace", again=True)
        job.wait()
    except tw.TaskwidgetsError as found:
        error = str(found).replace("\n", " ")
        workspace.get_job(job.id).terminate() if hasattr(workspace, "get_job") else job.terminate()
    seconds = time.perf_counter() - began
    busy = time.process_time() - busy
    print(f"{peak() - before:.0f}\t{seconds:.2f}\t{busy:.2f}\t{error}")


def measured(url: str, source: Path | str) -> tuple[float, float, float, str]:
    """MiB, seconds, CPU seconds and the error of a load in a new process."""
    command = [sys.executable, __file__, "--turn", url, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return float("inf"), 1e-9, 0.0, done.stderr[-2000:] or f"exit {done.returncode}"
    memory, seconds, busy, error = done.stdout.rstrip("\n").splitlines()[-1].split("\t")
    return float(memory), float(seconds), float(busy), error


def main() -> int:
    """Run the cases; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--sizes", type=float, default=1.0)
    parser.add_argument("--case", nargs="*")
    parser.add_argument("--turn", nargs=2)
    options = parser.parse_args()
    if options.turn:
        turn(*options.turn)
        return 0
    known = cases(options.sizes)
    chosen = options.case or [*known, "many files"]
    failed = []
    with common.server() as workspace, tempfile.TemporaryDirectory() as place:
        url = workspace.engine.url.render_as_string(hide_password=False)
        for name in chosen:
            folder = Path(tempfile.mkdtemp(dir=place))
            if name == "many files":
                source, expected = folder / "part-*.csv", many(folder, options.files)
            else:
                file, make, expected = known[name]
                source = folder / file
                make(source)
            size = sum(path.stat().st_size for path in folder.iterdir())
            memory, seconds, busy, error = measured(url, source)
            problem = "" if memory <= MOST else f"takes more than {MOST} MiB"
            if not error:
                with workspace.engine.connect() as connection:
                    found = connection.exec_driver_sql(
                        "SELECT sum(a::numeric) FROM bounds"
                    ).scalar()
                if expected is not None and float(found) != expected:
                    problem = f"the sum is {found}, not {expected}"
            elif expected is not None:
                problem = "it should be loaded"
            speed = (
                f", {options.files / seconds:,.0f} files a second" if name == "many files" else ""
            )
            print(
                f"{name}: {size / MIB:,.1f} MiB of files, {memory:,.0f} MiB of memory, "
                f"{seconds:.1f} s ({busy:.1f} s of CPU){speed}{'; ' + error[:240] if error else ''}"
                f"{'  FAILED: ' + problem if problem else ''}",
                flush=True,
            )
            failed += [name] * bool(problem)
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
