"""The ledger of a long job stays short, and says the same."""

from __future__ import annotations

import itertools
import os
import random
import zlib

import pytest
from sqlalchemy import create_engine

from taskwidgets.store import checkpoints, merging
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.merging import merge
from taskwidgets.tabular.ranges import covered
from taskwidgets.transfers import pace


@pytest.fixture
def job(workspace, csv_file):
    """The id of a finished job, whose ledger is replaced."""
    job = workspace.upload(csv_file("a", "1"), "t")
    job.wait()
    return job.id


@pytest.fixture
def connection(workspace, job):
    """A transaction that comes to nothing."""
    engine = create_engine(workspace.engine.url)
    with engine.connect() as connection:
        checkpoints.forget(connection, job)
        yield connection
        connection.rollback()
    engine.dispose()


def entries(look, job):
    return look.one("SELECT count(*) FROM taskwidgets.checkpoints WHERE job_id = %s", (job.id,))


def put(connection, job, *entries):
    for entry in entries:
        connection.exec_driver_sql(
            "INSERT INTO taskwidgets.checkpoints"
            " (job_id, from_byte, to_byte, rows, crc32, to_block, rejected)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (job, entry.start, entry.stop, entry.rows, entry.crc32, entry.to_block, entry.rejected),
        )


def test_ranges_that_follow_each_other_become_one(connection, job):
    """The same bytes, rows, rejects, and the CRC-32 of all of them; a gap stays a gap."""
    data = os.urandom(10_000)
    numbers = random.Random(7)
    cuts = [0, *sorted(numbers.sample(range(1, 10_000), 40)), 10_000]
    pieces = [*itertools.pairwise(cuts)]
    left_out = pieces.pop(17)
    numbers.shuffle(pieces)
    put(
        connection,
        job,
        *(Checkpoint(a, b, b - a, zlib.crc32(data[a:b]), None, 1) for a, b in pieces),
    )
    merge(connection, job)
    found = checkpoints.committed(connection, job)
    assert [(one.start, one.stop) for one in found] == [(0, left_out[0]), (left_out[1], 10_000)]
    for one in found:
        assert one.crc32 == zlib.crc32(data[one.start : one.stop])
        assert one.rows == one.stop - one.start
    assert sum(one.rejected for one in found) == 40
    assert checkpoints.is_committed(connection, job, pieces[3][0])  # in the middle of one
    assert not checkpoints.is_committed(connection, job, left_out[0])
    told = checkpoints.summary(connection, job)
    assert (told["checkpoints"], told["bytes"]) == (40, 10_000 - (left_out[1] - left_out[0]))
    put(connection, job, Checkpoint(*left_out, 1, zlib.crc32(data[slice(*left_out)])))
    merge(connection, job)
    (whole,) = checkpoints.committed(connection, job)
    assert whole.crc32 == zlib.crc32(data)
    assert checkpoints.summary(connection, job)["checkpoints"] == 41


def test_those_of_a_download_keep_the_last_crc(connection, job):
    """There, a CRC-32 is that of the file up to there, and the last block counts."""
    put(
        connection,
        job,
        Checkpoint(0, 10, 1, 111, 4),
        Checkpoint(10, 30, 2, 222, 8),
        Checkpoint(30, 31, 3, 333, 9),
    )
    merge(connection, job)
    assert checkpoints.committed(connection, job) == [Checkpoint(0, 31, 6, 333, 9)]


def test_work_of_before_the_claim_stays_apart(connection, job):
    """What a job did since it was resumed last is told of by itself."""
    put(connection, job, Checkpoint(0, 10, 1, 1), Checkpoint(10, 20, 1, 2))
    connection.exec_driver_sql(
        "UPDATE taskwidgets.checkpoints SET at = at - interval '1 day' WHERE job_id = %s", (job,)
    )
    put(connection, job, Checkpoint(20, 30, 1, 3), Checkpoint(30, 40, 1, 4))
    merge(connection, job)
    found = [(one.start, one.stop) for one in checkpoints.committed(connection, job)]
    assert found == [(0, 20), (20, 40)]
    assert checkpoints.summary(connection, job)["checkpoints"] == 2


def test_a_neighbour_that_is_not_merged_stays(connection, job):
    """A single segment of the newest work is kept when those before it are merged."""
    put(connection, job, Checkpoint(0, 10, 1, 1), Checkpoint(10, 20, 1, 2))
    connection.exec_driver_sql(
        "UPDATE taskwidgets.checkpoints SET at = at - interval '1 day' WHERE job_id = %s", (job,)
    )
    put(connection, job, Checkpoint(20, 30, 1, 3))
    merge(connection, job)
    found = [(one.start, one.stop) for one in checkpoints.committed(connection, job)]
    assert found == [(0, 20), (20, 30)]


def test_a_long_load_leaves_few_checkpoints(workspace, tmp_path, look, monkeypatch):
    """Paused and resumed on the way: a handful of entries at the end, and all rows once."""
    monkeypatch.setattr(pace, "SMALLEST_BATCH", 2_000)
    monkeypatch.setattr(pace, "LARGEST_BATCH", 2_000)
    monkeypatch.setattr(merging, "MERGE_AFTER", 8)
    path = tmp_path / "long.csv"
    path.write_text("a,b\n" + "".join(f"{n},text {n}\n" for n in range(60_000)))
    job = workspace.upload(path, "long", workers=2, max_rate=5e5)
    most = 0
    for turn in range(1, 4):
        while job.progress.rows < turn * 1_000 and job.state == "running":
            most = max(most, entries(look, job))
        job.pause()
        while job.state not in ("paused", "completed"):
            most = max(most, entries(look, job))
        assert job.state == "paused"
        job.resume()
    job.max_rate = None
    receipt = job.wait()
    assert receipt.rows_loaded == 60_000
    segments, rows = look.ledger(job.id)
    assert rows == 60_000
    assert segments > 200
    assert max(most, entries(look, job)) < 40
    assert look.one("SELECT count(*) FROM long") == 60_000
    with create_engine(workspace.engine.url).connect() as connection:
        found = checkpoints.committed(connection, job.id)
    assert covered((one.start, one.stop) for one in found) == path.stat().st_size - len("a,b\n")


def test_of_two_merges_at_once_one_does_nothing_and_does_not_wait(workspace, job, connection):
    """While one is under way, another one leaves all as it is; a later one has all of them."""
    put(connection, job, *(Checkpoint(at, at + 10, 1, 1) for at in range(10, 50, 10)))
    connection.commit()
    put(connection, job, Checkpoint(0, 10, 1, 1))
    merge(connection, job)
    engine = create_engine(workspace.engine.url)
    with engine.begin() as other:
        other.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
        put(other, job, Checkpoint(50, 60, 1, 1))
        merge(other, job)
        found = [(one.start, one.stop) for one in checkpoints.committed(other, job)]
        assert found == [(at, at + 10) for at in range(10, 60, 10)]
    connection.commit()
    with engine.begin() as last:
        found = [(one.start, one.stop) for one in checkpoints.committed(last, job)]
        assert found == [(0, 50), (50, 60)]
        assert checkpoints.totals(last, job) == (60, 6)
        merge(last, job)
        assert len(checkpoints.committed(last, job)) == 1
        checkpoints.forget(last, job)
    engine.dispose()


def test_what_another_transaction_has_locked_is_left_alone(workspace, job, connection):
    """Entries on both sides of a locked one do not become one across it."""
    put(connection, job, *(Checkpoint(at, at + 10, 1, 1) for at in range(0, 50, 10)))
    connection.commit()
    connection.exec_driver_sql(
        "SELECT FROM taskwidgets.checkpoints WHERE job_id = %s AND from_byte = 20 FOR UPDATE",
        (job,),
    )
    engine = create_engine(workspace.engine.url)
    with engine.begin() as other:
        merge(other, job)
        found = [(one.start, one.stop) for one in checkpoints.committed(other, job)]
        assert found == [(0, 20), (20, 30), (30, 50)]
    connection.commit()
    checkpoints.forget(connection, job)
    connection.commit()
    engine.dispose()


def test_what_is_shifted_keeps_what_it_says(connection, job):
    """Moved by less than a segment's length, up and down; how many it stands for, and when."""
    put(connection, job, *(Checkpoint(at, at + 10, 1, at) for at in range(0, 50, 10)))
    merge(connection, job)
    put(connection, job, Checkpoint(60, 70, 1, 5), Checkpoint(70, 80, 1, 6))
    for by in (3, -5):
        checkpoints.shift(connection, job, 55, by)
    found = [(one.start, one.stop) for one in checkpoints.committed(connection, job)]
    assert found == [(0, 50), (58, 68), (68, 78)]
    checkpoints.shift(connection, job, 0, 7, 50)
    assert checkpoints.committed(connection, job)[0].start == 7
    assert checkpoints.summary(connection, job)["checkpoints"] == 7


def test_of_several_files_the_shift_ends_with_the_mended_one(connection, job):
    """Segments from ``stop`` on stay where they are; those that move keep their rejects."""
    put(connection, job, Checkpoint(0, 10, 1, 7, None, 2), Checkpoint(100, 110, 1, 7, None, 3))
    checkpoints.shift(connection, job, 0, 5, 100)
    found = [(one.start, one.stop, one.rejected) for one in checkpoints.committed(connection, job)]
    assert found == [(5, 15, 2), (100, 110, 3)]


def test_a_segment_behind_a_committed_one_is_not_committed(connection, job):
    """Of a committed range its first byte is committed, and the byte behind its last is not."""
    put(connection, job, Checkpoint(10, 20, 1, 7))
    asked = [checkpoints.is_committed(connection, job, start) for start in (9, 10, 19, 20)]
    assert asked == [False, True, True, False]
