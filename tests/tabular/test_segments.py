"""Segments: every byte once, cut at record boundaries, counted as COPY counts."""

from __future__ import annotations

import csv
import io
import re
import tempfile
import threading
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskwidgets.errors import SourceChanged, SourceError
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.header import read_layout
from taskwidgets.tabular.limits import Limits
from taskwidgets.tabular.ranges import gaps
from taskwidgets.tabular.segments import Segment, SegmentReader

cells = st.text(st.sampled_from('ab1,;"\n\r é日'), max_size=12)


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, Dialect, int]:
    """A file's bytes, its dialect, and the number of its data records."""
    columns = draw(st.integers(1, 4))
    row = st.lists(cells, min_size=columns, max_size=columns)
    table = draw(st.lists(row, max_size=20))
    dialect = Dialect(delimiter=draw(st.sampled_from(",;\t|")))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    if newline == "\n" and quoting == csv.QUOTE_MINIMAL:
        # Python 3.11 leaves "\r" unquoted there, which is a line ending for its reader and an
        # error for COPY.
        table = [[cell.replace("\r", "") for cell in cells] for cells in table]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=dialect.delimiter, lineterminator=newline, quoting=quoting)
    writer.writerow([f"c{number}\n" for number in range(columns)])
    writer.writerows(table)
    text = out.getvalue()
    if draw(st.booleans()):
        text = text.removesuffix(newline)
    mark = "\ufeff" if draw(st.booleans()) else ""
    return (mark + text).encode(), dialect, len(table)


def drain(reader: SegmentReader, target: int) -> list[Segment]:
    found = []
    while (segment := reader.next(target)) is not None:
        found.append(segment)
    return found


def whole(
    path: Path,
    data: bytes,
    target: int,
    dialect: Dialect | None = None,
    limits: Limits | None = None,
) -> list[Segment]:
    path.write_bytes(data)
    gaps = [(0, len(data))]
    with SegmentReader(path, dialect or Dialect(), 0, len(data), gaps, limits) as reader:
        return drain(reader, target)


@given(files(), st.integers(1, 400), st.data())
@settings(deadline=None)
def test_segments_are_the_file(
    made: tuple[bytes, Dialect, int], target: int, data: st.DataObject
) -> None:
    """Segments of any size join to the data, count its records, and resume from any subset."""
    content, dialect, count = made
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(content)
        start, size = read_layout(path, dialect).data_start, len(content)
        with SegmentReader(path, dialect, start, size, [(start, size)]) as reader:
            found = drain(reader, target)
            assert reader.next(target) is None
        assert b"".join(segment.data for segment in found) == content[start:]
        assert sum(segment.records for segment in found) == count
        at = start
        for segment in found:
            assert (segment.start, segment.stop) == (at, at + len(segment.data))
            assert segment.crc32 == zlib.crc32(segment.data)
            assert len(segment.data) <= target or segment.records == 1
            text = io.StringIO(segment.data.decode(), newline="")
            rows = list(csv.reader(text, delimiter=dialect.delimiter, strict=True))
            assert len(rows) == segment.records
            ended = segment.data.endswith(b"\n")
            assert segment.lines == segment.data.count(b"\n") + (not ended)
            at = segment.stop
        done = [segment for segment in found if data.draw(st.booleans())]
        missing = gaps([(segment.start, segment.stop) for segment in done], start, size)
        other = data.draw(st.integers(1, 400))
        with SegmentReader(path, dialect, start, size, missing) as reader:
            rest = drain(reader, other)
        parts = sorted([*done, *rest], key=lambda segment: segment.start)
        assert b"".join(segment.data for segment in parts) == content[start:]
        assert sum(segment.records for segment in parts) == count


def test_threads_share_one_reader(tmp_path: Path) -> None:
    """Several threads that pull from one reader get every byte exactly once."""
    record = b'1,"a\nb ""c""",x\n'
    content = record * 20_000
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    found: list[Segment] = []
    with SegmentReader(path, Dialect(), 0, len(content), [(0, len(content))]) as reader:
        threads = [
            threading.Thread(target=lambda: found.extend(drain(reader, 1000))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found.sort(key=lambda segment: segment.start)
    assert b"".join(segment.data for segment in found) == content
    assert sum(segment.records for segment in found) == 20_000
    assert all(segment.data.startswith(b"1,") for segment in found)


@pytest.mark.parametrize("target", [1 << 20, 3_000_000])
def test_blocks_and_their_seams(tmp_path: Path, target: int) -> None:
    """Quotes that span the blocks in which a file is read are followed across them."""
    record = b'"' + b"x,\n" * 333 + b'"\n'
    found = whole(tmp_path / "a.csv", record * 6_000, target)
    assert b"".join(segment.data for segment in found) == record * 6_000
    assert sum(segment.records for segment in found) == 6_000
    assert all(len(segment.data) % len(record) == 0 for segment in found)


def test_a_record_longer_than_the_target(tmp_path: Path) -> None:
    """A record that is longer than a segment should be is a segment of its own."""
    long = b'"' + b"x\n" * 3_000_000 + b'"\n'
    found = whole(tmp_path / "a.csv", b"a\n" + long + b"b\nc", 100)
    assert [segment.data for segment in found] == [b"a\n", long, b"b\nc"]
    assert [segment.records for segment in found] == [1, 1, 2]
    assert [segment.lines for segment in found] == [1, 3_000_001, 2]


@pytest.mark.parametrize(
    ("content", "counted"),
    [(b"", 0), (b"a", 1), (b"a\n", 1), (b"\n\na\n\n", 4), (b"\r\n\r\n", 2), (b"a\n\n", 2)],
)
def test_blank_lines_are_records(tmp_path: Path, content: bytes, counted: int) -> None:
    """A blank line is a record, as for COPY; the newline at the end begins none."""
    for target in (1, 3, 100):
        found = whole(tmp_path / "a.csv", content, target)
        assert sum(segment.records for segment in found) == counted


def test_stray_quotes_toggle_as_in_copy(tmp_path: Path) -> None:
    """A quote in the middle of an unquoted field opens, too: COPY's own rule."""
    found = whole(tmp_path / "a.csv", b'a"b\nc"d\ne\n', 1)
    assert [segment.data for segment in found] == [b'a"b\nc"d\n', b"e\n"]


@pytest.mark.parametrize("target", [1, 6, 1000])
def test_a_quote_that_never_closes(tmp_path: Path, target: int) -> None:
    """Records before an open quote are handed out, then its line is named, at every call."""
    path = tmp_path / "a.csv"
    content = b'a,"\n"\nb\nc,"d\ne\nf\n'
    path.write_bytes(content)
    with SegmentReader(path, Dialect(), 0, len(content), [(0, len(content))]) as reader:
        got = b""
        while len(got) < 8:
            segment = reader.next(target)
            assert segment is not None
            got += segment.data
        assert got == b'a,"\n"\nb\n'
        for _ in range(2):
            with pytest.raises(SourceError, match=re.escape(
                "a.csv, line 4: the record that begins here does not end before the file does; "
                'probably a quote (") in it is not closed'
            )) as caught:  # fmt: skip
                reader.next(target)
            assert caught.value.line == 4
            assert caught.value.path == str(path)


@pytest.mark.parametrize("target", [100, 900, 1200, 9000])
@pytest.mark.parametrize("record", [b'"' + b"x" * 5000 + b'"\n', b"x" * 1000 + b"\n", b"x" * 1001])
def test_a_record_beyond_the_limit(tmp_path: Path, record: bytes, target: int) -> None:
    """A record longer than max_row is refused with its line, whatever the size of segments."""
    good = b"a\n" * 1500 + b"x" * 999 + b"\n" + b'"b\n"\n'
    with pytest.raises(SourceError, match=r"line 1,504: .* more than 1,000 bytes") as caught:
        whole(tmp_path / "a.csv", good + record, target, limits=Limits(max_row=1000))
    assert caught.value.line == 1504
    assert "max_row (as given)" in str(caught.value)
    assert (
        "".join(
            bytes(one.data).decode()
            for one in whole(tmp_path / "a.csv", good, target, limits=Limits(max_row=1000))
        )
        == good.decode()
    )


def test_a_gap_that_ends_within_a_record(tmp_path: Path) -> None:
    """Where a committed segment no longer begins at a record, the file is another one."""
    path = tmp_path / "a.csv"
    for content, end in ((b"abc\ndef\n", 6), (b'abc\n"d\n"\n', 7)):
        path.write_bytes(content)
        for target in (1, 100):
            with (
                SegmentReader(path, Dialect(), 0, len(content), [(0, end)]) as reader,
                pytest.raises(SourceChanged, match=f"no record ends at byte {end}"),
            ):
                drain(reader, target)


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    """A file that lost its end while it was read is not taken for complete."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\nb\n")
    with (
        SegmentReader(path, Dialect(), 0, 10, [(0, 10)]) as reader,
        pytest.raises(SourceChanged, match="ends at byte 4 instead of 10"),
    ):
        reader.next(100)


def test_what_was_appended_later_is_not_read(tmp_path: Path) -> None:
    """Bytes beyond the size at the job's beginning are left alone."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\nb\nc\n")
    with SegmentReader(path, Dialect(), 0, 4, [(0, 4)]) as reader:
        assert [segment.data for segment in drain(reader, 100)] == [b"a\nb\n"]


def test_misuse(tmp_path: Path) -> None:
    """Gaps outside the data or overlapping, a target of nothing and a closed reader are errors."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a\nb\n")
    for wrong in ([(0, 4)], [(2, 9)]):
        with pytest.raises(ValueError, match="is not within"):
            SegmentReader(path, Dialect(), 2, 4, wrong)
    with pytest.raises(ValueError, match="overlaps"):
        SegmentReader(path, Dialect(), 0, 4, [(0, 4), (2, 4)])
    with pytest.raises(SourceError, match="cannot be read"):
        SegmentReader(tmp_path / "none.csv", Dialect(), 0, 0, [])
    reader = SegmentReader(path, Dialect(), 0, 4, [(0, 4)])
    with pytest.raises(ValueError, match="at least 1"):
        reader.next(0)
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.next(1)
