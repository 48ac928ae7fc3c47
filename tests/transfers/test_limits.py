"""max_row and max_unpacked: small files that would become large are refused, in every format."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import taskwidgets as tw
from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, SourceError

LONG = "x" * 3000
TEXT = "a,b\n" + "1,short\n" * 50 + f"2,{LONG}\n" + "3,short\n"
PACKERS = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
    "zip": lambda data: zipped(data),
}


def zipped(data):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.csv", data)
    return made.getvalue()


def made(tmp_path, name):
    """A file with a row of 3,000 characters, the 52nd with its header."""
    path = tmp_path / name
    kind = name.rpartition(".")[2]
    frame = pd.read_csv(io.StringIO(TEXT))
    if kind == "csv":
        path.write_text(TEXT)
    elif kind in PACKERS:
        path.write_bytes(PACKERS[kind](TEXT.encode()))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    elif kind == "parquet":
        frame.to_parquet(path, row_group_size=20)
    else:
        frame.to_excel(path, index=False)
    return path


@pytest.mark.parametrize("on_error", ["stop", "reject"])
@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("x.csv", "line 52"),
        ("x.csv.gz", "line 52"),
        ("x.csv.zip", "line 52"),
        ("x.jsonl", "line 51"),
        ("x.parquet", "row 51"),
        ("x.xlsx", "row 51"),
    ],
)
def test_a_row_longer_than_max_row(workspace, look, tmp_path, name, place, on_error):
    """The error names file, row and option; with a larger max_row, everything is loaded."""
    path = made(tmp_path, name)
    job = workspace.upload(path, "t", max_row=2000, on_error=on_error)
    with pytest.raises(JobFailed) as caught:
        job.wait()
    words = str(caught.value)
    assert f"{path}, {place}: the row that begins here has more than 2,000 bytes" in words
    assert "max_row (as given)" in words
    job.terminate()
    assert not look("SELECT FROM pg_tables WHERE tablename = 't'")
    workspace.upload(path, "t", max_row="4 kB", on_error=on_error).wait()
    assert look("SELECT count(*), max(length(b)) FROM t") == [(52, 3000)]


@pytest.mark.parametrize("name", [*(f"x.csv.{one}" for one in PACKERS), "x.parquet", "x.xlsx"])
def test_more_than_max_unpacked(workspace, look, tmp_path, name):
    """The error names file, sizes and option; with a larger max_unpacked, everything is loaded."""
    path = made(tmp_path, name)
    with pytest.raises((JobFailed, SourceError)) as caught:
        workspace.upload(path, "t", max_unpacked=1500).wait()
    words = str(caught.value)
    assert f"{path} unpacks from {path.stat().st_size:,} bytes to " in words
    assert "at most 1,500 are allowed, the limit max_unpacked (as given)" in words
    assert not look("SELECT FROM pg_tables WHERE tablename = 't'")
    workspace.upload(path, "t", max_unpacked=40_000).wait()
    assert look("SELECT count(*), max(length(b)) FROM t") == [(52, 3000)]


def test_several_files_have_the_same_limits(workspace, tmp_path):
    """The error names the one file that is too large."""
    small = tmp_path / "a.csv"
    small.write_text("a,b\n1,2\n")
    for option, name in (("max_row", "x.csv"), ("max_unpacked", "x.csv.gz")):
        large = made(tmp_path, name)
        with pytest.raises(JobFailed, match=f"{large}.*{option}"):
            workspace.upload([small, large], f"t_{option}", **{option: 1500}).wait()


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.jsonl", "x.xlsx"])
def test_a_full_preview_has_them_too(tmp_path, name):
    """preview(full=True) stops where upload does."""
    path = made(tmp_path, name)
    if name in ("x.jsonl", "x.csv"):
        with pytest.raises(SourceError, match="max_row"):
            tw.preview(with_long_rows(path), full=True, max_row=2000)
    else:
        with pytest.raises(SourceError, match="max_unpacked"):
            tw.preview(with_long_rows(path), full=True, max_unpacked=1500)
    assert len(tw.preview(path, full=True, max_row=4000, max_unpacked=2_000_000).rows) == 10


def with_long_rows(path):
    """The same file, so long that not all of it is looked at for its dialect."""
    if path.name == "x.csv":
        path.with_name("y.csv").write_text(TEXT[:100] + "1,2\n" * 300_000 + f"4,{LONG * 9}\n")
        return path.with_name("y.csv")
    if path.name == "x.csv.gz":
        large = path.with_name("y.csv.gz")
        large.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 300_000, 1))
        return large
    return path


@pytest.mark.parametrize("value", [0, -5, "", "large", "5 XB", True, float("nan"), [1], 2**70])
@pytest.mark.parametrize("option", ["max_row", "max_unpacked"])
def test_a_limit_that_is_none(workspace, tmp_path, option, value):
    """What is no number of bytes is an error before anything starts."""
    with pytest.raises(OptionError, match=option):
        workspace.upload(made(tmp_path, "x.csv"), "t", **{option: value})


def test_a_row_beyond_what_postgres_takes_cannot_be_allowed(workspace, tmp_path):
    """Postgres takes 1 GiB."""
    workspace.upload(made(tmp_path, "x.csv"), "t", max_row="1 GiB").wait()
    with pytest.raises(OptionError, match="at most 1,073,741,824 bytes"):
        workspace.upload(made(tmp_path, "x.csv"), "u", max_row=(1 << 30) + 1)


def test_a_frame_has_max_row(workspace):
    """A DataFrame's row is counted as it is written down."""
    frame = pd.DataFrame({"a": ["x", LONG]})
    with pytest.raises(JobFailed, match=r"DataFrame .*, row 2: .* more than 2,000 bytes"):
        workspace.upload(frame, "t", max_row=2000).wait()


def test_the_limits_are_decided_once(workspace, tmp_path):
    """A plan of an earlier release has none; today's are in the plan."""
    from taskwidgets.tabular.limits import UNLIMITED, Limits
    from taskwidgets.transfers.upload_plan import UploadPlan

    job = workspace.upload(made(tmp_path, "x.csv"), "t", max_row="1 MiB")
    job.wait()
    stored = dict(workspace._store.record(job.id).spec.plan)
    assert UploadPlan.from_json(stored).limits == Limits(None, 1 << 20)
    del stored["limits"]
    assert UploadPlan.from_json(stored).limits == UNLIMITED


def test_wide_parquet_pages_are_read_one_after_the_other(workspace, look, tmp_path, monkeypatch):
    """Columns whose pages do not fit together are read in runs; no value changes its row."""
    from taskwidgets.transfers.origins import parquet

    rows = 5000
    table = pa.table(
        {f"c{n}": [f"{n}-{row}" * 10 for row in range(rows)] for n in range(7)}
        | {"l": [[row] * (row % 4) for row in range(rows)]}
    )
    path = tmp_path / "x.parquet"
    pq.write_table(table, path, row_group_size=2000)
    monkeypatch.setattr(parquet, "RUN_BYTES", 300_000)
    monkeypatch.setattr(parquet, "BATCH_BYTES", 40_000)
    workspace.upload(path, "t").wait()
    assert look("SELECT count(*) FROM t WHERE c0 = replace(c6, '6-', '0-')") == [(rows,)]
    assert look("SELECT sum(jsonb_array_length(l)) FROM t") == [(rows // 4 * 6,)]
    monkeypatch.setattr(parquet, "PAGES_BYTES", 3000)
    with pytest.raises(JobFailed, match=r'row group 1, column "c0": a page unpacks to'):
        workspace.upload(path, "u").wait()
