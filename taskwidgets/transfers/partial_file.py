"""The file that an export writes: under a partial name until it is whole.

Ranges come from several workers in any order and are written in theirs. What a checkpoint speaks of
is on the disk before the checkpoint commits; what came after it is cut off on resume.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from zlib_ng import zlib_ng

from taskwidgets.engine.private_files import new_file, open_own, publish_mode
from taskwidgets.errors import SourceChanged, TargetError, TargetExists
from taskwidgets.runtime.failpoints import reach
from taskwidgets.transfers.digest import FileDigest

__all__ = [
    "OrderedFile",
    "Settled",
    "check_target_path",
    "copy_path",
    "has_name",
    "older_path",
    "partial_path",
    "publish",
]

COPY_BYTES = 1 << 20
HELD_BYTES = 1 << 20  # of a block
AHEAD = 16 << 20  # bytes that a worker may hold while it waits for its turn


def check_target_path(path: Path, *, replace: bool) -> None:
    """TargetError unless a file may be made there; TargetExists when there is one already."""
    try:
        _check(path, replace=replace)
    except OSError as error:  # a folder above that may not be looked into, too long a name
        raise TargetError(f"{path} cannot be written: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise TargetError(f"{str(path)!r} is no path: {error}") from None


def _check(path: Path, *, replace: bool) -> None:
    folder = path.parent
    if "\0" in str(path):
        raise ValueError("it has a NUL in it")
    if path.is_dir():
        raise TargetError(
            f"{path} is a directory; name a file in it, or end the path in / for a folder of files"
        )
    if not folder.is_dir():
        what = "is not a directory" if folder.exists() else "does not exist"
        raise TargetError(f"the folder {folder} {what}; create it first")
    if path.exists() or path.is_symlink():
        if not replace:
            raise TargetExists(f'{path} exists already; choose if_exists="replace" or another name')
        if path.exists() and not path.is_file():
            raise TargetError(f"{path} is not a regular file and is not replaced")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TargetError(f"the folder {folder} is not writable for this user")


def partial_path(path: Path, job_id: int) -> Path:
    """The name until the file is whole: beside it, so that renaming is one step."""
    name = f".{path.name}.{job_id}.partial"
    if len(os.fsencode(name)) > 250:  # 255 is the most of common file systems; .copy has room
        name = f".taskwidgets.{job_id}.partial"
    return path.with_name(name)


def copy_path(partial: Path) -> Path:
    """The name of a copy of the partial file until it takes over that file's name."""
    return partial.with_name(f"{partial.name}.copy")


def older_path(partial: Path) -> Path:
    """The name of the file that is replaced, until the job is recorded as completed."""
    return partial.with_name(f"{partial.name}.old")


@dataclass(frozen=True)
class Settled:
    """Up to where the file is written in order: a checkpoint may speak of this, once synced.

    ``crc32`` is over the file from its first byte; ``rows`` are those of this attempt; ``block`` is
    the block of the table that comes next, None before the first range.
    """

    size: int
    crc32: int
    rows: int = 0
    block: int | None = None


class _Held:
    """Bytes that wait, in blocks that are used again: new memory costs more than the copying."""

    def __init__(self, free: list[bytearray]) -> None:
        """``free``: blocks to be had, and where they go afterwards."""
        self._free = free
        self._blocks: list[bytearray] = []
        self.size = 0

    def add(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            at = self.size % HELD_BYTES
            if at == 0:
                self._blocks.append(self._free.pop() if self._free else bytearray(HELD_BYTES))
            taken = min(len(view), HELD_BYTES - at)
            self._blocks[-1][at : at + taken] = view[:taken]
            self.size += taken
            view = view[taken:]

    def pieces(self) -> Iterator[memoryview]:
        """All of it, in order."""
        for number, block in enumerate(self._blocks):
            yield memoryview(block)[: self.size - number * HELD_BYTES]

    def give_back(self) -> None:
        """It is not needed any more."""
        self._free += self._blocks
        self._blocks, self.size = [], 0


class OrderedFile:
    """The partial file: pieces of ranges go in by turns; a range that fails is cut out again."""

    def __init__(
        self,
        path: Path,
        size: int,
        crc32: int,
        stopped: Callable[[], bool],
        digest: FileDigest | None = None,
    ) -> None:
        """Open the file and cut it back to ``size`` bytes; SourceChanged if it has fewer.

        ``digest`` is shown all that is written, and allowed what is settled.
        """
        self._path = path
        self._digest = digest
        self._stopped = stopped
        self._changed = threading.Condition()
        try:
            # A file that was begun and is gone is not made anew.
            self._file = new_file(path) if size == 0 else open_own(path)
        except FileNotFoundError as error:
            if size == 0:
                raise TargetError(f"the folder {path.parent} is not there any more") from error
            raise self._lost(0, size) from None
        except OSError as error:
            raise self._cannot(error, 0) from error
        try:
            found = os.fstat(self._file).st_size
            if found < size:
                raise self._lost(found, size)
            if not self._locked(self._file):
                self._move_to_copy(size)
            os.ftruncate(self._file, size)
        except BaseException:
            self.close()
            raise
        self.settled = Settled(size, crc32)
        self._size, self._crc32 = size, crc32
        self._turn = 0
        self._waiting: dict[int, _Held] = {}  # by range
        self._blocks: list[bytearray] = []  # to be used again
        self._closed: dict[int, tuple[int, int]] = {}  # complete ones: (rows, next block)

    @staticmethod
    def _locked(file: int) -> bool:
        """Mark the file as ours; False when another process has it open."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return True  # a file system without locks
        return True

    def _move_to_copy(self, size: int) -> None:
        """Leave the file to a process that lost the job while it was frozen, and has it open.

        It learns that it may not write when it makes its next checkpoint; until then it would write
        into this file. So what counts is copied into a new one, which takes over the name.
        """
        copy = copy_path(self._path)
        file = new_file(copy)
        try:
            os.lseek(self._file, 0, os.SEEK_SET)
            left = size
            while left and (piece := os.read(self._file, min(left, COPY_BYTES))):
                left -= os.write(file, piece)
                os.lseek(self._file, size - left, os.SEEK_SET)  # a full disk takes less
            self._locked(file)
            copy.replace(self._path)
        except OSError as error:
            os.close(file)
            copy.unlink(missing_ok=True)
            raise self._cannot(error, size) from error
        os.close(self._file)
        self._file = file

    def _lost(self, found: int, size: int) -> SourceChanged:
        return SourceChanged(
            f"{self._path} has {found:,} bytes, but {size:,} were written; it was changed or "
            "removed. Start over with again=True",
            path=self._path,
        )

    def begin_with(self, data: bytes) -> None:
        """Write what stands before the first range."""
        self._append(data)
        self.settled = Settled(self._size, self._crc32)
        if self._digest is not None:
            self._digest.allow(self._size)

    def put(self, number: int, data: bytes | memoryview) -> bool:
        """A piece of range ``number``: written in its turn, copied before, a bounded amount.

        False when the work is to stop: the piece is not taken. TargetError when the disk is full.
        """
        with self._changed:
            if number not in self._waiting:
                self._waiting[number] = _Held(self._blocks)
            held = self._waiting[number]
            while self._turn != number and held.size + len(data) > AHEAD:
                if self._stopped():
                    return False
                self._changed.wait(0.05)
            if self._turn != number:
                held.add(data)
                return True
        # It is this range's turn and no other's, so writing needs no lock.
        self._flush(number)
        self._append(data)
        return True

    def close_range(self, number: int, rows: int, next_block: int) -> bool:
        """Range ``number`` is complete: it is written now, or by whoever has the turn before it.

        Waits only while too much is held already. False when the work is to stop, and the range is
        not taken.
        """
        with self._changed:
            while self._turn != number and self._held() > AHEAD:
                if self._stopped():
                    return False
                self._changed.wait(0.05)
            if self._turn != number:
                self._closed[number] = (rows, next_block)
                return True
        self._settle(number, rows, next_block)
        return True

    def _settle(self, number: int, rows: int, next_block: int) -> None:
        """Write a complete range in its turn, and all complete ones that follow it."""
        while True:
            self._flush(number)
            with self._changed:
                self.settled = Settled(
                    self._size, self._crc32, self.settled.rows + rows, next_block
                )
                if self._digest is not None:
                    self._digest.allow(self._size)
                self._turn = number = number + 1
                follower = self._closed.pop(number, None)
                self._changed.notify_all()
            if follower is None:
                return
            rows, next_block = follower

    def _held(self) -> int:
        return sum(held.size for held in self._waiting.values())

    def drop_range(self, number: int) -> None:
        """Range ``number`` failed: forget what it sent; cut off what it wrote in its turn."""
        with self._changed:
            if (held := self._waiting.pop(number, None)) is not None:
                held.give_back()
            if self._turn == number and self._file >= 0:
                # Also when nothing of it counts as written: a full disk takes a piece in part.
                self._size, self._crc32 = self.settled.size, self.settled.crc32
                if self._digest is not None:
                    self._digest.take_back()
                os.ftruncate(self._file, self._size)

    def sync(self) -> None:
        """Have the disk hold what is written; TargetError when it does not."""
        try:
            getattr(os, "fdatasync", os.fsync)(self._file)
        except OSError as error:
            raise self._cannot(error, self._size) from error

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _flush(self, number: int) -> None:
        with self._changed:
            held = self._waiting.pop(number, None)
        if held is not None:
            for piece in held.pieces():
                self._append(piece)
            held.give_back()

    def _append(self, data: bytes | memoryview) -> None:
        view, at = memoryview(data), self._size
        try:
            while view:
                written = os.pwrite(self._file, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            raise self._cannot(error, self._size) from error
        self._crc32 = zlib_ng.crc32(data, self._crc32)
        if self._digest is not None:
            self._digest.take(self._size, data)
        self._size = at

    def _cannot(self, error: OSError, size: int) -> TargetError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return TargetError(
                f"the disk is full: {self._path.parent} has no room for more than {size:,} bytes "
                "of the export. Make room and resume; what is written stays"
            )
        if error.errno in (errno.ELOOP, errno.EPERM):
            return TargetError(
                f"{self._path} is not the file that this job made: it is a link, or of another "
                "user. Remove it, and start over with again=True"
            )
        if error.errno == errno.EFBIG:
            return TargetError(
                f"{self._path} may not have more than {size:,} bytes: a limit of this process or "
                "of the file system. Raise it and resume; what is written stays"
            )
        return TargetError(f"{self._path} cannot be written: {error.strerror}")


def publish(partial: Path, path: Path, *, replace: bool) -> None:
    """Give the whole file its name, in one step; TargetExists when somebody else was first.

    The file that is replaced stays under ``older_path(partial)``, where the file system has links.
    """
    try:
        publish_mode(partial, path if replace else None)
        if replace:
            _keep(path, older_path(partial))
            partial.rename(path)
        else:
            _rename_new(partial, path)
    except OSError as error:
        raise TargetError(
            f"the export is whole, but cannot be named {path}: {error.strerror}. It stands in "
            f"{partial}; mend that and resume, or terminate"
        ) from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name is on the disk as well
    finally:
        os.close(folder)


def _keep(path: Path, older: Path) -> None:
    """Give a file that is about to be replaced another name."""
    older.unlink(missing_ok=True)
    with suppress(OSError):  # there is none, or it may not have two names
        os.link(path, older)


def has_name(partial: Path, path: Path) -> bool:
    """Whether the file has its name already, beside the partial one: publish() was cut off."""
    try:
        return partial.samefile(path)
    except OSError:
        return False


def _rename_new(partial: Path, path: Path) -> None:
    """Rename, but never over another file."""
    try:
        os.link(partial, path)  # unlike rename, it never replaces
    except FileExistsError:
        if not has_name(partial, path):
            raise _exists(path) from None
    except OSError:  # a file system without links
        if path.exists() or path.is_symlink():
            raise _exists(path) from None
        partial.rename(path)
        return
    reach("between the two names")
    partial.unlink()


def _exists(path: Path) -> TargetExists:
    return TargetExists(
        f"{path} has come into being meanwhile; move it away and resume, or terminate"
    )
