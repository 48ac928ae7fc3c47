"""The folder in which a source is written as delimited text before it is loaded.

table.csv       the table: UTF-8, LF, text quoted, NULL as \\N
3-table.csv     the same, of the fourth of several files
table.json      its columns' types and what is to be said of it; there once the table is whole
download        what was fetched from elsewhere
download.json   by what its server knows it
*.part          the same, not yet whole
"""

from __future__ import annotations

import errno
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs

from taskwidgets.engine.private_files import new_file, open_own
from taskwidgets.errors import SourceError
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.run import Run
from taskwidgets.tabular.limits import Limits
from taskwidgets.transfers.origins.texts import quoted

__all__ = ["Contents", "Spool", "TableWriter", "check_wish", "new_spool"]


HOME_VARIABLE = "TASKWIDGETS_HOME"
_NAME = re.compile(r"[0-9a-f]{32}")  # of a folder
_FILE = re.compile(r"((\d+-)?table\.(csv|json)|download(\.json)?)(\.\d+)?(\.part)?")


@dataclass(frozen=True)
class Contents:
    """What is in a whole table: each column's Postgres type, its rows, and notes for people.

    ``facts`` say what it was made of.
    """

    types: Mapping[str, str]
    rows: int
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names, in the table's order."""
        return tuple(self.types)


def new_spool() -> str:
    """The path of a folder that nobody has yet; it is made when it is first written into."""
    from taskwidgets.embedded.directory import SYSTEM_HOME  # not before there is one

    value = os.environ.get(HOME_VARIABLE)
    if value:
        home = Path(value).expanduser().absolute()
    elif os.geteuid() == 0:
        home = SYSTEM_HOME
    else:
        home = Path(platformdirs.user_data_dir("taskwidgets"))
    return str(home / "spool" / uuid.uuid4().hex)


def check_wish(run: Run) -> None:
    """Stopped, when the job is to pause or to end: a safe point."""
    if run.control.wish is not Wish.NONE:
        run.acknowledge()
        raise Stopped(run.control.wish)


class Spool:
    """One job's folder; nobody but the user may look into it."""

    def __init__(self, folder: str | Path, number: int | None = None) -> None:
        """``number``: of several tables in one folder, which one."""
        self.folder = Path(folder)
        prefix = "" if number is None else f"{number}-"
        self.table = self.folder / f"{prefix}table.csv"
        self.download = self.folder / "download"
        self._contents = self.folder / f"{prefix}table.json"

    def make(self) -> None:
        """Make the folder and all above it, 0700; what is there keeps its mode."""
        with self.translated():
            home = self.folder.parent.parent
            missing = [p for p in (home, *home.parents) if not p.exists()]
            for path in reversed(missing):
                path.mkdir(exist_ok=True)
                # The embedded server's own account must pass through a home that root has made.
                path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for path in (self.folder.parent, self.folder):
                if not path.exists():
                    path.mkdir(mode=0o700, exist_ok=True)

    def remove(self) -> None:
        """Remove the folder, if it is there.

        Only what is ours in it: its path is read from the database, where others may write too.
        """
        if _NAME.fullmatch(self.folder.name) is None or self.folder.is_symlink():
            return
        with suppress(OSError):
            for path in list(self.folder.iterdir()):
                if _FILE.fullmatch(path.name):
                    path.unlink()
            self.folder.rmdir()

    @property
    def contents(self) -> Contents | None:
        """What is in the table; None while it is not whole."""
        try:
            stored = json.loads(self._contents.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not self.table.exists():
            return None
        # A list of pairs: an object's keys would be equal where two columns' are.
        return Contents(
            dict(stored["types"]), stored["rows"], tuple(stored["notes"]), stored["facts"]
        )

    def write_contents(self, contents: Contents) -> None:
        """Say that the table is whole, once it is."""
        text = json.dumps(
            {
                "types": list(contents.types.items()),
                "rows": contents.rows,
                "notes": list(contents.notes),
                "facts": dict(contents.facts),
            }
        )
        with self.translated():
            part = self._contents.with_name(f"{self._contents.name}.part")
            with self.open(part) as file:
                file.write(text.encode())
            part.replace(self._contents)

    def forget_table(self) -> None:
        """Begin anew: what there is of the table is not to be gone by any more."""
        with self.translated():
            self._contents.unlink(missing_ok=True)
            self.table.unlink(missing_ok=True)

    def open(self, path: Path, mode: str = "wb") -> _Synced:
        """A file of the folder for writing, 0600, on the disk when it is closed."""
        return _Synced(path, mode)

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn an OSError about the folder into a SourceError that helps."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                reason += f"; free some space, or set {HOME_VARIABLE} to a directory elsewhere"
            else:
                reason += f"; {HOME_VARIABLE} names another directory for it"
            raise SourceError(
                f"the source cannot be written into {self.folder} before it is loaded: {reason}",
                path=self.folder,
            ) from None


class _Synced:
    """A file for writing that is on the disk when it is closed well."""

    def __init__(self, path: Path, mode: str) -> None:
        is_begun = "a" in mode and path.is_file()
        descriptor = open_own(path, os.O_WRONLY) if is_begun else new_file(path, os.O_WRONLY)
        self._file = os.fdopen(descriptor, "wb")
        self._file.seek(0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def flush(self) -> None:
        """Have the system know all that is written: it is there after this process is killed."""
        self._file.flush()

    def finish(self) -> None:
        """Have it on the disk, and close it."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close it, whatever becomes of what was written last; nothing when it is closed."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.finish()
        self.close()


class TableWriter:
    """Writes the table of a spool, column by column of a chunk at a time.

    ``source`` is what the rows come from, and ``packed`` its size in bytes where its format is
    packed by itself: then the table's bytes count as unpacked ones.
    """

    def __init__(
        self,
        run: Run,
        spool: Spool,
        columns: Sequence[str],
        source: Path | str,
        limits: Limits,
        packed: int | None = None,
    ) -> None:
        self._source, self._limits, self._packed = source, limits, packed
        self._most = None if packed is None else limits.unpacked(packed)
        self._bytes = 0
        self._spool = spool
        self._columns = columns
        # Each claim has a file of its own: whoever was frozen, and wakes up when the job is taken
        # over, writes on into its own.
        self._part = spool.table.with_name(f"{spool.table.name}.{run.claim.epoch}.part")
        spool.make()
        spool.forget_table()
        self.rows = 0
        with spool.translated():
            self._file = spool.open(self._part)
        try:
            self._write(",".join(map(quoted, columns)) + "\n")
        except UnicodeEncodeError:
            raise SourceError(
                "a column's name holds half of a surrogate pair, which is no character; rename it"
            ) from None

    def write(self, columns: Sequence[Sequence[str]]) -> None:
        """Rows whose fields are texts as COPY takes them, given as columns.

        SourceError where a row, or all of them together, exceed the limits.
        """
        rows = len(columns[0])
        if rows:
            texts = list(map(",".join, zip(*columns, strict=True)))
            if 4 * max(map(len, texts)) > self._limits.row:  # a character has 4 bytes at most
                self._check_lengths(texts)
            try:
                self._write("\n".join(texts) + "\n")
            except UnicodeEncodeError:
                raise self._surrogate(columns) from None
            self.rows += rows

    def finish(self) -> None:
        """Give the table its name; whole it is when it is said what is in it."""
        with self._spool.translated():
            self._file.finish()
            self._part.replace(self._spool.table)

    def close(self) -> None:
        """Give up what is not finished."""
        self._file.close()

    def _check_lengths(self, texts: Sequence[str]) -> None:
        for row, text in enumerate(texts, start=self.rows + 1):
            length = len(text)
            if 4 * length > self._limits.row >= length:
                length = len(text.encode(errors="replace"))
            if length > self._limits.row:
                raise self._limits.long_row(self._source, f"row {row:,}")

    def _surrogate(self, columns: Sequence[Sequence[str]]) -> SourceError:
        """The error for the first row that holds a lone surrogate."""
        for row, fields in enumerate(zip(*columns, strict=True), start=self.rows + 1):
            for name, text in zip(self._columns, fields, strict=True):
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    around = text[max(0, error.start - 20) : error.start + 20]
                    return SourceError(
                        f'row {row:,}, column "{name}": {around!r} holds half of a surrogate pair, '
                        "which is no character. Change it, or leave the column out",
                        column=name,
                    )
        raise AssertionError("no field has a lone surrogate")

    def _write(self, text: str) -> None:
        data = text.encode()
        self._bytes += len(data)
        if self._most is not None and self._bytes > self._most:
            assert self._packed is not None
            self._limits.check_unpacked(self._source, self._packed, self._bytes)
        with self._spool.translated():
            self._file.write(data)
