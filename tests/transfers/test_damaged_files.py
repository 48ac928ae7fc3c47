"""Files of each format, damaged at any place: one line that names the file, and no traceback."""

from __future__ import annotations

import bz2
import gc
import gzip
import io
import lzma
import random
import sys
import threading
import traceback
import zipfile
from functools import cache

import pandas as pd
import pytest
import zstandard

from taskwidgets import JobFailed
from taskwidgets.errors import SourceError, TaskwidgetsError
from taskwidgets.previews import preview
from taskwidgets.tabular.decoding import LONGEST_REASON, decoded, decoding, in_one_line

ROWS = 300
MEND = "\nMend the file"  # a row that cannot be loaded is told in two lines


@cache
def whole_files() -> dict[str, bytes]:
    """A whole file of each format, by its name."""
    frame = pd.DataFrame(
        {
            "n": range(ROWS),
            "text": [f'value {n} é "q"' for n in range(ROWS)],
            "day": pd.date_range("2024-01-01", periods=ROWS),
        }
    )
    csv = frame.to_csv(index=False).encode()
    lines = frame.to_json(orient="records", lines=True, date_format="iso").encode()
    made = {
        "x.csv.gz": gzip.compress(csv),
        "x.csv.bz2": bz2.compress(csv),
        "x.csv.xz": lzma.compress(csv),
        "x.csv.zst": zstandard.ZstdCompressor(write_checksum=True).compress(csv),
        "x.jsonl": lines,
        "x.jsonl.gz": gzip.compress(lines),
    }
    for name, method in (("x.csv.zip", zipfile.ZIP_DEFLATED), ("lzma.zip", zipfile.ZIP_LZMA)):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", method) as archive:
            archive.writestr("x.csv", csv)
        made[name] = packed.getvalue()
    for name, write in (
        ("x.parquet", lambda file: frame.to_parquet(file, row_group_size=70)),
        ("x.xlsx", lambda file: frame.head(40).to_excel(file, index=False)),
        ("x.orc", frame.to_orc),
        ("x.feather", frame.to_feather),
    ):
        file = io.BytesIO()
        write(file)
        made[name] = file.getvalue()
    return made


NAMES = (
    "x.csv.gz", "x.csv.bz2", "x.csv.xz", "x.csv.zst", "x.csv.zip", "lzma.zip", "x.jsonl",
    "x.jsonl.gz", "x.parquet", "x.xlsx", "x.orc", "x.feather",
)  # fmt: skip


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The data cut off, with flipped bits, or with bytes that are wrong, missing or too many."""
    place, length = chance.randrange(len(data)), chance.randrange(1, 60)
    match chance.randrange(6):
        case 0:
            return data[:place]
        case 1:
            flipped = bytearray(data)
            flipped[place] ^= 1 << chance.randrange(8)
            return bytes(flipped)
        case 2:
            return data[:place] + chance.randbytes(length) + data[place + length :]
        case 3:
            return data[:place] + data[place + length :]
        case 4:  # where formats keep their directory
            place = len(data) - 1 - chance.randrange(min(200, len(data)))
            return data[:place] + chance.randbytes(3) + data[place + 3 :]
        case _:
            return data[:place] + chance.randbytes(length) + data[place:]


@pytest.fixture
def unheard(monkeypatch):
    """What threads and finalizers would print; nothing."""
    heard = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    yield heard
    gc.collect()
    assert heard == []


def check(error: TaskwidgetsError, name: str, *, is_job: bool = False) -> None:
    """It is one line of ours, and nothing of a library is shown with it."""
    message = str(error)
    assert name in message
    assert MEND in message or len(message.splitlines()) == 1, message
    assert all(c.isprintable() or c in "\n\t" for c in message.partition(" The row is")[0])
    shown = "".join(traceback.format_exception(error))
    fault = error.__cause__ if is_job else error
    assert isinstance(fault, SourceError | TaskwidgetsError)
    assert fault.__cause__ is None
    assert fault.__suppress_context__ or fault.__context__ is None
    for library in ("openpyxl", "pyarrow", "zipfile.py", "gzip", "lzma.py", "json/decoder"):
        assert f"{library}/" not in shown.replace(name, ""), shown


@pytest.mark.parametrize("name", NAMES)
def test_a_preview_of_a_damaged_file(tmp_path, chance, capfd, unheard, name):
    """It is shown, or refused in one line."""
    data = whole_files()[name]
    for number in range(12):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(damaged(data, chance))
        try:
            repr(preview(path, full=number % 2 == 0))
        except SourceError as error:
            check(error, path.name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("x.orc", "x.feather")])
def test_an_upload_of_a_damaged_file(workspace, home, tmp_path, chance, capfd, unheard, name):
    """It is loaded, or refused before it begins, or the job fails with one line."""
    data = whole_files()[name]
    for number in range(3):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(damaged(data, chance))
        try:
            job = workspace.upload(path, f"t{number}")
        except SourceError as error:
            check(error, path.name)
            continue
        try:
            job.wait()
        except JobFailed as error:
            check(error, path.name, is_job=True)
            job.terminate()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("no member"), EOFError(), ValueError("two\nlines\x00\n"), IndexError("x" * 10_000),
        OverflowError("too large"), OSError("no number"), NotImplementedError("method 99"),
        OSError(22, "Invalid argument"), RuntimeError(), AssertionError(),
    ],
    ids=repr,
)  # fmt: skip
def test_whatever_a_decoder_raises(tmp_path, error):
    """It becomes the same sentence, with the library's words in it."""
    path = tmp_path / "a.bin"
    with pytest.raises(SourceError) as caught, decoding(path, "a file"):
        raise error
    check(caught.value, "a.bin")
    assert str(caught.value).startswith(f"{path} is a file that cannot be read: ")
    assert "copy or download it again" in str(caught.value)
    assert len(in_one_line(error)) <= LONGEST_REASON + 1


def test_what_is_no_fault_of_the_file_stays_as_it_is(tmp_path):
    """Errors of our own, of the disk, of whoever takes the items, and interrupts."""
    own = SourceError("said")
    with pytest.raises(SourceError) as caught, decoding(tmp_path, "a file"):
        raise own
    assert caught.value is own
    with pytest.raises(SourceError) as caught, decoding(tmp_path, "a file"):
        raise OSError(5, "Input/output error")
    assert str(caught.value) == f"{tmp_path} cannot be read: Input/output error"
    with pytest.raises(KeyboardInterrupt), decoding(tmp_path, "a file"):
        raise KeyboardInterrupt
    items = decoded(iter([0]), tmp_path, "a file")
    with pytest.raises(ZeroDivisionError):
        next(1 / item for item in items)


def test_a_header_that_begins_like_orc_is_text(tmp_path):
    """The format's first three bytes are letters that a column's name may begin with."""
    path = tmp_path / "people.csv"
    path.write_text("ORCID,name\n0000-0001,Ann\n0000-0002,Bob\n")
    assert list(preview(path).columns) == ["ORCID", "name"]
