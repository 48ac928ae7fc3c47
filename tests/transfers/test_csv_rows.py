"""CSV that is made here of COPY's text: byte for byte what COPY's CSV is."""

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
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg2 import sql

from taskwidgets.errors import DatabaseError
from taskwidgets.transfers import csv_rows
from taskwidgets.transfers.csv_rows import CsvForm
from taskwidgets.transfers.range_copies import LONG_VALUE, RangeCopies

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
    delimiter: str = ",", null: str = "", quote_all: bool = False, columns: int = 2
) -> CsvForm:
    return CsvForm("", delimiter, null, quote_all, columns)


def in_pieces(data: bytes, cuts: list[int], rows: int) -> Generator[bytes, None, int]:
    """The data cut at these places, as a reader would give it."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in pairwise(places):
        yield data[start:stop]
    return rows


def made(form: CsvForm, pieces: Generator[bytes, None, int]) -> bytes:
    return b"".join(bytes(piece) for piece in form.convert(pieces))


def copy(session: Any, table: list[list[str | None]], options: str) -> bytes:
    """What COPY makes of the values, with these options."""
    rows = sql.SQL(", ").join(
        sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Literal, row))) for row in table
    )
    columns = ", ".join(f"column{number + 1}::text" for number in range(len(table[0])))
    query = f"SELECT {columns} FROM (VALUES {rows.as_string(session)}) AS v"
    out = io.BytesIO()
    with session.cursor() as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT WITH ({options}, ENCODING 'UTF8')", out)
    return out.getvalue()


def both(
    session: Any, table: list[list[str | None]], delimiter: str, null: str, quote_all: bool
) -> tuple[bytes, bytes]:
    """The same rows in text and in CSV."""
    mark = sql.Literal(delimiter).as_string(session)
    options = f"FORMAT csv, DELIMITER {mark}, NULL {sql.Literal(null).as_string(session)}"
    if quote_all:
        options += ", FORCE_QUOTE *"
    return copy(session, table, f"DELIMITER {mark}"), copy(session, table, options)


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
        assert made(wanted, in_pieces(text, cuts, len(table))) == csv


@pytest.mark.parametrize("length", [*range(55, 75), *range(120, 140), 191, 192, 193])
def test_special_characters_stand_anywhere_in_a_block(session, length):
    """Each of them at each place of the first blocks, and at their ends."""
    table: list[list[str | None]] = [
        ["x" * length + special + "y" * 70, None]
        for special in ["", '"', "\\", ",", "\n", "\r", "\t", '""', "\\\\", ",,", '\\"', "\\,"]
    ]
    text, csv = both(session, table, ",", "", False)
    assert made(form(), in_pieces(text, [], len(table))) == csv


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


@pytest.mark.parametrize("text", [b"a,b\nc,d\n", b"a,b\nc,d\ne,f", b"a,b\n"])
def test_rows_that_are_not_those_that_were_told_are_an_error(text):
    """Two rows were told of: three, half a row more, or one, are an error."""
    told = 2 if text != b"a,b\nc,d\n" else 3
    with pytest.raises(DatabaseError, match=f"told of {told} rows"):
        made(form(), in_pieces(text, [], told))


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


# ------------------------------------------------------------------------- whole exports


def test_a_process_without_the_converter_has_the_server_make_it(exports, many, monkeypatch):
    """The statement is in CSV then, and the file is the same."""
    table = many(3000)
    by_us = exports.same(table)
    monkeypatch.setattr(csv_rows, "converter", None)
    assert not form().is_possible
    assert RangeCopies("TABLE t", "FORMAT csv", form()).of(0, 1).to().endswith("(FORMAT csv)")
    assert exports.same(table) == by_us


def test_long_values_are_left_to_the_server(exports, look):
    """What was learned of a range decides on the next; the file is COPY's, with both in it."""
    copies = RangeCopies("TABLE t", "FORMAT csv", form(columns=2))
    assert copies.of(0, 8).csv is not None
    copies.learn(2 * 10 * LONG_VALUE + 1, 10)
    assert copies.of(8, 16).csv is None
    copies.learn(10, 10)
    assert copies.of(8, 16).csv is not None
    look(
        "CREATE TABLE t AS SELECT n, repeat(E'\"x\",\\n', CASE WHEN n BETWEEN 5000 AND 9000 THEN"
        " 100 ELSE 1 END) AS a FROM generate_series(1, 15000) AS n"
    )
    exports.same("t", workers=2)


def test_what_may_be_very_long_is_left_to_the_server(exports, look, monkeypatch):
    """A long value anywhere in table or query: no row is held here, not even a short one."""
    look("CREATE TABLE t (n int, a text)")
    look("ALTER TABLE t ALTER COLUMN a SET STORAGE EXTERNAL")
    look("INSERT INTO t SELECT n, 'short' FROM generate_series(1, 5000) AS n")
    look("INSERT INTO t VALUES (0, repeat('long', 1000000))")
    taken = []
    convert = CsvForm.convert

    def noted(self, pieces):
        taken.append(self)
        return convert(self, pieces)

    monkeypatch.setattr(CsvForm, "convert", noted)
    exports.same("t")
    assert taken == []
    look("TRUNCATE t")
    look("INSERT INTO t SELECT n, 'short' FROM generate_series(1, 5000) AS n")
    exports.same("t")
    assert taken != []


def test_the_statement_says_what_is_made(look):
    """Text is asked for with the same delimiter; the header of names is none of it."""
    wanted = CsvForm("DELIMITER ';'", ";", "", False, 1)
    statement = RangeCopies("SELECT * FROM t", "FORMAT csv", wanted).of(3, 9).to()
    assert statement.startswith("COPY (SELECT * FROM t WHERE ctid >= '(3,0)' AND ctid < '(9,0)'")
    assert statement.endswith("WITH (DELIMITER ';')")
    assert copied(look.url, "SELECT 1 AS a", "FORMAT csv, HEADER") == b"a\n1\n"
