"""What Postgres reads otherwise than it is written is found in the bytes."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskwidgets.tabular import glance, screening
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.misfits import find_misfits
from taskwidgets.tabular.screening import Screen
from taskwidgets.tabular.types import fits
from taskwidgets.tabular.widening import converts_exactly, wider

GOOD = {
    "integer": ["0", "7", "-12", "2147483647", "-7", "-10", "10"],
    "bigint": ["0", "-9223372036854775808", "99", "3000000000"],
    "numeric": [
        "0.5",
        ".5",
        "-.5",
        "12",
        "0",
        "-0.50",
        "12345678901234567890",
        "5.",
        "NaN",
        "1e-05",
    ],
    "double precision": [
        *("1.5", "517.0", "0.25", "-0.25", ".5", "-.5", "1e-05", "-1.5e+20", "1.0E5", "NaN"),
        *("-inf", "0", "12", "0.30000000000000004", "1.7976931348623157e+308", "5.", "-0"),
    ],
    "boolean": ["true", "FALSE", "False"],
    "date": ["2024-02-29", "0001-01-01"],
    "timestamp": [
        *("2024-01-05 10:00", "2024-01-05T10:00:59", "2024-01-05 10:00:59.5"),
        *("2024-01-05 10:00:59.123456", "2024-01-05"),
    ],
    "timestamptz": [
        *("2024-01-05T10:00:00Z", "2024-01-05 10:00:00+02", "2024-01-05 10:00:00.25-03:30"),
        *("2024-01-05 10:00:00+0200", "2024-01-05 10:00Z", "2024-01-05 10:00:00.123456Z"),
    ],
}
# Each of these Postgres reads as the type, and as something else than it says.
BAD = {
    "integer": ["007", "+5", " 7", "7 ", "0x1F", "1_000", "00", "-007", "-0"],
    "bigint": ["007", "+5", "7 ", "0b1", "1_000", "-05"],
    "numeric": ["1e5", "+1.5", "01.5", "1.5 ", "1_000.5", "1.5e10"],
    "double precision": [
        *("1e5", "12E3", "01.5", "+5", " 1.5", "1.5 ", "12345678901234567", "007"),
        *("0.1234567890123456789012345", "-12345678901234567", "1e100"),
    ],
    "boolean": ["t", "yes", "1", "off", " true"],
    "date": [
        *("20240105", "05/01/2024", "Jan 5 2024", "2024-1-5", "today", "2024-01-05 10:00"),
    ],
    "timestamp": [
        *("2024-01-05 10:00:00+02", "2024-01-05 10:00:00.5+02", "2024-01-05 10:00:00.123456789"),
        *("2024-01-05 10:00:00Z", "05/01/2024 10:00", "now", "2024-01-05 10:00 PM"),
    ],
    "timestamptz": ["2024-01-05 10:00:00", "2024-01-05", "2024-01-05 10:00:00 CET", "now"],
}
CASES = [(kind, value) for kind, values in BAD.items() for value in values]


def written(rows: list[list[str]], newline: str = "\n", **options: object) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator=newline, **options).writerows(rows)
    return out.getvalue().encode()


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("way", ["plain", "quoted", "CRLF", "NA"])
def test_what_fits_is_passed(kind: str, way: str) -> None:
    """Every value of a type's own spelling, in the first column, the last and between."""
    good = GOOD[kind]
    assert all(fits(value, kind) for value in good)
    null = "NA" if way == "NA" else ""
    rows = [[value, "a, 007", null, value, f"_{value}", value] for value in good] * 3
    options = {"quoting": csv.QUOTE_ALL} if way == "quoted" else {}
    if way == "quoted":
        rows = [[*row[:2], row[0], *row[3:]] for row in rows]
    data = written(rows, "\r\n" if way == "CRLF" else "\n", **options)
    kinds = {0: kind, 2: kind, 3: kind, 5: kind}
    assert not Screen(Dialect(null_value=null), 6, kinds).suspects(data)
    assert not Screen(Dialect(null_value=null), 6, kinds).suspects(data.removesuffix(b"\n"))
    assert find_misfits(data, Dialect(null_value=null), kinds) == {}


@pytest.mark.parametrize(("kind", "value"), CASES)
@pytest.mark.parametrize("place", [0, 2, 3])
def test_what_postgres_would_change_is_seen(
    kind: str, value: str, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One such value among many good ones, in whatever column and block, quoted or not."""
    monkeypatch.setattr(screening, "_BLOCK_BYTES", 300)
    monkeypatch.setattr(glance, "_BLOCK_BYTES", 256)
    good = next(value for value in GOOD[kind] if value != "0")
    for small in (0, 1 << 20):  # with a first look, and without
        monkeypatch.setattr(screening, "_SMALL_BYTES", small)
        for row in (0, 33, 39):
            for quoted in (False, True):
                rows = [[good, "text", good, good] for _ in range(40)]
                options = {"quoting": csv.QUOTE_ALL} if quoted else {}
                # The last column's type is another's too, so that all ways are gone.
                kinds = (
                    {place: kind} if kind in ("boolean", "date") else {0: kind, 2: kind, 3: kind}
                )
                assert not Screen(Dialect(), 4, kinds).suspects(written(rows, **options))
                rows[row][place] = value
                data = written(rows, **options)
                assert Screen(Dialect(), 4, kinds).suspects(data), (small, row, quoted)
                ((found, misfit),) = find_misfits(data, Dialect(), kinds).items()
                assert (found, misfit.first, misfit.values) == (place, value, {value})
                assert data[: misfit.start].count(b"\n") == row


def test_codes_only() -> None:
    """Far into a file: leading zeros and plus signs in columns of numbers, and nothing else."""
    screen = Screen(Dialect(), 3, {0: "integer", 2: "double precision"})
    rows = [["7", "text", "0.5"]] * 50
    for place, value, seen in [
        *((0, "007", True), (2, "+5", True), (2, "01.5", True), (0, "+1", True)),
        *((0, "-007", True), (0, "-0", True), (2, "-0.5", False), (2, "-0", False)),
        *((1, "007", False), (1, "+5", False), (2, "1e5", False), (0, "0", False)),
    ]:
        for row in (0, 20, 49):
            changed = [list(one) for one in rows]
            changed[row][place] = value
            for options in ({}, {"quoting": csv.QUOTE_ALL}):
                assert screen.suspects(written(changed, **options), codes_only=True) == seen


VALUES = st.one_of(
    st.sampled_from([value for values in (*GOOD.values(), *BAD.values()) for value in values]),
    st.from_regex(r"[-+ ]?[0-9]{0,20}\.?[0-9]{0,3}([eE][-+]?[0-9]{1,2})? ?", fullmatch=True),
    st.text(alphabet='01 .-+e:TZ,"_', max_size=12),
)


@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12),
    kinds=st.tuples(*[st.sampled_from([*GOOD, "text"])] * 3),
    small=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_nothing_slips_through(
    rows: list[tuple[str, ...]], kinds: tuple[str, ...], small: bool, newline: str
) -> None:
    """Where the screen suspects nothing, each value fits, but for those that COPY refuses."""
    typed = {index: kind for index, kind in enumerate(kinds) if kind != "text"}
    data = written([list(row) for row in rows], newline)
    before, screening._SMALL_BYTES = screening._SMALL_BYTES, 1 << 20 if small else 0
    try:
        suspects = Screen(Dialect(), 3, typed).suspects(data)
    finally:
        screening._SMALL_BYTES = before
    if suspects:
        return
    for index, misfit in find_misfits(data, Dialect(), typed).items():
        assert not any(_reads(value, typed[index]) for value in misfit.values), (misfit, typed)


def _reads(value: str, kind: str) -> bool:
    """Whether Postgres surely reads this as the type: numbers in a few notations."""
    if kind not in ("integer", "bigint", "numeric", "double precision") or "_" in value:
        return False
    try:
        if kind in ("integer", "bigint"):
            return abs(int(value)) < 2**31
        number = float(value)
    except ValueError:
        return False
    return number == number and abs(number) < 1e300 and len(value.strip()) <= 15


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("integer", ["3000000000"], "bigint"),
        ("integer", ["3000000000", "12345678901234567890"], "numeric"),
        ("bigint", ["12345678901234567890"], "numeric"),
        ("integer", ["1.50"], "numeric"),
        ("integer", ["1" * 1001], "text"),
        ("integer", ["1e-05"], "double precision"),
        ("bigint", ["1.5", "NaN"], "numeric"),
        ("integer", ["1e-05", "NaN"], "double precision"),
        ("bigint", ["1e-05"], "text"),
        ("integer", ["1e5"], "text"),
        ("integer", ["00123"], "text"),
        ("integer", ["3000000000", "n/a"], "text"),
        ("numeric", ["1e5"], "text"),
        ("double precision", ["9007199254740993"], "numeric"),
        ("double precision", ["abc"], "text"),
        ("date", ["2024-01-05 10:00"], "timestamp"),
        ("date", ["2024-01-05 10:00", "05/01/2024"], "text"),
        ("date", ["2024-01-05 10:00Z"], "text"),
        ("timestamp", ["2024-01-05 10:00Z"], "text"),
        ("boolean", ["yes"], "text"),
    ],
)
def test_the_next_type(kind: str, values: list[str], expected: str) -> None:
    """Just as wide as the values need, and text where nothing else keeps them."""
    assert wider(kind, values) == expected


def test_which_conversions_are_exact() -> None:
    """Whole numbers and days become text as they were written; what is normalized does not."""
    for kind in ("integer", "bigint", "date"):
        assert converts_exactly(kind, "text", as_written=True)
        assert not converts_exactly(kind, "text", as_written=False)
    for kind in ("numeric", "double precision", "timestamp", "timestamptz", "boolean"):
        assert not converts_exactly(kind, "text", as_written=True)
    assert converts_exactly("integer", "bigint", as_written=False)
    assert not converts_exactly("double precision", "numeric", as_written=True)
