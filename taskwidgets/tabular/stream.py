"""The text of a source as a stream of bytes with positions, whatever it is packed in.

A plain file whose encoding is a superset of ASCII is read where it stands, from any position. All
else, a container or an encoding whose bytes could be mistaken for marks (UTF-16, Shift JIS), can
only be read from its beginning on; it becomes UTF-8 where its own bytes are not safe. Positions
are then those of the unpacked and recoded stream, and going back is beginning anew.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.tabular.container import open_container
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.dialect import postgres_encoding
from taskwidgets.tabular.limits import Limits

__all__ = ["PlainStream", "Stream", "open_stream"]

_CHUNK_BYTES = 1 << 20
_UTF8_MARK = b"\xef\xbb\xbf"


class Stream:
    """Bytes with positions, counted from 0.

    ``path`` is the source's; ``codec`` what the stream's text is in; ``size`` its length in
    bytes, None while it is unknown; ``text_start`` is behind a byte order mark. Reading is for
    one thread at a time, except for plain files.
    """

    path: Path
    codec: str
    size: int | None
    text_start: int

    def read_into(self, position: int, view: memoryview) -> int:
        """Fill ``view`` from ``position`` on; fewer bytes than it has only at the end."""
        raise NotImplementedError

    def read_at(self, position: int, length: int) -> bytes:
        """``length`` bytes from ``position`` on; fewer only at the stream's end."""
        data = bytearray(length)
        read = self.read_into(position, memoryview(data))
        return bytes(memoryview(data)[:read])

    @property
    def fraction(self) -> float | None:
        """How much of the file is read, 0 to 1, where positions do not tell; else None."""
        return None

    def close(self) -> None:
        """Close the file; idempotent."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def open_stream(path: str | Path, description: Description, limits: Limits | None = None) -> Stream:
    """The stream of a source; SourceError when it cannot be opened or unpacked.

    SourceError, too, from reading on when it unpacks to more than the limits allow (None: the
    defaults). OptionError for an encoding that Python does not know.
    """
    path = Path(path)
    try:
        codec = codecs.lookup(description.encoding).name
        "".encode(codec)  # base64 and its like are codecs, but no encodings
    except (LookupError, TypeError, ValueError):
        raise OptionError(
            f"encoding={description.encoding!r} is not an encoding that Python knows"
        ) from None
    try:
        postgres_encoding(codec)
    except OptionError:
        return SequentialStream(path, description.container, codec, recoded=True, limits=limits)
    if description.container:
        return SequentialStream(path, description.container, codec, recoded=False, limits=limits)
    return PlainStream(path, codec)


class PlainStream(Stream):
    """A file as it stands; safe to read from several threads."""

    def __init__(self, path: Path, codec: str) -> None:
        self.path = path
        self.codec = "utf-8" if codec == "utf-8-sig" else codec
        try:
            self._file = path.open("rb", buffering=0)
            self.size = os.fstat(self._file.fileno()).st_size
            head = os.pread(self._file.fileno(), len(_UTF8_MARK), 0)
        except OSError as error:
            raise _unreadable(path, error) from None
        self.text_start = len(_UTF8_MARK) if head == _UTF8_MARK and _is_utf8(codec) else 0

    def read_into(self, position: int, view: memoryview) -> int:
        read = 0
        try:
            while read < len(view):  # a signal may give less than was asked for
                got = os.preadv(self._file.fileno(), [view[read:]], position + read)
                if not got:
                    break
                read += got
        except OSError as error:
            raise _unreadable(self.path, error) from None
        return read

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._file.closed


class SequentialStream(Stream):
    """A source that is unpacked or recoded while it is read.

    What was read last is kept, two chunks of 1 MiB at least, so that looking ahead and then
    cutting a little before does not begin anew.
    """

    def __init__(
        self,
        path: Path,
        container: str,
        codec: str,
        *,
        recoded: bool,
        limits: Limits | None = None,
    ) -> None:
        self.path = path
        self._limits = limits
        self._container = container
        self._source_codec = codec
        self._recoded = recoded
        self.codec = "utf-8" if recoded or codec == "utf-8-sig" else codec
        self.size = None
        self.text_start = 0
        self._file: BinaryIO | None = None
        self._open()
        if not recoded and _is_utf8(codec):
            try:
                while len(self._kept) < len(_UTF8_MARK) and self._more():
                    pass
            except BaseException:
                self.close()
                raise
            if self._kept.startswith(_UTF8_MARK):
                self.text_start = len(_UTF8_MARK)

    @property
    def fraction(self) -> float | None:
        """The packed file's position by its length; a little ahead, by what is buffered."""
        if self._file is None:
            return None
        descriptor = self._file.fileno()
        size = os.fstat(descriptor).st_size
        if self._ended or not size:
            return 1.0
        return min(os.lseek(descriptor, 0, os.SEEK_CUR) / size, 1.0)

    def read_into(self, position: int, view: memoryview) -> int:
        if position < self._kept_start:
            self.close()
            self._open()
        while self._kept_start + len(self._kept) < position + len(view):
            spare = min(position, self._kept_start + len(self._kept)) - self._kept_start
            if spare > 2 * _CHUNK_BYTES:  # positions before are unlikely to be asked for again
                drop = spare - _CHUNK_BYTES
                del self._kept[:drop]
                self._kept_start += drop
            if not self._more():
                break
        at = position - self._kept_start
        found = memoryview(self._kept)[at : at + len(view)] if at < len(self._kept) else b""
        view[: len(found)] = found
        length = len(found)
        if isinstance(found, memoryview):
            found.release()
        return length

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        try:
            self._file = (
                open_container(self.path, self._container, self._limits)
                if self._container
                else self.path.open("rb")
            )
        except OSError as error:
            raise _unreadable(self.path, error) from None
        self._kept = bytearray()
        self._kept_start = 0
        self._read = 0  # bytes of the unpacked source
        self._ended = False
        self._decoder = codecs.getincrementaldecoder(self._source_codec)()
        self._begun = False

    def _more(self) -> bool:
        """Read another chunk; False at the end."""
        if self._ended or self._file is None:
            return False
        try:
            chunk = self._file.read(_CHUNK_BYTES)
        except OSError as error:
            raise _unreadable(self.path, error) from None
        self._ended = not chunk
        self._kept += self._text(chunk) if self._recoded else chunk
        self._read += len(chunk)
        if self._ended:
            self.size = self._kept_start + len(self._kept)
        return True

    def _text(self, chunk: bytes) -> bytes:
        pending = len(self._decoder.getstate()[0])
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            position = self._read - pending + error.start
            raise SourceError(
                f"{self.path}: the bytes at {position:,} are not valid {self._source_codec}; "
                "give the file's encoding with encoding=",
                path=self.path,
            ) from None
        except UnicodeError:  # UTF-16 and UTF-32: which of the two byte orders it is
            raise SourceError(
                f"{self.path} has no byte order mark, so {self._source_codec} does not tell how "
                f"it is to be read; give encoding='{self._source_codec}-le', or '-be'",
                path=self.path,
            ) from None
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        # Half of a surrogate pair alone cannot be written in UTF-8; some decoders let it pass.
        return text.encode("utf-8", errors="replace")


def _is_utf8(codec: str) -> bool:
    return codec in ("utf-8", "utf-8-sig", "ascii")


def _unreadable(path: Path, error: OSError) -> SourceError:
    reason = error.strerror or str(error)
    return SourceError(f"{path} cannot be read: {reason}", path=path)
