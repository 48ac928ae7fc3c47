"""Compressed exports: one member (gzip) or frame (zstd) a range.

Both formats are, by their definition, what stands one after the other (RFC 1952, 2.2; RFC 8878, 3),
so that ranges can be compressed by several workers at once and a file can be cut between two.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import zstandard
from zlib_ng import zlib_ng

__all__ = ["Compressor", "compressor", "is_plain"]

GZIP_LEVEL = 6  # gzip's own default
ZSTD_LEVEL = 3  # zstd's own default
GZIP_WINDOW = 31  # zlib's code for: the largest window, with gzip's header


class Compressor(Protocol):
    """Compresses one range."""

    def compress(self, data: bytes | memoryview) -> bytes | memoryview:
        """What comes out for these bytes now, perhaps nothing."""

    def flush(self) -> bytes:
        """The rest."""


class _Plain:
    def compress(self, data: bytes | memoryview) -> bytes | memoryview:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(path: Path) -> Compressor:
    """A new one, by the ending of the file's name: ``.gz``, ``.zst``, or none."""
    match path.suffix.lower():
        case ".gz":
            return zlib_ng.compressobj(GZIP_LEVEL, zlib_ng.DEFLATED, GZIP_WINDOW)
        case ".zst":
            return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        case _:
            return _Plain()


def is_plain(path: Path) -> bool:
    """Whether the file is not compressed."""
    return path.suffix.lower() not in (".gz", ".zst")
