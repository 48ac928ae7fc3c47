"""Columns of inferred types that a later value does not fit: widened, and nothing is changed."""

import sys
from datetime import datetime
from decimal import Decimal

import pytest
from fix_servers import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskwidgets import JobFailed
from taskwidgets.runtime.failpoints import VARIABLE
from taskwidgets.tabular import sample
from taskwidgets.transfers import loading, many_plan, pace, reading

ROWS = 600  # some ten segments
KINDS = {
    "integer": lambda n: f"{n}",
    "bigint": lambda n: f"{3_000_000_000 + n}",
    "numeric": lambda n: f"{n}.12345678901234567890",
    "double precision": lambda n: f"{n}.25",
    "boolean": lambda n: ("true", "false", "False")[n % 3],
    "date": lambda n: f"2024-{n % 12 + 1:02}-{n % 28 + 1:02}",
    "timestamp": lambda n: f"2024-01-{n % 28 + 1:02} 10:{n % 60:02}:07",
    "timestamptz": lambda n: f"2024-01-{n % 28 + 1:02}T10:{n % 60:02}:07Z",
}
NASTY = [
    *("3000000000", "-3000000000", "12345678901234567890", "9" * 40, "1.50", "-0.000", ".5"),
    *("00123", "0", "+49 171 1234567", "+5", "-007", "1e5", "1E5", "12e3", "1e-05", "NaN", "-inf"),
    *("0x1F", "1_000", "1,5", " 7", "7 ", "0.1234567890123456789012345", "12345678901234567"),
    *("2024-01-05", "2024-01-05 10:00", "2024-01-05T10:00:00.123456789", "2024-01-05T10:00:00+02"),
    *("05/01/2024", "5.1.2024", "20240105", "Jan 5 2024", "2024-02-30", "today", "now", "infinity"),
    *("t", "yes", "1", "TRUE", "abc", 'a "quoted", one', "two\nlines", "n/a?", "ä", "\\N", "null"),
]
MODES = pytest.mark.parametrize("mode", ["stop", "reject"])
# In a process of its own, the same smallness as by the fixture.
CELL = """
    import sys, time
    import taskwidgets as tw
    from taskwidgets.tabular import sample
    from taskwidgets.transfers import pace, reading
    import taskwidgets.tabular.detect
    pace.SMALLEST_BATCH = pace.LARGEST_BATCH = 1500
    sample._SPREAD_BLOCKS = 2
    records = reading.sample_records
    reading.sample_records = lambda *args: records(*args[:3], 1200)
    sys.modules["taskwidgets.tabular.detect"]._MOST_ROWS = 20
    ws = tw.Workspace(sys.argv[1])
    job = ws.upload(sys.argv[2], "t", on_error=sys.argv[3], workers=2)
    print(job.id, flush=True)
    job.wait()
    print("done", flush=True)
"""


@pytest.fixture
def small(monkeypatch):
    """Small segments, and a sample of the file's ends only: what comes late is news."""
    records = reading.sample_records
    monkeypatch.setattr(sample, "_SPREAD_BLOCKS", 2)
    monkeypatch.setattr(pace, "SMALLEST_BATCH", 1500)
    monkeypatch.setattr(pace, "LARGEST_BATCH", 1500)
    monkeypatch.setattr(reading, "sample_records", lambda *args: records(*args[:3], 1200))
    monkeypatch.setattr(sys.modules["taskwidgets.tabular.detect"], "_MOST_ROWS", 20)
    monkeypatch.setattr(many_plan, "SMALL_BYTES", 0)  # else small files are looked at as a whole


def write(csv_file, kind, late, rows=ROWS):
    """A file with these late values, by row; what it says, row by row."""
    values = [late.get(number, KINDS[kind](number)) for number in range(rows)]
    quoted = ('"' + value.replace('"', '""') + '"' if set(value) & set(',"\n') else value
              for value in values)  # fmt: skip
    path = csv_file("id,v,note", *(f"{n},{value},note {n:03}" for n, value in enumerate(quoted)))
    return path, values


def same(written, found, kind):
    """Whether a value came out as it went in: as it is written, or as the same value."""
    if kind == "double precision":
        return float(found) == float(written) or found == written == "NaN"
    if kind == "numeric":
        number = Decimal(written)
        return found == "NaN" if number.is_nan() else Decimal(found) == number
    if kind in ("integer", "bigint"):
        return found == written
    if kind.startswith("timestamp"):
        moments = [datetime.fromisoformat(text) for text in (found, written)]
        assert all((one.tzinfo is not None) == ("with time zone" in kind) for one in moments)
        return moments[0] == moments[1]
    return found == (written.lower() if kind == "boolean" else written)


def check(look, values, table="t"):
    """Every row is there once, and every value came out as it went in; the column's type."""
    found = look(f"SELECT id, v::text, note FROM {table} ORDER BY id")
    kind = look.types(table)["v"]
    assert [(number, note) for number, _, note in found] == [
        (number, f"note {number:03}") for number in range(len(values))
    ]
    changed = [
        (written, value)
        for written, (_, value, _) in zip(values, found, strict=True)
        if not same(written, value, kind)
    ]
    assert not changed, kind
    return kind


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(list(KINDS)),
    mode=st.sampled_from(["stop", "reject"]),
    late=st.dictionaries(st.integers(60, ROWS - 1), st.sampled_from(NASTY), min_size=1, max_size=4),
)
def test_what_goes_in_comes_out(small, workspace, csv_file, look, kind, mode, late):
    """Whatever comes late in a column of whatever inferred type: all rows, all values."""
    path, values = write(csv_file, kind, late)
    job = workspace.upload(path, "t", on_error=mode, if_exists="replace", again=True, workers=2)
    receipt = job.wait()
    assert (receipt.rows_read, receipt.rows_rejected) == (ROWS, 0)
    check(look, values)
    events = job.events()
    assert receipt.notes == tuple(events[events.kind == "widened"].cause)


STEPS = [
    ("integer", ["3000000000"], "bigint"),
    ("integer", ["3000000000", "12345678901234567890"], "numeric"),
    ("integer", ["3000000000", "12345678901234567890", "1.50"], "numeric"),
    ("integer", ["3000000000", "12345678901234567890", "1.50", "x"], "text"),
    ("integer", ["1e-05"], "double precision"),
    ("integer", ["1e-05", "12345678901234567890"], "numeric"),
    ("double precision", ["0.1234567890123456789012345"], "numeric"),
    ("date", ["2024-01-05 10:00"], "timestamp without time zone"),
    ("date", ["2024-01-05 10:00", "noon"], "text"),
    ("date", ["05/01/2024"], "text"),
    ("boolean", ["yes"], "text"),
    ("integer", ["00123"], "text"),
]


@pytest.mark.sample(12)
@MODES
@pytest.mark.parametrize(("kind", "late", "expected"), STEPS)
def test_each_step(small, workspace, csv_file, look, mode, kind, late, expected):
    """From one segment to the next as wide as need be; the events name line and value."""
    path, values = write(csv_file, kind, {100 * (n + 2): value for n, value in enumerate(late)})
    job = workspace.upload(path, "t", on_error=mode, workers=1)
    receipt = job.wait()
    assert check(look, values) == expected
    events = job.events()
    widened = events[events.kind == "widened"]
    assert tuple(widened.cause) == receipt.notes[-len(widened) :]
    first = widened.iloc[0]
    assert first.cause.startswith(
        f'column "v" widened from {kind} to {first.details["to"]}: line 202 has {late[0]!r}'
    )
    assert widened.iloc[-1].details["to"] in expected
    assert look.staging() == []


@pytest.mark.parametrize(
    ("late", "expected"),
    [("00123", "text"), ("+49 171", "text"), ("+5", "text"), ("1.5", "numeric"), ("x", "text")],
)
def test_far_into_a_large_file(small, monkeypatch, workspace, csv_file, look, late, expected):
    """Where only codes are looked for, they are found, and so is what COPY refuses."""
    monkeypatch.setattr(loading, "WELL_READ_BYTES", 0)
    path, values = write(csv_file, "integer", {400: late})
    assert workspace.upload(path, "t").wait().rows_loaded == ROWS
    assert check(look, values) == expected


@MODES
def test_many_columns_and_workers_at_once(small, workspace, csv_file, look, mode):
    """Four workers, eight columns, misfits in each segment: each step is made once."""
    forms = list(KINDS.values())
    rows = [[form(number) for form in forms] for number in range(ROWS)]
    for number in range(100, 560, 7):
        rows[number][number % 8] = "9" * 12 if number < 300 else f"late {number}"
    path = csv_file(
        "id," + ",".join("abcdefgh"),
        *(f"{number},{','.join(row)}" for number, row in enumerate(rows)),
    )
    job = workspace.upload(path, "t", on_error=mode, workers=4)
    assert job.wait().rows_loaded == ROWS
    assert look("SELECT a, b, c, d, e, f, g, h FROM t ORDER BY id") == [tuple(row) for row in rows]
    steps = [(one["column"], one["from"], one["to"]) for one in job.events().details.dropna()
             if "column" in one]  # fmt: skip
    assert len(steps) == len(set(steps))
    assert {column for column, _, to in steps if to == "text"} == set("abcdefgh")


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("point", "mode"),
    [("while widening", "stop"), ("after widening", "reject"), ("before the rows", "stop")],
)
@pytest.mark.parametrize(
    ("kind", "late", "expected"),
    [("integer", "3000000000", "bigint"), ("double precision", "1e5", "text")],
)
def test_killed(
    small,
    script,
    database_url,
    workspace,
    csv_file,
    look,
    tmp_path,
    mode,
    point,
    kind,
    late,
    expected,
):
    """Killed before and after the COMMIT that widens, resumed elsewhere: rows once, types right."""
    path, values = write(csv_file, kind, {400: late, 500: late})
    points = tmp_path / "points"
    points.mkdir()
    (points / ("while widening" if point == "before the rows" else point)).touch()
    cell = script(CELL, database_url, str(path), mode, **{VARIABLE: str(points)})
    number = int(cell.line())
    if point == "before the rows":  # of the segment after the one that widened
        wait_until(lambda: (points / "while widening.reached").exists())
        (points / point).touch()
        (points / "while widening.reached").unlink()
    wait_until(lambda: (points / f"{point}.reached").exists())
    cell.kill()
    wait_until(
        lambda: look.state(number) == "interrupted" or workspace.job(number).state == "interrupted"
    )
    stored = look.one("SELECT plan -> 'types' ->> 'v' FROM taskwidgets.jobs")
    assert stored == (kind if point == "while widening" else expected)
    assert look.types("taskwidgets", look.staging()[0])["v"] == stored
    assert look.contents("taskwidgets", look.staging()[0])[0] == look.ledger(number)[1]
    job = workspace.upload(path, "t", on_error=mode)
    assert job.id == number
    assert job.wait().rows_loaded == ROWS
    assert check(look, values) == expected
    assert list(job.events().kind).count("widened") == 1


def test_a_given_type_is_never_changed(small, workspace, csv_file, look):
    """A misfit of a type that the user gave stops the job, or is a reject."""
    path, _ = write(csv_file, "integer", {300: "3000000000", 310: "x"})
    with pytest.raises(JobFailed, match="out of range for type integer") as caught:
        workspace.upload(path, "t", types={"v": "integer"}).wait()
    assert (caught.value.line, caught.value.column) == (302, "v")
    job = workspace.upload(path, "u", types={"v": "integer"}, on_error="reject")
    assert job.wait().rows_rejected == 2
    assert list(job.rejects().line) == [302, 312]
    assert look.types("u") == {"id": "integer", "v": "integer", "note": "text"}


def test_an_existing_table_is_never_changed(small, workspace, csv_file, look):
    """Rows are appended to the columns that there are; what does not fit stops, or is a reject."""
    look("CREATE TABLE t (id int, v int, note text)")
    path, _ = write(csv_file, "integer", {300: "3000000000"})
    with pytest.raises(JobFailed, match="out of range for type integer"):
        workspace.upload(path, "t", if_exists="append").wait()
    job = workspace.upload(path, "t", if_exists="append", on_error="reject")
    assert (job.wait().rows_loaded, job.receipt.notes) == (ROWS - 1, ())
    assert look.types("t")["v"] == "integer"


def test_the_bad_rows_of_given_types_stay_rejects(small, workspace, csv_file, look):
    """Begun anew, a load has each reject once; a mended one goes into the wider column."""
    path, _ = write(csv_file, "double precision", {450: "1e5"})
    text = path.read_text().replace("\n50,", "\nx50,").replace("\n550,", "\nx550,")
    path.write_text(text)
    job = workspace.upload(path, "t", types={"id": "integer"}, on_error="reject")
    assert (job.wait().rows_loaded, job.receipt.rows_rejected) == (ROWS - 2, 2)
    mended = job.rejects()
    assert list(mended.line) == [52, 552]
    mended["raw"] = ["50,00050,mended", "550,late,mended"]
    assert job.replay(mended).rows_loaded == ROWS
    assert look("SELECT v FROM t WHERE id IN (50, 450, 550) ORDER BY id") == [
        ("00050",), ("1e5",), ("late",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("form", "late", "expected"),
    [
        (lambda n: f"{n},5", "n/a?", "text"),
        (lambda n: f"{n},5", "1.234", "text"),
        (lambda n: f"{n % 28 + 1}.{n % 12 + 1}.2024", "2024-01-05 10:00", "timestamp"),
        (lambda n: f"{n % 28 + 1}.{n % 12 + 1}.2024", "1/5/2024", "text"),
        (lambda n: "yes" if n % 3 else "no", "perhaps", "text"),
    ],
)  # fmt: skip
def test_converted_values_come_out_as_written(
    small, workspace, csv_file, look, form, late, expected
):
    """Decimal commas, days and truth words of a column that becomes text are as in the file."""
    values = [form(number) for number in range(ROWS)]
    values[450] = late
    path = csv_file("id;v;note", *(f"{n};{value};note {n:03}" for n, value in enumerate(values)))
    job = workspace.upload(path, "t", on_error="reject")
    assert (job.wait().rows_loaded, job.receipt.rows_rejected) == (ROWS, 0)
    if expected == "text":
        assert check(look, values) == "text"
    else:
        assert look.types("t")["v"] == "timestamp without time zone"
        assert look.one("SELECT v::text FROM t WHERE id = 0") == "2024-01-01 00:00:00"
        assert look.one("SELECT v::text FROM t WHERE id = 450") == "2024-01-05 10:00:00"


@pytest.mark.sample(1)
@MODES
def test_several_files_are_widened_together(small, workspace, tmp_path, look, mode):
    """A late value of any file widens the table's one column, in all files from then on."""
    late = {1: {300: "3000000000"}, 3: {250: "00123", 251: "x y"}}
    values, numbers = [], []
    for part in range(5):
        own = [late.get(part, {}).get(number, str(number)) for number in range(ROWS)]
        wide = [
            7_000_000 * number if part == 2 and 305 < number < 400 else 7 for number in range(ROWS)
        ]
        rows = zip(own, range(part * ROWS, (part + 1) * ROWS), wide, strict=True)
        if part == 4:  # its columns are in another order
            lines = ["id,w,v", *(f"{number},{w},{v}" for v, number, w in rows)]
        else:
            lines = ["v,id,w", *(f"{v},{number},{w}" for v, number, w in rows)]
        (tmp_path / f"part{part}.csv").write_text("\n".join(lines) + "\n")
        values += own
        numbers.append(sum(wide))
    job = workspace.upload(
        str(tmp_path / "part*.csv"), "t", on_error=mode, workers=3, source_column="from_file"
    )
    receipt = job.wait()
    assert (receipt.rows_read, receipt.rows_rejected) == (5 * ROWS, 0)
    types = look.types("t")
    assert (types["v"], types["w"], types["id"]) == ("text", "bigint", "integer")
    assert look("SELECT v FROM t ORDER BY id") == [(value,) for value in values]
    assert look("SELECT from_file, count(*), sum(w)::bigint FROM t GROUP BY 1 ORDER BY 1") == [
        (f"part{part}.csv", ROWS, numbers[part]) for part in range(5)
    ]
    notes = "\n".join(receipt.notes)
    assert 'column "v" widened from integer to bigint: part1.csv, line 302 has' in notes
    assert 'column "w" widened from integer to bigint: part2.csv, line ' in notes
    assert 'column "v" widened from bigint to text: part3.csv, line 252 has' in notes


def test_a_late_value_beside_a_rejected_row_widens_its_column(workspace, csv_file, small):
    """In one segment: one row does not fit a type that was given, another one a type inferred."""
    rows = [f"{n},{n}" for n in range(ROWS)]
    rows[500:502] = ["7,x", "3000000000,8"]
    path = csv_file("inferred,given", *rows)
    job = workspace.upload(path, "t", types={"given": "integer"}, on_error="reject")
    receipt = job.wait(60)
    assert (receipt.rows_loaded, receipt.rows_rejected) == (ROWS - 1, 1)
    assert any("widened from integer to bigint" in note for note in receipt.notes)
