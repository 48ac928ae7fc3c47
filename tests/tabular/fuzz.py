"""Random bytes for detection, preview and reader: by hand for minutes, in the suite for seconds.

    cd tests && python -m tabular.fuzz --minutes 10 --seed 1

A case is random bytes, or a file of the corpus that was changed at random, with options at random.
What must hold of each: errors are those of our own tree; a case takes seconds of CPU, no more; the
process grows by no more than 200 MiB over all of them; every byte between the first record and the
last is handed out once; rows read are those loaded and those rejected; COPY would count the
rows that were counted; and none of this depends on where segments are cut.

A case is its seed and number, so that one that fails can be run again: ``--only NUMBER``.
"""

from __future__ import annotations

import argparse
import bz2
import faulthandler
import gzip
import io
import lzma
import random
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import zstandard

import taskwidgets as tw
from taskwidgets.errors import TaskwidgetsError
from taskwidgets.tabular.boundaries import records
from taskwidgets.tabular.cleaning import clean
from taskwidgets.tabular.conversion import conversions
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.pieces import Cutter
from taskwidgets.tabular.segments import SegmentReader
from taskwidgets.tabular.stream import open_stream
from taskwidgets.transfers.reading import Reading, find_reading
from taskwidgets.widgets.preview_markup import preview_html

from .pollution import source, variants, written

CPU_SECONDS = 20  # for one case; most take hundredths
MORE_A_MEGABYTE = 10  # seconds: each record of a large file may be damaged, and it is read thrice
MOST_MEMORY = 200 << 20  # bytes that the process may grow by

TOKENS = (
    b'"', b"'", b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xff", b"\\",
    b'""', b"\\.\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b" ", b"\xc3", b"\xc2\xa0",
    b"\x1f\x8b", b"PK\x03\x04", b"(\xb5/\xfd", b"NA", b"2024-02-30", b"1e999", b"-0", b"1.234,5",
    b"=1+1", b"\x02", b"\x1a", b"\xe2\x80\xa8", b"\xf0\x9f\x92\xa9", b"sep=;\n", b"# ", b"0" * 300,
)  # fmt: skip

EXCHANGES = (
    (b"\n", b"\r"), (b"\n", b"\r\n"), (b",", b";"), (b'"', b"'"), (b'"', b""), (b"\n", b""),
)  # fmt: skip

OPTIONS: dict[str, tuple[object, ...]] = {
    "delimiter": (",", ";", "\t", "|", " ", "", "||", ", ", "é"),
    "quotechar": ('"', "'", "", "é"),
    "escapechar": ("\\", "", '"'),
    "encoding": ("utf-8", "latin-1", "cp1252", "utf-16", "utf-32", "shift_jis", "ascii", "cp037"),
    "header": (True, False, 0, 1, 2, 5),
    "null_values": ("", "NA", ("", "NA", "-"), ()),
    "decimal": (",", "."),
    "thousands": (".", ",", " ", ""),
    "skip_rows": (0, 1, 3, 1000),
    "footer_rows": (0, 1, 3, 1000),
    "skip_initial_space": (True, False),
    "line_terminator": ("\n", "\r\n", "\r", ""),
    "date_formats": ({"Date": "%d/%m/%Y"}, {"nothing": "%"}),
    "booleans": ({"Units": ("ja", "nein")},),
    "names": ("snake",),
}


class Broken(AssertionError):
    """A promise does not hold."""


@dataclass(frozen=True)
class Case:
    """A file and what is said of it."""

    content: bytes
    options: dict[str, object]
    keeps_rejects: bool
    as_text: bool
    full: bool
    target: int  # bytes of a segment


class Seeds:
    """Files to start from."""

    def __init__(self) -> None:
        self.files = [one.data for one in variants()]
        clean = "".join(written(source()))
        self.files += [clean.encode(codec) for codec in ("utf-16", "utf-32", "cp1252", "utf-8-sig")]
        plain = clean.encode()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("a.csv", plain)
        self.packed = [
            gzip.compress(plain), bz2.compress(plain), lzma.compress(plain),
            zstandard.compress(plain), packed.getvalue(),
        ]  # fmt: skip


def make_case(seeds: Seeds, chance: random.Random, *, large: bool) -> Case:
    """One case of chance."""
    kind = chance.random()
    if kind < 0.15:
        content = chance.randbytes(chance.choice((1, 10, 100, 1000, 70_000)))
    elif kind < 0.3:
        content = b"".join(chance.choices(TOKENS, k=chance.randrange(1, 60)))
    elif kind < 0.4:
        content = mutated(chance.choice(seeds.packed), chance)
    else:
        content = chance.choice(seeds.files)
        if chance.random() < 0.1:
            content += chance.choice(seeds.files)
        if chance.random() < 0.1:
            at = chance.randrange(len(content) + 1)
            content = content[:at] + chance.choice(seeds.files)[at:]
        content = mutated(content, chance)
        if large and chance.random() < 0.03:
            content = content * (chance.randrange(1 << 20, 5 << 20) // max(1, len(content)) + 1)
            content = mutated(content, chance)
    options = {
        name: chance.choice(values) for name, values in OPTIONS.items() if chance.random() < 0.07
    }
    return Case(
        content, options, chance.random() < 0.8, chance.random() < 0.4, chance.random() < 0.3,
        # A segment costs a tenth of a millisecond, however small it is.
        max(chance.choice((1, 50, 1000, 30_000)), len(content) // 3000),
    )  # fmt: skip


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A few changes at chance places."""
    for _ in range(chance.choice((0, 1, 1, 2, 5, 20))):
        at = chance.randrange(len(content) + 1)
        length = chance.choice((0, 1, 1, 5, 100))
        kind = chance.randrange(6)
        middle = content[at : at + length]
        if kind == 0:
            middle = chance.choice(TOKENS)
        elif kind == 1:
            middle = chance.choice(TOKENS) + middle
        elif kind == 2:
            middle = chance.randbytes(length)
        elif kind == 3:
            middle = middle * 3
        elif kind == 4:
            middle = b""
        else:
            content = content[: at + length] if chance.random() < 0.3 else content
        content = content[:at] + middle + content[at + length :]
    if chance.random() < 0.05:
        content = content.replace(*chance.choice(EXCHANGES))
    return content


def check(case: Case, path: Path) -> str:
    """Run one case; what became of it. Raises what is no error of ours, and Broken."""
    path.write_bytes(case.content)
    became = "refused"
    try:
        shown = tw.preview(path, full=case.full, **case.options)  # type: ignore[arg-type]
        repr(shown)
        preview_html(shown)
        shown.to_dataframe()
        if len(set(shown.columns)) != len(shown.columns) or not all(shown.columns):
            raise Broken(f"columns {shown.columns}")
        became = "previewed"
    except TaskwidgetsError:
        pass
    try:
        reading = find_reading(
            path, case.options, keeps_rejects=case.keeps_rejects, needs_types=not case.as_text
        )
        if reading.description is None:
            read_strictly(path, reading, case.target)
            return "read strictly"
    except TaskwidgetsError:
        return became
    try:
        first = read_leniently(path, reading, case.target)
    except TaskwidgetsError:
        first = None
    try:
        again = read_leniently(path, reading, 1 << 20)
    except TaskwidgetsError:
        again = None
    if first != again:
        raise Broken(f"cut at {case.target} bytes: {first}; at 1 MiB: {again}")
    return became if first is None else "read leniently"


def read_strictly(path: Path, reading: Reading, target: int) -> None:
    assert reading.data_stop is not None
    start, stop = reading.data_start, reading.data_stop
    with SegmentReader(path, reading.dialect, start, stop, [(start, stop)]) as reader:
        while (segment := reader.next(target)) is not None:
            if segment.start != start:
                raise Broken(f"bytes {start} to {segment.start} are left out")
            start = segment.stop
    if start != stop:
        raise Broken(f"bytes {start} to {stop} are left out")


def read_leniently(path: Path, reading: Reading, target: int) -> tuple[int, list[object]]:
    """How many rows are loaded, and the rejects."""
    description = reading.description
    assert description is not None
    types = {**dict.fromkeys(reading.columns, "text"), **reading.inferred}
    converting = conversions(description, {name: types[name] for name in reading.columns})
    rows, rejects = 0, list[object]()
    with open_stream(path, description) as stream:
        grammar = Grammar.of(
            description, len(reading.columns), stream.codec, spaced_rows=True,
            converted=bool(converting),
        )  # fmt: skip
        cutter = Cutter(
            stream, grammar, reading.data_start, reading.data_stop, first_line=reading.first_line
        )
        position, buffer = reading.data_start, bytearray(1 << 16)
        while (segment := cutter.next(target, buffer)) is not None:
            if segment.start != position or segment.stop <= position:
                raise Broken(f"a segment of {segment.start} to {segment.stop} behind {position}")
            position = segment.stop
            cleaned = clean(segment, grammar, reading.columns, converting)
            if cleaned.rows_read != cleaned.rows + len(cleaned.rejects):
                raise Broken(f"{cleaned.rows_read} read, {cleaned.rows} loaded")
            found = sum(1 for _ in records(bytes(cleaned.data), grammar.output.quote_byte))
            if found != cleaned.rows:
                raise Broken(f"COPY would count {found} rows, not {cleaned.rows}")
            rows += cleaned.rows
            rejects += [(one.line, one.offset, one.raw, one.reason) for one in cleaned.rejects]
        end = stream.size if reading.data_stop is None else reading.data_stop
        if end is not None and position != max(end, reading.data_start):
            raise Broken(f"read to {position}, and the data end at {end}")
    return rows, rejects


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    """TimeoutError after so many seconds of CPU; a hang in C is told by its stack, and ends all."""

    def expire(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s of CPU")

    before = signal.signal(signal.SIGVTALRM, expire)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def peak() -> int:
    """Bytes of memory that the process has had at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def run_case(seeds: Seeds, seed: int, number: int, folder: Path, *, large: bool) -> str:
    """One case; an error tells how to run it again."""
    case = make_case(seeds, random.Random(f"{seed}/{number}"), large=large)
    try:
        with limited(CPU_SECONDS + MORE_A_MEGABYTE * len(case.content) // 1_000_000):
            return check(case, folder / "case.csv")
    except BaseException as error:
        shown = case.content if len(case.content) <= 300 else case.content[:300] + b"..."
        error.add_note(
            f"seed {seed}, case {number}: {case.options}, keeps_rejects={case.keeps_rejects}, "
            f"as_text={case.as_text}, full={case.full}, target={case.target}, "
            f"{len(case.content)} bytes: {shown!r}"
        )
        raise


def main() -> int:
    """Run cases until the time is up; the number of those that broke a promise."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of CPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of one case")
    arguments = parser.parse_args()
    seeds, became, broken = Seeds(), dict[str, int](), 0
    number = 0 if arguments.only is None else arguments.only
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for warm in range(30):
            run_quietly(seeds, -1, warm, folder)
        begun, high, least = time.process_time(), peak(), peak()
        while time.process_time() - begun < 60 * arguments.minutes:
            faulthandler.dump_traceback_later(20 * CPU_SECONDS, exit=True)
            try:
                word = run_case(seeds, arguments.seed, number, folder, large=True)
            except KeyboardInterrupt:
                break
            except Exception as error:  # noqa: BLE001 - it is told, and the next ones are tried
                word, broken = "BROKEN", broken + 1
                notes = " ".join(getattr(error, "__notes__", ()))
                print(f"{type(error).__name__}: {error}\n  {notes}", flush=True)
            became[word] = became.get(word, 0) + 1
            if peak() > high + (8 << 20):
                high = peak()
                print(f"case {number}: {(high - least) >> 20} MiB more than at first", flush=True)
                if high - least > MOST_MEMORY:
                    broken += 1
            if arguments.only is not None:
                break
            number += 1
        print(f"{number} cases: {became}, {(peak() - least) >> 20} MiB, {broken} broken")
    return min(broken, 100)


def run_quietly(seeds: Seeds, seed: int, number: int, folder: Path) -> None:
    """A case that only brings the process to its usual size."""
    try:
        run_case(seeds, seed, number, folder, large=False)
    except Exception as error:  # noqa: BLE001 - the cases that count come later
        print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
