"""An Excel workbook, opened and read in bounded memory.

A workbook is a zip of XML files. openpyxl tells what a cell's value is, but its own readers keep
all shared texts, and a trace of every row, in memory. So a workbook of 3 MB can take gigabytes.
Here texts beyond 16 MiB are kept in a temporary file, elements are dropped once they are read, and
each row, each text and each other part of the workbook has a limit.
"""

from __future__ import annotations

import re
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Protocol

from taskwidgets.errors import SourceError
from taskwidgets.tabular.limits import Limits

__all__ = ["Cell", "Part", "Sheet", "Workbook"]

# bytes of XML; parsed as a whole by openpyxl, which takes about twenty times as much memory. The
# styles of a workbook with all of its 65,490 cell formats are 8 MiB.
PART_BYTES = 8 << 20
# bytes of XML of one row: 16,384 cells, the most of a sheet, with 250 bytes each. As elements they
# take up to forty times as much memory.
ROW_XML_BYTES = 4 << 20
TEXTS_IN_MEMORY = 16 << 20  # bytes of XML
CACHED_TEXTS = 1 << 15
LONGEST_CACHED = 256  # characters
HEAD_BYTES = 1 << 16
MOST_TAGS = 1000  # that are remembered

_DIMENSION = re.compile(rb'<(?:\w+:)?dimension\s[^>]*?ref="(?:[A-Z]+\d+:)?[A-Z]+(\d+)"')
_DTD = (b"<!DOCTYPE", b"<!ENTITY")

Cell = tuple[Any, str]  # its value, and openpyxl's name for its type


@dataclass(frozen=True)
class Sheet:
    """A sheet with cells. ``path`` is its part of the zip.

    ``stated_rows`` is how many rows the file says that there are, which may be wrong.
    """

    title: str
    path: str
    stated_rows: int | None


class Texts(Protocol):
    """The texts that cells refer to by number."""

    def __getitem__(self, number: int, /) -> str: ...


class Workbook:
    """A workbook that is open. Raises SourceError where it exceeds a limit, ValueError and
    KeyError where it is damaged.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        excel: Any = import_module("openpyxl.reader.excel")
        self.size = path.stat().st_size
        with path.open("rb") as file:  # of a path, openpyxl wants a known ending
            reader = excel.ExcelReader(file, read_only=True, data_only=True, keep_links=False)
            reader.archive.close()
        self._archive = reader.archive = _Archive(path, limits)
        self._closing: list[Any] = [self._archive]
        try:
            unpacked = sum(part.file_size for part in self._archive.infolist())
            limits.check_unpacked(path, self.size, unpacked, is_whole=True)
            reader.read_manifest()
            reader.read_workbook()
            excel.apply_stylesheet(self._archive, reader.wb)
            self._book = reader.wb
            self.sheets = [
                Sheet(sheet.name, part.target, self._stated_rows(part.target))
                for sheet, part in reader.parser.find_sheets()
                if part.target in reader.valid_files and "chartsheet" not in part.Type
            ]
            strings = reader.package.find(excel.SHARED_STRINGS)
            self._strings_path = None if strings is None else str(strings.PartName[1:])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files; idempotent."""
        for one in self._closing:
            one.close()

    def rows(self, sheet: Sheet) -> Iterator[list[Cell]]:
        """The sheet's rows, each as far as it reaches; a row that the file leaves out is not there.

        A cell that the file leaves out is ``(None, "n")``.
        """
        reader: Any = import_module("openpyxl.worksheet._reader")
        texts = self._texts()
        with self._archive.open(sheet.path) as file:
            where = f"sheet {sheet.title}"
            parser = reader.WorkSheetParser(
                file,
                texts,
                data_only=True,
                epoch=self._book.epoch,
                date_formats=self._book._date_formats,
                timedelta_formats=self._book._timedelta_formats,
            )
            for element in _elements(file, "row", where):
                if not len(element):
                    yield []
                    continue
                _, cells = parser.parse_row(element)
                parser.row_dimensions.clear()  # else those of all rows are kept
                yield _in_columns(cells)

    def open_part(self, path: str) -> Part:
        """A part of the zip as bytes."""
        part: Part = self._archive.open(path)
        return part

    # ------------------------------------------------------------------ inside

    def _stated_rows(self, path: str) -> int | None:
        with self._archive.open(path) as file:
            found = _DIMENSION.search(file.read(HEAD_BYTES))
        return None if found is None else int(found[1])

    def _texts(self) -> Texts:
        if self._strings_path is None:
            return []
        cells: Any = import_module("openpyxl.cell.text")
        size = self._archive.getinfo(self._strings_path).file_size
        with self._archive.open(self._strings_path) as file:
            found = (
                cells.Text.from_tree(element).content.replace("x005F_", "")  # as openpyxl does it
                for element in _elements(file, "si", "shared texts")
            )
            if size <= TEXTS_IN_MEMORY:
                return list(found)
            texts = _TextsOnDisk(found)
        self._closing.append(texts)
        return texts


class _Archive(zipfile.ZipFile):
    """The zip: whatever is read as a whole has a limit, and so has each row of the rest."""

    def __init__(self, path: Path, limits: Limits) -> None:
        super().__init__(path)
        self._source, self._limits = path, limits

    def open(self, name: Any, mode: Any = "r", *args: Any, **options: Any) -> Any:
        part = name if isinstance(name, zipfile.ZipInfo) else self.getinfo(name)
        return Part(super().open(part, mode, *args, **options), self._source, part, self._limits)


class Part:
    """A part of the zip for reading; ``mark`` is called where a row or a text ends."""

    def __init__(
        self, file: IO[bytes], source: Path, part: zipfile.ZipInfo, limits: Limits
    ) -> None:
        self._file, self._source, self._part, self._limits = file, source, part, limits
        self._most = ROW_XML_BYTES
        if limits.max_row is not None:
            self._most = max(self._most, 2 * limits.max_row)
        self._since = 0
        self._is_begun = False

    def read(self, size: int = -1) -> bytes:
        if size < 0 and self._part.file_size > PART_BYTES:
            raise SourceError(
                f"{self._source} is an Excel workbook whose part {self._part.filename} has "
                f"{self._part.file_size:,} bytes; at most {PART_BYTES:,} can be read. Copy its "
                "sheet into a new workbook, or export it as CSV",
                path=self._source,
            )
        data = self._file.read(size)
        if not self._is_begun:
            self._is_begun = True
            if any(mark in data[:HEAD_BYTES] for mark in _DTD):
                raise SourceError(
                    f"{self._source} is an Excel workbook whose part {self._part.filename} has a "
                    "DTD, which the format forbids (ECMA-376, part 2)",
                    path=self._source,
                )
        self._since += len(data)
        return data

    def mark(self) -> None:
        """A new row begins about here."""
        self._since = 0

    def check(self, where: str) -> None:
        """SourceError where the row that is being read is too long."""
        if self._since > self._most:
            raise SourceError(
                f"{self._source}, {where}: one item has more than {self._most:,} bytes of XML. If "
                "the sheet has such long rows, give a larger max_row, such as max_row='64 MiB'",
                path=self._source,
            )

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _TextsOnDisk:
    """Texts in a temporary file, by their number; the last ones that were asked for in memory."""

    def __init__(self, texts: Iterator[str]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``close``
        self._places = tempfile.TemporaryFile()  # noqa: SIM115 - of each text's end, 8 bytes each
        self._cache: dict[int, str] = {}
        self._number = 0
        try:
            self._write(texts)
        except BaseException:
            self.close()
            raise

    def _write(self, texts: Iterator[str]) -> None:
        end, ends = 0, array("Q", [0])
        for text in texts:
            end += self._file.write(text.encode("utf-8", errors="surrogatepass"))
            ends.append(end)
            self._number += 1
            if len(ends) >= 1 << 16:
                self._places.write(ends.tobytes())
                del ends[:]
        self._places.write(ends.tobytes())

    def __getitem__(self, number: int, /) -> str:
        text = self._cache.get(number)
        if text is not None:
            return text
        if not 0 <= number < self._number:
            raise IndexError(f"there is no shared text {number}")
        self._places.seek(8 * number)
        start, stop = array("Q", self._places.read(16))
        self._file.seek(start)
        text = self._file.read(stop - start).decode("utf-8", errors="surrogatepass")
        if len(text) <= LONGEST_CACHED:
            if len(self._cache) >= CACHED_TEXTS:
                self._cache.clear()
            self._cache[number] = text
        return text

    def close(self) -> None:
        """Remove the files; idempotent."""
        self._file.close()
        self._places.close()


def _elements(file: Part, name: str, where: str) -> Iterator[ET.Element]:
    """Each element of this name, whole; it and all others are dropped once they are read."""
    parents: list[ET.Element] = []
    inside = 0  # so many elements of the name are open
    number = 1
    wanted: dict[str, bool] = {}

    def place() -> str:
        return f"{where}, row {number:,}"

    for event, element in _parsed(file, place):
        is_wanted = wanted.get(element.tag)
        if is_wanted is None:
            if len(wanted) > MOST_TAGS:
                wanted.clear()
            is_wanted = wanted[element.tag] = element.tag.rpartition("}")[2] == name
        if event == "start":
            parents.append(element)
            inside += is_wanted
            continue
        parents.pop()
        if is_wanted:
            inside -= 1
            if not inside:
                yield element
                number += 1
        if not inside:
            file.mark()
            element.clear()
            if parents:
                parents[-1].clear()


def _parsed(file: Part, place: Callable[[], str]) -> Iterator[tuple[str, ET.Element]]:
    parser: Any = ET.XMLPullParser(events=("start", "end"))
    while True:
        data = file.read(HEAD_BYTES)
        if not data:
            break
        file.check(place())
        parser.feed(data)
        yield from parser.read_events()
    parser.close()
    yield from parser.read_events()


def _in_columns(cells: Sequence[dict[str, Any]]) -> list[Cell]:
    width = max((cell["column"] for cell in cells), default=0)
    row: list[Cell] = [(None, "n")] * width
    for cell in cells:
        if cell["column"] >= 1:
            row[cell["column"] - 1] = (cell["value"], cell["data_type"])
    return row
