"""Small files that unpack to much: memory stays bounded, measured in processes of their own."""

import gzip
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
LARGE = 256  # MiB, that a file unpacks to
MOST = 190  # MiB; without a limit each of these takes more than LARGE

LOOK = """
import sys, taskwidgets as tw
from pathlib import Path
import pandas, pyarrow.parquet, openpyxl

def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

before = peak()
try:
    tw.preview(sys.argv[1], full=True)
    told = "no error"
except tw.TaskwidgetsError as error:
    told = str(error)
print(peak() - before, told)
"""


def packed_line(path, begin):
    with gzip.open(path, "wb", 1) as file:
        file.write(begin)
        for _ in range(LARGE):
            file.write(b"x" * MIB)


def packed_cells(path):
    book = openpyxl.Workbook()
    book.active.append(["a"])
    book.save(path.with_suffix(".old.xlsx"))
    with zipfile.ZipFile(path.with_suffix(".old.xlsx")) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    sheet = "xl/worksheets/sheet1.xml"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name, data in parts.items():
            if name != sheet:
                new.writestr(name, data)
        begin, _, end = parts[sheet].partition(b"</sheetData>")
        with new.open(sheet, "w") as file:
            file.write(begin + b'<row r="2">')
            for _ in range(LARGE // 4):
                file.write(b'<c t="s"/>' * (MIB // 10))
            file.write(b"</row></sheetData>" + end)


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("x.csv.gz", lambda path: packed_line(path, b"a,b\n1,"), "line 2: .* max_row"),
        ("x.csv.gz", lambda path: packed_line(path, b'a,b\n1,"'), "line 2: .* max_row"),
        ("x.jsonl.gz", lambda path: packed_line(path, b'{"a": 1}\n{"a": "'), "line 2: .* max_row"),
        ("x.xlsx", packed_cells, "row 2: .* max_row"),
        (
            "x.parquet",
            lambda path: pq.write_table(
                pa.table({"a": ["x" * LARGE * MIB]}), path, use_dictionary=False
            ),
            'column "a": a page unpacks to',
        ),
        (
            "x.parquet",
            lambda path: pq.write_table(pa.table({"a": ["x" * 1_000_000] * LARGE}), path),
            "no error",
        ),
        (
            "x.parquet",
            lambda path: pq.write_table(pa.table({"a": [np.zeros(LARGE * MIB // 32)]}), path),
            "values in 1 row are too many",
        ),
    ],
    ids=["line", "open quote", "json line", "cells", "page", "repeated text", "list"],
)
def test_memory_is_bounded(tmp_path, name, make, told):
    """A clear error, or rows, in bounded memory. Slow: 256 MiB are written in each case."""
    path = tmp_path / name
    make(path)
    assert path.stat().st_size < 20 * MIB
    done = subprocess.run(
        [sys.executable, "-c", LOOK, path], capture_output=True, text=True, check=True
    )
    memory, _, words = done.stdout.partition(" ")
    assert int(memory) <= MOST
    assert re.search(told, words)


@pytest.mark.slow
def test_the_benchmark_finds_no_case_that_takes_more():
    """All of its cases, at a fifth of their size, and some thousand files."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/bounds.py", "--sizes", "0.2", "--files", "5000"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
