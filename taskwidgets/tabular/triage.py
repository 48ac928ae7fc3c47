"""Which records of a block COPY will take as they are, found without looking at them one by one.

A record is in order when each of its quotes stands where one may (an opening one at a field's
beginning, a closing one at its end, or doubled), when it has the right number of fields, ends as
the others do, and holds neither NUL nor bytes that are wrong in the encoding. All of that is
arithmetic on bit masks of 64 bytes to a word (see `boundaries`); fields are counted by ranks, the
number of bits set before a position.

A stray quote turns inside and outside over for all that follows. So a block has two readings, and
the second is just the complement of the first: reading on behind a damaged record is a choice
between the two, not another pass over the bytes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np
import numpy.typing as npt

from taskwidgets.tabular.grammar import Grammar

__all__ = ["Block", "Reading"]

Words = npt.NDArray[np.uint64]
Positions = npt.NDArray[np.intp]

_ONE, _TOP = np.uint64(1), np.uint64(63)
_SHIFTS = tuple(np.uint64(1 << power) for power in range(6))
_BITS = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


class Reading:
    """A block's records, given whether a quote is open at its beginning.

    ``ends`` are the offsets just behind each record, ``bad`` the indexes of those records that
    are not in order, ascending; ``len(ends)`` is among them where the piece behind the last end
    holds a quote that cannot be, so that its record is damaged wherever it may end. ``inside``
    says whether a quote is open at the block's end.
    """

    def __init__(self, ends: Positions, bad: list[int], illegal: Positions, inside: bool) -> None:
        self.ends = ends
        self.bad = bad
        self.inside_at_end = inside
        self._illegal: list[int] = illegal.tolist()
        self._ends: list[int] | None = None

    def is_legal(self, start: int, stop: int) -> bool:
        """Whether each quote between two offsets is where one may be."""
        return bisect_left(self._illegal, start) == bisect_left(self._illegal, stop)

    def index(self, position: int) -> int:
        """The number of the record that begins at ``position``."""
        if self._ends is None:
            self._ends = self.ends.tolist()
        return bisect_right(self._ends, position)


class Block:
    """Bytes that begin where a record does.

    ``following`` is the byte behind the block, or None where the data end there: then the last
    record needs no line ending.
    """

    def __init__(
        self,
        chunk: bytes,
        grammar: Grammar,
        following: int | None,
        *,
        begins_record: bool = True,
    ) -> None:
        self.length = len(chunk)
        self._begins_record = begins_record
        self._chunk = chunk
        self._grammar = grammar
        self._following = following
        self._array = np.frombuffer(chunk, dtype=np.uint8)
        self._readings: dict[bool, Reading] = {}
        self._newlines = self._marks(grammar.end_byte)
        self._delimiters = self._delimiter_marks()
        self._parity: Words | None = None  # bit: an odd number of quotes up to here
        self._illegal: Words | None = None
        self._illegal_turned: Words | None = None
        self._escaped: Words | None = None
        if grammar.quote and ord(grammar.quote) in chunk:
            self._find_quotes()

    def reading(self, turned: bool) -> Reading:
        """The records, ``turned``: as if a quote were open at the block's beginning."""
        if self._parity is None:
            turned = False
        if turned not in self._readings:
            self._readings[turned] = self._read(turned)
        return self._readings[turned]

    def is_turned(self, position: int) -> bool:
        """Which reading has ``position`` (behind a record) outside quotes."""
        if self._parity is None or not position:
            return False
        word, bit = divmod(position - 1, 64)
        return bool(int(self._parity[word]) >> bit & 1)

    def _find_quotes(self) -> None:
        grammar = self._grammar
        quotes = self._marks(ord(grammar.quote))
        if grammar.escape and ord(grammar.escape) in self._chunk:
            self._escaped = self._after_escapes(ord(grammar.escape))
            quotes &= ~self._escaped
        parity = quotes.copy()
        for shift in _SHIFTS:
            parity ^= parity << shift
        carry = np.bitwise_xor.accumulate(parity >> _TOP)
        parity[1:] ^= np.uint64(0) - carry[:-1]
        # Where an opening quote may stand behind, and a closing one before.
        delimiters = self._delimiters
        marks = grammar.delimiter.encode(grammar.codec)
        width = len(marks)
        fences = self._newlines | quotes
        before = _later(fences | _later(delimiters, max(width - 1, 0)), 1)
        before[0] |= _ONE  # not known, where no record begins here; a block's edge is rarely at one
        if grammar.mixed_newlines and 0x0D in self._chunk:
            before |= _later(self._marks(0x0D), 1)
        if grammar.skip_initial_space:
            blanks = self._marks(0x20)
            starts = before & ~_later(quotes, 1)
            for _ in range(3):
                starts |= _later(starts & blanks, 1)
            before |= starts
        after = fences | delimiters
        if 0x0D in self._chunk:
            after |= self._marks(0x0D)
        after = _earlier(after)
        last = len(self._chunk) - 1
        following = self._following
        if following is None or following < 0 or following in self._legal_behind():
            after[last >> 6] |= _ONE << np.uint64(last & 63)
        if following is not None:
            for cut in range(1, min(width, last + 1)):  # a delimiter that the block's edge cuts
                if self._chunk.endswith(marks[:cut]):
                    place = last - cut
                    after[place >> 6] |= _ONE << np.uint64(place & 63)
        self._parity = parity
        self._illegal = quotes & ((parity & ~before) | (~parity & ~after))
        self._illegal_turned = quotes & ((~parity & ~before) | (parity & ~after))

    def _legal_behind(self) -> bytes:
        grammar = self._grammar
        return grammar.quote.encode() + grammar.delimiter.encode(grammar.codec)[:1] + b"\r\n"

    def _read(self, turned: bool) -> Reading:
        grammar, chunk, array = self._grammar, self._chunk, self._array
        if self._parity is None:
            inside, illegal = None, None
        else:
            inside = ~self._parity if turned else self._parity
            illegal = self._illegal_turned if turned else self._illegal
        delimiters = self._delimiters if inside is None else self._delimiters & ~inside
        if inside is None:
            ends = np.flatnonzero(array == grammar.end_byte)
        else:
            ends = _positions(self._newlines & ~inside, len(chunk))
        ends += 1
        complete = len(ends)
        last = len(chunk) - 1
        open_quote = inside is not None and bool(int(inside[last >> 6]) >> (last & 63) & 1)
        unfinished = not complete or ends[-1] < len(chunk)
        if self._following is None and unfinished and not open_quote:
            ends = np.append(ends, len(chunk))
        strays = np.empty(0, dtype=np.intp)
        if illegal is not None and illegal.any():
            strays = _positions(illegal, len(chunk))
        if ends.size == 0:
            return Reading(ends, [0] if strays.size else [], strays, open_quote)
        ranks = _ranks(delimiters, ends)
        if grammar.blank_runs:  # their number says nothing
            wrong = np.ones(len(ends), dtype=np.bool_)
        elif np.array_equal(ranks, np.arange(1, len(ends) + 1) * (grammar.columns - 1)):
            wrong = np.zeros(len(ends), dtype=np.bool_)
        else:
            wrong = np.diff(ranks, prepend=0) != grammar.columns - 1
        spots: list[Positions] = []
        if strays.size:
            spots.append(strays)
        self._check_returns(wrong, ends, complete, inside, spots)
        if b"\0" in chunk:
            spots.append(np.flatnonzero(array == 0))
        if not grammar.quote and b"\x02" in chunk:  # COPY is told that this is the quote
            spots.append(np.flatnonzero(array == 2))
        if self._escaped is not None:
            spots.append(_positions(self._escaped, len(chunk)))
        if grammar.columns == 1:
            self._check_end_marks(spots)
        if not chunk.isascii():
            self._check_encoding(ends, spots)
        if grammar.spaced_rows and b", " in chunk:
            spaced = delimiters & _earlier(self._marks(0x20))
            blanks = np.diff(_ranks(spaced, ends), prepend=0)
            if grammar.columns > 2:
                wrong |= blanks == grammar.columns - 1
        for spot in spots:
            index = np.searchsorted(ends, spot, side="right")
            wrong[index[index < len(ends)]] = True
        bad: list[int] = np.flatnonzero(wrong).tolist()
        if strays.size and strays[-1] >= ends[-1]:
            bad.append(len(ends))
        return Reading(ends, bad, strays, open_quote)

    def _check_returns(
        self,
        wrong: npt.NDArray[np.bool_],
        ends: Positions,
        complete: int,
        inside: Words | None,
        spots: list[Positions],
    ) -> None:
        """Mark records whose line ending is not the file's, and carriage returns in fields."""
        grammar = self._grammar
        if grammar.newline == "\r":
            if b"\n" in self._chunk:
                found = self._marks(0x0A)
                spots.append(
                    _positions(found if inside is None else found & ~inside, len(self._array))
                )
            return
        if grammar.newline == "\r\n":
            tails = self._array[np.maximum(ends[:complete] - 2, 0)] != 0x0D
            # a blank line at the very beginning has nothing before it
            wrong[:complete] |= tails
            starts = np.concatenate([[0], ends[:complete]])[:complete]
            wrong[:complete] |= ends[:complete] - starts < 2
        if b"\r" not in self._chunk:
            return
        found = self._marks(0x0D)
        if grammar.newline == "\r\n":
            found &= ~_earlier(self._newlines)
            last = len(self._chunk) - 1
            if self._chunk[last] == 0x0D and self._following == 0x0A:
                found[last >> 6] &= ~(_ONE << np.uint64(last & 63))
        spots.append(_positions(found if inside is None else found & ~inside, len(self._array)))

    def _check_end_marks(self, spots: list[Positions]) -> None:
        r"""A line of just ``\.`` ends the data for COPY before Postgres 18."""
        at = self._chunk.find(b"\\.")
        found = []
        while at >= 0:
            found.append(at)
            at = self._chunk.find(b"\\.", at + 1)
        if found:
            spots.append(np.array(found, dtype=np.intp))

    def _check_encoding(self, ends: Positions, spots: list[Positions]) -> None:
        """Find the records that hold bytes which are wrong in the encoding."""
        codec, at, stop = self._grammar.codec, 0, int(ends[-1])
        found = []
        while at < stop:
            try:
                self._chunk[at:stop].decode(codec)
                break
            except UnicodeDecodeError as error:
                found.append(at + error.start)
                index = int(np.searchsorted(ends, at + error.start, side="right"))
                at = int(ends[index])
        if found:
            spots.append(np.array(found, dtype=np.intp))

    def _marks(self, byte: int) -> Words:
        return _words(self._array == byte)

    def _delimiter_marks(self) -> Words:
        """One bit for each delimiter, at its first byte."""
        marks = self._grammar.delimiter.encode(self._grammar.codec)
        if not marks:
            return np.zeros(len(self._newlines), dtype=np.uint64)
        found = self._marks(marks[0])
        for number, byte in enumerate(marks[1:], start=1):
            others = self._marks(byte)
            for _ in range(number):
                others = _earlier(others)
            found &= others
        return found

    def _after_escapes(self, escape: int) -> Words:
        """The bytes that an escape stands before: quotes, and escapes themselves."""
        positions = np.flatnonzero(self._array == escape)
        first = np.diff(positions, prepend=-2) != 1  # of a run of escapes
        run_starts = np.maximum.accumulate(np.where(first, np.arange(len(positions)), 0))
        effective = positions[(np.arange(len(positions)) - run_starts) % 2 == 0]
        escaped = effective[effective < len(self._array) - 1] + 1
        quote = ord(self._grammar.quote)
        escaped = escaped[(self._array[escaped] == quote) | (self._array[escaped] == escape)]
        marks = np.zeros(len(self._array), dtype=np.bool_)
        marks[escaped] = True
        return _words(marks)


def _words(hits: npt.NDArray[np.bool_]) -> Words:
    """One bit per byte, and a last word that is empty, so that shifts need no care."""
    packed = np.packbits(hits, bitorder="little")
    padded = np.empty((len(hits) // 64 + 1) * 8, dtype=np.uint8)
    padded[: len(packed)] = packed
    padded[len(packed) :] = 0
    return padded.view("<u8")


def _later(words: Words, by: int) -> Words:
    """Each bit ``by`` (0 to 63) places further on."""
    if not by:
        return words
    moved = words << np.uint64(by)
    moved[1:] |= words[:-1] >> np.uint64(64 - by)
    return moved


def _earlier(words: Words) -> Words:
    """Each bit one place back."""
    moved = words >> _ONE
    moved[:-1] |= words[1:] << _TOP
    return moved


def _positions(words: Words, length: int) -> Positions:
    """Where bits are set: sparse words one by one, else all of them."""
    bits = np.unpackbits(words.view(np.uint8), bitorder="little", count=length)
    return np.flatnonzero(bits.view(np.bool_))


def _ranks(words: Words, positions: Positions) -> npt.NDArray[np.int64]:
    """How many bits are set before each position."""
    totals = np.zeros(len(words) + 1, dtype=np.int64)
    np.cumsum(_popcount(words), out=totals[1:])
    word = positions >> 6
    rest = words.take(word) & ((_ONE << (positions & 63).view(np.uint64)) - _ONE)
    ranks: npt.NDArray[np.int64] = totals.take(word) + _popcount(rest)
    return ranks


def _popcount(words: Words) -> npt.NDArray[np.uint8]:
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(words)
    halves = _BITS[words.view(np.uint16)].reshape(-1, 4)
    counts: npt.NDArray[np.uint8] = halves.sum(axis=1, dtype=np.uint8)
    return counts
