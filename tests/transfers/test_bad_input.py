"""Each kind of bad input has its own clear error; before the start, it leaves no trace."""

import gzip
import os
import re

import pytest

from taskwidgets import JobFailed, TaskwidgetsError
from taskwidgets.errors import OptionError, SourceError

LONG = "x" * 64


@pytest.mark.parametrize(
    ("content", "line", "column", "reason"),
    [
        (b"", None, None, "is empty"),
        (b"\xef\xbb\xbf", None, None, "is empty"),
        (b"a,b,a\n1,2,3\n", 1, "a", "positions 1 and 3"),
        (b"a,,c\n1,2,3\n", 1, None, "column 2 of the header has no name"),
        (b",b\n1,2\n", 1, None, "index=False"),
        (b'a,"",c\n1,2,3\n', 1, None, "column 2 of the header has no name"),
        (f"a,{LONG}\n1,2\n".encode(), 1, LONG, "64 bytes long"),
        (f"a,{'ä' * 32}\n1,2\n".encode(), 1, "ä" * 32, "64 bytes long"),
        (b"a,\xff\n1,2\n", 1, None, "not valid utf-8"),
        (b"a_column_with_a_long_name,b\x00\n1,2\n", 1, "b\0", "NUL"),
        (b'a,"b\n1,2\n', 1, None, "never closed"),
        (b"\n1,2\n", 1, None, "blank"),
        (b"a,b\r1,2\r", 1, None, "carriage return"),
        (",".join(f"c{n}" for n in range(1601)).encode() + b"\n", 1, None, "1,601 columns"),
        (b"\x1f\x8b\x08\x00abc", None, None, "gzip"),
    ],
)
def test_a_bad_header_is_refused_before_the_start(
    content, line, column, reason, workspace, csv_file, look
):
    """SourceError has path, line, column and reason, and no job or table is made."""
    path = csv_file(content)
    with pytest.raises(SourceError, match=re.escape(reason)) as caught:
        workspace.upload(path, "t")
    error = caught.value
    assert (error.path, error.line, error.column) == (str(path), line, column)
    assert str(path) in str(error)
    if line:
        assert f"line {line}" in str(error) or "columns" in str(error)
    assert look.untouched()
    assert not look.exists("t")


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("a.csv", lambda text: text.encode()),
        ("a.csv.gz", lambda text: gzip.compress(text.encode())),
        ("a.csv", lambda text: text.encode("utf-16")),
        ("a.csv", lambda text: text.replace(",", ";").encode("cp1252")),
    ],
)
def test_a_bad_row_stops_a_file_however_it_is_stored(workspace, look, tmp_path, name, encode):
    """A row with a field too many stops the load at its line, and no table is made."""
    rows = "".join(f"{n},é{n}\n" for n in range(2000))
    path = tmp_path / name
    path.write_bytes(encode(f"a,b\n{rows}1,x,y\n2,z\n"))
    with pytest.raises(JobFailed, match="line 2,002: 3 fields instead of 2"):
        workspace.upload(path, "t").wait(60)
    assert not look.exists("t")


def test_a_missing_file_is_named_and_a_near_one_proposed(workspace, csv_file, look):
    """No such file: SourceError with the path and what it may have meant."""
    path = csv_file("a", "1", name="flights.csv")
    with pytest.raises(SourceError, match=r"flihgts\.csv does not exist; did you mean flights"):
        workspace.upload(path.with_name("flihgts.csv"), "t")
    assert look.untouched()


def test_a_directory_a_pipe_and_a_dangling_link_are_refused(workspace, tmp_path, look):
    """What is no regular file is refused by its kind, without blocking on it."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    for name, what in (("", "is a directory"), ("pipe", "named pipe"), ("link", "is a link to")):
        with pytest.raises(SourceError, match=what):
            workspace.upload(tmp_path / name, "t")
    assert look.untouched()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"if_exists": "drop"}, "if_exists"),
        ({"on_error": "ignore"}, "on_error"),
        ({"max_rejects": 5}, "max_rejects goes with"),
        ({"on_error": "reject", "max_rejects": -1}, "max_rejects"),
        ({"on_error": "reject", "max_rejects": 1.5}, "max_rejects"),
        ({"on_error": "reject", "max_rejects": True}, "max_rejects"),
        ({"types": "number"}, "types"),
        ({"types": {"zz": "text"}}, "'zz'"),
        ({"types": {"a": "no_such_type"}}, "no_such_type"),
        ({"types": {"a": "int); DROP TABLE x; --"}}, "DROP TABLE"),
        ({"types": {"a": "int, b int"}}, "int, b int"),
        ({"types": {"a": 5}}, "types"),
        ({"types": ["a"]}, "types"),
        ({"delimiter": ",,"}, "delimiter"),
        ({"delimiter": "\n"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter and quotechar"),
        ({"quotechar": "ä"}, "quotechar"),
        ({"encoding": "utf-16"}, "encoding"),
        ({"encoding": "klingon"}, "encoding"),
        ({"header": "yes"}, "header"),
        ({"null_values": ["a", "b"]}, "null_values"),
        ({"null_values": "a,b"}, "null_value"),
        ({"workers": 0}, "workers"),
        ({"workers": 1.5}, "workers"),
        ({"workers": True}, "workers"),
        ({"max_rate": 0}, "max_rate"),
        ({"max_rate": "fast"}, "max_rate"),
    ],
)
def test_an_argument_that_makes_no_sense_is_named(arguments, what, workspace, csv_file, look):
    """OptionError, which is a ValueError too, names the argument; nothing is made."""
    with pytest.raises(OptionError, match=re.escape(what)) as caught:
        workspace.upload(csv_file("a,b", "1,x"), "t", **arguments)
    assert isinstance(caught.value, ValueError)
    assert look.untouched()


@pytest.mark.parametrize("kind", ["void", "record", "cstring", "anyelement"])
def test_a_type_that_no_column_can_have_is_refused_early(kind, workspace, csv_file, look):
    """A pseudo-type is refused by its name, and nothing is made."""
    with pytest.raises(TaskwidgetsError, match=kind):
        workspace.upload(csv_file("a", "1"), "t", types={"a": kind})
    assert look.untouched()


FAULTS = [
    ("too many fields", b"1,x,3", None, "3 fields instead of 2"),
    ("too few fields", b"1", "b", "1 field instead of 2"),
    ("a blank line", b"", "b", "1 field instead of 2"),
    ("a value that does not fit", b"x1,x", "a", 'invalid input syntax for type integer: "x1"'),
    ("a number too large", b"99999999999,x", "a", "out of range for type integer"),
    ("invalid UTF-8", b"1,\xff\xfe", "b", "invalid byte sequence"),
    ("a NUL byte", b"1,x\x00y", "b", "NUL byte"),
    ("a NUL byte in the first column", b"\x001,x", "a", "NUL byte"),
]


@pytest.mark.sample(16)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("before", ["plain", "quoted"])
@pytest.mark.parametrize(("name", "row", "column", "reason"), FAULTS)
def test_a_bad_row_fails_the_job_at_its_line(
    name, row, column, reason, before, end, workspace, csv_file, look
):
    """The job fails with path, line, column, reason and row; the target does not come to be."""
    good = [b"%d,x" % number for number in range(500)]
    if before == "quoted":
        good = [b'%d,"two' % number + end + b'lines, and ""more"""' for number in range(500)]
    lines = [b"a,b", *good, row, *good]
    path = csv_file(end.join(lines) + end)
    job = workspace.upload(path, "t", types={"a": "integer", "b": "text"})
    with pytest.raises(JobFailed, match=re.escape(reason)) as caught:
        job.wait()
    error = caught.value
    assert error.line == (502 if before == "plain" else 1002)
    assert error.column == column
    assert error.row == row.decode(errors="replace")
    assert f"{path}, line {error.line:,}" in str(error)
    assert "goes on from its checkpoint" in str(error)
    assert job.state == "failed"
    assert job.error in str(error)
    assert not look.exists("t")
    stored = look.one("SELECT error FROM taskwidgets.jobs")
    assert (stored["line"], stored["column"]) == (error.line, column)
    job.terminate()
    job.join(None)
    assert look.staging() == []


def test_mixed_line_ends_inside_quotes_do_not_shift_the_line(workspace, csv_file):
    """Bare LF and CR LF inside quotes of a CRLF file are counted as an editor counts them."""
    body = b'1,"a\nb"\r\n2,"c\r\nd"\r\n3,"\r"\r\nbad,x\r\n'
    path = csv_file(b"a,b\r\n" + body)
    with pytest.raises(JobFailed) as caught:
        workspace.upload(path, "t", types={"a": "integer"}).wait()
    assert caught.value.line == 1 + body[: body.index(b"bad")].count(b"\n") + 1


def test_a_failing_record_of_several_lines_is_named_by_its_first(workspace, csv_file):
    """A bad value in a record that spans lines is at the line where the record begins."""
    path = csv_file("a,b,c", '1,"x\ny",2', '3,"x\ny\nz",bad', "4,x,5")
    with pytest.raises(JobFailed) as caught:
        workspace.upload(path, "t", types={"c": "integer"}).wait()
    assert (caught.value.line, caught.value.column) == (4, "c")


def test_a_quote_that_is_never_closed_is_named_by_its_line(workspace, csv_file):
    """The record with the open quote is named, not the end of the file."""
    path = csv_file("a,b", *["1,x"] * 20_000, '2,"open', *["3,y"] * 50_000)
    with pytest.raises(JobFailed, match="does not end before the file does") as caught:
        workspace.upload(path, "t").wait()
    assert caught.value.line == 20_002


def test_a_bad_byte_of_another_encoding_is_named(workspace, csv_file):
    """A byte that cp1252 does not have fails at its line."""
    path = csv_file(b"a,b\n1,x\n2,\x81\n")
    with pytest.raises(JobFailed) as caught:
        workspace.upload(path, "t", encoding="cp1252").wait()
    assert caught.value.line == 3


def test_a_row_that_no_page_can_hold_is_named(workspace, csv_file):
    """A row too wide for Postgres fails the job with its line."""
    row = ",".join("y" * 40 for _ in range(1600))
    path = csv_file(",".join(f"c{n}" for n in range(1600)), *["," * 1599] * 3, row)
    with pytest.raises(JobFailed, match="row is too big") as caught:
        workspace.upload(path, "t").wait()
    assert caught.value.line == 5


def test_a_violated_domain_is_named_by_its_line(workspace, csv_file, look):
    """A domain's check fails the job at line and column."""
    look("CREATE DOMAIN positive AS integer CHECK (VALUE > 0)")
    path = csv_file("a,b", "1,x", "-2,y")
    with pytest.raises(JobFailed, match="positive") as caught:
        workspace.upload(path, "t", types={"a": "positive"}).wait()
    assert caught.value.line == 3


def test_the_line_is_right_far_into_the_file(workspace, many_rows):
    """In a file of many segments the line of the fault is the file's, not the segment's."""
    path = many_rows(60_000)
    text = path.read_bytes().split(b"\n")
    number = next(n for n in range(50_000, 60_000) if text[n - 1][:1].isdigit())
    text[number - 1] = b"bad,1,2013-01-01,x"
    path.write_bytes(b"\n".join(text))
    with pytest.raises(JobFailed) as caught:
        workspace.upload(path, "t", types={"id": "integer"}, max_rate=2e7).wait()
    assert (caught.value.line, caught.value.column) == (number, "id")
