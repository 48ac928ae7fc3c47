"""How a source is written, found out: the corpus of pollutions, properties, noise, overrides."""

import contextlib
import csv
import gzip
import importlib.util
import io
import string
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskwidgets.errors import OptionError, SourceError
from taskwidgets.tabular.detect import detect
from taskwidgets.tabular.dialect import Dialect

_spec = importlib.util.spec_from_file_location(
    "pollution", Path(__file__).with_name("pollution.py")
)
pollution = importlib.util.module_from_spec(_spec)
sys.modules["pollution"] = pollution
_spec.loader.exec_module(pollution)

# As written: no value is converted, so that cells can be compared with what went in.
AS_WRITTEN = {
    "null_values": "", "decimal": ".", "thousands": "", "date_formats": {}, "booleans": {},
}  # fmt: skip

VARIANTS = {variant.name: variant for variant in pollution.variants()}
WHOLE = [name for name, one in VARIANTS.items() if not one.family.startswith(("row", "cell"))]
ONE_ROW = [name for name in VARIANTS if name not in WHOLE]


@pytest.fixture
def written(tmp_path):
    def write(data, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def _cells(rows):
    return Counter(
        tuple((cell or "").replace("\r\n", "\n").replace("\r", "\n") for cell in row)
        for row in rows
    )


@pytest.mark.parametrize("name", WHOLE)
def test_a_pollution_of_the_whole_file_is_seen_through(written, name):
    """Header and records come out as they were before the pollution."""
    variant = VARIANTS[name]
    found = detect(written(variant.data), AS_WRITTEN)
    if variant.names is None:
        assert found.description.header_rows == 0
        assert found.description.columns[0] == "column_1"
    else:
        assert found.description.columns == variant.names
    assert _cells(found.sample) == _cells(variant.records)


@pytest.mark.parametrize("name", ONE_ROW[::41])
def test_one_damaged_row_changes_nothing_but_itself(written, name):
    """Delimiter, quote, header and every other record are those of the clean file."""
    variant = VARIANTS[name]
    found = detect(written(variant.data), AS_WRITTEN)
    described = found.description
    assert (described.delimiter, described.quotechar, described.escapechar) == (",", '"', "")
    assert described.columns == variant.names
    wanted, got = _cells(variant.records), _cells(found.sample)
    if variant.damaged is not None:
        wanted.pop(tuple(variant.records[variant.damaged]), None)
    assert not wanted - got


def test_a_clean_file_goes_straight_to_copy(written):
    """The description of a clean file has the default dialect."""
    found = detect(written("id,name\n1,Anna\n2,Bob\n"))
    assert found.description.dialect == Dialect()
    assert found.types == {"id": "integer", "name": "text"}
    assert found.rows == 2


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3\n",
        "a,b\n1,2\n3,4,5\n",
        'a,b\n1,x"y\n2,z"\n',
        "a,b\n1,2\n\n3,4\n",
        "a,b\n1,x\0\n2,y\n",
        "a,b\r\n1,2\n3,4\r\n",
        "# note\na,b\n1,2\n3,4\n",
    ],
)
def test_what_copy_would_refuse_or_misread_does_not_go_straight_to_it(written, text):
    """Ragged rows, stray quotes, blank lines, NUL, mixed line ends and a preamble give no
    dialect."""
    assert detect(written(text)).description.dialect is None


def test_quotation_marks_that_quote_nothing_are_letters(written):
    """Where all of a file has inches and no quoted field, nothing is quoted in it, and COPY is
    told so; one such mark alone is one damaged row."""
    text = 'size,n\n5",1\n12",2\n3/4",3\n'
    found = detect(written(text))
    assert found.description.quotechar == ""
    assert found.description.dialect == Dialect(quotechar="\x02")
    assert [row[0] for row in found.sample] == ['5"', '12"', '3/4"']
    one = detect(written("size,n\n5,1\n12" + '"' + ",2\n3,3\n"))
    assert (one.description.quotechar, one.description.dialect) == ('"', None)


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("name\nAnna\nBob\n", ("name",), [["Anna"], ["Bob"]]),
        ("time\n12:30\n13:45\n", ("time",), [["12:30"], ["13:45"]]),
        ("word\nHello, you\nGood day\nYes, no, well\nFine\n", ("word",),
         [["Hello, you"], ["Good day"], ["Yes, no, well"], ["Fine"]]),
        ("a,b\n", ("a", "b"), []),
        ("1,2\n3,4\n", ("column_1", "column_2"), [["1", "2"], ["3", "4"]]),
        ("a;b\n1,5;2,5\n3,5;4,25\n", ("a", "b"), [["1,5", "2,5"], ["3,5", "4,25"]]),
        ("a,b,b,\n1,2,3,4\n5,6,7,8\n", ("a", "b", "b_2", "column_4"),
         [["1", "2", "3", "4"], ["5", "6", "7", "8"]]),
        ("x   y   z\n1   2   3\n10  20  30\n", ("x", "y", "z"),
         [["1", "2", "3"], ["10", "20", "30"]]),
        ("Region,2023,2024\nNorth,12,13\nSouth,24,25\n", ("Region", "2023", "2024"),
         [["North", "12", "13"], ["South", "24", "25"]]),
        (",Sales,Sales\nRegion,2023,2024\nNorth,12,13\nSouth,24,25\n",
         ("Region", "Sales 2023", "Sales 2024"), [["North", "12", "13"], ["South", "24", "25"]]),
        ('"","Content"\n"V1","Words, of course"\n"V2","More words"\n', ("column_1", "Content"),
         [["V1", "Words, of course"], ["V2", "More words"]]),
        ("day,clicks\n2024-01-01 10:00,5\n2024-01-02 11:00,6\n", ("day", "clicks"),
         [["2024-01-01 10:00", "5"], ["2024-01-02 11:00", "6"]]),
    ],
)  # fmt: skip
def test_small_files(written, text, columns, rows):
    """Files of a few lines are read as a person would."""
    found = detect(written(text), AS_WRITTEN)
    assert found.description.columns == columns
    assert [[cell or "" for cell in row] for row in found.sample] == rows


def test_values_are_told_apart(written):
    """Decimal commas, days, truth words and NULL markers are found, and types follow."""
    text = (
        "price;day;ok;n\n1.234,50;13.02.2024;ja;1\n2,5;01.03.2024;nein;NA\n0,75;14.05.2024;ja;3\n"
    )
    found = detect(written(text))
    described = found.description
    assert (described.decimal, described.thousands) == (",", ".")
    assert described.date_formats == {"day": "%d.%m.%Y"}
    assert described.booleans == {"ok": ("ja", "nein")}
    assert described.null_values == ("", "NA")
    assert found.types == {
        "price": "double precision", "day": "date", "ok": "boolean", "n": "integer",
    }  # fmt: skip
    assert found.sample[1] == ["2.5", "2024-03-01", "false", None]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["00123", "04567"], "text"),
        (["01/02/2024", "03/04/2024"], "text"),  # January or February
        (["13/02/2024", "2024-03-01"], "text"),
        (["25/11/63", "29/10/63"], "text"),  # of which century?
        (["13.02.24", "14.02.24"], "text"),
        (["y", "n"], "text"),  # codes, of which there may be more
        (["1E5", "2E7"], "text"),
        (["+4915112345678", "+4915187654321"], "text"),
        (["123456789012345678901", "2"], "numeric"),
    ],
)
def test_values_are_not_destroyed(written, values, kind):
    """Leading zeros, phone numbers, long numbers, days that can be read in two ways."""
    found = detect(written("id,v\n" + "".join(f"{n},{v}\n" for n, v in enumerate(values))))
    assert found.types["v"] == kind
    assert [row[1] for row in found.sample] == values


def test_a_larger_table_below_is_no_footer(written):
    """What stands below a page of facts is named as a table, though its header is not found."""
    facts = "".join(f"Fact {n}:,what it is\n" for n in "abcdefghijklmn")
    rows = "".join(f"Place {n},{n},{n * 2},{n * 3}\n" for n in range(36))
    found = detect(written(f"{facts},Area,Persons,Total\n\n{rows}"))
    assert [(one.first_line, one.last_line, len(one.columns)) for one in found.tables] == [
        (17, 52, 4)
    ]


def test_further_tables_are_named(written):
    """The first table is the table; the second is told with its lines and names."""
    text = "id,n\n1,2\n2,3\n3,4\n\ncity,people,area\nUlm,120,4\nBonn,330,5\nKiel,240,6\n"
    found = detect(written(text))
    assert found.description.columns == ("id", "n")
    assert [(t.first_line, t.last_line, t.columns) for t in found.tables] == [
        (6, 9, ("city", "people", "area"))
    ]
    assert found.rows == 3


@pytest.mark.parametrize(
    ("override", "columns"),
    [
        ({"delimiter": ";"}, ("a,b",)),
        ({"delimiter": ""}, ("a,b",)),
        ({"header": False}, ("column_1", "column_2")),
        ({"header": 2}, ("a x", "b y")),
        ({"skip_rows": 1}, ("x", "y")),
    ],
)
def test_what_is_given_is_taken(written, override, columns):
    """An override holds, and the rest is found out under it."""
    assert detect(written("a,b\nx,y\nv,w\n"), override).description.columns == columns


@pytest.mark.parametrize(
    "override",
    [
        {"delimiter": 7}, {"delimiter": "\n"}, {"quotechar": "ab"}, {"encoding": "klingon"},
        {"encoding": "hex"}, {"header": -1}, {"skip_rows": "2"}, {"no_such": 1},
        {"null_values": [1]}, {"delimiter": ",", "quotechar": ","}, {"line_terminator": "x"},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(written, override):
    """OptionError, before the file is read."""
    with pytest.raises(OptionError):
        detect(written("a,b\n1,2\n"), override)


def test_a_large_file_is_looked_at_in_pieces(written):
    """Types come from all of the file, the footer from its end; full=True counts the rows."""
    rows = [f"{n},name {n},{n / 4}" for n in range(200_000)]
    rows[150_000] = "x150000,odd,1.5"
    text = "id,name,share\n" + "\n".join(rows) + "\n\nSource: a test\n"
    path = written(text)
    found = detect(path)
    assert found.rows is None
    assert found.description.footer_rows == 2
    assert found.types["share"] == "double precision"
    whole = detect(path, full=True)
    assert whole.rows == 200_000
    assert whole.types == {"id": "text", "name": "text", "share": "double precision"}


def test_a_packed_file_is_read_like_any_other(written):
    """What is packed is unpacked, be its text in UTF-16."""
    text = "name;n\nJörg;1\nAnna;2\n"
    found = detect(written(gzip.compress(text.encode("utf-16"))))
    assert (found.description.container, found.description.encoding) == ("gzip", "utf-16")
    assert found.description.columns == ("name", "n")
    with pytest.raises(SourceError, match="gzip"):
        detect(written(gzip.compress(gzip.compress(text.encode()))))


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("piece", "times"),
    [('"a,', 340_000), ("'a,b\n", 100_000), ('\\"', 200_000), ('"\n', 200_000), (",", 300_000)],
    ids=["quotes", "apostrophes", "backslashes", "lines of a quote", "commas"],
)
def test_nothing_takes_for_ever(written, piece, times):
    """What would be quadratic in a careless reader takes a time in proportion to the size."""

    def takes(times):
        path = written((piece * times).encode())
        began = time.thread_time()
        with contextlib.suppress(SourceError):  # more columns than a table can have
            detect(path)
        return time.thread_time() - began

    few = min(takes(times // 8) for _ in range(3))
    assert min(takes(times) for _ in range(2)) < 8 * 3 * few  # 64 times, were it quadratic


def test_what_is_no_text_is_refused(written):
    """Bytes of an unknown format are a SourceError, not a table of rubbish."""
    noise = bytes(range(256)) * 40
    with pytest.raises(SourceError, match="no text"):
        detect(written(noise))


@given(data=st.binary(max_size=3000))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_noise_raises_only_our_own_errors(written, data):
    """Random bytes are described somehow, or refused by a SourceError."""
    try:
        found = detect(written(data))
    except SourceError:
        return
    assert all(len(row) == len(found.description.columns) for row in found.sample)


@given(text=st.text(alphabet="ab1,;\t|\"'\\\n\r 2.-:#", max_size=300))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_text_of_nothing_but_signs_is_described(written, text):
    """Delimiters, quotes and line ends in any order raise nothing."""
    found = detect(written(text))
    assert all(len(row) == len(found.description.columns) for row in found.sample)


_letters = st.text(string.ascii_letters, min_size=1, max_size=4)
_word = st.builds(
    lambda a, b, c: a + b + c,
    _letters,
    st.sampled_from(["", "", "ä", "é", "ñ", "ø", "ß"]),
    _letters,
)
# With a letter in it: a column of nothing but semicolons is taken for two that are empty.
_sentence = (
    st.lists(
        st.text(string.ascii_letters + "',;\"|-.", min_size=1, max_size=7), min_size=1, max_size=6
    )
    .map(" ".join)
    .filter(lambda text: any(sign.isalpha() for sign in text))
)
_KINDS = {
    "integer": st.integers(-9999, 99999).map(str),
    "decimal": st.integers(0, 99999).map(lambda n: f"{n / 100:.2f}"),
    "day": st.dates().map(str),
    "word": _word,
    "sentence": _sentence,
    "lines": st.lists(_word, min_size=1, max_size=3).map("\n".join),
    "code": st.integers(100, 999).map(lambda n: f"AB-{n}"),
}


@st.composite
def _tables(draw):
    kinds = draw(st.lists(st.sampled_from(sorted(_KINDS)), min_size=2, max_size=6))
    names = [f"{draw(_word)} {place}" for place in range(len(kinds))]
    count = draw(st.integers(3, 12))
    return names, [[draw(_KINDS[kind]) for kind in kinds] for _ in range(count)]


@given(
    table=_tables(),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quotechar=st.sampled_from(['"', "'"]),
    doubled=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"]),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_written_table_is_read_back(
    written, table, delimiter, quotechar, doubled, ending, encoding
):
    """What Python's csv module writes, in whatever dialect, comes out equal."""
    names, rows = table
    if ending == "\r":  # csv.writer does not quote "\n" then
        rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=delimiter,
        quotechar=quotechar,
        doublequote=doubled,
        escapechar=None if doubled else "\\",
        lineterminator=ending,
        quoting=csv.QUOTE_MINIMAL if doubled and quotechar == '"' else csv.QUOTE_ALL,
    )
    writer.writerows([names, *rows])
    found = detect(written(text.getvalue().encode(encoding)), AS_WRITTEN)
    assert found.description.columns == tuple(names)
    assert [[cell or "" for cell in row] for row in found.sample] == rows


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_wide_encoding_without_a_mark(tmp_path: Path, encoding: str) -> None:
    """Given without a byte order mark, the bytes tell the order, or the error says what to give."""
    path = tmp_path / "a.csv"
    for order in ("-le", "-be"):
        path.write_bytes("a,b\n1,2\n3,4\n".encode(encoding + order))
        found = detect(path, {"encoding": encoding}, full=True)
        assert (found.description.encoding, found.rows) == (encoding + order, 2)
    path.write_bytes(b"a,b\n1,2\n3,4\n")
    with pytest.raises(SourceError, match=f"no byte order mark.*encoding='{encoding}-le'"):
        detect(path, {"encoding": encoding}, full=True)


def test_bytes_like_a_mark_in_the_middle_are_none(tmp_path: Path) -> None:
    """What looks like a byte order mark somewhere in the file makes no UTF-16 of it."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n1,\xff\xfe1e999\n2,3\n" * 5)
    assert not detect(path).description.encoding.startswith("utf")


def test_a_quote_given_as_its_own_escape_is_a_doubled_one(tmp_path: Path) -> None:
    """Then no closing quote is taken for an escape, over which a field would go on to the end."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'a,b\n"1 ""x""","2"\n"3","4"\n' * 20_000)
    found = detect(path, {"escapechar": '"', "quotechar": '"'})
    assert found.sample[:2] == [['1 "x"', "2"], ["3", "4"]]


def test_a_record_with_escapes_over_two_lines_has_its_width(tmp_path: Path) -> None:
    """The usual width is counted with the escape, not as if quotes were doubled only."""
    path = tmp_path / "a.csv"
    path.write_bytes(b'"\\"";"\n";""\n')
    given = {"delimiter": ";", "escapechar": "\\", "header": False}
    assert len(detect(path, given).description.columns) == 3
