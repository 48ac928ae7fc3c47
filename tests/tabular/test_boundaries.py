"""Record ends, compared with a walk byte by byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskwidgets.tabular import boundaries
from taskwidgets.tabular.boundaries import record_ends, records, scan

QUOTE = ord('"')

# Runs, not single bytes: words of 64 and blocks without a quote must occur too.
texts = st.lists(
    st.tuples(st.sampled_from([b'"', b"\n", b"a", b",", b"\r\n", b"\xc3\xa9"]), st.integers(1, 90)),
    max_size=12,
).map(lambda runs: b"".join(piece * count for piece, count in runs))


@pytest.fixture(scope="module", params=["compiled", "numpy"], autouse=True)
def implementation(request) -> Iterator[None]:
    """What is compiled, and what does the same where it is not."""
    assert boundaries.compiled is not None
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(boundaries, "compiled", None)
        yield


def walk(data: bytes, inside: bool) -> tuple[list[int], bool]:
    ends = []
    for offset, byte in enumerate(data):
        if byte == QUOTE:
            inside = not inside
        elif byte == 10 and not inside:
            ends.append(offset + 1)
    return ends, inside


@given(texts, st.booleans(), st.integers(0, 70), st.integers(0, 70))
@example(b"", True, 0, 0)
@example(b'"' * 64 + b"\n", False, 0, 0)
def test_scan_equals_a_walk(data: bytes, inside: bool, skip: int, cut: int) -> None:
    """Counts and offsets are those of the plain rule, for any stretch of the data."""
    start = min(skip, len(data))
    stop = max(start, len(data) - cut)
    part = data[start:stop]
    ends, after = walk(part, inside)
    found = scan(data, QUOTE, inside, start, stop)
    assert found.records == len(ends)
    assert found.inside == after
    assert found.first == (start + ends[0] if ends else 0)
    assert found.last == (start + ends[-1] if ends else 0)
    assert found.lines == part.count(b"\n")
    assert found.lines_to_last == (part[: ends[-1]].count(b"\n") if ends else 0)
    assert record_ends(part, QUOTE, inside).tolist() == ends


@given(texts)
def test_records_join_to_the_data(data: bytes) -> None:
    """Records follow each other without a hole, each ending where the plain rule says."""
    found = list(records(data, QUOTE))
    assert b"".join(data[start:stop] for start, stop in found) == data
    ends, _ = walk(data, False)
    assert [stop for _, stop in found] == (ends if ends[-1:] == [len(data)] or not data else
                                           [*ends, len(data)])  # fmt: skip


def test_records_longer_than_a_block() -> None:
    """A quote that is open at a block's end is still open in the next."""
    long = b'"' + b"x\n" * boundaries.BLOCK_BYTES + b'"\n'
    assert list(records(long + b"a\n", QUOTE)) == [(0, len(long)), (len(long), len(long) + 2)]
