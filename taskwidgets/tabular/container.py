"""What a source is packed in, told by its content, and a way to read what is inside.

The ending of a name proves nothing: servers unpack .gz files on the way and keep the name, and
people rename. So the first bytes decide. Reading goes forward only and in bounded memory; whatever
is wrong with the packing (a download that broke off, a flipped bit, a password) becomes a
SourceError, be it found at the first byte or in the last.
"""

from __future__ import annotations

import bz2
import errno
import io
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

import zstandard
from zlib_ng import gzip_ng

from taskwidgets.errors import SourceError
from taskwidgets.tabular.decoding import in_one_line
from taskwidgets.tabular.description import CONTAINERS
from taskwidgets.tabular.formats import foreign_format, packed_format
from taskwidgets.tabular.limits import Limits

__all__ = ["HEAD_BYTES", "detect_container", "open_container"]

HEAD_BYTES = 1 << 16  # bytes; what `detect_container` wants to see, if the file has so many

_BUFFER_BYTES = 1 << 18
# zstd may write 128 KiB for 4 bytes (a run of one byte), so input goes in by small pieces: what
# one of them can become is 64 MiB, and of usual text 10 to 20 KiB.
_ZSTD_PIECE_BYTES = 1 << 11
# As ``xz -9`` needs 65 MiB to unpack; more is for files that were made to need it.
_XZ_MEMORY_BYTES = 96 << 20
T = TypeVar("T")

_LISTED = 5  # names in an error about a zip with several files


def detect_container(head: bytes) -> str:
    """What a file with these first bytes is packed in: one of `CONTAINERS`, "" for not at all.

    ``head`` is the file's first bytes, best `HEAD_BYTES` of them. Raises SourceError, without a
    path, for formats that hold no delimited text: Parquet, workbooks, databases, other archives.
    """
    found = foreign_format(head)
    if found is not None:
        what, remedy = found
        raise SourceError(f"this {what}; {remedy}")
    return packed_format(head)


def open_container(path: Path, container: str, limits: Limits | None = None) -> BinaryIO:
    """The unpacked bytes of a file, for reading forward only; to be closed by the caller.

    ``container`` is one of `CONTAINERS`. A zip must hold exactly one file, besides folders and
    what macOS puts in. Raises SourceError, as does each read later, for an archive that is broken
    or ends too early, needs a password, holds several files, or unpacks to more than the limits
    allow (None: the defaults).
    """
    if container not in CONTAINERS:
        raise ValueError(f"container must be one of {CONTAINERS}, not {container!r}")
    if not container:
        try:
            return path.open("rb", buffering=_BUFFER_BYTES)
        except OSError as error:
            raise _unreadable(path, error) from None
    opened = _translated(path, container, lambda: _OPENERS[container](path))
    return io.BufferedReader(
        _Unpacked(path, container, opened, Limits() if limits is None else limits), _BUFFER_BYTES
    )


class _Unpacked(io.RawIOBase):
    """A library's reader whose errors are ours, and that stops at the limit."""

    def __init__(
        self, path: Path, container: str, inner: BinaryIO | io.BufferedIOBase, limits: Limits
    ) -> None:
        self._path = path
        self._container = container
        self._inner = inner
        self._limits = limits
        self._packed = os.fstat(inner.fileno()).st_size
        self._most = limits.unpacked(self._packed)
        self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = _translated(self._path, self._container, lambda: self._inner.read(len(buffer)))
        buffer[: len(data)] = data
        self._unpacked += len(data)
        if self._unpacked > self._most:
            self._limits.check_unpacked(self._path, self._packed, self._unpacked)
        return len(data)

    def fileno(self) -> int:
        """The packed file's, whose position tells how far reading has come."""
        return self._inner.fileno()

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
        super().close()


class _Zstd(io.BufferedIOBase):
    """All frames of a zstd file; unlike the library's own reader it notices a missing end."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=_BUFFER_BYTES)
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False  # the frame has had a byte, so it must end
        self._ready = b""
        self._packed = b""

    def read(self, size: int | None = -1, /) -> bytes:
        while not self._ready:
            piece = self._packed or self._file.read(_ZSTD_PIECE_BYTES)
            self._packed = b""
            if not piece:
                if self._begun:
                    raise EOFError
                return b""
            self._begun = True
            self._ready = self._frame.decompress(piece)
            if self._frame.eof:
                self._packed = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._begun = False
        if size is None or size < 0:
            size = len(self._ready)
        given, self._ready = self._ready[:size], self._ready[size:]
        return given

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


class _Xz(io.BufferedIOBase):
    """All streams of an xz file; unlike the library's own reader it bounds the memory.

    A stream's header says how much memory unpacking takes, up to 4 GiB.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=_BUFFER_BYTES)
        self._stream = self._new()

    @staticmethod
    def _new() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_XZ_MEMORY_BYTES)

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = -1 if size is None else size
        packed = b""
        while True:
            if self._stream.eof:
                # Streams may follow each other, with zero bytes between them (xz format, 2.2).
                packed = self._stream.unused_data
                while not packed.lstrip(b"\0") and (more := self._file.read(_BUFFER_BYTES)):
                    packed = packed.lstrip(b"\0") + more
                packed = packed.lstrip(b"\0")
                if not packed:
                    return b""
                self._stream = self._new()
            elif self._stream.needs_input and not packed:
                packed = self._file.read(_BUFFER_BYTES)
                if not packed:
                    raise EOFError
            data = self._stream.decompress(packed, wanted)
            packed = b""
            if data:
                return data

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


class _ZipMember(io.BufferedIOBase):
    """The one file in a zip; closing it closes the archive."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        try:
            self._archive = zipfile.ZipFile(self._file)
            self._member = self._archive.open(_only_member(path, self._archive))
        except BaseException:
            self._file.close()
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        return self._member.read(-1 if size is None else size)

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._member.close()
        self._archive.close()
        self._file.close()
        super().close()


def _open_gzip(path: Path) -> BinaryIO:
    return gzip_ng.open(path, "rb")  # type: ignore[no-untyped-call,no-any-return]


_OPENERS: dict[str, Callable[[Path], BinaryIO | io.BufferedIOBase]] = {
    "gzip": _open_gzip,
    "zstd": _Zstd,
    "bzip2": bz2.BZ2File,
    "xz": _Xz,
    "zip": _ZipMember,
}


def _only_member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The file in the archive; SourceError when there is none, or more than one."""
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir()
        and not member.filename.startswith("__MACOSX/")
        and not member.filename.endswith(".DS_Store")
    ]
    names = [member.filename for member in members]
    if "[Content_Types].xml" in names:
        raise SourceError(f"{path} is an Office document; export it as CSV first", path=path)
    if len(members) != 1:
        shown = ", ".join(map(repr, names[:_LISTED])) + (" ..." if names[_LISTED:] else "")
        what = f"{len(names):,} files ({shown})" if names else "no file"
        raise SourceError(
            f"{path} is a zip with {what}; one with a single file can be loaded, so unpack it "
            "first",
            path=path,
        )
    if members[0].flag_bits & 0x1:  # bit 0: encrypted (APPNOTE 4.4.4)
        raise SourceError(f"{path} is a zip with a password; unpack it first", path=path)
    return members[0]


def _translated(path: Path, container: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except MemoryError:
        raise SourceError(
            f"{path} is a {container} file that needs more memory to be unpacked than there is; "
            "unpack it first",
            path=path,
        ) from None
    except EOFError:
        raise SourceError(
            f"{path} is a {container} file that ends too early; it was probably not copied or "
            "downloaded completely",
            path=path,
        ) from None
    except NotImplementedError as error:
        raise SourceError(
            f"{path} is packed in a way that cannot be read here: {in_one_line(error)}; unpack it "
            "first",
            path=path,
        ) from None
    except SourceError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a place before the file's beginning
            raise _unreadable(path, error) from None
        raise _broken(path, container, error) from None
    except lzma.LZMAError as error:
        if "limit" in str(error).lower():  # its only sign; there is no number
            raise SourceError(
                f"{path} is an xz file that takes more than {_XZ_MEMORY_BYTES >> 20} MiB of memory "
                "to unpack; pack it again, with xz -9 at most",
                path=path,
            ) from None
        raise _broken(path, container, error) from None
    except Exception as error:  # noqa: BLE001 - whatever the library's code meets in damaged bytes
        raise _broken(path, container, error) from None


def _broken(path: Path, container: str, error: Exception) -> SourceError:
    return SourceError(
        f"{path} is a broken {container} file: {in_one_line(error)}; copy or download it again",
        path=path,
    )


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(f"{path} cannot be read: {error.strerror or error}", path=path)
