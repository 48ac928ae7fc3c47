"""Which text encoding a source is in.

In this order: a byte order mark says it; NUL bytes at every second place say UTF-16; bytes that
are valid UTF-8, with at least one character beyond ASCII, are UTF-8, as other encodings hardly
ever look so by accident. For the rest see ``legacy_encoding.py``.

UTF-8 is decided on every byte of files up to 256 MiB, and on the excerpts of larger ones.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from taskwidgets.errors import SourceError
from taskwidgets.tabular.detection.legacy_encoding import find_legacy_encoding

__all__ = ["Encoding", "check_utf8", "decode", "detect_encoding", "given_encoding"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_HIGH_RUN = re.compile(rb"[\x80-\xff]+")
_MULTIBYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)
CERTAIN_FIT = 0.97  # the share of characters at their places from which a guess is a sure one
CLOSE = 0.1  # of two encodings whose scores are closer, the text does not tell which one it is


@dataclass(frozen=True, slots=True)
class Encoding:
    """An encoding by Python's name, how sure it is (0..1), and why, in words."""

    name: str
    sure: float
    why: str

    @property
    def codec(self) -> str:
        """The codec for a piece from the middle, where no byte order mark can be."""
        return {"utf-8-sig": "utf-8"}.get(self.name, self.name)


def detect_encoding(
    head: bytes, pieces: Iterable[bytes] = (), utf8: bool | None = None
) -> Encoding:
    """The encoding of a source with this head and these pieces from its middle and end.

    ``utf8``: whether all of its bytes are valid UTF-8, where somebody has looked.
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return Encoding(name, 1.0, "a byte order mark says so")
    wide = _wide(head)
    if wide:
        return wide
    data = [head, *pieces]
    beyond = sum(len(run) for piece in data for run in _HIGH_RUN.findall(piece))
    if utf8 is not False and not beyond:
        if b"\x1b$" in head:
            try:
                head.decode("iso2022_jp")
            except UnicodeDecodeError:
                pass
            else:
                return Encoding("iso2022_jp", 0.9, "escape sequences of ISO-2022-JP")
        return Encoding("utf-8", 1.0, "nothing but ASCII" if utf8 is None else "valid throughout")
    valid = sum(len(_MULTIBYTE.findall(piece)) for piece in data)
    wrong = sum(_wrong_bytes(piece) for piece in data)
    if not wrong:
        sure = 1.0 if utf8 else 0.98
        if utf8 is False:
            return Encoding("utf-8", 0.8, "valid in all that was looked at, but not throughout")
        return Encoding("utf-8", sure, f"valid, with {valid:,} characters beyond ASCII")
    if valid >= 2 and valid >= 4 * wrong:
        return Encoding(
            "utf-8", 0.8, f"{valid:,} characters beyond ASCII are valid, {wrong:,} bytes are not"
        )
    return _legacy(data)


def given_encoding(path: Path, name: str, head: bytes) -> Encoding:
    """The encoding that a caller gave; of UTF-16 and UTF-32 without a mark, with its byte order.

    SourceError where neither the mark nor the bytes tell the order.
    """
    family = codecs.lookup(name).name
    marked = any(head.startswith(mark) for mark, _ in _MARKS if mark != codecs.BOM_UTF8)
    if family in ("utf-16", "utf-32") and head and not marked:
        found = _wide(head)
        if found is None or not found.name.startswith(family):
            raise SourceError(
                f"{path} has no byte order mark, so {family} does not tell how it is to be read; "
                f"give encoding='{family}-le', or '-be', if it is {family} at all",
                path=path,
            )
        name = found.name
    return Encoding(name, 1.0, "as given")


def check_utf8(blocks: Iterable[bytes]) -> bool:
    """Whether the blocks, one after another, are valid UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in blocks:
            if not block.isascii() or decoder.getstate()[0]:
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def decode(piece: bytes, encoding: Encoding, *, head: bool, big: bool | None = None) -> str:
    """A piece as text; what is wrong or cut off becomes U+FFFD.

    ``head``: the piece begins the source, so a byte order mark may be there. ``big``: the byte
    order of UTF-16 and UTF-32 in a piece from the middle.
    """
    name = encoding.name if head else encoding.codec
    if not head and name in ("utf-16", "utf-32"):
        name += "-be" if big else "-le"
    return piece.decode(name, errors="replace")


def _wide(head: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a byte order mark, by where the NUL bytes are."""
    sample = head[: 1 << 16]
    if len(sample) < 4:
        return None
    quarters = [sample[place::4].count(0) / max(1, len(sample[place::4])) for place in range(4)]
    if min(quarters[1:]) > 0.9 and quarters[0] < 0.1:
        return Encoding("utf-32-le", 0.9, "three of four bytes are NUL")
    if min(quarters[:3]) > 0.9 and quarters[3] < 0.1:
        return Encoding("utf-32-be", 0.9, "three of four bytes are NUL")
    even = sample[::2].count(0) / max(1, len(sample[::2]))
    odd = sample[1::2].count(0) / max(1, len(sample[1::2]))
    # Western text has nearly all of them, text of other scripts its delimiters and digits.
    for share, other, name, newline in (
        (odd, even, "utf-16-le", b"\n\x00"),
        (even, odd, "utf-16-be", b"\x00\n"),
    ):
        if share > 0.2 or (share > 0.03 and other == 0 and newline in sample):
            if other > share / 4:
                continue
            try:
                sample[: len(sample) & ~1].decode(name)
            except UnicodeDecodeError as error:
                if error.start < len(sample) - 4:
                    continue
            return Encoding(name, 0.9, "NUL at every second byte, as in UTF-16")
    return None


def _wrong_bytes(piece: bytes) -> int:
    """Bytes beyond ASCII that are no part of valid UTF-8, those at a piece's edges left out."""
    rest = _MULTIBYTE.sub(b"", piece.strip() if len(piece) < 8 else piece)
    wrong = sum(len(run) for run in _HIGH_RUN.findall(rest))
    if wrong and len(piece) >= 1 << 15:  # a piece of a larger file: it may cut a character
        edge = rest[:3] + rest[-3:]
        wrong -= sum(len(run) for run in _HIGH_RUN.findall(edge))
    return max(wrong, 0)


def _legacy(data: list[bytes]) -> Encoding:
    best, behind = find_legacy_encoding(data)
    if best is None:
        return Encoding("cp1252", 0.3, "no encoding fits; this one reads most bytes")
    sure = 0.5 if best.fit < CERTAIN_FIT or behind < CLOSE else 0.85
    return Encoding(best.name, sure, "letters and signs as people write them, by chardet's guesses")
