"""A first look at a segment, for forms that only few values have: cheap, and blind for columns.

Most segments have no byte sequence at all that could be a misfit of a number: no ``,0`` before a
digit or a letter, no ``,+`` or ``,-0``, no blank at a delimiter, no ``1e5``, no eight digits in an
aligned word of eight bytes (as each number of 16 digits has). To see that takes a few comparisons
over all bytes, and a third of the time of finding each value. A segment that has one, be it in a
column of text, is looked at closely (`screening`).

Of days, moments and truth values no such sequence tells. Only where there is one such column, and
it is the last one, are its values found from the line ends, and compared with the first.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.types import fits

__all__ = ["Glance"]

_BLOCK_BYTES = 1 << 18  # so that a block and what is made of it stay in a core's cache
_NUMBERS = ("integer", "bigint", "numeric", "double precision")
_NEWLINE, _CR, _SPACE, _PLUS, _ZERO, _MINUS, _DOT = b"\n\r +0-."
_FEW = 50  # of a block: looked at one by one
_LONG = 16  # digits: a float may not hold so many
# The upper half of each byte of eight is 3 for digits and for six marks; with 6 added, for digits
# only.
_UPPER = np.uint64(0xF0F0F0F0F0F0F0F0)
_DIGITS = np.uint64(0x3030303030303030)
_SIXES = np.uint64(0x0606060606060606)

Bytes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


class _Scratch(threading.local):
    """Flags that a thread uses again and again: new memory costs more than what fills it.

    Much more where memory goes back to the system at once, as in Dask's workers, which are started
    with MALLOC_TRIM_THRESHOLD_.
    """

    def __init__(self) -> None:
        self._flags = np.empty((4, 0), dtype=np.bool_)

    def flags(self, number: int, size: int) -> Flags:
        """So many, good until the thread asks for the same number again."""
        if size > self._flags.shape[1]:
            self._flags = np.empty((4, size), dtype=np.bool_)
        return self._flags[number, :size]


_scratch = _Scratch()


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
        self._wholes = {i for i, kind in numbers.items() if kind in ("integer", "bigint")}
        self._has_numbers = bool(numbers)
        self._has_whole = any(kind != "double precision" for kind in numbers.values())
        self._has_floats = "double precision" in numbers.values()
        self._has_fractions = self._has_floats or "numeric" in numbers.values()

    def is_odd(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether the segment is to be looked at closely."""
        array = np.frombuffer(data, dtype=np.uint8)
        if self._has_numbers and (self._begins_oddly(array) or array[0] == _SPACE):
            return True
        template = self._template(array) if self._last else b""
        if template is None:
            return True
        for at in range(0, len(array), _BLOCK_BYTES):
            block = array[at : at + _BLOCK_BYTES + 3]  # a form may stand across the border
            newlines = block == _NEWLINE
            if template:
                ends = _where(newlines[:_BLOCK_BYTES])
                ends += at
                if self._is_another(array, ends, template):
                    return True
            if self._has_numbers and self._has_odd_number(block, newlines, array, at):
                return True
            if self._has_floats and _has_long_number(array, at):
                return True
        return False

    def _begins_oddly(self, array: Bytes) -> bool:
        """The same of the very first value, before which nothing stands."""
        first = bytes(array[:3])
        if first.startswith(b"-0"):
            return first[2:] != b"."
        return first[:1] == b"+" or first[:1] == b"0" <= first[1:2]

    def _has_odd_number(self, block: Bytes, starts: Flags, array: Bytes, at: int) -> bool:
        """Whether there is a form of a number that Postgres would not give back.

        ``starts`` are the line ends, and then all behind which a value may begin; the block begins
        at ``at`` of the whole ``array``.
        """
        text = block.tobytes()
        if self._delimiter != ord("\t") and b"\t" in text:  # a blank, too
            return True
        if b" " in text and self._has_blank_edge(block, starts):
            return True
        if self._has_code(block, starts, array, at):
            return True
        has_marks = self._has_whole and b"_" in text
        has_exponents = self._has_fractions and (b"e" in text or b"E" in text)
        if not (has_marks or has_exponents):
            return False
        digits = (block - np.uint8(_ZERO)) <= 9
        if has_marks and _is_between(digits, block == ord("_")):
            return True
        return has_exponents and _is_between(digits, (block | np.uint8(0x20)) == ord("e"))

    def has_code(self, data: bytes | bytearray | memoryview) -> bool:
        """Whether a value may begin with a plus, or with a zero that is not all of its whole part.

        Or with ``-0``, but for ``-0.5``. A quarter of the work of ``is_odd``.
        """
        if not self._has_numbers:
            return False
        array = np.frombuffer(data, dtype=np.uint8)
        if self._begins_oddly(array):
            return True
        for at in range(0, len(array), _BLOCK_BYTES):
            block = array[at : at + _BLOCK_BYTES + 3]
            starts = _scratch.flags(3, len(block))
            np.equal(block, _NEWLINE, out=starts)
            if self._has_code(block, starts, array, at):
                return True
        return False

    def _has_code(self, block: Bytes, starts: Flags, array: Bytes, at: int) -> bool:
        zeros, found = _scratch.flags(0, len(block)), _scratch.flags(1, len(block))
        for mark in (self._delimiter, self._quote):
            np.equal(block, mark, out=found)
            starts |= found
        np.equal(block, _ZERO, out=zeros)
        if self._wholes and self._has_negative_zero(block, starts, zeros, array, at):
            return True
        zeros[1:] &= starts[:-1]
        zeros[0] = False  # what stands before it was looked at with the block before
        places = np.flatnonzero(zeros[:-1])  # few: zeros alone, and those before a point
        behind = block[places + 1]
        if ((behind >= _ZERO) & (behind != self._delimiter)).any():
            return True
        np.equal(block, _PLUS, out=found)
        found[1:] &= starts[:-1]
        return bool(found[1:].any())

    def _has_negative_zero(
        self, block: Bytes, starts: Flags, zeros: Flags, array: Bytes, at: int
    ) -> bool:
        """Whether a value of a column of whole numbers may begin with ``-0``.

        Among floats, that is a number which programs print.
        """
        found = _scratch.flags(1, len(block))[:-2]
        np.equal(block[1:-1], _MINUS, out=found)
        found &= starts[:-2]
        found &= zeros[2:]
        if not found.any():
            return False
        behind = np.flatnonzero(found) + 3
        behind = behind[block.take(behind, mode="clip") != _DOT]
        return len(behind) > _FEW or any(
            self._may_be_whole(array, at + one - 2) for one in behind.tolist()
        )

    def _may_be_whole(self, array: Bytes, position: int) -> bool:
        """Whether the value that begins here may be of a column of whole numbers."""
        before = array[max(0, position - _BLOCK_BYTES) : position].tobytes()
        line = before[before.rfind(b"\n") + 1 :]
        if self._quote in line or len(line) == _BLOCK_BYTES:
            return True
        return line.count(bytes([self._delimiter])) in self._wholes

    def _has_blank_edge(self, block: Bytes, newlines: Flags) -> bool:
        """Whether a blank is a value's first or last byte."""
        edges = newlines | (block == self._delimiter) | (block == self._quote) | (block == _CR)
        blanks = block == _SPACE
        return bool(
            (blanks[1:] & edges[:-1]).any() or (blanks[:-1] & edges[1:]).any() or blanks[-1]
        )

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
        offsets = [at for at, byte in enumerate(template) if not bytes([byte]).isdigit()]
        places = (ends - len(template))[:, np.newaxis] + np.array(offsets)
        expected = np.frombuffer(template, dtype=np.uint8)[offsets]
        return bool((array.take(places, mode="clip") != expected).any())


def _where(flags: Flags) -> Places:
    """As flatnonzero, in half the time where few flags are set."""
    whole = len(flags) // 8 * 8
    groups = np.flatnonzero(flags[:whole].view(np.uint64) != 0)
    found = np.flatnonzero(flags[:whole].reshape(-1, 8)[groups])
    places = groups[found >> 3] * 8 + (found & 7)
    return np.concatenate((places, np.flatnonzero(flags[whole:]) + whole))


def _has_long_number(array: Bytes, at: int) -> bool:
    """Whether some sixteen digits stand together in the block that begins here.

    Then one of the words of eight bytes, whatever they are aligned to, is all digits.
    """
    block = array[at : at + _BLOCK_BYTES + 8]
    words = block[: len(block) // 8 * 8].view(np.uint64)
    alike = (words & _UPPER) == _DIGITS
    if not alike.any():
        return False
    places = np.flatnonzero(alike)
    places = places[((words[places] + _SIXES) & _UPPER) == _DIGITS] * 8 + at
    if not len(places):
        return False
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


def _is_between(digits: Flags, marks: Flags) -> bool:
    """Whether a mark has a digit on either side."""
    marks[1:-1] &= digits[:-2]
    marks[1:-1] &= digits[2:]
    return bool(marks[1:-1].any())
