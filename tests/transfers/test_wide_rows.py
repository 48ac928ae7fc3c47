"""Rows that fit into no page: the guilty one is named, and no good one is rejected."""

import pytest

from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, SourceError

WIDTH = 1100  # columns of 8 bytes: too many for a page of 8 kB, unless some are NULL
TYPES = {f"c{n}": "bigint" for n in range(WIDTH)}
GUILTY = 137  # the physical line


@pytest.fixture
def path(tmp_path):
    """Good rows around one in which no column is NULL."""
    good = ",".join("4000000000" if n < 20 else "" for n in range(WIDTH))
    bad = ",".join(["4000000000"] * WIDTH)
    lines = [",".join(f"c{n}" for n in range(WIDTH)), *[good] * 400]
    lines[GUILTY - 1] = bad
    made = tmp_path / "wide.csv"
    made.write_text("\n".join(lines) + "\n")
    return made


def test_the_load_stops_at_the_guilty_row(workspace, path, look):
    """The server names the row that it read last; the error names the one that does not fit."""
    job = workspace.upload(
        path, "t", types=dict.fromkeys([f"c{n}" for n in range(WIDTH)], "bigint")
    )
    with pytest.raises(JobFailed) as caught:
        job.wait(60)
    error = caught.value.__cause__
    assert isinstance(error, SourceError)
    assert (error.line, error.sqlstate) == (GUILTY, "54000")
    assert "does not fit into a page" in str(error)
    assert not look.exists("t")


def test_only_the_guilty_row_is_rejected(workspace, path, look):
    """All others are loaded."""
    job = workspace.upload(path, "t", on_error="reject", types=TYPES)
    receipt = job.wait(60)
    assert (receipt.rows_loaded, receipt.rows_rejected) == (399, 1)
    rejects = job.rejects()
    assert list(rejects.line) == [GUILTY]
    assert "does not fit into a page" in rejects.message[0]


def test_a_query_whose_rows_are_too_wide_is_told(workspace, look, tmp_path):
    """Its rows are kept in a table first; the error says so, and what to do."""
    columns = ", ".join(f"repeat(chr(65 + {n} % 20), 11) AS c{n}" for n in range(900))
    job = workspace.download(f"SELECT {columns}", tmp_path / "out.csv")
    with pytest.raises(JobFailed, match="Select fewer columns"):
        job.wait(60)
    assert not (tmp_path / "out.csv").exists()


def test_more_columns_than_a_table_has_are_refused_in_the_call(workspace, look, tmp_path):
    """Of a query, and of a file."""
    columns = ", ".join(f"1 AS c{n}" for n in range(1650))
    with pytest.raises(OptionError, match=r"has 1,650 columns; Postgres allows 1,600"):
        workspace.download(f"SELECT {columns}", tmp_path / "out.csv")
    many = tmp_path / "many.csv"
    many.write_text(",".join(f"c{n}" for n in range(1650)) + "\n" + ",".join(["1"] * 1650) + "\n")
    with pytest.raises(SourceError, match="has 1,650 columns; a Postgres table has at most"):
        workspace.upload(many, "t")
    assert look.untouched()
