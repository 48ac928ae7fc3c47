"""A table of strings in any dialect arrives in Postgres as it was written."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import HealthCheck, given, settings
from tabular.dialects import Made, alike, made

NUMBERS = itertools.count()


@given(case=made())
@settings(
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_table_in_any_dialect_arrives(workspace, tmp_path, look, case: Made) -> None:
    """Names, values and NULLs are in the table, each row as often as it stands in the file."""
    table = f"t{next(NUMBERS)}"
    path = tmp_path / f"{table}.csv"
    path.write_bytes(case.content)
    job = workspace.upload(path, table, types="text", on_error="reject", **case.options)
    receipt = job.wait()
    assert (receipt.rows_loaded, receipt.rows_rejected) == (len(case.rows), 0)
    assert alike(list(look.types(table))) == alike(case.names)
    assert Counter(map(tuple, look.rows(table))) == Counter(map(tuple, case.rows))
