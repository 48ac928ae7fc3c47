"""COPY of data with bad records: each is told by its place, its column and the server's reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.transfers.copy_in import CopyIn
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.sorting import PIECE_BYTES, Sorter
from taskwidgets.transfers.upload_plan import UploadPlan

TYPES = {"a": "integer", "b": "text", "c": "date"}


@pytest.fixture
def connection(workspace):
    """A transaction with an empty table ``t``."""
    with workspace.engine.connect() as made, made.begin():
        made.exec_driver_sql("CREATE TABLE t (a integer, b text, c date)")
        yield made


@pytest.fixture
def sorter():
    """Copies into it."""
    table, dialect = TableName("public", "t"), Dialect()
    plan = UploadPlan(
        path=Path("f.csv"),
        fingerprint=Fingerprint(0, 0, ""),
        dialect=dialect,
        columns=tuple(TYPES),
        types=TYPES,
        data_start=0,
        target=table,
        if_exists="fail",
    )
    return Sorter(CopyIn(table, plan), dialect, plan.columns, TYPES)


def rows_in(connection):
    return connection.exec_driver_sql("SELECT count(*) FROM t").scalar()


@pytest.mark.parametrize(
    ("record", "column", "reason"),
    [
        (b"x,b,2024-01-01", "a", 'invalid input syntax for type integer: "x"'),
        (b'"",b,2024-01-01', "a", 'invalid input syntax for type integer: ""'),
        (b",b,2024-02-30", "c", 'date/time field value out of range: "2024-02-30"'),
        (b"x,b,2024-02-30", "a", 'invalid input syntax for type integer: "x"'),
        (b"1,b", None, "2 fields instead of 3"),
        (b"1,b,2024-01-01,d", None, "4 fields instead of 3"),
    ],
)
def test_a_bad_record_is_told(connection, sorter, record, column, reason):
    """The others are loaded; of the bad one the bytes, the column and the reason are known."""
    good = b"1,b,2024-01-01\n"
    found = sorter.load(connection, good + record + b"\n" + good * 2)
    (bad,) = found.bad
    assert (bad.start, bad.stop) == (len(good), len(good) + len(record) + 1)
    assert bad.reason.startswith(reason)
    assert column is None or bad.column == column
    assert found.rows == rows_in(connection) == 3


def test_bad_records_are_told_by_their_places_in_long_data(connection, sorter):
    """Where the data are tried in pieces, places are those in all of the data."""
    records = [b"%d,note %d,2024-01-01\n" % (n, n) for n in range(PIECE_BYTES // 5)]
    for number in (0, 2000, 4000, 6000):
        records[number] = b"x%d,bad,2024-01-01\n" % number  # passed over by COPY
        records[number + 100] = b"%d\n" % number  # refused by it
    data = b"".join(records)
    assert len(data) > 4 * PIECE_BYTES
    found = sorter.load(connection, data)
    told = [data[bad.start : bad.stop] for bad in found.bad]
    assert told == [records[n + more] for n in (0, 2000, 4000, 6000) for more in (0, 100)]
    assert found.rows == rows_in(connection) == len(records) - 8
