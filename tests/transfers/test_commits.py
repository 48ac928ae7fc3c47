"""What workers commit: only under a valid claim, and once where the reply to a COMMIT was lost."""

from __future__ import annotations

import zlib
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from taskwidgets.errors import JobFenced, ServerUnreachable
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import checkpoints, database
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.dialect import Dialect
from taskwidgets.tabular.segments import Segment
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.transfers import tables
from taskwidgets.transfers.export_parts import ExportParts, PartRange
from taskwidgets.transfers.export_ranges import ExportRanges
from taskwidgets.transfers.names import TableName, staging_name
from taskwidgets.transfers.partial_file import Settled
from taskwidgets.transfers.parts import PartMade
from taskwidgets.transfers.segment_batches import StrictSegments
from taskwidgets.transfers.upload_plan import UploadPlan

DATA = b"1,x\n2,y\n"


class Store(PostgresJobStore):
    """A store that can lose the reply to its next COMMIT."""

    loses = False

    @contextmanager
    def in_transaction(self):
        with super().in_transaction() as connection:
            yield connection
        if self.loses:
            self.loses = False
            raise ServerUnreachable("the reply was lost")


@pytest.fixture
def store(database_url, monkeypatch):
    monkeypatch.setattr(database, "FIRST_RETRY", 0.0)
    known = Database(database_url)
    yield Store(known)
    known.dispose()


class Meter:
    """Adds up what it is told."""

    def __init__(self):
        self.rows = 0

    def add(self, done, rows, rejected=0):
        self.rows += rows


@pytest.fixture
def run(store):
    """A job that runs, as its work sees it; ``commits`` counts what it was told of."""
    spec = JobSpec("key", "upload", "job", "f.csv", "public.t", {}, {})
    job = store.create(spec, lambda connection, job_id: None)
    made = SimpleNamespace(
        job_id=job.id,
        claim=store.claim(job.id, State.RUNNING, "test", Control()),
        control=Control(),
        meter=Meter(),
        say=lambda text: None,
        commits=0,
    )

    def checkpointed():
        made.commits += 1

    made.checkpointed = checkpointed
    return made


@pytest.fixture
def taken(look):
    """Has another process take the job."""
    return lambda: look("UPDATE taskwidgets.jobs SET epoch = epoch + 1")


def ledger(store, run):
    with store.database.begin() as connection:
        return checkpoints.committed(connection, run.job_id)


# ---------------------------------------------------------------------- segments


def segments(store, run, base=0):
    """The task that loads segments of a file; its staging table is made."""
    plan = UploadPlan(
        path=Path("f.csv"),
        fingerprint=Fingerprint(len(DATA), 0, ""),
        dialect=Dialect(header=False),
        columns=("a", "b"),
        types={"a": "integer", "b": "text"},
        data_start=0,
        target=TableName("public", "t"),
        if_exists="fail",
        base=base,
    )
    with store.in_transaction() as connection:
        tables.create_staging(connection, staging_name(run.job_id), plan.columns, plan.types)
    return StrictSegments(run, store, plan, staging_name(run.job_id), None, None)


def segment(start=0):
    return Segment(start, start + len(DATA), 2, DATA, zlib.crc32(DATA), 2)


def test_a_segment_and_its_checkpoint_are_committed_together(store, run, look):
    """The rows are in the staging table, and the checkpoint says so; then they are counted."""
    task = segments(store, run)
    with closing(task.tool()) as tool:
        task.carry(tool, segment())
        task.count(segment())
    assert ledger(store, run) == [Checkpoint(0, len(DATA), 2, zlib.crc32(DATA))]
    assert look.contents("taskwidgets", staging_name(run.job_id).table)[0] == 2
    assert (run.commits, run.meter.rows) == (1, 2)


def test_a_segment_of_a_job_that_was_taken_is_not_loaded(store, run, look, taken):
    """Without a valid claim there are neither rows nor a checkpoint: JobFenced."""
    task = segments(store, run)
    taken()
    with closing(task.tool()) as tool, pytest.raises(JobFenced):
        task.carry(tool, segment())
    assert ledger(store, run) == []
    assert look.contents("taskwidgets", staging_name(run.job_id).table)[0] == 0


def test_of_several_files_each_is_asked_for_its_own_segments(store, run):
    """Whether a segment is committed is asked by where its file stands among the others."""
    first, second = segment(), segment(len(DATA))
    task = segments(store, run, base=1 << 40)
    with store.in_transaction() as connection:  # the first file's
        mark = Checkpoint(first.start, first.stop, 2, first.crc32)
        assert checkpoints.record(connection, run.claim, mark)
    with closing(task.tool()) as tool:
        assert not task.is_done(tool, first)
        task.carry(tool, second)
        assert task.is_done(tool, second)
        assert not task.is_done(tool, first)


# ---------------------------------------------------------------------- ranges of one file


def ranges(store, run, settled):
    """The task that writes ranges into one file, which is written up to here."""
    return ExportRanges(
        store=store,
        run=run,
        copies=None,
        reader=None,
        compressor=None,
        file=SimpleNamespace(settled=settled, sync=lambda: None),
        blocks=range(0, 100),
        saved=0,
        count_rows=False,
        keep_alive=lambda: None,
        check=lambda: None,
    )


def test_each_checkpoint_of_a_file_says_what_is_new(store, run):
    """Bytes and rows since the one before, the checksum of all, and the block that comes next."""
    task = ranges(store, run, Settled(100, 7, 10, 8))
    task.checkpoint()
    task._file.settled = Settled(150, 8, 25, 12)
    task.checkpoint()
    task.checkpoint()  # nothing is new
    assert ledger(store, run) == [Checkpoint(0, 100, 10, 7, 8), Checkpoint(100, 150, 15, 8, 12)]
    assert run.commits == 2


def test_a_checkpoint_whose_reply_was_lost_counts_once(store, run):
    """It is found committed, and not made again."""
    store.loses = True
    ranges(store, run, Settled(100, 7, 10, 8)).checkpoint()
    assert ledger(store, run) == [Checkpoint(0, 100, 10, 7, 8)]
    assert run.commits == 1


def test_a_file_of_a_job_that_was_taken_gets_no_checkpoint(store, run, taken):
    """Without a valid claim nothing is recorded, and the export learns of it: JobFenced."""
    taken()
    with pytest.raises(JobFenced):
        ranges(store, run, Settled(100, 7, 10, 8)).checkpoint()
    assert ledger(store, run) == []
    assert run.commits == 0


# ---------------------------------------------------------------------- parts of a folder


MADE = PartMade("part-0.csv.gz", rows=10, bytes=40, crc32=7, sha256="ab", read=100)


def parts(store, run):
    """The task that writes one part; what writes it says that it is made."""
    return ExportParts(
        store=store,
        run=run,
        missing=[PartRange(0, 0, 8)],
        order=lambda batch: None,
        hands=SimpleNamespace(make=lambda tool, order: MADE),
        learn=lambda size, rows: None,
        count_rows=True,
        keep_alive=lambda: None,
        check=lambda: None,
    )


def test_a_checkpoint_of_a_part_says_which_file_it_is(store, run):
    """Its blocks and rows, and the file's name, size and checksums."""
    task = parts(store, run)
    task.carry(None, task.take())
    file = {"name": "part-0.csv.gz", "bytes": 40, "sha256": "ab"}
    assert ledger(store, run) == [Checkpoint(0, 8, 10, 7, file=file)]
    assert (run.commits, run.meter.rows) == (1, 10)
    assert task.take() is None


def test_a_part_whose_reply_was_lost_counts_once(store, run):
    """Its checkpoint is found committed, and not made again."""
    task = parts(store, run)
    store.loses = True
    task.carry(None, task.take())
    assert len(ledger(store, run)) == 1
    assert (run.commits, run.meter.rows) == (1, 10)


def test_a_part_of_a_job_that_was_taken_does_not_count(store, run, taken):
    """Without a valid claim the part is not recorded: JobFenced."""
    task = parts(store, run)
    taken()
    with pytest.raises(JobFenced):
        task.carry(None, task.take())
    assert ledger(store, run) == []
    assert (run.commits, run.meter.rows) == (0, 0)
