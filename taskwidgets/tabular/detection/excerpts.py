"""The bytes that detection looks at: all of a small file, pieces of a large one.

What is not packed is read sparsely: its head, blocks spread evenly behind it, and its tail. What
is packed can only be read from its beginning, so of a large one only the head is seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.errors import SourceError
from taskwidgets.tabular.container import HEAD_BYTES, detect_container, open_container
from taskwidgets.tabular.limits import Limits

__all__ = ["Excerpts", "read_excerpts", "stream_blocks"]

# 1 MiB is 10,000 rows of flights: cut, described and typed in half a second.
WHOLE_BYTES = 1 << 20
_HEAD_BYTES = 1 << 18
_TAIL_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 15
_BLOCKS = 24
_STREAM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Excerpts:
    """Pieces of a source, unpacked.

    ``head`` begins with its first byte, and is all of it where ``whole``. ``blocks`` are
    (offset, bytes), each beginning anywhere in a record; ``tail`` ends with its last byte, and is
    empty where the end was not seen. ``size`` is in unpacked bytes, None where unknown.
    """

    container: str
    head: bytes
    blocks: tuple[tuple[int, bytes], ...] = ()
    tail: bytes = b""
    size: int | None = None
    whole: bool = True


def read_excerpts(path: Path, whole_bytes: int = WHOLE_BYTES) -> Excerpts:
    """Look into a source; SourceError when it cannot be read, or is of a foreign format."""
    try:
        with path.open("rb", buffering=0) as file:
            first = _read(file.fileno(), 0, HEAD_BYTES)
            container = _container(path, first)
            if container:
                return _packed(path, container, whole_bytes)
            size = os.fstat(file.fileno()).st_size
            if size <= whole_bytes:
                return Excerpts("", _read(file.fileno(), 0, size), size=size)
            room = size - _HEAD_BYTES - _TAIL_BYTES - _BLOCK_BYTES
            offsets = [
                # even offsets, so that two-byte characters stay whole
                (_HEAD_BYTES + max(room, 0) * number // (_BLOCKS - 1)) & ~3
                for number in range(_BLOCKS)
            ]
            tail_offset = (size - _TAIL_BYTES) & ~3
            return Excerpts(
                "",
                _read(file.fileno(), 0, _HEAD_BYTES),
                tuple((offset, _read(file.fileno(), offset, _BLOCK_BYTES)) for offset in offsets),
                _read(file.fileno(), tail_offset, size - tail_offset),
                size,
                whole=False,
            )
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}", path=path) from None


def stream_blocks(path: Path, container: str, limits: Limits | None = None) -> Iterator[bytes]:
    """All of a source, unpacked, in blocks of 1 MiB."""
    try:
        with open_container(path, container, limits) as file:
            while block := file.read(_STREAM_BYTES):
                yield block
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}", path=path) from None


def _packed(path: Path, container: str, whole_bytes: int) -> Excerpts:
    with open_container(path, container) as file:
        head = file.read(whole_bytes + 1)
    if container:
        # Something packed in a packed file is refused as what it is; so is a workbook.
        inner = _container(path, head[:HEAD_BYTES])
        if inner:
            raise SourceError(
                f"{path} is a {container} file that holds a {inner} file; unpack it once",
                path=path,
            )
    if len(head) <= whole_bytes:
        return Excerpts(container, head, size=len(head))
    return Excerpts(container, head[:whole_bytes], whole=False)


def _container(path: Path, head: bytes) -> str:
    try:
        return detect_container(head)
    except SourceError as error:
        raise SourceError(str(error).replace("this ", f"{path} ", 1), path=path) from None


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """Up to ``length`` bytes; a network file system may give fewer at a time."""
    pieces = []
    while length > 0 and (piece := os.pread(descriptor, length, offset)):
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)
