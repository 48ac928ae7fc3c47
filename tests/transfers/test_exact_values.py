"""Values that a column's type would change: an error or a reject, unless cast="assignment"."""

import pytest

from taskwidgets import JobFailed
from taskwidgets.csvfile.types.exactness import ChangeFinder, changes_value
from taskwidgets.errors import OptionError, SourceError
from taskwidgets.tabular.dialect import Dialect

CHANGED = {
    "numeric(10,2)": ["1.999", "1e-3", "-0.001", "1234.5678"],
    "decimal(3)": ["1.5"],
    "numeric(5,-1)": ["15"],
    "integer": ["1.5"],
    "bigint": ["1e-1"],
    "date": ["2024-01-01 12:00", "2024-01-01T00:00:00Z", "2024-01-01 24:00:00", "20240105T101010"],
    "timestamp": [
        "2024-01-01 10:00+02", "2024-01-01 10:00:00Z", "2024-01-01 10:00:00 UTC",
        "2024-01-01 10:00:00 Europe/Berlin", "2024-01-01 10:00:00.1234567", "20240105T101010Z",
        "Thu Feb 29 10:00:00 2024 CET", "2024-02-29 10:00:00 -05",
    ],
    "timestamp(2) without time zone": ["2024-01-01 10:00:00.125"],
    "timestamp with time zone": ["2024-01-01 10:00:00.1234567+02"],
    "time without time zone": ["10:00:00+02", "10:00:00.1234567"],
    "time(0)": ["10:00:00.5"],
    '"char"': ["ab"],
    "name": ["a" * 64],
}  # fmt: skip
KEPT = {
    "numeric(10,2)": ["1.990", "1.2e2", "abc", "NaN", "0", "1."],
    "numeric": ["1.999"],
    "bigint": ["1.0", "7"],
    "date": ["2024-01-01", "2024-01-01 00:00:00", "01/02/2024", "Jan 5 2024", "2024-01-01 BC"],
    "timestamp without time zone": [
        "2024-01-01", "2024-01-01 10:00", "2024-01-01 10:00 PM", "2024-01-01 10:00:00 BC",
        "2024-01-01 10:00:00.1234560", "20240105T101010", "Thu Feb 29 10:00:00 2024", "infinity",
    ],
    "timestamp(2)": ["2024-01-01 10:00:00.12"],
    "timestamp with time zone": ["2024-01-01 10:00:00+02"],
    "time": ["10:00", "10:00 AM"],
    "double precision": ["0.1234567890123456789"],
    "mytype": ["1.5"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in CHANGED for v in CHANGED[n]])
def test_values_that_are_changed(name, value):
    """They are found in a file, too, by bytes that each of them has."""
    assert changes_value(value, name)
    finder = ChangeFinder(Dialect(), {1: ["text", name]})
    data = f"x,\nx,{value}\nx,{value}\n".encode()
    first, second = finder.find(data)
    assert (first.index, first.value, first.type) == (1, value, name)
    assert data[first.start : first.stop] == data[second.start : second.stop]


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in KEPT for v in KEPT[n]])
def test_values_that_are_kept(name, value):
    """So are values that the type does not accept: that is an error of its own."""
    assert not changes_value(value, name)
    assert ChangeFinder(Dialect(), {1: [name]}).find(f"x,{value}\n".encode()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n in CHANGED for v in CHANGED[n] if n not in ("integer", "bigint")],
)
def test_postgres_does_change_them(look, name, value):
    """What the check is for: the server takes each of them, and gives another text back."""
    (text,) = look(f"SELECT CAST(%s AS {name})::text", (value,))[0]
    assert text != value


@pytest.fixture
def path(tmp_path):
    def write(*values):
        made = tmp_path / "f.csv"
        made.write_text("id,x\n" + "".join(f"{n},{v}\n" for n, v in enumerate(values, 1)))
        return made

    return write


CASES = [
    ("numeric(10,2)", "1.50", "1.999"),
    ("date", "2024-01-01", "2024-01-02 12:00:00"),
    ("timestamp", "2024-01-01 10:00:00", "2024-01-01 10:00:00+02"),
]


@pytest.mark.parametrize("when", ["append", "given"])
@pytest.mark.parametrize(("name", "good", "bad"), CASES)
def test_the_load_stops_at_the_value(workspace, path, look, name, good, bad, when):
    """The error names file, line, column and value; nothing is in the table."""
    options = {"types": {"x": name}} if when == "given" else {"if_exists": "append"}
    if when == "append":
        look(f"CREATE TABLE t (id int, x {name})")
    job = workspace.upload(path(good, good, bad), "t", **options)
    with pytest.raises(JobFailed) as caught:
        job.wait(60)
    error = caught.value.__cause__
    assert isinstance(error, SourceError)
    assert (error.line, error.column) == (4, "x")
    assert f"would change the value {bad}" in str(error)
    assert 'cast="assignment" allows that' in str(error)
    assert look.rows("t") == [] if when == "append" else not look.exists("t")
    path(good, good, good)
    assert workspace.resume(job.id).wait(60).rows_loaded == 3


@pytest.mark.parametrize(("name", "good", "bad"), CASES)
def test_the_row_becomes_a_reject_and_can_be_mended(workspace, path, look, name, good, bad):
    """With on_error="reject" the other rows are loaded; a mended value that fits is, too."""
    look(f"CREATE TABLE t (id int, x {name})")
    job = workspace.upload(
        path(good, bad, good, "nonsense"), "t", if_exists="append", on_error="reject"
    )
    receipt = job.wait(60)
    assert (receipt.rows_loaded, receipt.rows_rejected) == (2, 2)
    rejects = job.rejects()
    assert list(rejects.line) == [3, 5]
    assert "would change the value" in rejects.message[0]
    assert set(rejects.sqlstate) == {"22000", rejects.sqlstate[1]}
    rejects["raw"] = [f"2,{bad.replace('02', '03')}", f"4,{good}"]
    assert job.replay(rejects).rows_loaded == 3
    assert look.one("SELECT count(*) FROM t") == 3


@pytest.mark.parametrize(("name", "good", "bad"), CASES)
@pytest.mark.parametrize("on_error", ["stop", "reject"])
def test_an_assignment_cast_is_what_insert_does(workspace, path, look, name, good, bad, on_error):
    """cast="assignment" loads all rows as Postgres reads them."""
    look(f"CREATE TABLE t (id int, x {name})")
    look(f"CREATE TABLE truth AS SELECT 1 AS id, CAST('{good}' AS {name}) AS x"
         f" UNION ALL SELECT 2, CAST('{bad}' AS {name})")  # fmt: skip
    job = workspace.upload(
        path(good, bad), "t", if_exists="append", cast="assignment", on_error=on_error
    )
    job.wait(60)
    assert look.rows("t") == look.rows("truth")


def test_a_domain_and_a_given_type_that_is_cast(workspace, path, look):
    """A domain's base type counts; so does the target's, where another type reads the values."""
    look("CREATE DOMAIN cents AS numeric(10,2)")
    look("CREATE DOMAIN price AS cents")
    look("CREATE TABLE t (id int, x price)")
    job = workspace.upload(path("1.999"), "t", if_exists="append")
    with pytest.raises(JobFailed, match=r"numeric\(10,2\) would change the value 1\.999"):
        job.wait(60)
    look("CREATE TABLE u (id int, x int)")
    job = workspace.upload(path("2", "1.5"), "u", if_exists="append", types={"x": "numeric"})
    with pytest.raises(JobFailed, match=r"line 3, column \"x\": the type integer would change"):
        job.wait(60)


def test_plain_values_of_other_columns_do_not_matter(workspace, tmp_path, look):
    """Times, fractions and zones beside an exact column are found to be others' values."""
    made = tmp_path / "f.csv"
    made.write_text("d,n,t,z,note\n" + "2024-01-01,1.50,2024-01-01 10:00:00,"
                    "2024-01-01 10:00:00+02,at 10:00:00+02 1.99999 1e5\n" * 50)  # fmt: skip
    look("CREATE TABLE t (d date, n numeric(10,2), t timestamp, z timestamptz, note text)")
    assert workspace.upload(made, "t", if_exists="append").wait(60).rows_loaded == 50


def test_an_unknown_word_is_refused(workspace, path):
    """Before anything is made."""
    with pytest.raises(OptionError, match="cast must be"):
        workspace.upload(path("1"), "t", cast="round")
