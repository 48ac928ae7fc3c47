"""What is loaded of a file that was written anew: it still has to stand there, or further on."""

from __future__ import annotations

import zlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from fix_databases import end_store

from taskwidgets.errors import SourceChanged
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.transfers.mending import check_source
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.upload_plan import UploadPlan

HEADER = b"a,b\n"
ROWS = [b"%03d,row %d\n" % (number, number) for number in range(100)]
LOADED = [(0, 20), (20, 30), (60, 100)]  # rows; those between are missing
FAILED, PAUSED = (State.FAILED,), (State.PAUSING, State.PAUSED)


def place(row):
    """The byte of the file at which a row begins."""
    return len(HEADER) + sum(map(len, ROWS[:row]))


@pytest.fixture
def store(database_url):
    """A store of this process's own."""
    made = PostgresJobStore(Database(database_url))
    yield made
    end_store(made)


@pytest.fixture
def path(tmp_path):
    """The file as it was when the job began."""
    made = tmp_path / "f.csv"
    made.write_bytes(HEADER + b"".join(ROWS))
    return made


@pytest.fixture
def rested(store, path):
    """A factory: a job that came to rest by these states, resumed; (run, plan)."""

    def make(*states):
        plan = UploadPlan(
            path=path,
            fingerprint=Fingerprint.of(path),
            dialect=Dialect(),
            columns=("a", "b"),
            types={"a": "text", "b": "text"},
            data_start=len(HEADER),
            target=TableName("public", "t"),
            if_exists="fail",
        )
        spec = JobSpec("key", "upload", "job", str(path), "public.t", {}, plan.to_json())
        job = store.create(spec, lambda connection, job_id: None)
        claim = store.claim(job.id, State.RUNNING, "test", Control())
        data = path.read_bytes()
        with store.in_transaction() as connection:
            for first, last in LOADED:
                start, stop = place(first), place(last)
                mark = Checkpoint(start, stop, last - first, zlib.crc32(data[start:stop]))
                assert checkpoints.record(connection, claim, mark)
        for state in states:
            store.move(claim, state, "test")
        store.release(claim)
        claim = store.claim(job.id, State.RUNNING, "test", Control())
        run = SimpleNamespace(job_id=job.id, claim=claim, note=lambda *_: None)
        return run, plan

    return make


def ledger(store, run):
    with store.in_transaction() as connection:
        return [(one.start, one.stop) for one in checkpoints.committed(connection, run.job_id)]


def write(path, changes):
    """The file with some rows replaced, at another time."""
    rows = [changes.get(number, row) for number, row in enumerate(ROWS)]
    before = path.stat().st_mtime_ns
    path.write_bytes(HEADER + b"".join(rows))
    assert path.stat().st_mtime_ns != before


@pytest.mark.parametrize("mended", [b"", b"x\n", b"045,a good deal longer than it was\n"])
def test_what_is_loaded_behind_the_mended_row_is_found_further_on(store, path, rested, mended):
    """The checkpoints behind a mended row are moved by what the file grew or shrank."""
    run, plan = rested(*FAILED)
    by = len(mended) - len(ROWS[45])
    write(path, {45: mended})
    settled = check_source(store, run, plan)
    assert settled.fingerprint == Fingerprint.of(path)
    assert store.record(run.job_id).spec.plan == settled.to_json()
    assert ledger(store, run) == [
        (place(0), place(20)),
        (place(20), place(30)),
        (place(60) + by, place(100) + by),
    ]


@pytest.mark.parametrize("row", [0, 25, 99])
@pytest.mark.parametrize("longer", [b"", b"."])
def test_a_row_that_is_loaded_cannot_be_mended(store, path, rested, row, longer):
    """A change of a loaded row is refused, alone or beside another one; nothing is moved."""
    run, plan = rested(*FAILED)
    before = ledger(store, run)
    write(path, {row: ROWS[row].replace(b"row", b"new"), 45: b"045,row 45%s\n" % longer})
    with pytest.raises(SourceChanged, match="in a part that is loaded already"):
        check_source(store, run, plan)
    assert ledger(store, run) == before
    assert store.record(run.job_id).spec.plan == plan.to_json()


@pytest.mark.parametrize("header", [b"b,a\n", b"a,c\n", b'"a",b\n'])
def test_another_header_is_refused(store, path, rested, header):
    """Other names, another order of them, and data that begin at another byte."""
    run, plan = rested(*FAILED)
    path.write_bytes(header + b"".join(ROWS))
    with pytest.raises(SourceChanged, match="header"):
        check_source(store, run, plan)


def test_a_paused_job_goes_on_with_the_same_bytes(store, path, rested):
    """A file that was merely written anew is the same one."""
    run, plan = rested(*PAUSED)
    write(path, {})
    assert check_source(store, run, plan).fingerprint == Fingerprint.of(path)
    assert len(ledger(store, run)) == len(LOADED)


@pytest.mark.parametrize("row", [0, 25, 45, 99])
def test_a_paused_job_refuses_other_bytes(store, path, rested, row):
    """Of the same length, in what is loaded or not."""
    run, plan = rested(*PAUSED)
    write(path, {row: ROWS[row].replace(b"row", b"new")})
    with pytest.raises(SourceChanged, match="not the file any more"):
        check_source(store, run, plan)


@pytest.mark.parametrize("row", [0, 25, 99])
def test_a_paused_job_refuses_other_bytes_between_the_samples(store, path, rested, row):
    """Where the sampled blocks are alike, each loaded segment is compared."""
    run, plan = rested(*PAUSED)
    write(path, {row: ROWS[row].replace(b"row", b"new")})
    blind = replace(plan.fingerprint, sample=Fingerprint.of(path).sample)
    with pytest.raises(SourceChanged, match="not the file any more"):
        check_source(store, run, replace(plan, fingerprint=blind))
