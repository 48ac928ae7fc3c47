"""Arithmetic on half-open byte ranges ``(start, stop)``: what is loaded, what is missing.

Ranges that overlap are never silently merged: bytes in two committed ranges would be rows that
were loaded twice, and that is an error to stop at.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Range", "covered", "gaps", "merge"]

Range = tuple[int, int]  # bytes: the first one, and the one after the last


def merge(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes in as few ranges as possible, sorted; empty ranges vanish.

    Raises ValueError for ranges that overlap, or that stop before they start.
    """
    merged: list[Range] = []
    for start, stop in sorted(ranges):
        if stop < start or start < 0:
            raise ValueError(f"({start}, {stop}) is not a range of bytes")
        if start == stop:
            continue
        if merged and start < merged[-1][1]:
            raise ValueError(f"({start}, {stop}) overlaps {merged[-1]}: its rows would be double")
        if merged and start == merged[-1][1]:
            merged[-1] = (merged[-1][0], stop)
        else:
            merged.append((start, stop))
    return merged


def gaps(ranges: Iterable[Range], start: int, stop: int) -> list[Range]:
    """What of ``[start, stop)`` the ranges leave out, sorted.

    Raises ValueError for ranges that overlap or reach beyond ``[start, stop)``.
    """
    if stop < start:
        raise ValueError(f"({start}, {stop}) is not a range of bytes")
    missing: list[Range] = []
    at = start
    for first, last in merge(ranges):
        if first < start or last > stop:
            raise ValueError(f"({first}, {last}) reaches beyond ({start}, {stop})")
        if at < first:
            missing.append((at, first))
        at = last
    if at < stop:
        missing.append((at, stop))
    return missing


def covered(ranges: Iterable[Range]) -> int:
    """How many bytes the ranges hold; ValueError when they overlap."""
    return sum(stop - start for start, stop in merge(ranges))
