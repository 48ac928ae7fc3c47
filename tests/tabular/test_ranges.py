"""Arithmetic on byte ranges."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskwidgets.tabular.ranges import covered, gaps, merge


def test_examples() -> None:
    """Neighbours grow together, what is between stays a gap."""
    assert merge([(10, 20), (0, 5), (5, 10), (7, 7)]) == [(0, 20)]
    assert gaps([(10, 20), (30, 40)], 0, 50) == [(0, 10), (20, 30), (40, 50)]
    assert gaps([], 3, 3) == []
    assert gaps([(3, 9)], 3, 9) == []
    assert covered([(10, 20), (30, 40)]) == 20


@pytest.mark.parametrize("ranges", [[(0, 5), (4, 6)], [(0, 5), (0, 5)], [(5, 4)], [(-1, 4)]])
def test_rows_twice_are_an_error(ranges: list[tuple[int, int]]) -> None:
    """Ranges that overlap or run backwards are never repaired silently."""
    with pytest.raises(ValueError, match=r"overlaps|is not a range"):
        merge(ranges)
    with pytest.raises(ValueError, match=r"overlaps|is not a range|beyond"):
        gaps(ranges, 0, 10)


def test_outside_is_an_error() -> None:
    """A range beyond the file, or a file that ends before it starts, is an error."""
    with pytest.raises(ValueError, match="reaches beyond"):
        gaps([(5, 15)], 0, 10)
    with pytest.raises(ValueError, match="is not a range"):
        gaps([], 5, 4)


@given(st.sets(st.integers(0, 60)), st.data())
def test_gaps_and_ranges_are_everything_once(cuts: set[int], data: st.DataObject) -> None:
    """Ranges and their gaps together cover the whole, and are each other's complement."""
    edges = sorted(cuts | {0, 60})
    pieces = list(pairwise(edges))
    chosen = [piece for piece in pieces if data.draw(st.booleans())]
    missing = gaps(chosen, 0, 60)
    assert merge([*chosen, *missing]) == [(0, 60)]
    assert covered(chosen) + covered(missing) == 60
    assert gaps(missing, 0, 60) == merge(chosen)
