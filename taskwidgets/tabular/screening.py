"""Whether a segment may hold misfits, told without reading its values one by one.

A segment that COPY gets as it stands would else never be looked at, and Postgres reads more than
`types.fits` allows. So the bytes at the places where such values differ are looked at, with numpy,
for all values of a block at once: the first bytes tell ``007``, ``+5`` and ``-0``, the length and
the dashes tell a day, the last bytes tell ``1e5``. Whatever is not of the usual form is then read
by itself. Measured on flight records, in CPU time: 5 ns a byte, 1.7 where a first look (`glance`)
suffices, and 0.4 where only codes are looked for. Loading takes 17, most of it the server's.

One thing is taken on trust: a decimal of 16 to 24 characters among floats is a float with all its
digits, as programs print it, and not a number that is more precise than a float can be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.fields import split_text
from taskwidgets.tabular.glance import Glance
from taskwidgets.tabular.types import fits

__all__ = ["Screen"]

# bytes that are looked at at once: the calls of numpy for a block cost as much as some 10 KiB of it
_BLOCK_BYTES = 1 << 19
_SMALL_BYTES = 1 << 16  # below that, a first look saves nothing
_KEPT_VALUES = 5_000  # unusual values of a column that are known to fit
_SAFE_FLOAT = 15  # so short a decimal is the same number after a round trip through a float
_LONGEST_NUMERIC = 1000  # digits, as in `types`
_LONGEST_FLOAT = 24  # characters of what programs print for one

_NEWLINE, _CR, _SPACE, _MINUS, _PLUS, _DOT, _COLON = b"\n\r -+.:"
_ZERO, _ONE, _NINE, _T, _Z, _UNDERSCORE = b"019TZ_"

Bytes: TypeAlias = npt.NDArray[np.uint8]
Places: TypeAlias = npt.NDArray[np.intp]
Flags: TypeAlias = npt.NDArray[np.bool_]


class Screen:
    """Looks through whole records of ``columns`` fields for misfits of the columns of ``kinds``.

    ``kinds`` are inferred types by the column's index. Safe to share between threads.
    """

    def __init__(self, dialect: Dialect, columns: int, kinds: Mapping[int, str]) -> None:
        self._dialect = dialect
        self._columns = columns
        self._kinds = dict(kinds)
        self._delimiter = ord(dialect.delimiter)
        self._quote = dialect.quote_byte
        self._null = np.frombuffer(dialect.null_value.encode(dialect.codec), dtype=np.uint8)
        self._glance = Glance(dialect, columns, kinds)
        self._good: dict[int, set[bytes]] = {index: set() for index in kinds}
        whole = [index for index, kind in kinds.items() if kind in ("integer", "bigint")]
        self._groups = [
            (np.array(members), look)
            for members, look in (
                (whole, _odd_whole),
                ([index for index, kind in kinds.items() if kind == "numeric"], _odd_decimals),
                ([i for i, kind in kinds.items() if kind == "double precision"], _odd_floats),
                ([index for index, kind in kinds.items() if kind == "boolean"], _odd_booleans),
                ([index for index, kind in kinds.items() if kind == "date"], _odd_days),
                ([index for index, kind in kinds.items() if kind == "timestamp"], _odd_moments),
                ([i for i, kind in kinds.items() if kind == "timestamptz"], _odd_zoned),
            )
            if members
        ]
        self._numbers = np.zeros(columns, dtype=np.bool_)
        self._numbers[[*whole, *(i for i, kind in kinds.items() if kind == "numeric")]] = True

    def suspects(self, data: bytes | bytearray | memoryview, *, codes_only: bool = False) -> bool:
        """Whether there may be a misfit; where not, there is none.

        Records that have another number of fields are suspect too, which COPY refuses anyway.
        ``codes_only``: look closely only where a value begins with a plus or a leading zero.
        """
        if not self._kinds or not len(data):
            return False
        glance = self._glance
        if codes_only and not glance.has_code(data):
            return False
        if len(data) >= _SMALL_BYTES and glance.is_of_use and not glance.is_odd(data):
            return False
        array = np.frombuffer(data, dtype=np.uint8)
        at, size = 0, _BLOCK_BYTES
        while at < len(array):
            block = array[at : at + size]
            ended = at + size >= len(array)
            read = self._look(block, ended=ended)
            if read is None:
                return True
            if read == 0:  # not one whole record
                if ended:
                    return True
                size *= 2
                continue
            at, size = at + read, _BLOCK_BYTES
        return False

    def _look(self, block: Bytes, *, ended: bool) -> int | None:
        """How many bytes, whole records, are looked through; None where there may be a misfit."""
        text = block.tobytes()
        ends = block == self._delimiter
        ends |= block == _NEWLINE
        quoted = text.find(self._quote) >= 0
        if quoted:
            ends &= ~np.bitwise_xor.accumulate(block == self._quote)
        found = np.flatnonzero(ends)
        if ended and (not len(found) or found[-1] != len(block) - 1 or block[-1] != _NEWLINE):
            found = np.append(found, len(block))
        rows = len(found) // self._columns
        if rows == 0:
            return 0
        if ended and len(found) != rows * self._columns:
            return None
        found = found[: rows * self._columns]
        newlines = block.take(found[self._columns - 1 :: self._columns], mode="clip") == _NEWLINE
        if not newlines[:-1].all() or not (newlines[-1] or found[-1] == len(block)):
            return None
        values = _Values(block, found, self._columns)
        values.quote = self._quote if quoted else None
        values.returns = b"\r" in text
        values.spaces = quoted or any(mark in text for mark in (b" ", b"\t", b"\v", b"\f"))
        values.exponents = b"e" in text or b"E" in text
        for members, look in self._groups:
            column = values.of(members)
            odd = np.flatnonzero(look(column))
            if len(odd) and self._is_misfit(column, odd, members):
                return None
        if b"_" in text and self._numbers.any() and self._grouped(block, found):
            return None
        return int(found[-1]) + 1

    def _grouped(self, block: Bytes, found: Places) -> bool:
        """Whether a number has an underscore between digits: Postgres 16 and newer read it."""
        marks = block[1:-1] == _UNDERSCORE
        marks &= _is_digit(block[:-2])
        marks &= _is_digit(block[2:])
        places = np.flatnonzero(marks) + 1
        columns = np.searchsorted(found, places[places < found[-1]]) % self._columns
        return bool(self._numbers[columns].any())

    def _is_misfit(self, column: _Column, odd: Places, members: Places) -> bool:
        """Read the values that are not of the usual form, one by one."""
        dialect = self._dialect
        null = len(self._null)
        is_null = column.length[odd] == null
        if column.quoted is not None:
            is_null &= ~column.quoted[odd]
        for offset in range(null):
            is_null &= column.at(offset, odd) == self._null[offset]
        for place in odd[~is_null].tolist():
            index = int(members[place // column.rows])
            raw = column.raw(place)
            good = self._good[index]
            if raw in good:
                continue
            ((value, quoted), *more) = split_text(
                raw.decode(dialect.codec, errors="replace"), dialect.delimiter, dialect.quotechar
            )
            if more or not (
                (value == dialect.null_value and not quoted) or fits(value, self._kinds[index])
            ):
                return True
            if len(good) < _KEPT_VALUES:
                good.add(raw)
        return False


class _Values:
    """The values of a block, of which ``found`` are the ends, row by row."""

    def __init__(self, block: Bytes, found: Places, columns: int) -> None:
        self.block = block
        self.stops = np.ascontiguousarray(found.reshape(-1, columns).T)  # column by column
        self.starts = np.empty_like(self.stops)
        np.add(self.stops[:-1], 1, out=self.starts[1:])
        self.starts[0, 0] = 0
        np.add(self.stops[-1, :-1], 1, out=self.starts[0, 1:])
        self.quote: int | None = None
        self.returns = self.spaces = self.exponents = False

    def of(self, members: Places) -> _Column:
        """Those of some columns, one column after the other."""
        starts, stops = self.starts[members], self.stops[members]
        if self.returns and members[-1] == len(self.stops) - 1:
            stops[-1] -= self.block.take(stops[-1] - 1, mode="clip") == _CR
        return _Column(self, starts.ravel(), stops.ravel(), self.stops.shape[1])


class _Column:
    """Values of columns of one kind; ``quoted`` is None where none is."""

    def __init__(self, values: _Values, starts: Places, stops: Places, rows: int) -> None:
        self.values = values
        self.rows = rows
        self.block = values.block
        self._written = (starts, stops)
        self.quoted: Flags | None = None
        if values.quote is not None:
            self.quoted = self.block.take(starts, mode="clip") == values.quote
            starts = starts + self.quoted
            stops = stops - self.quoted
        self.starts, self.stops = starts, stops
        self.length = stops - starts

    def at(self, offset: int, places: Places | None = None) -> Bytes:
        """The bytes so far behind the values' beginnings."""
        starts = self.starts if places is None else self.starts[places]
        return self.block.take(starts + offset if offset else starts, mode="clip")

    def before_end(self, offset: int, places: Places | None = None) -> Bytes:
        """The bytes so far before the values' ends: 1 is the last one."""
        stops = self.stops if places is None else self.stops[places]
        return self.block.take(stops - offset, mode="clip")

    def raw(self, place: int) -> bytes:
        """One value as it is written."""
        return bytes(self.block[self._written[0][place] : self._written[1][place]])


def _is_digit(found: Bytes) -> Flags:
    flags: Flags = (found - np.uint8(_ZERO)) <= 9
    return flags


def _is_exponent(found: Bytes) -> Flags:
    flags: Flags = (found | np.uint8(0x20)) == 0x65
    return flags


def _is_sign(found: Bytes) -> Flags:
    flags: Flags = (found == _PLUS) | (found == _MINUS)
    return flags


# Each of these gives a flag for each value that is not of the usual form, NULL among them.


def _odd_whole(column: _Column) -> Flags:
    """All but ``0``, ``12`` and ``-12``."""
    odd = (column.at(0) - np.uint8(_ONE)) > _NINE - _ONE
    _settle(odd, lambda places: _is_zero_or_below(column, places))
    if column.values.spaces:
        odd |= ~_is_digit(column.before_end(1))
    return odd


def _is_zero_or_below(column: _Column, places: Places) -> Flags:
    first = column.at(0, places)
    good = (first == _ZERO) & (column.length[places] == 1)
    below = (column.at(1, places) - np.uint8(_ONE)) <= _NINE - _ONE
    flags: Flags = good | ((first == _MINUS) & below)
    return flags


def _odd_decimals(column: _Column) -> Flags:
    odd = _odd_fractions(column)
    odd |= column.length > _LONGEST_NUMERIC
    return odd


def _odd_floats(column: _Column) -> Flags:
    odd = _odd_fractions(column)
    long = np.flatnonzero(column.length > _SAFE_FLOAT)
    if len(long):
        odd[long] |= column.length[long] > _LONGEST_FLOAT
        for offset in range(1, _LONGEST_FLOAT):  # until each has shown its point
            long = long[column.at(offset, long) != _DOT]
            if not len(long):
                break
            over = column.length[long] <= offset
            odd[long[over]] = True
            long = long[~over]
    return odd


def _odd_fractions(column: _Column) -> Flags:
    """All but ``1.5``, ``-0.5``, ``.5``, ``12`` and ``1.5e-05``."""
    odd = (column.at(0) - np.uint8(_ONE)) > _NINE - _ONE
    _settle(odd, lambda places: _is_small(column, places))
    second = column.before_end(2)
    rest = np.flatnonzero(second != _DOT)
    if len(rest):
        last = column.before_end(1, rest)
        odd[rest] |= ~(_is_digit(last) | (last == _DOT))
        if column.values.exponents:
            odd[rest] |= _is_exponent(second[rest])
            odd[rest] |= _is_exponent(column.before_end(3, rest))
            fourth = np.flatnonzero(_is_exponent(column.before_end(4, rest)))
            if len(fourth):
                odd[rest[fourth]] |= ~_is_printed(column, rest[fourth])
            odd[rest] |= _is_exponent(column.before_end(5, rest))
    if column.values.spaces:
        odd |= column.before_end(1) <= _SPACE
    return odd


def _is_small(column: _Column, places: Places) -> Flags:
    """Numbers below one, or below zero."""
    first, second, third = (column.at(offset, places) for offset in range(3))
    length = column.length[places]
    good = (first == _ZERO) & ((second == _DOT) | (length == 1))
    good |= (first == _DOT) & _is_digit(second)
    below = (second - np.uint8(_ONE)) <= _NINE - _ONE
    below |= (second == _ZERO) & ((length == 2) | (third == _DOT) | _is_digit(third))
    below |= (second == _DOT) & _is_digit(third)
    flags: Flags = good | ((first == _MINUS) & below)
    return flags


def _is_printed(column: _Column, places: Places) -> Flags:
    """``1e-05`` and ``-1.5e+20``, as programs print floats."""
    flags: Flags = _is_sign(column.before_end(3, places))
    flags &= column.length[places] <= _LONGEST_FLOAT
    return flags


def _odd_booleans(column: _Column) -> Flags:
    first = column.at(0) | np.uint8(0x20)
    flags: Flags = ~(
        ((first == ord("t")) & (column.length == 4)) | ((first == ord("f")) & (column.length == 5))
    )
    return flags


def _odd_days(column: _Column) -> Flags:
    flags: Flags = ~((column.length == 10) & _is_day(column))
    return flags


def _is_day(column: _Column) -> Flags:
    flags: Flags = (
        _is_digit(column.at(0))
        & (column.at(4) == _MINUS)
        & (column.at(7) == _MINUS)
        & _is_digit(column.at(9))
    )
    return flags


def _is_clock(column: _Column, length: Places) -> Flags:
    """Whether a value's first ``length`` bytes are a day and a time of it."""
    between = column.at(10)
    good = _is_day(column) & ((between == _SPACE) | (between == _T)) & (column.at(13) == _COLON)
    seconds = column.at(16) == _COLON
    fraction = (length > 20) & (length <= 26) & (column.at(19) == _DOT)
    flags: Flags = good & ((length == 16) | (seconds & ((length == 19) | fraction)))
    return flags


def _odd_moments(column: _Column) -> Flags:
    good = _is_clock(column, column.length) & _is_digit(column.before_end(1))
    long = np.flatnonzero(good & (column.length > 20))
    if len(long):  # the digits at the end may be a zone's
        for offset in (3, 5, 6):
            good[long] &= ~_is_sign(column.before_end(offset, long))
    return ~good


def _odd_zoned(column: _Column) -> Flags:
    """The zone is ``Z``, ``+02``, ``+0200`` or ``+02:00``."""
    zone = (column.before_end(1) == _Z).astype(np.intp)
    rest = np.flatnonzero(zone == 0)
    if len(rest):
        for length in (3, 5, 6):
            signed = _is_sign(column.before_end(length, rest))
            if length == 6:
                signed &= column.before_end(3, rest) == _COLON
            zone[rest[signed]] = length
    flags: Flags = ~(_is_clock(column, column.length - zone) & (zone > 0))
    return flags


def _settle(odd: Flags, is_good: Callable[[Places], Flags]) -> None:
    """Take back the flags of those that are good after all."""
    places = np.flatnonzero(odd)
    if len(places):
        odd[places] = ~is_good(places)
