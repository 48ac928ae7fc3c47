"""A source that is rewritten in place and gets its old time back, as by ``rsync --inplace -t``."""

import gzip
import hashlib
import os

import pytest
from fix_files import write_many
from fix_servers import wait_until

from taskwidgets import JobFailed

ROWS = 6000
RATE = 1e5  # bytes per second: the file then takes some seconds


def rewrite(path, data):
    """Other bytes, as many as before, in the same inode, with the same time of modification."""
    facts = path.stat()
    assert len(data) == facts.st_size
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (facts.st_size, facts.st_mtime_ns)


def other_digits(data, start, stop):
    """The data with other digits in the bytes of a range; everything else is the same."""
    table = bytes.maketrans(b"0123456789", b"1234567890")
    return data[:start] + data[start:stop].translate(table) + data[stop:]


@pytest.fixture
def path(tmp_path):
    return write_many(tmp_path / "many.csv", ROWS)


@pytest.fixture
def begin(workspace):
    """A function that begins a load, and returns when some rows are in."""

    def make(source, **options):
        job = workspace.upload(source, "t", max_rate=RATE, **options)
        wait_until(lambda: job.progress.rows > 0)
        return job

    return make


def test_rows_that_are_loaded_already(begin, path, look):
    """While the job runs: nothing is put into the table, and the message names the file."""
    job = begin(path)
    data = path.read_bytes()
    rewrite(path, other_digits(data, data.index(b"\n") + 1, 2000))
    job.max_rate = None
    with pytest.raises(JobFailed, match=r"many\.csv was changed while it was loaded"):
        job.wait(60)
    assert not look.exists("t")


def test_one_of_several_files(begin, path, tmp_path, look):
    """The file that was changed is named."""
    second = write_many(tmp_path / "second.csv", 500)
    job = begin([path, second])
    data = path.read_bytes()
    rewrite(path, other_digits(data, data.index(b"\n") + 1, 2000))
    job.max_rate = None
    with pytest.raises(JobFailed, match=r"many\.csv was changed while it was loaded"):
        job.wait(60)
    assert not look.exists("t")


@pytest.mark.parametrize("packed", [False, True])
def test_while_the_job_is_paused(begin, path, tmp_path, look, packed):
    """It is not resumed with other bytes in what is loaded."""
    source = path
    if packed:
        source = tmp_path / "many.csv.gz"
        source.write_bytes(gzip.compress(path.read_bytes(), 0))
    job = begin(source)
    job.pause()
    wait_until(lambda: job.state == "paused")
    data = source.read_bytes()
    at = data.index(b"\n") + 1
    rewrite(source, other_digits(data, at, at + 2000))
    job.max_rate = None
    job.resume()
    with pytest.raises(JobFailed):
        job.wait(60)
    assert not look.exists("t")


@pytest.mark.parametrize("packed", [False, True])
def test_the_same_bytes_with_another_inode_are_no_change(begin, path, tmp_path, look, packed):
    """A new mode, a copy with the old times, a pause: the job completes with the file's hash."""
    source = path
    if packed:
        source = tmp_path / "many.csv.gz"
        source.write_bytes(gzip.compress(path.read_bytes()))
    job = begin(source)
    facts, data = source.stat(), source.read_bytes()
    source.chmod(0o600)
    job.pause()
    wait_until(lambda: job.state == "paused")
    source.unlink()
    source.write_bytes(data)
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    job.max_rate = None
    job.resume()
    source.chmod(0o640)
    receipt = job.wait(60)
    assert receipt.sha256 == hashlib.sha256(data).hexdigest()
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")


def test_a_finished_job_is_not_the_rewritten_file_s(workspace, path, look):
    """The same call then loads the new bytes, where it may."""
    first = workspace.upload(path, "t", if_exists="replace")
    first.wait(60)
    data = path.read_bytes()
    rewrite(path, other_digits(data, data.index(b"\n") + 1, 2000))
    second = workspace.upload(path, "t", if_exists="replace")
    second.wait(60)
    assert second.id != first.id
    look.copy(path, "truth", "t")
    assert look.contents("t") == look.contents("truth")
