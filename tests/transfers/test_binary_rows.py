"""Binary rows: what the encoder takes arrives as COPY reads the text of it; all else it leaves."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from taskwidgets import JobFailed
from taskwidgets.tabular.boundaries import scan
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.tabular.types import fits
from taskwidgets.transfers import binary_copy, loading
from taskwidgets.transfers.binary_copy import BinaryCopy
from taskwidgets.transfers.copy_in import CopyIn
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.upload_plan import UploadPlan

BINARY, TEXT = TableName("public", "by_rows"), TableName("public", "by_text")
LETTERS = {
    "smallint": b"s", "integer": b"i", "bigint": b"l", "double precision": b"d", "numeric": b"n",
    "boolean": b"b", "date": b"D", "timestamp": b"T", "timestamptz": b"Z", "text": b"t",
}  # fmt: skip
INFERRED = sorted(set(LETTERS) - {"smallint", "text"})


def digits(most: int) -> st.SearchStrategy[str]:
    return st.text("0123456789", min_size=0, max_size=most)


WHOLE = st.integers(-(2**65), 2**65).map(str) | st.integers(-40000, 40000).map(str)
DECIMAL = st.builds(
    "{}{}{}{}".format, st.sampled_from(["", "", "-", "+"]), digits(20), st.sampled_from(".."),
    digits(25),
)  # fmt: skip
FLOAT = st.floats(allow_nan=False, allow_infinity=False).map(repr)
DAY = st.dates().map(str) | st.builds(
    "{:04}-{:02}-{:02}".format, st.integers(0, 9999), st.integers(0, 13), st.integers(0, 32)
)
CLOCK = st.builds(
    "{:02}:{:02}{}".format, st.integers(0, 25), st.integers(0, 61),
    st.sampled_from(["", ":00", ":59", ":60", ":07.5", ":07.123456", ":07.1234567", ":7", "."]),
)  # fmt: skip
ZONE = st.sampled_from(["", "Z", "+02", "-0330", "+05:45", "+15:59", "+16", "+2", " UTC", "+05:4"])
MOMENT = st.builds("{}{}{}{}".format, DAY, st.sampled_from("T T"), CLOCK, ZONE) | DAY
WORD = st.text(st.sampled_from("aZ09 .,;|\"'\\\n\r\tä€-+:_"), max_size=9) | st.sampled_from(
    ["", "NA", "\\N", "\\.", "true", "FALSE", "t", "NaN", "-inf", "1e5", "1e-05", "1.5E+20", "0x1F"]
)
VALUES = {
    "smallint": WHOLE, "integer": WHOLE, "bigint": WHOLE,
    "double precision": DECIMAL | FLOAT | WHOLE | st.sampled_from(["1e-400", "9e999", "-0"]),
    "numeric": DECIMAL | WHOLE, "boolean": st.sampled_from(["true", "FALSE", "t", "tru", "truex"]),
    "date": DAY, "timestamp": MOMENT, "timestamptz": MOMENT, "text": WORD,
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], Dialect, bytes]:
    """Types of columns, and records of which most would fit."""
    kinds = draw(st.lists(st.sampled_from(sorted(LETTERS)), min_size=1, max_size=4))
    null = draw(st.sampled_from(["", "", "NA", "\\N"]))
    dialect = Dialect(
        delimiter=draw(st.sampled_from(",;\t|")),
        quotechar=draw(st.sampled_from('""\'')),
        null_value=null,
    )
    ending = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    quote = dialect.quotechar

    def written(value: str | None) -> str:
        if value is None:
            return null
        special = {dialect.delimiter, quote, "\n", "\r"} & set(value)
        if special or value == null or draw(st.integers(0, 9)) == 0:
            return quote + value.replace(quote, 2 * quote) + quote
        return value

    records = []
    for _ in range(draw(st.integers(1, 4))):
        cells = []
        for kind in kinds:
            odd = draw(st.integers(0, 19)) == 0
            cells.append(written(draw(st.none() | (WORD if odd else VALUES[kind]))))
        records.append(dialect.delimiter.join(cells))
    end = ending if draw(st.booleans()) else ""
    return kinds, dialect, (ending.join(records) + end).encode()


def plan_of(kinds: list[str], dialect: Dialect) -> UploadPlan:
    """An upload's plan, as far as COPY asks it."""
    columns = tuple(f"c{number}" for number in range(len(kinds)))
    return UploadPlan(
        path=Path("none.csv"),
        fingerprint=Fingerprint(0, 0, ""),
        dialect=dialect,
        columns=columns,
        types=dict(zip(columns, kinds, strict=True)),
        data_start=0,
        target=BINARY,
        if_exists="fail",
    )


def create(connection: Connection, table: TableName, kinds: list[str]) -> None:
    """An empty table."""
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(kinds))
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table.table}")
    connection.exec_driver_sql(f"CREATE TABLE {table.table} ({columns})")


def contents(connection: Connection, table: TableName) -> list[str]:
    """All rows, by their bytes: the sign of a zero and the digits of a numeric count."""
    found = connection.exec_driver_sql(f"SELECT record_send(t)::text FROM {table.table} t")
    return sorted(found.scalars())


def number_of_records(data: bytes, dialect: Dialect) -> int:
    return scan(data, dialect.quote_byte).records + (not data.endswith(b"\n"))


@pytest.fixture
def connection(workspace) -> Iterator[Connection]:
    with workspace.engine.connect() as made:
        yield made


def load_both(connection: Connection, kinds: list[str], dialect: Dialect, data: bytes) -> bool:
    """Whether the rows were taken; they are then what COPY makes of the text."""
    plan = plan_of(kinds, dialect)
    with connection.begin():
        create(connection, BINARY, kinds)
        create(connection, TEXT, kinds)
    with connection.begin():
        taken = BinaryCopy(BINARY, plan).run(connection, data, number_of_records(data, dialect))
    if not taken:
        assert contents(connection, BINARY) == []
        connection.rollback()
        return False
    with connection.begin():
        cursor = connection.connection.cursor()
        CopyIn(TEXT, plan).run(cursor, data)
    assert contents(connection, BINARY) == contents(connection, TEXT)
    connection.rollback()
    return True


def test_the_encoder_is_there():
    """It is compiled when the package is installed: what follows would else test nothing."""
    assert binary_copy.encoder is not None


@given(table=tables())
@example(table=(["text"], Dialect(), b"\\.\n"))
@example(table=(["integer", "text"], Dialect(), b'1,"a\r\nb"\r\n2,\r\n'))
@example(table=(["integer"], Dialect(), b"1\n2\r\n"))
@example(table=(["integer"], Dialect(), b"1\n\n3\n"))
@settings(
    deadline=None,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_rows_arrive_as_their_text_would(connection, table) -> None:
    """Whatever is taken is in the table byte for byte as after COPY of the text."""
    event("taken" if load_both(connection, *table) else "left")


PLAIN = {
    "smallint": ["0", "-1", "32767", "-32768"],
    "integer": ["0", "7", "-12", "2147483647", "-2147483648"],
    "bigint": ["0", "9223372036854775807", "-9223372036854775808"],
    "double precision": [
        *("0", "-0", "1.5", "-0.5", ".5", "-.25", "9007199254740992", "-0.0", "100.0", "0.1"),
        *("1e-05", "1.5e+20", "-2.2250738585072014e-308", "1.7976931348623157e+308"),
        *("0.30000000000000004", "123456789012345.678", "0.000001234567890123456"),
    ],
    "numeric": [
        *("0", "-0", "0.00", "-0.00", "1", "10000", "9999", "99990001", "0.0001", ".00010001"),
        *("12345.678901", "-98765432109876543210.00000000001", "100000000", "0.1000"),
    ],
    "boolean": ["true", "false", "TRUE", "False"],
    "date": ["0001-01-01", "1999-12-31", "2000-01-01", "2000-02-29", "2100-02-28", "9999-12-31"],
    "timestamp": [
        *("2024-01-05", "2024-01-05 10:00", "2024-01-05T23:59:59.999999", "1582-10-10 00:00:01.5"),
    ],
    "timestamptz": [
        *("2024-01-05T10:00:07Z", "2024-01-05 10:00+02", "0001-01-01T00:00:00-15:59"),
        *("2024-01-05T10:00:00.000001+0530", "9999-12-31T23:59:59.999999-15"),
    ],
    "text": ["", "x", "NULL", "ä€", "a b"],
}  # fmt: skip


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_values_are_taken(connection, kind):
    """The forms that most files hold go in as rows, also beside NULL, and in quotes."""
    quoted = [f'"{value}"' for value in PLAIN[kind]]
    unquoted = [value for value in PLAIN[kind] if value]
    data = "\n".join(f"{value}," for value in quoted + unquoted).encode()
    assert load_both(connection, [kind, kind], Dialect(), data)


UNUSUAL = {
    "smallint": ["32768", "-32769"],
    "integer": [
        *("2147483648", "007", "07", "00", "-07", "+5", "-0", " 7", "7 ", "1_000", "0x1F", "1.0"),
        *("-", "1" * 30),
    ],
    # The last two are 1 and 7 modulo 2^64.
    "bigint": [
        *("9223372036854775808", "-9223372036854775809", "1" * 20),
        *("18446744073709551617", "36893488147419103239"),
    ],
    "double precision": [
        *("9007199254740993", "007", "+5", "1e5", "1E5", "5.", "-", ".", "-.", "e+05", ".5e+05"),
        *("1e-400", "1e+400", "1e+1000", "0x1p3", "inf", "nan", "infinity", "1.5 ", "1.2.3"),
        *("0.1234567890123456789012345", "1" * 20, "00.5"),
    ],
    "numeric": ["007", "+5", "5.", "1e5", "NaN", "-", ".", "1_0", " 1", "9" * 65],
    "boolean": ["t", "1", "yes", "tru", "truee", "falsetrue"],
    "date": [
        *("2024-1-5", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-10", "2024-01-00"),
        *("2024-04-31", "0000-01-01", "2024-01-05 10:00", "20240105", "today", "2024-01-0"),
    ],
    "timestamp": [
        *("2024-01-05 24:00", "2024-01-05 10:60", "2024-01-05 10:00:60", "2024-01-05 10:00:00Z"),
        *("2024-01-05 10:00:00.1234567", "2024-01-05 10", "2024-01-05T", "2024-01-05  10:00"),
        *("now", "2024-01-05 10:00:00.", "2024-01-05 10:00:0", "2024-01-05 1:00"),
    ],
    "timestamptz": [
        *("2024-01-05 10:00", "2024-01-05", "2024-01-05 10:00+16", "2024-01-05 10:00+2"),
        *("2024-01-05 10:00 UTC", "2024-01-05 10:00ZZ", "2024-01-05 10:00+05:4"),
        *("2024-01-05 10:00+05:60", "2024-01-05 10:00+", "2024-01-05 10:00+05:", "2024-01-05Z"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value"), [(kind, value) for kind, values in UNUSUAL.items() for value in values]
)
def test_other_forms_are_left(kind, value):
    """Anything else is for COPY to judge: alone, before another field, and in quotes."""
    out = memoryview(bytearray(1000))
    for data in (f"{value}\n", f"{value},1\n", f'"{value}"\n', f"{value}"):
        kinds = LETTERS[kind] + (b"i" if "," in data else b"")
        assert (
            binary_copy.encoder.encode(data.encode(), out, kinds, ord(","), ord('"'), b"", -1)
            is None
        )


@pytest.mark.parametrize(
    "data",
    [
        *(b"1\n", b"1,2,3\n", b"1,2\n3\n", b'"1,2\n', b'1,"2"x\n', b'1,a"b\n', b"1,a\rb\n"),
        *(b"1,a\n2,b\r\n", b"1,a\r\n2,b\n", b"1,a\r", b"\n1,a\n", b"1,a\n\n", b'1,"', b'"'),
    ],
)
def test_records_of_another_form_are_left(data):
    """Another number of fields, quotes and carriage returns where none belong, mixed line ends."""
    out = memoryview(bytearray(1000))
    assert binary_copy.encoder.encode(data, out, b"it", ord(","), ord('"'), b"", -1) is None


@given(values=st.lists(st.sampled_from(INFERRED).flatmap(lambda kind: VALUES[kind]), max_size=30))
@settings(max_examples=300)
def test_what_is_taken_is_no_misfit(values):
    """A value that becomes part of a row fits its inferred type, so that it need not be screened.

    But for decimals of more digits than a float has, which are taken for floats, as by the screen.
    """
    out = memoryview(bytearray(1000))
    for value in values:
        for kind in INFERRED:
            data = f"{value}\n".encode()
            done = binary_copy.encoder.encode(
                data, out, LETTERS[kind], ord(","), ord('"'), b"NULL", -1
            )
            many = len(re.sub(r"[^0-9]", "", value)) > 15 and kind == "double precision"
            assert done is None or many or fits(value, kind), (kind, value)


def test_every_day_is_the_right_one():
    """All days of 9,999 years, counted from the first of January 2000."""
    first, last = date(1, 1, 1), date(9999, 12, 31)
    days = [first + timedelta(number) for number in range((last - first).days + 1)]
    data = "\n".join(map(str, days)).encode()
    out = memoryview(bytearray(10 * len(days) + 64))
    read, written, rows, _ = binary_copy.encoder.encode(
        data, out, b"D", ord(","), ord('"'), b"", -1
    )
    assert (read, written, rows) == (len(data), 10 * len(days), len(days))
    begin = (first - date(2000, 1, 1)).days
    found = [number for _, _, number in struct.iter_unpack(">hii", out[:written])]
    assert found == list(range(begin, begin + len(days)))


def test_every_float_is_the_nearest():
    """Of random decimals of every length, the bits are those that Python finds."""
    maker = random.Random(7)
    texts = [
        f"{'-' * maker.randrange(2)}{maker.randrange(10 ** maker.randrange(1, 10))}."
        f"{maker.randrange(10**places):0{places}}"
        for places in range(1, 14)
        for _ in range(5000)
    ] + [repr(maker.uniform(-1, 1) * 10.0 ** maker.randrange(-300, 300)) for _ in range(50_000)]
    texts = [text for text in texts if len(text) <= 24]
    data = "\n".join(texts).encode()
    out = memoryview(bytearray(14 * len(texts) + 64))
    read, written, rows, _ = binary_copy.encoder.encode(
        data, out, b"d", ord(","), ord('"'), b"", -1
    )
    assert (read, rows) == (len(data), len(texts))
    assert [found for _, _, found in struct.iter_unpack(">hid", out[:written])] == [
        *map(float, texts)
    ]


@pytest.mark.parametrize("room", [*range(0, 260, 3), 1000])
def test_without_room_it_stops_between_records(room):
    """What has no room any more is left for the next call, and nothing is written beyond."""
    data = b'12,"a ""b""",2024-01-05\n' * 5
    rows: list[bytes] = []
    at, ends_in_cr = 0, -1
    while at < len(data):
        out = bytearray(b"?" * (room + 50))
        done = binary_copy.encoder.encode(
            data[at:], memoryview(out)[:room], b"itD", ord(","), ord('"'), b"", ends_in_cr
        )
        assert done is not None
        read, written, found, ends_in_cr = done
        assert out[room:] == b"?" * 50
        assert read % 24 == 0
        assert found == read // 24
        if not found:
            assert room < 100
            return
        at += read
        rows.append(bytes(out[:written]))
    row = (
        struct.pack(">hii", 3, 4, 12)
        + struct.pack(">i5s", 5, b'a "b"')
        + struct.pack(">ii", 4, 8770)
    )
    assert b"".join(rows) == row * 5


@pytest.mark.parametrize("text", [b"%s", b'"%s"'])
def test_a_long_text_needs_room_for_its_length_as_well(text):
    """Where a text would just fit without the four bytes before it, it waits for the next call."""
    for length in range(50, 80):
        needed = 2 + 4 + length
        for room in range(needed - 8, needed + 8):
            out = bytearray(b"?" * (room + 50))
            done = binary_copy.encoder.encode(
                text % (b"x" * length) + b"\n",
                memoryview(out)[:room],
                b"t",
                ord(","),
                ord('"'),
                b"",
                0,
            )
            assert out[room:] == b"?" * 50
            assert done is not None
            assert done[2] == 0 or (room >= needed and done[1] == needed)


def test_a_lone_backslash_and_point_are_left_to_copy():
    """In one column, a line of just that ends the data for COPY before Postgres 18."""
    out = memoryview(bytearray(1000))
    for data in (b"\\.\n", b"a\n\\.\nb\n"):
        assert binary_copy.encoder.encode(data, out, b"t", ord(","), ord('"'), b"", 0) is None
    assert (
        binary_copy.encoder.encode(b"\\.,1\n", out, b"ti", ord(","), ord('"'), b"", 0) is not None
    )


@given(
    data=st.binary(max_size=200)
    | st.text('0123456789.,-:TZ \n"e+tx', max_size=200).map(str.encode),
    kinds=st.text("silndbDTZt?", min_size=1, max_size=5).map(str.encode),
    room=st.integers(0, 400),
)
@settings(max_examples=500)
def test_garbage_does_no_harm(data, kinds, room):
    """Whatever the bytes are, nothing is written beyond the room that is given."""
    out = bytearray(b"?" * (room + 64))
    binary_copy.encoder.encode(data, memoryview(out)[:room], kinds, ord(","), ord('"'), b"", -1)
    assert out[room:] == b"?" * 64


# ------------------------------------------------------------------------- whole uploads


@pytest.fixture
def taken(monkeypatch) -> Callable[[], list[bool]]:
    """Whether each segment so far went in as rows."""
    found: list[bool] = []
    run = BinaryCopy.run

    def noted(self, connection, data, records):
        found.append(run(self, connection, data, records))
        return found[-1]

    monkeypatch.setattr(loading.BinaryCopy, "run", noted)
    return lambda: found


@pytest.mark.parametrize("mode", ["stop", "reject"])
def test_an_upload_is_the_same_with_and_without(
    workspace, csv_file, look, taken, monkeypatch, mode
):
    """Rows, receipt and types are those of an upload without the encoder."""
    rows = "".join(
        f'{n},{n * 1.1:.2f},"name ""{n}""\nof two lines",2024-01-{n % 28 + 1:02}T10:00:00Z,'
        f"{['true', ''][n % 2]}\n"
        for n in range(3000)
    )
    path = csv_file(f"id,price,name,seen,is_new\n{rows}".encode())
    by_rows = workspace.upload(path, "by_rows", on_error=mode).wait()
    assert taken() == [True] * len(taken()) != []
    monkeypatch.setattr(binary_copy, "encoder", None)
    by_text = workspace.upload(path, "by_text", on_error=mode).wait()
    assert look.types("by_rows") == look.types("by_text")
    assert look("SELECT * FROM by_rows ORDER BY id") == look("SELECT * FROM by_text ORDER BY id")
    assert (by_rows.rows_loaded, by_rows.sha256) == (by_text.rows_loaded, by_text.sha256)


@pytest.mark.parametrize(
    ("value", "types", "reason"),
    [
        (b"a\0b", {}, "NUL"),
        (b"a\xffb", {}, "UTF8"),
        (b"too long", {"b": "varchar(5)"}, "too long"),
        (b"123456.78", {"b": "numeric(5,2)"}, "overflow"),
        (b"12", {"b": "c"}, "check"),
    ],
)
def test_what_the_server_minds_is_told_as_of_text(workspace, csv_file, look, value, types, reason):
    """A plain value that the server refuses stops the job at its line, column and reason."""
    look("CREATE DOMAIN c AS integer CHECK (VALUE < 10)")
    path = csv_file(b"a,b\n" + b"1,5\n" * 50 + b"2," + value + b"\n" + b"3,5\n" * 50)
    with pytest.raises(JobFailed, match=reason) as caught:
        workspace.upload(path, "t", types={"a": "integer", "b": "text", **types}).wait()
    assert caught.value.__cause__.line == 52
    assert caught.value.__cause__.column == "b"


def test_a_table_of_other_types_is_not_taken_at_its_old_word(connection, workspace):
    """Columns that became others of the same length since they were looked up: text goes in."""
    kinds = ["bigint"]
    with connection.begin():
        create(connection, BINARY, kinds)
    rows = BinaryCopy(BINARY, plan_of(kinds, Dialect()))
    with connection.begin():
        assert rows.run(connection, b"1\n2\n", 2)
    with connection.begin():
        connection.execute(text("ALTER TABLE by_rows ALTER c0 TYPE double precision"))
    with connection.begin():
        assert not rows.run(connection, b"3\n", 1)
    assert contents(connection, BINARY) == sorted(
        connection.scalars(
            text("SELECT record_send(r)::text FROM (VALUES (1::float8), (2)) r")
        ).all()
    )


@pytest.mark.parametrize(
    "option", [{"encoding": "latin-1"}, {"types": {"b": "jsonb"}}, {"delimiter": ":"}]
)
def test_what_rows_cannot_hold_goes_as_text(workspace, csv_file, look, taken, option):
    """Other encodings, types that the encoder does not know, a delimiter that stands in values."""
    mark = option.get("delimiter", ",")
    path = csv_file(f"a{mark}b\n1{mark}2\n".encode())
    assert workspace.upload(path, "t", **option).wait().rows_loaded == 1
    assert taken() == [False]


def test_a_session_in_another_encoding_gets_text(connection):
    """Binary texts are in the session's encoding, which may be another than the file's."""
    with connection.begin():
        create(connection, BINARY, ["text"])
    plan = plan_of(["text"], Dialect())
    driver = connection.connection.driver_connection
    for encoding, takes in (("LATIN1", False), ("UTF8", True)):
        driver.set_client_encoding(encoding)
        with connection.begin():
            assert BinaryCopy(BINARY, plan).run(connection, "ä\n".encode(), 1) == takes
    assert connection.exec_driver_sql(f"SELECT c0 FROM {BINARY.table}").scalars().all() == ["ä"]


def test_the_environments_encoding_is_not_the_sessions(
    workspace, csv_file, look, taken, monkeypatch
):
    """Sessions are in UTF-8 whatever PGCLIENTENCODING says, so rows go in as rows."""
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    path = csv_file("a,b\n1,ä\n".encode())
    workspace.upload(path, "t").wait()
    assert look("SELECT b FROM t") == [("ä",)]
    assert taken() == [True]


def test_a_file_of_unusual_values_is_not_tried_again_and_again(connection):
    """After segments that are not plain, ever more of them go to COPY at once."""
    kinds = ["integer"]
    with connection.begin():
        create(connection, BINARY, kinds)
    rows = BinaryCopy(BINARY, plan_of(kinds, Dialect()))
    run = 0
    tried = []
    encode = rows._encode

    def noted(*arguments):
        tried.append(run)
        return encode(*arguments)

    rows._encode = noted
    with connection.begin():
        for run in range(200):  # noqa: B007 - noted() looks at it
            assert not rows.run(connection, b"007\n", 1)
        assert tried == [0, 5, 14, 31, 64, 129, 194]
        while rows._to_skip:
            assert not rows.run(connection, b"7\n", 1)
        assert rows.run(connection, b"7\n", 1)
        assert not rows.run(connection, b"007\n", 1)
        assert rows._to_skip == binary_copy.FIRST_SKIP
