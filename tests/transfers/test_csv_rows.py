"""CSV that is made here of COPY's text or binary: byte for byte what COPY's CSV is."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import psycopg2
import pytest
from fix_exports import copied
from fix_servers import plain
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from taskwidgets.errors import DatabaseError
from taskwidgets.transfers import csv_rows
from taskwidgets.transfers.csv_rows import CsvForm
from taskwidgets.transfers.pipe import PipeReader
from taskwidgets.transfers.psql import PsqlReader
from taskwidgets.transfers.range_copies import LONG_ROW, LONG_VALUE, RangeCopies
from taskwidgets.transfers.reader import Pieces

QUERY = settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Short values of what is special, plain ones as long as blocks and longer, and both mixed.
SPECIAL = st.text(st.sampled_from('aN."\\,;|\n\r\t\b\f\v\x01\x7fä€'), max_size=6)
MARKS = st.sampled_from(["", "\\.", "\\N", "N", "NA", "NULL", '"', "\\", "\\\\", "a\\", ".", " "])
PLAIN = st.builds(lambda word, times: word * times, st.sampled_from(["x", "ab ", "ä"]),
                  st.integers(0, 150))  # fmt: skip
LONG = st.builds("".join, st.lists(PLAIN | SPECIAL | st.just("a, b"), max_size=12))
VALUE = st.none() | SPECIAL | MARKS | PLAIN | LONG
DELIMITERS = ",;|\t \x01~:"


@st.composite
def tables(draw: st.DrawFn) -> list[list[str | None]]:
    """Rows of values; numbers of rows and columns that make more than one block, too."""
    columns = draw(st.integers(1, 5))
    values = draw(st.lists(VALUE, min_size=1, max_size=12))
    rows = draw(st.integers(1, 40))
    return [[values[(row * 7 + column) % len(values)] for column in range(columns)]
            for row in range(rows)]  # fmt: skip


@pytest.fixture
def session(look) -> Iterator[Any]:
    with closing(psycopg2.connect(plain(look.url))) as connection:
        connection.autocommit = True
        yield connection


def form(
    delimiter: str = ",",
    null: str = "",
    quote_all: bool = False,
    columns: int = 2,
    kinds: bytes = b"",
) -> CsvForm:
    return CsvForm("TABLE u", "FROM u", delimiter, null, quote_all, columns, kinds)


def in_pieces(data: bytes, cuts: list[int], rows: int) -> Generator[bytes, None, int]:
    """The data cut at these places, as a reader would give it."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in pairwise(places):
        yield data[start:stop]
    return rows


def not_asked() -> Generator[bytes, None, int]:
    raise AssertionError("the server was asked")


def made(form: CsvForm, pieces: Generator[bytes, None, int], by_server: Any = not_asked) -> bytes:
    return b"".join(bytes(piece) for piece in form.convert(pieces, by_server))


def copy(session: Any, query: str, options: str) -> bytes:
    """What COPY makes of a query, with these options."""
    out = io.BytesIO()
    with session.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT WITH ({options})", out)
    return out.getvalue()


def values(session: Any, table: list[list[str | None]]) -> str:
    """A query that gives these."""
    rows = sql.SQL(", ").join(
        sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, row))) for row in table
    )
    columns = ", ".join(f"column{number + 1}::text" for number in range(len(table[0])))
    return f"SELECT {columns} FROM (VALUES {rows.as_string(session)}) AS v"


def csv_options(session: Any, delimiter: str, null: str, quote_all: bool) -> str:
    """Those of COPY that are the form's."""
    mark, absent = (sql.Literal(given).as_string(session) for given in (delimiter, null))
    options = f"FORMAT csv, DELIMITER {mark}, NULL {absent}, ENCODING 'UTF8'"
    return f"{options}, FORCE_QUOTE *" if quote_all else options


def both(
    session: Any, table: list[list[str | None]], delimiter: str, null: str, quote_all: bool
) -> tuple[bytes, bytes]:
    """The same rows in text and in CSV."""
    query = values(session, table)
    mark = sql.Literal(delimiter).as_string(session)
    text = copy(session, query, f"DELIMITER {mark}, ENCODING 'UTF8'")
    return text, copy(session, query, csv_options(session, delimiter, null, quote_all))


@QUERY
@given(
    table=tables(),
    delimiter=st.sampled_from(DELIMITERS),
    null=st.sampled_from(["", "", "", "NA", "\\N", "NULL"]),
    quote_all=st.sampled_from([False, False, True]),
    cuts=st.lists(st.integers(0, 10_000), max_size=5),
    room=st.sampled_from([1, 64, 300, 1 << 20]),
)
@example([[None], [""], ["\\."], ["\\N"]], ",", "", False, [3], 1)
@example([["", None], [None, ""]], "\t", "", False, [], 1)
def test_the_bytes_are_copy_s(session, table, delimiter, null, quote_all, cuts, room):
    """For any values, options and cuts, and however little room there is at first."""
    text, csv = both(session, table, delimiter, null, quote_all)
    wanted = form(delimiter, null, quote_all, len(table[0]))
    assert wanted.is_possible
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "OUT_BYTES", room)
        patch.setattr(csv_rows, "MORE_BYTES", room)
        assert made(wanted, in_pieces(text, cuts, len(table))) == csv
        binary = copy(session, values(session, table), "FORMAT binary")
        wanted = form(delimiter, null, quote_all, len(table[0]), b"t" * len(table[0]))
        assert made(wanted, in_pieces(binary, cuts, len(table))) == csv


@QUERY
@given(
    numbers=st.lists(
        st.none()
        | st.integers(-(2**15), 2**15 - 1)
        | st.sampled_from([-(2**15), 2**15 - 1, 0, -1, 9, 10, -10]),
        min_size=1,
        max_size=20,
    ),
    delimiter=st.sampled_from(",-0t"),
    null=st.sampled_from(["", "0", "t", "-1"]),
    quote_all=st.booleans(),
)
def test_numbers_and_booleans_are_written_as_the_server_writes_them(
    session, numbers, delimiter, null, quote_all
):
    """Of each size, up to its ends; the delimiter or what stands for NULL may be one of them."""
    assume(delimiter not in null)
    wide = [
        None if n is None else (n, n * 2**16 + abs(n), n * 2**48 + abs(n), n > 0) for n in numbers
    ]
    rows = ", ".join("(NULL, NULL, NULL, NULL)" if row is None else str(row) for row in wide)
    query = (
        "SELECT column1::int2, column2::int4, column3::int8, column4::bool, 'a' AS last"
        f" FROM (VALUES {rows}) AS v"
    )
    csv = copy(session, query, csv_options(session, delimiter, null, quote_all))
    wanted = form(delimiter, null, quote_all, 5, b"iiibt")
    assert wanted.is_possible
    assert made(wanted, in_pieces(copy(session, query, "FORMAT binary"), [], len(wide))) == csv


@pytest.mark.parametrize("length", [*range(55, 75), *range(120, 140), 191, 192, 193])
def test_special_characters_stand_anywhere_in_a_block(session, length):
    """Each of them at each place of the first blocks, and at their ends."""
    table: list[list[str | None]] = [
        ["x" * length + special + "y" * 70, None]
        for special in ["", '"', "\\", ",", "\n", "\r", "\t", '""', "\\\\", ",,", '\\"', "\\,"]
    ]
    text, csv = both(session, table, ",", "", False)
    assert made(form(), in_pieces(text, [], len(table))) == csv
    binary = copy(session, values(session, table), "FORMAT binary")
    assert made(form(kinds=b"tt"), in_pieces(binary, [], len(table))) == csv


def test_every_ascii_delimiter_is_possible_or_left_to_the_server(session):
    """What COPY's text format refuses, or would confuse, is not asked of it."""
    table = [["aN1.\\ z", None], ["N", "n"], [".", ""]]
    left = []
    for delimiter in map(chr, range(1, 128)):
        if delimiter in '"\r\n':
            continue
        wanted = form(delimiter, "", False)
        if not wanted.is_possible:
            left.append(delimiter)
            continue
        table[0][0] = f"a{delimiter}N1.\\ z"
        text, csv = both(session, table, delimiter, "", False)
        assert made(wanted, in_pieces(text, [], 3)) == csv, delimiter
    assert "".join(left) == (".0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ\\abcdefghijklmnopqrstuvwxyz")


def test_a_value_longer_than_all_room_is_made(session):
    """3 MB of quotes in one value: room grows."""
    table = [["a", '"' * 3_000_000], ["b", "c"]]
    text, csv = both(session, table, ",", "", False)
    assert made(form(), in_pieces(text, [1_000_000, 2_000_000], 2)) == csv
    binary = copy(session, values(session, table), "FORMAT binary")
    assert made(form(kinds=b"tt"), in_pieces(binary, [10, 20, 1_000_000], 2)) == csv


@pytest.mark.parametrize("kinds", [b"", b"tt"])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_of_a_row_that_is_too_long_the_server_is_asked(session, monkeypatch, kinds, at):
    """It is asked once all has come, and gives what is still to be written; nothing is held."""
    monkeypatch.setattr(csv_rows, "LONGEST_ROW", 10_000)
    table: list[list[str | None]] = [["a", "b"], ["c", None], ["d", '"e'], ["f", "g"]]
    table[at][1] = "long, " * 5000
    text, csv = both(session, table, ",", "", False)
    data = copy(session, values(session, table), "FORMAT binary") if kinds else text
    given = in_pieces(data, list(range(0, len(data), 1000)), 4)

    def by_server() -> Generator[bytes, None, int]:
        assert list(given) == []
        return in_pieces(csv, [3, 4, 100, 1000], 4)

    pieces = Pieces(form(kinds=kinds).convert(given, by_server))
    assert b"".join(map(bytes, pieces)) == csv
    assert pieces.rows == 4


@pytest.mark.parametrize("text", [b"a,b\nc,d\n", b"a,b\nc,d\ne,f", b"a,b\n"])
def test_rows_that_are_not_those_that_were_told_are_an_error(text):
    """Two rows were told of: half a row more, or one, are an error."""
    told = 2 if text != b"a,b\nc,d\n" else 3
    with pytest.raises(DatabaseError, match=f"told of {told} rows"):
        made(form(), in_pieces(text, [], told))


def test_binary_that_is_cut_off_or_of_other_columns_is_an_error(session):
    """A row that is not whole, a row too few, and a row of three values where two are asked for."""
    table: list[list[str | None]] = [["a", "b"], ["c", "d"]]
    binary = copy(session, values(session, table), "FORMAT binary")
    for data, told in ((binary[:-3], 2), (binary, 3)):
        with pytest.raises(DatabaseError, match=f"told of {told} rows"):
            made(form(kinds=b"tt"), in_pieces(data, [], told))
    with pytest.raises(DatabaseError, match="told of 2 rows, but sent 0"):
        made(form(kinds=b"ttt", columns=3), in_pieces(binary, [], 2))


@given(
    data=st.binary(max_size=400) | st.text('",\\\nNa', max_size=400).map(str.encode),
    room=st.integers(0, 900),
    null=st.sampled_from([b"", b"NA"]),
    quote_all=st.booleans(),
)
@example(b"\\\n", 100, b"", False)
@example(b"a" * 127 + b"\\\n", 900, b"", False)
def test_garbage_does_no_harm(data, room, null, quote_all):
    """Whatever the bytes are, nothing is written beyond the room that is given."""
    out = bytearray(b"?" * (room + 512))
    read, written, rows, is_full = csv_rows.converter.convert(
        data, memoryview(out)[:room], ord(","), null, quote_all, False
    )
    assert out[room:] == b"?" * 512
    assert 0 <= read <= len(data)
    assert 0 <= written <= room
    assert rows <= data.count(b"\n")
    assert is_full or b"\n" not in data[read:]


@st.composite
def binary_rows(draw: st.DrawFn) -> bytes:
    """Rows of two values, their lengths and their number now and then not what they ought to be."""
    data = draw(st.sampled_from([b"", b"PGCOPY\n\xff\r\n\0" + bytes(8)]))
    for _ in range(draw(st.integers(0, 5))):
        data += draw(st.sampled_from([b"\0\2"] * 20 + [b"\0\3", b"\xff\xff", b""]))
        for _ in range(2):
            value = draw(st.binary(max_size=200))
            told = draw(st.sampled_from([len(value)] * 20 + [-1, -2, 2**31 - 1, len(value) + 1]))
            data += told.to_bytes(4, "big", signed=True) + value
    return data


@given(
    data=binary_rows() | st.binary(max_size=100),
    room=st.integers(0, 900),
    null=st.sampled_from([b"", b"NA"]),
    quote_all=st.booleans(),
    kinds=st.sampled_from([b"tt", b"ii", b"bi"]),
)
def test_garbage_in_binary_does_no_harm(data, room, null, quote_all, kinds):
    """Whatever the lengths are said to be, nothing is read or written beyond what is given."""
    out = bytearray(b"?" * (room + 512))
    read, written, rows, _ = csv_rows.converter.convert_binary(
        data, memoryview(out)[:room], ord(","), null, quote_all, kinds
    )
    assert out[room:] == b"?" * 512
    assert 0 <= read <= len(data)
    assert 0 <= written <= room
    assert rows <= 5


# ------------------------------------------------------------------------- whole exports


def test_a_process_without_the_converter_has_the_server_make_it(exports, many, monkeypatch):
    """The statement is in CSV then, and the file is the same."""
    table = many(3000)
    by_us = exports.same(table)
    monkeypatch.setattr(csv_rows, "converter", None)
    assert not form().is_possible
    assert RangeCopies("TABLE t", "FORMAT csv", form()).of(0, 1).to().endswith("(FORMAT csv)")
    assert exports.same(table) == by_us


def test_the_length_of_values_decides_on_the_format(exports, look):
    """What was learned of a range decides on the next; the file is COPY's, with all in it."""
    text, binary = form(), form(kinds=b"it")
    copies = RangeCopies("TABLE t", "FORMAT csv", text, binary)
    assert copies.of(0, 8).csv is text
    copies.learn(2 * 10 * LONG_VALUE + 1, 10)
    assert copies.of(8, 16).csv is binary
    copies.learn(10 * LONG_ROW + 1, 10)
    assert copies.of(8, 16).csv is None
    copies.learn(10, 10)
    assert copies.of(8, 16).csv is text
    copies.learn(0, 0)
    assert copies.of(8, 16).csv is text
    look(
        "CREATE TABLE t AS SELECT n, repeat(E'\"x\",\\n', CASE WHEN n BETWEEN 5000 AND 9000 THEN"
        " 100 ELSE 1 END) AS a FROM generate_series(1, 15000) AS n"
    )
    exports.same("t", workers=2)


def test_where_values_stand_beside_the_rows_it_is_binary_from_the_first_row_on():
    """Text would be held until its row's end."""
    text, binary = form(), form(kinds=b"it")
    copies = RangeCopies("TABLE t", "FORMAT csv", text, binary, are_long=True)
    assert copies.of(0, 8).csv is binary
    copies.learn(10, 10)
    assert copies.of(8, 16).csv is binary


def test_a_very_long_value_among_short_ones(exports, look, monkeypatch):
    """4 MB where a row of 1 MB is held at most: in each source and by each reader, COPY's bytes."""
    monkeypatch.setattr(csv_rows, "LONGEST_ROW", 1 << 20)
    look("CREATE TABLE t (n int, a text)")
    look("ALTER TABLE t ALTER COLUMN a SET STORAGE EXTERNAL")
    look("INSERT INTO t SELECT n, 'short' FROM generate_series(1, 3000) AS n")
    look("INSERT INTO t VALUES (0, repeat('long', 1000000))")
    look("INSERT INTO t SELECT n, 'short' FROM generate_series(1, 3000) AS n")
    asked = []
    after = csv_rows._after

    def noted(written, pieces):
        asked.append(written)
        return after(written, pieces)

    monkeypatch.setattr(csv_rows, "_after", noted)
    exports.same("t")
    monkeypatch.setattr(PipeReader, "serves", lambda _: False)
    exports.same("t")
    assert len(asked) == 4
    assert all(asked)
    monkeypatch.setattr(PsqlReader, "serves", lambda _: False)
    exports.same("t")
    assert len(asked) == 4  # the driver itself holds a row: it comes as a whole


def test_the_statement_says_what_is_made(look):
    """Text is asked for with the same delimiter; the header of names is none of it."""
    wanted = CsvForm("SELECT * FROM t", "DELIMITER ';'", ";", "", False, 1)
    statement = RangeCopies("SELECT * FROM t", "FORMAT csv", wanted).of(3, 9).to()
    assert statement.startswith(
        "COPY (SELECT * FROM t WHERE ctid OPERATOR(pg_catalog.>=) '(3,0)'::pg_catalog.tid"
        " AND ctid OPERATOR(pg_catalog.<) '(9,0)'::pg_catalog.tid"
    )
    assert statement.endswith("WITH (DELIMITER ';')")
    assert copied(look.url, "SELECT 1 AS a", "FORMAT csv, HEADER") == b"a\n1\n"
