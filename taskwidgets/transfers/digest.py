"""The hash of a transfer's file, made beside it.

SHA-256 cannot be put together from parts, so it needs one pass over the file in order, whatever
order the segments are moved in. Who has just read what comes next hands it over; all else is read
by a thread, which follows the transfer at a short distance, so that it finds each block in the page
cache. The hash itself runs at 2 GB/s without the interpreter's lock.
"""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import FileIO
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zlib_ng import zlib_ng

from taskwidgets.errors import SourceChanged
from taskwidgets.runtime.control import Control, Wish
from taskwidgets.runtime.threads import start_thread
from taskwidgets.tabular.boundaries import scan

__all__ = ["FileDigest", "JoinedFiles", "file_sha256", "joined_sha256"]

BLOCK = 1 << 20  # bytes


class JoinedFiles:
    """Several files as one, each behind the other."""

    def __init__(self, files: Sequence[tuple[Path | str, int]]) -> None:
        """``files``: the paths, and how many bytes each has."""
        self._files = [(path, size) for path, size in files if size]
        self._begins = [*accumulate((size for _, size in self._files), initial=0)]
        self._at = 0
        self._open: tuple[int, FileIO] | None = None

    def __str__(self) -> str:
        number = min(bisect_right(self._begins, self._at), len(self._files)) - 1
        return str(self._files[number][0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def seek(self, position: int) -> int:
        self._at = position
        return position

    def readinto(self, view: memoryview) -> int:
        """Some of the next bytes, of one file only; how many they are."""
        number = bisect_right(self._begins, self._at) - 1
        if number == len(self._files):
            return 0
        if self._open is None or self._open[0] != number:
            self.__exit__(None, None, None)
            file = FileIO(self._files[number][0])
            file.seek(self._at - self._begins[number])
            self._open = (number, file)
        read = self._open[1].readinto(view[: self._begins[number + 1] - self._at]) or 0
        self._at += read
        return read


@dataclass
class _State:
    """What is made of the bytes so far."""

    sha256: Any
    crc32: int = 0
    records: int = 0  # that end in a newline
    inside: bool = False  # a quote is open

    def copy(self) -> _State:
        return replace(self, sha256=self.sha256.copy())


class FileDigest:
    """SHA-256 of a file up to where it has been allowed to read; may be stopped and go on.

    For a file that is being written, too: what is allowed must not change any more.
    """

    def __init__(
        self, path: Path | JoinedFiles, *, crc32: bool = False, quote: int | None = None
    ) -> None:
        """``crc32``: make that too; ``quote``: count the records, by this quote character."""
        self._path = path
        self._with_crc32 = crc32
        self._quote = quote
        self._state = self._allowed_state = _State(hashlib.sha256())
        self._position = 0
        self._allowed = 0
        self._changed = threading.Condition()
        self._is_busy = False  # somebody hashes what comes next
        self._is_awaited = False
        self._thread: threading.Thread | None = None
        self._fault: BaseException | None = None
        self._stopped = False

    @property
    def with_crc32(self) -> bool:
        """Whether ``crc32`` is made."""
        return self._with_crc32

    @property
    def crc32(self) -> int:
        """Of the same bytes, if asked for."""
        return self._state.crc32

    @property
    def with_records(self) -> bool:
        """Whether ``records`` are counted."""
        return self._quote is not None

    @property
    def records(self) -> int:
        """Those that end in a newline, if asked for."""
        return self._state.records

    @property
    def position(self) -> int:
        """How much of the file is hashed."""
        return self._position

    def start(self, allowed: int | None = None) -> None:
        """Begin, or go on after a stop; ``allowed``: the file is as it is up to there only."""
        self._stopped, self._fault, self._is_busy = False, None, False
        if allowed is not None:
            self._allowed = allowed
        self._thread = start_thread(self._read, name="digest")

    def allow(self, position: int) -> None:
        """The file is as it is up to here; the digest may follow."""
        with self._changed:
            self._allowed = max(self._allowed, position)
            self._wake()

    def take(self, position: int, data: bytes | memoryview) -> None:
        """Somebody has the bytes from ``position`` on in his hands: hashed now if they come next.

        Reading them a second time, and waking the thread for it, cost a third of the hash. As long
        as they are not allowed, they may be taken back.
        """
        with self._changed:
            if self._is_busy or position != self._position:
                return
            self._is_busy = True
            if position == self._allowed:
                self._allowed_state = self._state.copy()
        try:
            self._hash_on(data, len(data))
        except BaseException:
            self._is_busy = False
            raise

    def take_back(self) -> None:
        """What was taken and not allowed is not in the file any more."""
        with self._changed:
            if self._position > self._allowed:
                self._state, self._position = self._allowed_state, self._allowed

    def stop(self) -> None:
        """End the thread; what is hashed so far is kept."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def result(self, size: int, control: Control) -> str | None:
        """The hexadecimal digest of the first ``size`` bytes, the whole; None after a wish."""
        self.allow(size)
        with self._changed:
            self._is_awaited = True
            while self._position < size and self._fault is None:
                if control.wish is not Wish.NONE:
                    return None
                self._changed.wait(0.05)
        if self._fault is not None:
            raise self._fault
        return str(self._state.sha256.hexdigest())

    def _opened(self) -> FileIO | JoinedFiles:
        if isinstance(self._path, JoinedFiles):
            return self._path
        return self._path.open("rb", buffering=0)

    def _read(self) -> None:
        buffer = bytearray(BLOCK)  # one for all blocks: memory that is new costs as much as reading
        try:
            with self._opened() as file:
                while (length := self._next_length()) > 0:
                    file.seek(self._position)
                    read = file.readinto(memoryview(buffer)[:length]) or 0
                    if not read:
                        raise SourceChanged(
                            f"{self._path} became shorter while it was read", path=str(self._path)
                        )
                    self._hash_on(buffer, read)
        except Exception as fault:  # noqa: BLE001 - raised by result()
            with self._changed:
                self._fault = fault
                self._is_busy = False
                self._changed.notify_all()

    def _next_length(self) -> int:
        """Wait for bytes that may be read, and take them on; 0 when it is to stop."""
        with self._changed:
            while (self._is_busy or self._position >= self._allowed) and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return 0
            self._is_busy = True
            return min(BLOCK, self._allowed - self._position)

    def _hash_on(self, data: bytes | bytearray | memoryview, length: int) -> None:
        """What comes next; by one thread at a time."""
        state, view = self._state, memoryview(data)[:length]
        state.sha256.update(view)
        if self._with_crc32:
            state.crc32 = zlib_ng.crc32(view, state.crc32)
        if self._quote is not None:
            found = scan(data, self._quote, state.inside, 0, length)
            state.records += found.records
            state.inside = found.inside
        with self._changed:
            self._position += length
            self._is_busy = False
            self._wake()

    def _wake(self) -> None:
        """Have others look again, if there is anything to see: to wake them costs something."""
        if self._position < self._allowed or self._is_awaited:
            self._changed.notify_all()


def file_sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a whole file, at once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joined_sha256(files: Sequence[tuple[Path | str, int]]) -> str:
    """The hexadecimal SHA-256 of so many bytes of each file, one behind the other."""
    digest, block = hashlib.sha256(), memoryview(bytearray(BLOCK))
    with JoinedFiles(files) as file:
        while length := file.readinto(block):
            digest.update(block[:length])
    return digest.hexdigest()
