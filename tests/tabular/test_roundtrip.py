"""What any program writes is read as it was, cut anywhere and resumed anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from taskwidgets.errors import TaskwidgetsError
from taskwidgets.tabular.cleaning import clean
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.pieces import Cutter, PiecedSegment
from taskwidgets.tabular.stream import Stream, open_stream
from taskwidgets.transfers.reading import find_reading

from .dialects import Made, Row, alike, made
from .fuzz import Seeds, run_case
from .test_pieces import copied, dirt

Gap = tuple[int, int | None]


@dataclass
class Opened:
    """A file that is open, and all that a reader of it has to know."""

    stream: Stream
    grammar: Grammar
    columns: tuple[str, ...]
    start: int
    stop: int | None

    def cut(self, target: int, gaps: list[Gap] | None = None) -> list[PiecedSegment]:
        cutter = Cutter(self.stream, self.grammar, self.start, self.stop, gaps)
        found = []
        while (segment := cutter.next(target)) is not None:
            found.append(segment)
        return found

    def read(self, segment: PiecedSegment) -> tuple[list[Row], list[bytes]]:
        """The rows of a segment, and its rejects."""
        cleaned = clean(segment, self.grammar, self.columns)
        rows = copied(bytes(cleaned.data), self.grammar)
        assert len(rows) == cleaned.rows == cleaned.rows_read - len(cleaned.rejects)
        return rows, [one.raw for one in cleaned.rejects]


def same(one: PiecedSegment) -> tuple[object, ...]:
    """What has to be alike when a segment is cut again."""
    return one.start, one.stop, one.records, one.crc32, one.lines, bytes(one.data)


def check_every_boundary(opened: Opened) -> list[PiecedSegment]:
    """Cut at each record, and begin anew at each: the rest, and what is before, are the same."""
    each = opened.cut(1)
    for number, segment in enumerate(each):
        at = segment.start
        rest = opened.cut(1, [(at, opened.stop)])
        assert list(map(same, rest)) == list(map(same, each[number:]))
        before = opened.cut(1, [(opened.start, at)])
        assert list(map(same, before)) == list(map(same, each[:number]))
        around = opened.cut(1, [(opened.start, at), (segment.stop, opened.stop)])
        assert list(map(same, around)) == list(map(same, each[:number] + each[number + 1 :]))
        whole = opened.cut(1 << 20, [(at, opened.stop)])
        assert opened_rows(opened, whole) == opened_rows(opened, each[number:])
    return each


def opened_rows(opened: Opened, segments: list[PiecedSegment]) -> tuple[list[Row], list[bytes]]:
    found = [opened.read(segment) for segment in segments]
    return [row for rows, _ in found for row in rows], [raw for _, raws in found for raw in raws]


@contextmanager
def opened_as_given(case: Made) -> Iterator[Opened]:
    """The file by the door that uploads take, with all options given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(case.content)
        reading = find_reading(path, case.options, keeps_rejects=True, needs_types=False)
        assert reading.description is not None
        with open_stream(path, reading.description) as stream:
            columns = len(reading.columns)
            grammar = Grammar.of(reading.description, columns, stream.codec, spaced_rows=True)
            yield Opened(stream, grammar, reading.columns, reading.data_start, reading.data_stop)


@given(made())
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_in_any_dialect_is_read_back(case: Made) -> None:
    """Names and values come back, in one go, record by record, and from any record on."""
    with opened_as_given(case) as opened:
        assert alike(opened.columns) == alike(case.names)
        assert opened_rows(opened, opened.cut(1 << 20)) == (case.rows, [])
        each = check_every_boundary(opened)
        assert [row for one in each for row in opened.read(one)[0]] == case.rows
        assert sum(one.records for one in each) == len(case.rows)


@given(dirt)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_dirt_is_read_alike_from_any_record_on(content: bytes) -> None:
    """Also where records are damaged, a resumed load has the rows and rejects of one in one go."""
    for newline in ("\n", "\r\n", "\r", ""):
        description = Description(line_terminator=newline)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.csv"
            path.write_bytes(content)
            with open_stream(path, description) as stream:
                grammar = Grammar.of(description, 3, stream.codec)
                names = ("a", "b", "c")
                opened = Opened(stream, grammar, names, stream.text_start, stream.size)
                try:
                    whole = opened_rows(opened, opened.cut(1 << 20))
                except TaskwidgetsError as refused:
                    with pytest.raises(type(refused)):
                        check_every_boundary(opened)
                    continue
                assert opened_rows(opened, check_every_boundary(opened)) == whole


@pytest.fixture(scope="module")
def seeds() -> Seeds:
    return Seeds()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_few_seconds_of_the_fuzzer(seeds: Seeds, tmp_path: Path, seed: int) -> None:
    """Random files and options: errors of our own tree only, and every byte is accounted for."""
    became = {run_case(seeds, seed, number, tmp_path, large=False) for number in range(35)}
    assert {"refused", "read leniently", "read strictly"} <= became
