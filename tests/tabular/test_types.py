"""What goes in must come out."""

from __future__ import annotations

import re

import pytest

from taskwidgets.errors import OptionError
from taskwidgets.tabular.sample import Sample
from taskwidgets.tabular.types import check_types, infer_types


def infer(*values: str | None, whole: bool = True) -> str:
    return infer_types(Sample([[value] for value in values], whole=whole), ["c"])["c"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "-2", "0", None), "integer"),
        (("2147483647", "-2147483647"), "integer"),
        (("2147483648",), "bigint"),
        (("-9223372036854775807",), "bigint"),
        (("9223372036854775808",), "numeric"),
        (("1" * 1001,), "text"),
        (("1" * 5000,), "text"),
        (("00123",), "text"),
        (("1", "007"), "text"),
        (("+5",), "text"),
        (("-0",), "text"),
        ((" 7",), "text"),
        (("7 ",), "text"),
        (("1,5",), "text"),
        (("1_000",), "text"),
        (("٣",), "text"),
        (("0x1f",), "text"),
        (("1.5", "-0.25", ".5"), "double precision"),
        (("1.50", "2"), "double precision"),
        (("01.5",), "text"),
        (("5.",), "text"),
        (("0.30000000000000004",), "double precision"),
        (("0.12345678901234567890",), "numeric"),
        (("1.5", "9007199254740992"), "double precision"),
        (("1.5", "9007199254740993"), "numeric"),
        (("1e-05", "1.5e+20", "1.0E5"), "double precision"),
        (("1e5",), "text"),
        (("12E3",), "text"),
        (("1e+999",), "text"),
        (("1e-999",), "text"),
        (("0.12345678901234567890", "1e-05"), "text"),
        (("1.5", "NaN", "-inf", "Infinity"), "double precision"),
        (("1", "nan"), "double precision"),
        (("NaN",), "text"),
        (("9007199254740993", "NaN"), "text"),
        (("true", "FALSE", "True"), "boolean"),
        (("t", "f"), "text"),
        (("yes", "no"), "text"),
        (("0", "1"), "integer"),
        (("true", "1"), "text"),
        (("2024-02-29",), "date"),
        (("2023-02-29",), "text"),
        (("2023-13-01",), "text"),
        (("0000-01-01",), "text"),
        (("2023-1-1",), "text"),
        (("01.02.2023",), "text"),
        (("20230101",), "integer"),
        (("2023-01-01 10:00", "2023-01-01T10:00:59.123456"), "timestamp"),
        (("2023-01-01 10:00:00.123456000",), "timestamp"),
        (("2023-01-01 10:00:00.123456789",), "text"),
        (("2023-01-01 24:00:00",), "text"),
        (("2023-01-01 10:00:60",), "text"),
        (("2023-02-30 10:00:00",), "text"),
        (("2023-01-01T10:00:00Z", "2023-01-01 10:00:00+02", "2023-01-01 10:00:00-03:30"),
         "timestamptz"),
        (("2023-01-01 10:00:00+17",), "text"),
        (("2023-01-01 10:00:00", "2023-01-01 10:00:00Z"), "text"),
        (("2023-01-01", "2023-01-01 10:00:00"), "text"),
        ((None, None), "text"),
        ((), "text"),
        (("1", ""), "text"),
        (("1", "abc"), "text"),
    ],
)  # fmt: skip
def test_types(values: tuple[str | None, ...], expected: str) -> None:
    """A type is inferred only where it keeps every value."""
    assert infer(*values) == expected


def test_headroom() -> None:
    """In a part of a file, a column near integer's limit becomes bigint."""
    assert infer("1073741823", whole=False) == "integer"
    assert infer("1073741824", whole=False) == "bigint"
    assert infer("1073741824", whole=True) == "integer"
    assert infer("9223372036854775807", whole=False) == "bigint"


def test_several_columns() -> None:
    """Each column has a type of its own, in the header's order."""
    found = infer_types(Sample([["1", "a"], ["2", None]]), ["n", "s"])
    assert list(found.items()) == [("n", "integer"), ("s", "text")]


def test_given_types() -> None:
    """A dict is kept, "text" is for all, None for none."""
    assert check_types({"b": "numeric(8,2)"}, ["a", "b"]) == {"b": "numeric(8,2)"}
    assert check_types("text", ["a", "b"]) == {"a": "text", "b": "text"}
    assert check_types(None, ["a"]) == {}


@pytest.mark.parametrize(
    ("types", "text"),
    [
        ({"carier": "text"}, "column 'carier' that the file does not have; did you mean 'carrier'"),
        ({"zzz": "text"}, "it has 'carrier', 'year'"),
        ("integer", "types='integer' makes no sense"),
        (["text"], "types must be a dict or \"text\""),
        ({"year": ""}, "types['year'] must be the name of a type"),
        ({"year": int}, "types['year'] must be the name of a type"),
    ],
)  # fmt: skip
def test_given_types_that_make_no_sense(types: object, text: str) -> None:
    """A column that is not there is answered with the names that are near."""
    with pytest.raises(OptionError, match=re.escape(text)):
        check_types(types, ["carrier", "year"])
