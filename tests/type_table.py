"""All Arrow and pandas types with edge values, and what is in Postgres when they are loaded.

The table of ``docs/reference/types.md`` is made of these cases: ``python type_table.py`` prints it.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

D = decimal.Decimal
UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
LONDON = "Europe/London"
INT64 = 2**63


@dataclass(frozen=True)
class Case:
    """A type, values of it, the Postgres type, and what ``value::text`` is there.

    ``note`` says that the receipt has a note on the column.
    """

    name: str
    values: Callable[[], Any]  # an Arrow array or a Series
    type: str
    texts: Sequence[str | None]
    note: str = ""
    parquet: bool = True  # whether Parquet has the type, and these values of it

    @property
    def id(self) -> str:
        return f"{self.name}: {self.texts[0]}"


def of(kind: Any, *values: Any) -> Callable[[], Any]:
    """An Arrow array of Python's values."""
    return lambda: pa.array(values, kind)


def raw(kind: Any, *values: int | None) -> Callable[[], Any]:
    """An Arrow array of dates, times or durations, by the integers that they are."""
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    return lambda: pa.array(values, width).view(kind)


def inside(child: Callable[[], Any]) -> Callable[[], Any]:
    """A list with all of an array's values."""

    def make() -> Any:
        values = child()
        return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)

    return make


def arrow_cases() -> list[Case]:
    """The types of Arrow."""
    return [
        Case("bool", of(pa.bool_(), True, False, None), "boolean", ["true", "false", None]),
        Case("int8", of(pa.int8(), -128, 127, None), "smallint", ["-128", "127", None]),
        Case("int16", of(pa.int16(), -(2**15), None), "smallint", ["-32768", None]),
        Case("int32", of(pa.int32(), -(2**31), None), "integer", ["-2147483648", None]),
        Case("int64", of(pa.int64(), -INT64, INT64 - 1, None), "bigint",
             ["-9223372036854775808", "9223372036854775807", None]),
        Case("uint8", of(pa.uint8(), 255, None), "smallint", ["255", None]),
        Case("uint16", of(pa.uint16(), 65535, None), "integer", ["65535", None]),
        Case("uint32", of(pa.uint32(), 2**32 - 1, None), "bigint", ["4294967295", None]),
        Case("uint64", of(pa.uint64(), 2**64 - 1, None), "numeric", ["18446744073709551615", None]),
        Case("float16", lambda: pa.array(np.array([0.1, np.inf, np.nan, 65504], "f2")), "real",
             ["0.099975586", "Infinity", "NaN", "65504"]),
        Case("float32", of(pa.float32(), 0.1, 3.4028235e38, 1e-45, -0.0, float("nan"), None),
             "real", ["0.1", "3.4028235e+38", "1e-45", "-0", "NaN", None]),
        Case("float64", of(pa.float64(), 0.1, 5e-324, 1e22, -0.0, float("-inf"), None),
             "double precision", ["0.1", "5e-324", "1e+22", "-0", "-Infinity", None]),
        Case("decimal32(5, 2)", of(pa.decimal32(5, 2), D("-123.40"), None), "numeric(5,2)",
             ["-123.40", None]),
        Case("decimal64(18, 0)", of(pa.decimal64(18, 0), D("9" * 18), None), "numeric(18,0)",
             ["9" * 18, None]),
        Case("decimal128(38, 10)", of(pa.decimal128(38, 10), D("9" * 28 + "." + "9" * 10), None),
             "numeric(38,10)", ["9" * 28 + "." + "9" * 10, None]),
        Case("decimal256(76, 38)", of(pa.decimal256(76, 38), D("1e37"), D("-1e-38"), None),
             "numeric(76,38)", ["1" + "0" * 37 + "." + "0" * 38, "-0." + "0" * 37 + "1", None]),
        Case("decimal128(5, -2)", of(pa.decimal128(5, -2), D("1.2E+3"), None), "numeric",
             ["1200", None], parquet=False),
        Case("decimal128(3, 5)", lambda: pa.Array.from_buffers(
                 pa.decimal128(3, 5), 1, [None, pa.py_buffer((123).to_bytes(16, "little"))]),
             "numeric", ["0.00123"], parquet=False),
        Case("string", of(pa.string(), "", "\\N", 'a "ä" \r\n', None), "text",
             ["", "\\N", 'a "ä" \r\n', None]),
        Case("large_string", of(pa.large_string(), "x", None), "text", ["x", None]),
        Case("string_view", of(pa.string_view(), "x", None), "text", ["x", None]),
        Case("binary", of(pa.binary(), b"", b"\0\xff", None), "bytea", ["\\x", "\\x00ff", None]),
        Case("large_binary", of(pa.large_binary(), b"ab", None), "bytea", ["\\x6162", None]),
        Case("binary_view", of(pa.binary_view(), b"ab", None), "bytea", ["\\x6162", None]),
        Case("fixed_size_binary[2]", of(pa.binary(2), b"ab", None), "bytea", ["\\x6162", None]),
        Case("date32", raw(pa.date32(), -719163, -2440588, 2145042905, None), "date",
             ["0001-12-31 BC", "4714-11-24 BC", "5874897-12-31", None]),
        Case("date32", raw(pa.date32(), 0, -2440589, 2**31 - 1, None), "text",
             ["1970-01-01", "4714-11-23 BC", "5881580-07-11", None], "row 2 is 4714-11-23 BC"),
        Case("date64", raw(pa.date64(), 0, 253402300800000, None), "date",
             ["1970-01-01", "10000-01-01", None]),
        Case("date64", raw(pa.date64(), 0, 86400001), "text",
             ["1970-01-01 00:00:00", "1970-01-02 00:00:00.001"],
             "row 2 is 1970-01-02 00:00:00.001", parquet=False),
        Case("time32[s]", raw(pa.time32("s"), 0, 86399, 86400, None), "time without time zone",
             ["00:00:00", "23:59:59", "24:00:00", None], parquet=False),
        Case("time32[ms]", raw(pa.time32("ms"), 1, 86399999, None), "time without time zone",
             ["00:00:00.001", "23:59:59.999", None]),
        Case("time32[ms]", raw(pa.time32("ms"), 0, -1000, 86400001), "text",
             ["00:00:00.000", "-1 seconds", "86400.001 seconds"], "row 2 is -1 seconds"),
        Case("time64[us]", raw(pa.time64("us"), 86399999999, None), "time without time zone",
             ["23:59:59.999999", None]),
        Case("time64[ns]", raw(pa.time64("ns"), 1000, 86399999999000, None),
             "time without time zone", ["00:00:00.000001", "23:59:59.999999", None]),
        Case("time64[ns]", raw(pa.time64("ns"), 1000, 1, None), "text",
             ["00:00:00.000001000", "00:00:00.000000001", None], "row 2 is 00:00:00.000000001"),
        Case("timestamp[s]", raw(pa.timestamp("s"), -62135596801, 9224318015999, None),
             "timestamp without time zone",
             ["0001-12-31 23:59:59 BC", "294276-12-31 23:59:59", None]),
        Case("timestamp[s]", raw(pa.timestamp("s"), 9224318016000, -INT64), "text",
             ["294277-01-01 00:00:00", "292277022658-01-27 08:29:52 BC"],
             "row 1 is 294277-01-01 00:00:00", parquet=False),
        Case("timestamp[ms]", raw(pa.timestamp("ms"), 253402300800000, 1, None),
             "timestamp without time zone",
             ["10000-01-01 00:00:00", "1970-01-01 00:00:00.001", None]),
        Case("timestamp[us]", raw(pa.timestamp("us"), INT64 - 1, -210866803200000000, None),
             "timestamp without time zone",
             ["294247-01-10 04:00:54.775807", "4714-11-24 00:00:00 BC", None]),
        Case("timestamp[us]", raw(pa.timestamp("us"), 0, -210866803200000001, None), "text",
             ["1970-01-01 00:00:00", "4714-11-23 23:59:59.999999 BC", None],
             "row 2 is 4714-11-23 23:59:59.999999 BC"),
        Case("timestamp[ns]", raw(pa.timestamp("ns"), -9223372036854775000, 1000, None),
             "timestamp without time zone",
             ["1677-09-21 00:12:43.145225", "1970-01-01 00:00:00.000001", None]),
        Case("timestamp[ns]", raw(pa.timestamp("ns"), 0, 1, INT64 - 1, None), "text",
             ["1970-01-01 00:00:00", "1970-01-01 00:00:00.000000001",
              "2262-04-11 23:47:16.854775807", None], "row 2 is 1970-01-01 00:00:00.000000001"),
        Case("timestamp[s, tz]", raw(pa.timestamp("s", LONDON), 1719792000, -62135596801, None),
             "timestamp with time zone",
             ["2024-07-01 00:00:00+00", "0001-12-31 23:59:59+00 BC", None]),
        Case("timestamp[us, tz]", raw(pa.timestamp("us", "+02:00"), 253402300800000000, None),
             "timestamp with time zone", ["10000-01-01 00:00:00+00", None]),
        Case("timestamp[ns, tz]", raw(pa.timestamp("ns", LONDON), 1, None), "text",
             ["1970-01-01 00:00:00.000000001Z", None], "row 1 is 1970-01-01 00:00:00.000000001Z"),
        Case("duration[s]", raw(pa.duration("s"), -1, 2**40, None), "interval",
             ["-00:00:01", "305419896:36:16", None]),
        Case("duration[s]", raw(pa.duration("s"), 1, -INT64), "text",
             ["1 seconds", "-9223372036854775808 seconds"],
             "row 2 is -9223372036854775808 seconds"),
        Case("duration[ms]", raw(pa.duration("ms"), 1, None), "interval", ["00:00:00.001", None]),
        Case("duration[us]", raw(pa.duration("us"), 1, INT64 - 1, None), "interval",
             ["00:00:00.000001", "2562047788:00:54.775807", None]),
        Case("duration[ns]", raw(pa.duration("ns"), 1000, -1000, None), "interval",
             ["00:00:00.000001", "-00:00:00.000001", None]),
        Case("duration[ns]", raw(pa.duration("ns"), 1_500_000_000, 1, None), "text",
             ["1.5 seconds", "0.000000001 seconds", None], "row 2 is 0.000000001 seconds"),
        Case("month_day_nano_interval",
             of(pa.month_day_nano_interval(), pa.MonthDayNano([14, -3, 1000]), None), "interval",
             ["1 year 2 mons -3 days +00:00:00.000001", None], parquet=False),
        Case("month_day_nano_interval",
             of(pa.month_day_nano_interval(), pa.MonthDayNano([1, 2, 1]), None), "text",
             ["1 months 2 days 0.000000001 seconds", None],
             "row 1 is 1 months 2 days 0.000000001 seconds", parquet=False),
        Case("null", of(pa.null(), None), "text", [None]),
        Case("dictionary of string", of(pa.dictionary(pa.int8(), pa.string()), "x", None, "x"),
             "text", ["x", None, "x"]),
        Case("dictionary of int16",
             lambda: pa.array([1, None, -1], pa.int16()).dictionary_encode(), "smallint",
             ["1", None, "-1"]),
        Case("dictionary of timestamp[ns]",
             lambda: raw(pa.timestamp("ns"), None, 1)().dictionary_encode(), "text",
             [None, "1970-01-01 00:00:00.000000001"], "row 2 is 1970-01-01 00:00:00.000000001"),
        Case("run_end_encoded of date32",
             lambda: pa.RunEndEncodedArray.from_arrays(
                 pa.array([2, 3], pa.int32()), raw(pa.date32(), 0, None)())[1:],
             "date", ["1970-01-01", None], parquet=False),
        Case("list", of(pa.list_(pa.int8()), [1, None], [], None), "jsonb",
             ["[1, null]", "[]", None]),
        Case("large_list", of(pa.large_list(pa.string()), ['"ä"'], None), "jsonb",
             ['["\\"ä\\""]', None]),
        Case("list_view", of(pa.list_view(pa.bool_()), [True], None), "jsonb", ["[true]", None]),
        Case("fixed_size_list", of(pa.list_(pa.uint64(), 1), [2**64 - 1], None), "jsonb",
             ["[18446744073709551615]", None]),
        Case("map", of(pa.map_(pa.string(), pa.int8()), [("b", 1), ("a", None), ("b", 2)], None),
             "jsonb", ['[["b", 1], ["a", null], ["b", 2]]', None]),
        Case("struct", of(pa.struct({"b": pa.binary(), "a": pa.date32()}),
                          {"b": b"\xff", "a": datetime.date(1, 1, 1)}, None),
             "jsonb", ['{"a": "0001-01-01", "b": "\\\\xff"}', None]),
        Case("list of float32", of(pa.list_(pa.float32()), [0.1, float("nan"), float("-inf")]),
             "jsonb", ['[0.1, "NaN", "-Infinity"]'], "NaN and infinity inside"),
        Case("list of float64", of(pa.list_(pa.float64()), [0.1, 1e22]), "jsonb",
             ["[0.1, 10000000000000000000000]"]),
        Case("list of decimal", of(pa.list_(pa.decimal128(5, 2)), [D("1.10")]), "jsonb",
             ["[1.10]"]),
        Case("list of timestamp[us]",
             inside(raw(pa.timestamp("us"), 1, INT64 - 1, None)), "jsonb",
             ['["1970-01-01T00:00:00.000001", "294247-01-10T04:00:54.775807", null]']),
        Case("list of timestamp[ns, tz]",
             inside(raw(pa.timestamp("ns", LONDON), 0, 1)), "jsonb",
             ['["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000001Z"]']),
        Case("list of date32", inside(raw(pa.date32(), -719163, 2**31 - 1)), "jsonb",
             ['["0001-12-31 BC", "5881580-07-11"]']),
        Case("list of time64[ns]", inside(raw(pa.time64("ns"), 1)), "jsonb",
             ['["00:00:00.000000001"]']),
        Case("list of duration[ns]", inside(raw(pa.duration("ns"), -1_000_000_001)), "jsonb",
             ['["-1.000000001 seconds"]']),
        Case("list of list of struct",
             of(pa.list_(pa.list_(pa.struct({"x": pa.map_(pa.int8(), pa.string())}))),
                [[{"x": [(1, "y")]}, None], None, []], None),
             "jsonb", ['[[{"x": [[1, "y"]]}, null], null, []]', None]),
        Case("arrow.json", lambda: pa.ExtensionArray.from_storage(
                 pa.json_(), pa.array(['{"b":1,  "a":1.0,"b":2}', None])),
             "json", ['{"b":1,  "a":1.0,"b":2}', None]),
        Case("arrow.uuid", lambda: pa.ExtensionArray.from_storage(
                 pa.uuid(), pa.array([UUID.bytes, None], pa.binary(16))),
             "uuid", [str(UUID), None]),
        Case("arrow.bool8", lambda: pa.ExtensionArray.from_storage(
                 pa.bool8(), pa.array([1, 0, None], pa.int8())),
             "boolean", ["true", "false", None]),
    ]  # fmt: skip


def int96_cases() -> list[Case]:
    """Timestamps that are written as INT96."""
    return [
        Case("INT96", raw(pa.timestamp("us"), -62135596801000001, 253402300800000000, None),
             "timestamp without time zone",
             ["0001-12-31 23:59:58.999999 BC", "10000-01-01 00:00:00", None]),
        Case("INT96", raw(pa.timestamp("ns"), 0, 1, -INT64, None), "text",
             ["1970-01-01 00:00:00.000000000", "1970-01-01 00:00:00.000000001",
              "1677-09-21 00:12:43.145224192", None], "row 2 is 1970-01-01 00:00:00.000000001"),
        Case("list of INT96", inside(raw(pa.timestamp("us"), 253402300800000000)), "jsonb",
             ['["10000-01-01T00:00:00"]']),
    ]  # fmt: skip


def series(values: Any, dtype: Any = None) -> Callable[[], Any]:
    """A series of pandas."""
    return lambda: pd.Series(values, dtype=dtype)


def objects(*values: Any) -> Callable[[], Any]:
    """A series of Python's or numpy's objects as they are."""

    def make() -> Any:
        found = np.empty(len(values), object)
        for place, value in enumerate(values):
            found[place] = value
        return pd.Series(found, dtype=object)

    return make


def numpy_times(kind: str, *values: int) -> Callable[[], Any]:
    """A series of datetime64 or timedelta64, by the integers that they are."""
    return lambda: pd.Series(np.array(values, "int64").view(kind))


def zoned(kind: str, *values: int) -> Callable[[], Any]:
    return lambda: numpy_times(kind, *values)().dt.tz_localize("UTC").dt.tz_convert(LONDON)


NAT = -INT64


def frame_cases() -> list[Case]:
    """The dtypes of pandas, and objects."""
    return [
        Case("bool", series([True, False]), "boolean", ["true", "false"]),
        Case("int8", series([-128], "int8"), "smallint", ["-128"]),
        Case("int16", series([-(2**15)], "int16"), "smallint", ["-32768"]),
        Case("int32", series([-(2**31)], "int32"), "integer", ["-2147483648"]),
        Case("int64", series([-INT64], "int64"), "bigint", ["-9223372036854775808"]),
        Case("uint8", series([255], "uint8"), "smallint", ["255"]),
        Case("uint16", series([65535], "uint16"), "integer", ["65535"]),
        Case("uint32", series([2**32 - 1], "uint32"), "bigint", ["4294967295"]),
        Case("uint64", series([2**64 - 1], "uint64"), "numeric", ["18446744073709551615"]),
        Case("float16", series([0.1, np.inf, np.nan], "float16"), "real",
             ["0.099975586", "Infinity", None]),
        Case("float32", series([0.1, 1e-45, -0.0, np.nan], "float32"), "real",
             ["0.1", "1e-45", "-0", None]),
        Case("float64", series([0.1, 5e-324, -np.inf, np.nan]), "double precision",
             ["0.1", "5e-324", "-Infinity", None]),
        Case("complex128", series([1 + 2j]), "text", ["(1+2j)"]),
        Case("boolean", series([True, None], "boolean"), "boolean", ["true", None]),
        Case("Int8", series([-128, None], "Int8"), "smallint", ["-128", None]),
        Case("Int64", series([INT64 - 1, None], "Int64"), "bigint", ["9223372036854775807", None]),
        Case("UInt64", series([2**64 - 1, None], "UInt64"), "numeric",
             ["18446744073709551615", None]),
        Case("Float32", series([0.1, None], "Float32"), "real", ["0.1", None]),
        Case("Float64", series([0.1, np.inf, None], "Float64"), "double precision",
             ["0.1", "Infinity", None]),
        Case("str", series(["", "\\N", None], "str"), "text", ["", "\\N", None]),
        Case("string", series(["x", None], "string"), "text", ["x", None]),
        Case("datetime64[s]", numpy_times("M8[s]", -62135596801, 9224318015999, NAT),
             "timestamp without time zone",
             ["0001-12-31 23:59:59 BC", "294276-12-31 23:59:59", None]),
        Case("datetime64[s]", numpy_times("M8[s]", 0, 9224318016000, NAT), "text",
             ["1970-01-01 00:00:00", "294277-01-01 00:00:00", None],
             "row 2 is 294277-01-01 00:00:00"),
        Case("datetime64[ms]", numpy_times("M8[ms]", 253402300800000, NAT),
             "timestamp without time zone", ["10000-01-01 00:00:00", None]),
        Case("datetime64[us]", numpy_times("M8[us]", 1, NAT), "timestamp without time zone",
             ["1970-01-01 00:00:00.000001", None]),
        Case("datetime64[ns]", numpy_times("M8[ns]", 1000, NAT), "timestamp without time zone",
             ["1970-01-01 00:00:00.000001", None]),
        Case("datetime64[ns]", numpy_times("M8[ns]", NAT, 1), "text",
             [None, "1970-01-01 00:00:00.000000001"], "row 2 is 1970-01-01 00:00:00.000000001"),
        Case("datetime64[s, tz]", zoned("M8[s]", 1719792000, 253402300800, NAT),
             "timestamp with time zone",
             ["2024-07-01 00:00:00+00", "10000-01-01 00:00:00+00", None]),
        Case("datetime64[ns, tz]", zoned("M8[ns]", 1719792000_000001000, NAT),
             "timestamp with time zone", ["2024-07-01 00:00:00.000001+00", None]),
        Case("datetime64[ns, tz]", zoned("M8[ns]", 1, NAT), "text",
             ["1970-01-01 00:00:00.000000001Z", None], "row 1 is 1970-01-01 00:00:00.000000001Z"),
        Case("timedelta64[s]", numpy_times("m8[s]", -1, 10**13, NAT), "interval",
             ["-00:00:01", "115740740 days 17:46:40", None]),
        Case("timedelta64[s]", numpy_times("m8[s]", 1, INT64 - 1, NAT), "text",
             ["1 seconds", "9223372036854775807 seconds", None],
             "row 2 is 9223372036854775807 seconds"),
        Case("timedelta64[ms]", numpy_times("m8[ms]", 1, NAT), "interval", ["00:00:00.001", None]),
        Case("timedelta64[us]", numpy_times("m8[us]", 1, NAT), "interval",
             ["00:00:00.000001", None]),
        Case("timedelta64[ns]", numpy_times("m8[ns]", 1000, NAT), "interval",
             ["00:00:00.000001", None]),
        Case("timedelta64[ns]", numpy_times("m8[ns]", 1_500_000_000, 1, NAT), "text",
             ["1.5 seconds", "0.000000001 seconds", None], "row 2 is 0.000000001 seconds"),
        Case("category of int64", lambda: pd.Series(pd.Categorical([3, None, -4])), "bigint",
             ["3", None, "-4"]),
        Case("category of int8", lambda: pd.Series(pd.Categorical.from_codes(
                 [0, -1], categories=pd.Index(np.array([7], "int8")))), "smallint", ["7", None]),
        Case("category of bool", lambda: pd.Series(pd.Categorical([True, None])), "boolean",
             ["true", None]),
        Case("category of datetime64", lambda: pd.Series(
                 pd.Categorical(pd.to_datetime(["2024-02-29", None]))),
             "timestamp without time zone", ["2024-02-29 00:00:00", None]),
        Case("category of date", lambda: pd.Series(
                 pd.Categorical([datetime.date(2024, 2, 29), None])), "date", ["2024-02-29", None]),
        Case("category of str", lambda: pd.Series(pd.Categorical(["x", None])), "text",
             ["x", None]),
        Case("category of Interval", lambda: pd.Series(pd.cut([1, 5], [0, 2])), "text",
             ["(0, 2]", None]),
        Case("Sparse[int8]", series([0, 7], pd.SparseDtype("int8")), "smallint", ["0", "7"]),
        Case("Sparse[float64]", series([0.1, np.nan], pd.SparseDtype("float64")),
             "double precision", ["0.1", None]),
        Case("Sparse[bool]", series([True, False], pd.SparseDtype("bool")), "boolean",
             ["true", "false"]),
        Case("period[M]", lambda: pd.Series(pd.PeriodIndex(["2024-02", None], freq="M")), "text",
             ["2024-02", None]),
        Case("interval", lambda: pd.Series(pd.arrays.IntervalArray.from_tuples([(0, 1), None])),
             "text", ["(0.0, 1.0]", None]),
        Case("int and None", objects(1, None), "bigint", ["1", None]),
        Case("int beyond 64 bits", objects(2**70, pd.NA), "numeric", [str(2**70), None]),
        Case("int and float", objects(1, 0.5, np.nan), "double precision", ["1", "0.5", None]),
        Case("int beyond 2**53 and float", objects(2**53 + 1, 0.5), "numeric",
             ["9007199254740993", "0.5"]),
        Case("numpy.float32", objects(np.float32(0.1), None), "real", ["0.1", None]),
        Case("numpy.float32 and float", objects(np.float32(0.5), 0.1), "double precision",
             ["0.5", "0.1"]),
        Case("numpy.bool", objects(np.True_, None), "boolean", ["true", None]),
        Case("decimal.Decimal", objects(D("1.10"), D("NaN"), D("1E+3"), D("sNaN")), "numeric",
             ["1.10", None, "1000", None]),
        Case("decimal.Decimal and float", objects(D("1.10"), 0.1), "numeric", ["1.10", "0.1"]),
        Case("str and bytes", objects("x", b"\xff", 1, True), "text", ["x", "\\xff", "1", "true"]),
        Case("bytes", objects(b"\0", bytearray(b"a"), None), "bytea", ["\\x00", "\\x61", None]),
        Case("uuid.UUID", objects(UUID, None), "uuid", [str(UUID), None]),
        Case("datetime.date", objects(datetime.date(1, 1, 1), pd.NaT, datetime.date(9999, 12, 31)),
             "date", ["0001-01-01", None, "9999-12-31"]),
        Case("datetime.time", objects(datetime.time(23, 59, 59, 999999), None),
             "time without time zone", ["23:59:59.999999", None]),
        Case("datetime.time with an offset",
             objects(datetime.time(1, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))),
             "time with time zone", ["01:00:00+02"]),
        Case("datetime.datetime", objects(datetime.datetime(1, 1, 1), None),
             "timestamp without time zone", ["0001-01-01 00:00:00", None]),
        Case("datetime.datetime with a zone",
             objects(datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(
                 datetime.timedelta(hours=23, microseconds=1)))),
             "timestamp with time zone", ["0001-12-31 00:59:59.999999+00 BC"]),
        Case("datetime.timedelta", objects(datetime.timedelta.max, datetime.timedelta(-1), None),
             "interval", ["999999999 days 23:59:59.999999", "-24:00:00", None]),
        Case("pandas.Timestamp", objects(pd.Timestamp(np.datetime64("20000-01-01", "s")), pd.NaT),
             "timestamp without time zone", ["20000-01-01 00:00:00", None]),
        Case("pandas.Timestamp", objects(pd.Timestamp(1), pd.NaT), "text",
             ["1970-01-01 00:00:00.000000001", None], "row 1 is 1970-01-01 00:00:00.000000001"),
        Case("pandas.Timedelta", objects(pd.Timedelta(np.timedelta64(10**13, "s")), pd.NaT),
             "interval", ["115740740 days 17:46:40", None]),
        Case("numpy.datetime64[D]", objects(np.datetime64("2024-02-29"), np.datetime64("NaT")),
             "date", ["2024-02-29", None]),
        Case("numpy.datetime64[h]", objects(np.datetime64("2024-02-29T12", "h")),
             "timestamp without time zone", ["2024-02-29 12:00:00"]),
        Case("numpy.datetime64[ns]", objects(np.datetime64(1, "ns")), "text",
             ["1970-01-01 00:00:00.000000001"], "row 1 is 1970-01-01 00:00:00.000000001"),
        Case("numpy.datetime64[M]", objects(np.datetime64("2024-02")), "text", ["2024-02"]),
        Case("numpy.timedelta64[s]", objects(np.timedelta64(5, "s"), np.timedelta64("NaT")),
             "interval", ["00:00:05", None]),
        Case("numpy.timedelta64[M]", objects(np.timedelta64(14, "M")), "interval",
             ["1 year 2 mons"]),
        Case("numpy.timedelta64[ns]", objects(np.timedelta64(1, "ns")), "text",
             ["0.000000001 seconds"], "row 1 is 0.000000001 seconds"),
        Case("list, dict and array",
             objects([D("1.10"), np.float32(0.1), np.nan, pd.NA, b"\xff"],
                     {"a": datetime.date(1, 1, 1), 1: 2**70},
                     np.array([1, 2], "M8[ns]"), None),
             "jsonb", ['[1.10, 0.1, null, null, "\\\\xff"]',
                       '{"1": 1180591620717411303424, "a": "0001-01-01"}',
                       '["1970-01-01 00:00:00.000000001", "1970-01-01 00:00:00.000000002"]', None]),
        Case("list with an infinity", objects([float("-inf")]), "jsonb", ['["-Infinity"]'],
             "NaN and infinity inside"),
        Case("any other object", objects(fractions.Fraction(1, 3), None), "text", ["1/3", None]),
        Case("nothing", objects(None, np.nan), "text", [None, None]),
    ]  # fmt: skip


def docs_tables() -> dict[str, str]:
    """By heading, the tables of the documentation's page."""
    return {
        "Arrow and Parquet": _table("Arrow type", [*arrow_cases(), *int96_cases()]),
        "pandas": _table("dtype, or objects of a column of objects", frame_cases()),
    }


def _table(first: str, cases: Sequence[Case]) -> str:
    lines = [f"| {first} | Postgres type | values there, as text |", "|---|---|---|"]
    for case in cases:
        texts = "NULL" if case.texts[0] is None else f"`{_cell(case.texts[0])}`"
        for text in case.texts[1:]:
            texts += ", " + ("NULL" if text is None else f"`{_cell(text)}`")
        kind = case.type + (" (noted)" if case.note else "")
        lines.append(f"| {case.name} | {kind} | {texts} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    shown = repr(text)[1:-1] if not text.isprintable() else text or '""'
    return shown if len(shown) <= 44 else f"{shown[:20]}…{shown[-20:]}"


if __name__ == "__main__":
    for heading, table in docs_tables().items():
        sys.stdout.write(f"## {heading}\n\n{table}\n\n")
