"""A failed job's file is mended, and the same call completes it, if what is loaded still stands."""

import hashlib

import pytest
from fix_files import replace_line

from taskwidgets import JobFailed

TYPES = {"id": "integer"}


@pytest.fixture
def failed(workspace, many_rows):
    """A job that failed in the middle of its file: (job, path, line number, the good line)."""
    path = many_rows(40_000)
    lines = path.read_bytes().split(b"\n")
    number = next(n for n in range(len(lines) // 2, len(lines)) if lines[n - 1][:5].isdigit())
    good = lines[number - 1].decode()
    replace_line(path, number, "x" * 5 + good[5:])
    job = workspace.upload(path, "t", types=TYPES, max_rate=2e6)
    with pytest.raises(JobFailed) as caught:
        job.wait()
    assert (caught.value.line, caught.value.column) == (number, "id")
    return job, path, number, good


@pytest.mark.sample(2)
@pytest.mark.parametrize("where", ["here", "elsewhere"])
@pytest.mark.parametrize(
    "mend",
    [lambda good: good, lambda good: "7" + good[5:], lambda good: good + " and some more words",
     lambda good: good + "\n" + "1,2,2013-01-01,one more"],
    ids=["same length", "shorter", "longer", "one row more"],
)  # fmt: skip
def test_the_mended_file_completes_with_its_very_rows(
    mend, where, failed, workspace, another_workspace, look
):
    """Mended to any length, here or in another process, the table has exactly the file's rows."""
    job, path, number, good = failed
    assert 0 < look.ledger(job.id)[1] < 40_000
    replace_line(path, number, mend(good))
    taker = workspace if where == "here" else another_workspace()
    again = taker.upload(path, "t", types=TYPES)
    assert again.id == job.id
    receipt = again.wait()
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")
    assert receipt.rows_loaded == look.contents("t")[0] == look.ledger(job.id)[1]
    assert receipt.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert receipt.bytes == path.stat().st_size
    assert "source" in set(job.events().kind)


def test_unmended_it_fails_again_at_the_same_line(failed, workspace, look):
    """The same call without mending fails again, and loads nothing twice."""
    _, path, number, good = failed
    for _ in range(2):
        with pytest.raises(JobFailed) as caught:
            workspace.upload(path, "t", types=TYPES).wait()
        assert caught.value.line == number
    replace_line(path, number, good)
    assert workspace.upload(path, "t", types=TYPES).wait().rows_loaded == 40_000


def test_two_faults_are_mended_one_after_the_other(failed, workspace, look):
    """A second fault further on stops at its line, and is mended likewise."""
    _, path, number, good = failed
    last = path.read_bytes().count(b"\n")
    replace_line(path, number, good)
    with path.open("ab") as file:
        file.write(b"bad,1,2013-01-01,x\n")
    with pytest.raises(JobFailed) as caught:
        workspace.upload(path, "t", types=TYPES).wait()
    assert caught.value.line == last + 1
    replace_line(path, last + 1, "5,1,2013-01-01,now it is good")
    assert workspace.upload(path, "t", types=TYPES).wait().rows_loaded == 40_001
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


def test_a_loaded_part_that_was_edited_is_refused(failed, workspace, look):
    """An edit in what is loaded is refused, saying which bytes and lines; undone, it completes."""
    _, path, number, good = failed
    replace_line(path, number, good)
    lines = path.read_bytes().split(b"\n")
    second = lines[1].decode()
    replace_line(path, 2, second.replace("2013", "2014", 1).replace("note", "nota", 1))
    with pytest.raises(
        JobFailed, match=r"loaded already, bytes [\d,]+ to [\d,]+ \(from line \d+ on\)"
    ) as caught:
        workspace.upload(path, "t", types=TYPES).wait()
    assert type(caught.value.__cause__).__name__ == "SourceChanged"
    assert not look.exists("t")
    replace_line(path, 2, second)
    assert workspace.upload(path, "t", types=TYPES).wait().rows_loaded == 40_000


def test_a_mended_header_is_refused(failed, workspace):
    """Another header is another file: refused, saying so."""
    path = failed[1]
    replace_line(path, 1, "id,amount,day,remark")
    with pytest.raises(JobFailed, match="header"):
        workspace.upload(path, "t", types=TYPES).wait()


def test_a_loaded_row_taken_out_of_equal_ones_is_never_a_wrong_count(workspace, csv_file, look):
    """In a file of equal rows, rows taken out beside the bad one end in a refusal or the truth."""
    rows = ["1234567,x"] * 100_000
    path = csv_file("a,b", *rows, "bad4567,x", *rows)
    job = workspace.upload(path, "t", types={"a": "integer"}, max_rate=2e6, workers=2)
    with pytest.raises(JobFailed):
        job.wait()
    csv_file("a,b", *rows[:-60_000], *rows)
    refused = None
    try:
        workspace.upload(path, "t", types={"a": "integer"}).wait()
    except JobFailed as failed:
        refused = type(failed.__cause__).__name__
    if refused is None:
        assert look.contents("t")[0] == 140_000
    else:
        assert refused == "SourceChanged"
        assert not look.exists("t")
