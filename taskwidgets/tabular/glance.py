"""A first look at a segment, for forms that only few values have: cheap, and blind for columns.

Most segments have no byte sequence at all that could be a misfit of a number: no ``,0`` before a
digit or a letter, no ``,+``, no blank at a delimiter, no ``1e5``, no eight digits in an aligned
word of eight bytes (as each number of 16 digits has). To see that takes a few comparisons over
all bytes, half a nanosecond a byte, where finding each value takes three. A segment that
has one, be it in a column of text, is looked at closely (`screening`).

Of days, moments and truth values no such sequence tells. Only where there is one such column, and
it is the last one, are its values found from the line ends, and compared with the first.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.types import fits

__all__ = ["Glance"]

_BLOCK_BYTES = 1 << 18  # so that a block and what is made of it stay in a core's cache
_NUMBERS = ("integer", "bigint", "numeric", "double precision")
_NEWLINE, _CR, _SPACE, _PLUS, _ZERO, _MINUS = b"\n\r +0-"
_LONG = 16  # digits: a float may not hold so many
# The upper half of each byte of eight is 3 for digits and for six marks; with 6 added, for digits
# only.
_UPPER = np.uint64(0xF0F0F0F0F0F0F0F0)
_DIGITS = np.uint64(0x3030303030303030)
_SIXES = np.uint64(0x0606060606060606)

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]


class Glance:
    """Looks at whole records of ``columns`` fields; ``kinds`` as for `screening.Screen`."""

    def __init__(self, dialect: Dialect, columns: int, kinds: Mapping[int, str]) -> None:
        self._delimiter = ord(dialect.delimiter)
        self._quote = dialect.quote_byte
        self._codec = dialect.codec
        numbers = {index: kind for index, kind in kinds.items() if kind in _NUMBERS}
        others = [index for index in kinds if index not in numbers]
        self.is_of_use = not others or others == [columns - 1] != [0]
        self._last = kinds.get(columns - 1) if others else None
        self._has_numbers = bool(numbers)
        self._first_is_number = 0 in numbers
        self._has_whole = any(kind != "double precision" for kind in numbers.values())
        self._has_floats = "double precision" in numbers.values()
        self._has_fractions = self._has_floats or "numeric" in numbers.values()

    def is_odd(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether the segment is to be looked at closely."""
        array = np.frombuffer(data, dtype=np.uint8)
        if self._has_numbers and self._has_odd_start(array, 0):
            return True
        template = self._template(array) if self._last else b""
        if template is None:
            return True
        for at in range(0, len(array), _BLOCK_BYTES):
            block = array[at : at + _BLOCK_BYTES + 2]  # a pair may stand across the border
            ends = np.flatnonzero(block[:_BLOCK_BYTES] == _NEWLINE)
            ends += at
            if template and self._is_another(array, ends, template):
                return True
            if self._has_numbers and self._has_odd_number(array, block, ends, at):
                return True
        return False

    def _has_odd_start(self, array: Bytes, at: int) -> bool:
        """Whether the first record begins with what may be a misfit."""
        first = bytes(array[at : at + 3])
        return self._first_is_number and (
            first[:1] in (b"+", b" ") or (first[:1] == b"0" and self._goes_on(first[1:2]))
        )

    def _goes_on(self, following: bytes) -> bool:
        return following >= b"0" and following[0] != self._delimiter

    def _has_odd_number(self, array: Bytes, block: Bytes, ends: Places, at: int) -> bool:
        text = block.tobytes()
        if any(mark in text for mark in self._rare):
            return True
        is_quoted = self._quote in text
        starts = [self._delimiter, self._quote] if is_quoted else [self._delimiter]
        if any(self._has_leading_zero(block, start) for start in starts):
            return True
        if b"+" in text and any(_has_pair(block, start, _PLUS) for start in starts):
            return True
        if self._first_is_number:
            first = array.take(ends + 1, mode="clip")
            second = array.take(ends + 2, mode="clip")
            odd = (first == _ZERO) & (second >= _ZERO) & (second != self._delimiter)
            if (odd | (first == _PLUS) | (first == _SPACE)).any():
                return True
        if b" " in text and self._has_blank_edge(array, block, ends, starts):
            return True
        if self._has_whole and b"_" in text and _is_between_digits(block, block == ord("_")):
            return True
        if (
            self._has_fractions
            and (b"e" in text or b"E" in text)
            and _is_between_digits(block, (block | np.uint8(0x20)) == ord("e"), signed=True)
        ):
            return True
        return self._has_floats and _has_long_number(array, at)

    @property
    def _rare(self) -> list[bytes]:
        """Blanks that few files have, and that Postgres passes over around a number."""
        return [] if self._delimiter == ord("\t") else [b"\t"]

    def _has_leading_zero(self, block: Bytes, start: int) -> bool:
        """Whether a zero that stands behind ``start`` is not all of the number's whole part."""
        places = _pairs(block, start, _ZERO)
        following = block.take(places + 2, mode="clip")
        odd = (following >= _ZERO) & (following != self._delimiter) & (places + 2 < len(block))
        return bool(odd.any())

    def _has_blank_edge(self, array: Bytes, block: Bytes, ends: Places, starts: list[int]) -> bool:
        """Whether a blank is a value's first or last byte."""
        blanks = block == _SPACE
        for mark in starts:
            marks = block == mark
            if (blanks[1:] & marks[:-1]).any() or (blanks[:-1] & marks[1:]).any():
                return True
        last = array.take(ends - 1, mode="clip")
        last = np.where(last == _CR, array.take(ends - 2, mode="clip"), last)
        return bool((last == _SPACE).any()) or bool(array[-1] == _SPACE)

    def _template(self, array: Bytes) -> bytes | None:
        """The last value of the first record, if that is one as the column should have."""
        assert self._last is not None
        head = bytes(array[:_BLOCK_BYTES])
        record, newline, _ = head.partition(b"\n")
        before, delimiter, value = record.removesuffix(b"\r").rpartition(bytes([self._delimiter]))
        if not newline or not delimiter or bytes([self._quote]) in before:
            return None
        if array[-1] != _NEWLINE:  # a last record without a line end would not be seen
            return None
        end = b"\r" if record.endswith(b"\r") else b""
        is_good = fits(value.decode(self._codec, errors="replace"), self._last)
        return delimiter + value + end if is_good and value[:1].isdigit() else None

    def _is_another(self, array: Bytes, ends: Places, template: bytes) -> bool:
        """Whether a record ends with anything but digits where the first one has them."""
        starts = ends - len(template)
        for offset, byte in enumerate(template):
            if bytes([byte]).isdigit():
                continue
            if (array.take(starts + offset, mode="clip") != byte).any():
                return True
        return False


def _pairs(block: Bytes, first: int, second: int) -> Places:
    """Where one byte stands right before another."""
    wanted = np.uint16(first | second << 8)
    length = len(block)
    even = block[: length // 2 * 2].view("<u2") == wanted
    odd = block[1 : 1 + (length - 1) // 2 * 2].view("<u2") == wanted
    return np.concatenate((np.flatnonzero(even) * 2, np.flatnonzero(odd) * 2 + 1))


def _has_pair(block: Bytes, first: int, second: int) -> bool:
    return bool(len(_pairs(block, first, second)))


def _has_long_number(array: Bytes, at: int) -> bool:
    """Whether some sixteen digits stand together in the block that begins here.

    Then one of the words of eight bytes, whatever they are aligned to, is all digits.
    """
    block = array[at : at + _BLOCK_BYTES + 8]
    words = block[: len(block) // 8 * 8].view(np.uint64)
    places = np.flatnonzero((words & _UPPER) == _DIGITS)
    places = places[((words[places] + _SIXES) & _UPPER) == _DIGITS] * 8 + at
    digits = np.full(len(places), 8)
    for step in (-1, 1):
        goes_on = np.ones(len(places), dtype=np.bool_)
        edge = places + (7 if step > 0 else 0)
        for offset in range(1, _LONG - 8 + 1):
            beside = edge + step * offset
            goes_on &= array.take(beside, mode="clip") - np.uint8(_ZERO) <= 9
            goes_on &= (beside >= 0) & (beside < len(array))
            digits += goes_on
    return bool((digits >= _LONG).any())


def _is_between_digits(block: Bytes, marks: npt.NDArray[np.bool_], *, signed: bool = False) -> bool:
    """Whether a mark has a digit on either side; or, with ``signed``, a sign behind it."""
    places = np.flatnonzero(marks)
    before = block.take(places - 1, mode="clip") - np.uint8(_ZERO) <= 9
    behind = block.take(places + 1, mode="clip")
    good = behind - np.uint8(_ZERO) <= 9
    if signed:
        good |= (behind == _PLUS) | (behind == _MINUS)
    return bool((before & good & (places > 0)).any())
