"""Files that COPY would refuse: what is clean goes as it stands, the rest is read with care."""

from __future__ import annotations

import csv
import io
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskwidgets.errors import SourceChanged, TaskwidgetsError
from taskwidgets.tabular.cleaning import Cleaned, clean
from taskwidgets.tabular.conversion import conversions
from taskwidgets.tabular.description import Description
from taskwidgets.tabular.fields import split_text
from taskwidgets.tabular.grammar import Grammar
from taskwidgets.tabular.pieces import Cutter, PiecedSegment
from taskwidgets.tabular.stream import open_stream

Value = str | None


def cut(
    content: bytes, description: Description, columns: int, target: int = 1 << 20, **options: bool
) -> tuple[Grammar, list[PiecedSegment]]:
    """All segments of a file without a header."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(content)
        with open_stream(path, description) as stream:
            grammar = Grammar.of(description, columns, stream.codec, **options)
            cutter = Cutter(stream, grammar, stream.text_start, None)
            found = []
            while (segment := cutter.next(target)) is not None:
                found.append(segment)
    return grammar, found


def copied(data: bytes, grammar: Grammar) -> list[list[Value]]:
    """The rows that COPY makes of cleaned data; an oracle that reads letter by letter."""
    output = grammar.output
    text = bytes(data).decode(output.codec)
    records, record, inside = [], "", False
    for letter in text:
        if letter == output.quotechar:
            inside = not inside
        if letter == "\n" and not inside:
            records.append(record.removesuffix("\r"))
            record = ""
        else:
            record += letter
    assert not inside
    if record:
        records.append(record)
    return [
        [
            None if value == output.null_value and not quoted else value
            for value, quoted in split_text(line, output.delimiter, output.quotechar)
        ]
        for line in records
    ]


def read(
    content: bytes,
    description: Description | None = None,
    columns: int = 3,
    target: int = 1 << 20,
    **options: bool,
) -> tuple[list[list[Value]], list[Cleaned]]:
    """The rows of a file, and its cleaned segments."""
    grammar, segments = cut(content, description or Description(), columns, target, **options)
    names = [f"c{number}" for number in range(columns)]
    cleaned = [clean(segment, grammar, names) for segment in segments]
    rows = []
    for one in cleaned:
        found = copied(bytes(one.data), grammar)
        assert len(found) == one.rows
        assert one.rows_read == one.rows + len(one.rejects)
        assert all(len(row) == columns for row in found)
        rows += found
    return rows, cleaned


GOOD = b"1,2,3\n"
ROW = ["1", "2", "3"]


@pytest.mark.sample(180)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"a,b,c", ["a", "b", "c"]),
        (b'a,"b, d",c', ["a", "b, d", "c"]),
        (b'a,"",', ["a", "", None]),
        (b"a,b", ["a", "b", None]),
        (b"a", ["a", None, None]),
        (b"a,b,c,", ["a", "b", "c"]),
        (b"a,b,c,,,", ["a", "b", "c"]),
        (b"a,b,c,d", None),
        (b'a,b"b,c', ["a", 'b"b', "c"]),
        (b'a,b "b" b,c', ["a", 'b "b" b', "c"]),
        (b'a,"b,c', ["a", '"b', "c"]),
        (b'"a,b,c', ['"a', "b", "c"]),
        (b'a,b,"c', ["a", "b", '"c']),
        (b'a,b,c"', ["a", "b", 'c"']),
        (b'"a,b,"c, c"', ['"a', "b", "c, c"]),
        (b'a,""b",c', ["a", '"b', "c"]),
        (b'a,"5" pipe, long",c', ["a", '5" pipe, long', "c"]),
        (b'a,"say "hi", he said",c', ["a", 'say "hi", he said', "c"]),
        (b'a,"b \\"b\\", b",c', ["a", 'b "b", b', "c"]),
        (b'a, "b, b",c', ["a", "b, b", "c"]),
        (b'a,"b" ,c', ["a", "b", "c"]),
        (b'a, "b, b", c', ["a", "b, b", "c"]),
        (b"a;b;c", ["a", "b", "c"]),
        (b'a;"b;b";c, c', ["a", "b;b", "c, c"]),
        (b"a\tb\tc", ["a", "b", "c"]),
        (b"a|b|c", ["a", "b", "c"]),
        (b"a,'b, b',c", ["a", "b, b", "c"]),
        (b"a,b\0,c", None),
        (b"a,b\xff,c", None),
        (b"", []),
        (b"  ", []),
        (b'a,"b\nb",c', ["a", "b\nb", "c"]),
        (b'a,"b "b"\nb",c', ["a", 'b "b"\nb', "c"]),
        (b'a,"b\nb"', ["a", "b\nb", None]),
        (b'a,"b', None),
        (b'a,"b"b,c', ["a", "bb", "c"]),
    ],
)
@pytest.mark.parametrize("before", [0, 1, 30])
@pytest.mark.parametrize("after", [0, 1, 30])
def test_one_damaged_record(
    record: bytes, expected: list[Value] | None, before: int, after: int, newline: bytes
) -> None:
    """A damaged record is read with care wherever it stands, and costs no other row."""
    content = (GOOD * before + record + b"\n" + GOOD * after).replace(b"\n", newline)
    description = Description(line_terminator=newline.decode())
    wanted: list[Value] | None = expected
    if expected:
        wanted = [value and value.replace("\n", newline.decode()) for value in expected]
    for target in (1, 7, 1 << 20):
        rows, cleaned = read(content, description, target=target)
        rejects = [reject for one in cleaned for reject in one.rejects]
        middle = [wanted] if wanted else []
        assert rows == [ROW] * before + middle + [ROW] * after
        assert len(rejects) == (expected is None)
        for reject in rejects:
            assert reject.line == before + 1
            assert content[reject.offset :].startswith(reject.raw)
            assert reject.raw == record


@pytest.mark.parametrize("ending", [b"\r\n", b"\r", b"\r\r\n"])
def test_another_line_ending_in_one_row(ending: bytes) -> None:
    """A row that ends otherwise than the rest is a row."""
    rows, _ = read(GOOD * 3 + b"a,b,c" + ending + GOOD * 3)
    assert rows == [ROW] * 3 + [["a", "b", "c"]] + [ROW] * 3
    rows, _ = read(
        b"1,2,3\r\n" * 3 + b"a,b,c\n" + b"1,2,3\r\n", Description(line_terminator="\r\n")
    )
    assert rows == [ROW] * 3 + [["a", "b", "c"]] + [ROW]


def test_a_row_with_a_blank_behind_each_delimiter() -> None:
    """The blanks are part of the values, unless the file as a whole says otherwise."""
    content = GOOD + b"a, b, c\n" + GOOD
    assert read(content)[0] == [ROW, ["a", " b", " c"], ROW]
    assert read(content, spaced_rows=True)[0] == [ROW, ["a", "b", "c"], ROW]


cells = st.text(st.sampled_from("ab1,;\t\"'\\\n\r \x02é日"), max_size=8)


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, Description, list[list[str]]]:
    """A table of strings, as some program writes it."""
    columns = draw(st.integers(1, 4))
    row = st.lists(cells, min_size=columns, max_size=columns)
    table = draw(st.lists(row, max_size=12))
    delimiter = draw(st.sampled_from([",", ";", "\t", "|", "||", ", ", "é"]))
    quote = draw(st.sampled_from(['"', "'"]))
    escape = draw(st.sampled_from(["", "\\"]))
    newline = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-16", "utf-32-be"]))
    everything = draw(st.booleans())
    lines = []
    for values in table:
        fields = []
        for value in values:
            special = any(
                mark in value for mark in (*delimiter, quote, escape or quote, "\r", "\n")
            )
            if everything or special or not value or value[0] == " " or value[-1] == " ":
                inner = value
                if escape:
                    inner = inner.replace(escape, escape * 2)
                inner = inner.replace(quote, (escape or quote) + quote)
                fields.append(quote + inner + quote)
            else:
                fields.append(value)
        lines.append(delimiter.join(fields) + newline)
    text = "".join(lines)
    if draw(st.booleans()):
        text = text.removesuffix(newline)
    description = Description(
        encoding=encoding, delimiter=delimiter, quotechar=quote, escapechar=escape,
        line_terminator=newline,
    )  # fmt: skip
    return text.encode(encoding), description, table


@given(written(), st.integers(1, 200))
@settings(deadline=None, max_examples=300)
def test_any_table_in_any_dialect_reads_back_equal(
    made: tuple[bytes, Description, list[list[str]]], target: int
) -> None:
    """What any program writes is read back as it was, in segments of any size."""
    content, description, table = made
    columns = len(table[0]) if table else 1
    rows, cleaned = read(content, description, columns, target)
    assert rows == table
    assert sum(one.rows_read for one in cleaned) == len(table)


pieces = st.sampled_from(
    [b"1,2,3\n", b'1,"2, 2",3\n', b'"', b",", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"a", b" ",
     b'"a\nb"', b'""', b"\\", b";", b'"x","y","z"\n', b"\xc3\xa9", b"'"]
)  # fmt: skip
dirt = st.lists(pieces, max_size=40).map(b"".join) | st.binary(max_size=200)


@given(dirt, st.integers(1, 60), st.integers(1, 4), st.sampled_from(["\n", "\r\n", "\r", ""]))
@settings(deadline=None, max_examples=300)
def test_dirt(content: bytes, target: int, columns: int, newline: str) -> None:
    """Whatever the bytes: read = loaded + rejected, alike in segments of any size."""
    description = Description(line_terminator=newline)
    try:
        whole, cleaned = read(content, description, columns)
    except TaskwidgetsError as refused:
        with pytest.raises(type(refused)):
            read(content, description, columns, target)
        return
    rows, parts = read(content, description, columns, target)
    assert rows == whole
    rejects = [reject for one in cleaned for reject in one.rejects]
    assert [reject for one in parts for reject in one.rejects] == rejects
    for reject in rejects:
        at = reject.offset
        assert content[at:].startswith(reject.raw)
        assert reject.line == content.count(b"\n", 0, at) + 1


@given(dirt, st.integers(1, 4))
@settings(deadline=None, max_examples=200)
def test_every_record_is_a_place_to_resume_at(content: bytes, columns: int) -> None:
    """Reading from any piece's beginning finds the same pieces as reading through."""
    description = Description()
    _, segments = cut(content, description, columns)
    places = [
        (segment.start + piece.start, segment.start + piece.stop, piece.clean)
        for segment in segments
        for piece in segment.pieces
        if not piece.clean
    ]
    assert b"".join(bytes(segment.data) for segment in segments) == content.removeprefix(
        b"\xef\xbb\xbf"
    )
    for start, _, _ in places:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.csv"
            path.write_bytes(content)
            with open_stream(path, description) as stream:
                grammar = Grammar.of(description, columns, stream.codec)
                cutter = Cutter(stream, grammar, 0, None, [(start, len(content))])
                found = []
                while (segment := cutter.next(1 << 20)) is not None:
                    found.append(segment)
        assert [
            (segment.start + piece.start, segment.start + piece.stop, piece.clean)
            for segment in found
            for piece in segment.pieces
            if not piece.clean
        ] == [place for place in places if place[0] >= start]


clean_cells = st.text(st.sampled_from('ab,"\n '), max_size=5)
spoilt = st.lists(st.lists(clean_cells, min_size=2, max_size=2), min_size=1, max_size=8)


@given(spoilt, st.data())
@settings(deadline=None, max_examples=200)
def test_triage_agrees_with_a_slow_reader(table: list[list[str]], data: st.DataObject) -> None:
    """A piece is clean exactly where a reader by rule takes every record of it."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    text = out.getvalue()
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.sampled_from(['"', ",", "\n", "\r", "\0", "a"])) + text[at:]
    _, segments = cut(text.encode(), Description(), 2)
    for segment in segments:
        for piece in segment.pieces:
            body = bytes(segment.data[piece.start : piece.stop]).decode()
            assert (strictly(body, 2) == piece.records) == piece.clean


def strictly(text: str, columns: int) -> int | None:
    """How many records RFC 4180 finds, read by a plain state machine; None where it is broken."""
    records, fields, state = 0, 1, "start"
    for letter in text:
        if letter == "\0" or (letter == "\r" and state != "quoted"):
            return None
        if state == "quoted":
            state = "quote" if letter == '"' else "quoted"
        elif letter == '"':
            if state == "plain":
                return None
            state = "quoted"
        elif letter == ",":
            fields, state = fields + 1, "start"
        elif letter == "\n":
            if fields != columns:
                return None
            records, fields, state = records + 1, 1, "begin"
        elif state == "quote":
            return None
        else:
            state = "plain"
    if state == "quoted":
        return None
    if state != "begin":
        if fields != columns:
            return None
        records += 1
    return records


def test_a_header_too_wide_costs_no_row() -> None:
    """Where every row is short, each is filled up for itself, quotes and line breaks or not."""
    content = b"""a,it's,"b, b"\n'c,d,"e\ne, e"\n""" * 9
    rows, _ = read(content, columns=4)
    assert rows == [["a", "it's", "b, b", None], ["'c", "d", "e\ne, e", None]] * 9


@pytest.mark.parametrize("opening", [b'1,"2,3\n', b'"1,2,3\n', b'1,2,"\n'])
@pytest.mark.parametrize("ending", [b"", b'4,"5 5",6\n', b'4,5"5,6\n'])
def test_an_open_quote_in_a_long_file(opening: bytes, ending: bytes) -> None:
    """A quote that nobody closes for megabytes costs its own row, and no memory."""
    content = GOOD + opening + GOOD * 1_500_000 + ending + GOOD
    grammar, segments = cut(content, Description(), 3, 1 << 16)
    assert max(len(segment.data) for segment in segments) <= 1 << 16
    assert b"".join(segment.data for segment in segments) == content
    assert sum(segment.records for segment in segments) == content.count(b"\n")
    broken = next(segment for segment in segments if not segment.clean)
    assert (broken.first_line, broken.start) == (2, len(GOOD))
    (row, *_) = copied(bytes(clean(broken, grammar, ["a", "b", "c"]).data), grammar)
    assert row == opening.decode()[:-1].split(",")


def test_a_record_longer_than_the_target() -> None:
    """A long record in order is a segment; lines in it that look like rows are its text."""
    long = b'a,"' + GOOD * 1_000_000 + b'",c\n'
    _, segments = cut(GOOD + long + GOOD, Description(), 3, 1000)
    assert [len(segment.data) for segment in segments] == [len(GOOD), len(long), len(GOOD)]
    assert all(segment.clean for segment in segments)
    assert [segment.lines for segment in segments] == [1, 1_000_001, 1]


def test_threads_share_one_cutter(tmp_path: Path) -> None:
    """Several threads get every byte exactly once, with the right line numbers."""
    content = (GOOD * 7 + b"1,2,3,4\n") * 4_000
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    found: list[PiecedSegment] = []
    with open_stream(path, Description()) as stream:
        cutter = Cutter(stream, Grammar(columns=3), 0, None)

        def work() -> None:
            while (segment := cutter.next(5_000)) is not None:
                found.append(segment)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found.sort(key=lambda segment: segment.start)
    assert b"".join(segment.data for segment in found) == content
    lines = [
        reject.line
        for segment in found
        for reject in clean(segment, Grammar(columns=3), ["a", "b", "c"]).rejects
    ]
    assert lines == list(range(8, 8 * 4_000 + 1, 8))


def test_gaps(tmp_path: Path) -> None:
    """Only what is missing is cut, with the file's line numbers; a changed file is noticed."""
    path = tmp_path / "a.csv"
    content = GOOD * 4 + b"1,2,3,4\n" + GOOD + b"5,6,7,8\n" + GOOD
    path.write_bytes(content)
    grammar = Grammar(columns=3)
    with open_stream(path, Description()) as stream:
        cutter = Cutter(stream, grammar, 0, None, [(24, 32), (38, 46)], first_line=2)
        found = [cutter.next(100), cutter.next(100), cutter.next(100)]
        assert found[2] is None
        rejects = [clean(one, grammar, ["a", "b", "c"]).rejects[0] for one in found if one]
        assert [(one.line, one.offset, one.raw) for one in rejects] == [
            (6, 24, b"1,2,3,4"),
            (8, 38, b"5,6,7,8"),
        ]
        with pytest.raises(SourceChanged, match="no record ends at byte 27"):
            Cutter(stream, grammar, 0, None, [(24, 27)]).next(100)
        with pytest.raises(ValueError, match="is not within"):
            Cutter(stream, grammar, 6, None, [(0, 6)])
        with pytest.raises(ValueError, match="at least 1"):
            cutter.next(0)
        # What stands behind the table, another one or a footer, is neither cut nor looked at.
        segment = Cutter(stream, grammar, 0, 24).next(100)
        assert segment is not None
        assert (segment.stop, segment.clean) == (24, True)


def test_what_the_escape_of_a_file_is(tmp_path: Path) -> None:
    """Where the description has an escape, only records that use it are written anew."""
    description = Description(escapechar="\\")
    rows, _ = read(GOOD + b'a,"b\\",\\\\ \\n",c\n' + GOOD, description)
    assert rows == [ROW, ["a", 'b",\\ \\n', "c"], ROW]


def test_several_null_values() -> None:
    """Each of them, unquoted, is NULL; quoted it is a text."""
    description = Description(null_values=("", "NA", "-"))
    rows, _ = read(b'NA,-,"NA"\n,"",x\n-,"a, b",\n', description)
    assert rows == [[None, None, "NA"], [None, "", "x"], [None, "a, b", None]]
    rows, _ = read(b'NA,"NA",\na,NA\n', Description(null_values=("NA",)))
    assert rows == [[None, "NA", ""], ["a", None, None]]


def test_values_that_cannot_be_converted() -> None:
    """A value that Postgres would read as another one is a reject with its column."""
    description = Description(delimiter=";", decimal=",")
    grammar = Grammar.of(description, 2, converted=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(b"1,5;a,b\n1.5;c\n;d\n2,5;e\n")
        with open_stream(path, description) as stream:
            segment = Cutter(stream, grammar, 0, None, first_line=2).next(100)
    assert segment is not None
    found = clean(segment, grammar, ["n", "t"], conversions(description, {"n": "numeric"}))
    assert found.data == b'1.5,"a,b"\n,d\n2.5,e\n'
    assert (found.rows_read, found.rows) == (4, 3)
    (reject,) = found.rejects
    assert (reject.line, reject.column, reject.raw, reject.offset) == (3, "n", b"1.5;c", 8)


def test_nothing_stands_for_null() -> None:
    """Without any marker an empty value is a text, and a short row is filled with NULL still."""
    rows, _ = read(b'1,,"\n2\n3,"x",\n', Description(null_values=()))
    assert rows == [["1", "", '"'], ["2", None, None], ["3", "x", ""]]
