"""What workers commit: only under a valid claim, and once where the reply to a COMMIT was lost."""

from __future__ import annotations

import zlib
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from fix_databases import end_store

from taskwidgets.errors import JobFenced, ServerUnreachable, TargetError, TargetExists
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.progress import Meter
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
from taskwidgets.transfers.compression import compressor
from taskwidgets.transfers.export_parts import ExportParts, PartRange
from taskwidgets.transfers.export_ranges import ExportRanges
from taskwidgets.transfers.exporting import Exporting
from taskwidgets.transfers.names import TableName, staging_name
from taskwidgets.transfers.partial_file import OrderedFile, Settled
from taskwidgets.transfers.parts import PartMade
from taskwidgets.transfers.reader import Pieces
from taskwidgets.transfers.segment_batches import StrictSegments
from taskwidgets.transfers.switch import Incomplete, Switch
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
    made = Store(Database(database_url))
    yield made
    end_store(made)


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


def plan_of(**changes):
    """The plan of the file's load."""
    plan = UploadPlan(
        path=Path("f.csv"),
        fingerprint=Fingerprint(len(DATA), 0, ""),
        dialect=Dialect(header=False),
        columns=("a", "b"),
        types={"a": "integer", "b": "text"},
        data_start=0,
        target=TableName("public", "t"),
        if_exists="fail",
    )
    return replace(plan, **changes)


def segments(store, run, base=0):
    """The task that loads segments of a file; its staging table is made."""
    plan = plan_of(base=base)
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
    assert (run.commits, run.meter.snapshot().rows) == (1, 2)


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


# ---------------------------------------------------------------------- the final switch


@pytest.fixture
def loaded(store, run):
    """The one segment of the file is loaded, and counted."""
    task = segments(store, run)
    with closing(task.tool()) as tool:
        task.carry(tool, segment())
    task.count(segment())


def switch(store, run, **changes):
    return Switch(run, store, plan_of(**changes), staging_name(run.job_id), "ab")


def carry_out(task):
    with closing(task.tool()) as tool:
        task.carry(tool, task.take())


@pytest.mark.parametrize("if_exists", ["fail", "replace", "append"])
def test_what_is_loaded_becomes_the_target(store, run, loaded, look, if_exists):
    """The rows are in the target, the job is completed, and the receipt counts them."""
    task = switch(store, run, if_exists=if_exists)
    carry_out(task)
    assert task.done
    assert look("SELECT a, b FROM t ORDER BY a") == [(1, "x"), (2, "y")]
    assert look.staging() == []
    record = store.record(run.job_id)
    assert (record.state, record.receipt) == (State.COMPLETED, task.receipt)
    assert (task.receipt.rows_read, task.receipt.rows_loaded) == (2, 2)


def test_rejected_rows_count_as_read(store, run, loaded):
    """The receipt's rows are those that were read: loaded and rejected ones."""
    run.meter.add(0, 0, 3)
    receipt = switch(store, run).receipt
    assert (receipt.rows_read, receipt.rows_loaded, receipt.rows_rejected) == (5, 2, 3)


@pytest.mark.parametrize(("size", "rows"), [(0, 1), (1, 0), (4, 1)])
def test_what_a_crashed_server_has_lost_is_not_published(store, run, loaded, look, size, rows):
    """Where checkpoints have fewer bytes or rows than were counted, the target is not made."""
    look(
        "UPDATE taskwidgets.checkpoints SET to_byte = to_byte - %s, rows = rows - %s",
        (size, rows),
    )
    with pytest.raises(Incomplete):
        carry_out(switch(store, run))
    assert not look.exists("t")
    assert store.record(run.job_id).state is State.RUNNING


def test_a_table_that_has_come_meanwhile_is_not_replaced(store, run, loaded, look):
    """Unless that was asked for: TargetExists, and the table is as it was."""
    look("CREATE TABLE t AS SELECT 7 AS a")
    with pytest.raises(TargetExists, match="has come into being meanwhile"):
        carry_out(switch(store, run))
    assert look.rows("t") == [(7,)]
    carry_out(switch(store, run, if_exists="replace"))
    assert look.rows("t") == [(1, "x"), (2, "y")]


def test_rows_that_a_trigger_holds_back_are_told(store, run, loaded, look):
    """Of an append either all rows arrive, or none and TargetError."""
    look("CREATE TABLE t (a int, b text)")
    look(
        "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.a = 1 THEN RETURN NULL; END IF; RETURN NEW; END'"
    )
    look("CREATE TRIGGER skip BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION skip()")
    with pytest.raises(TargetError, match="of 2 rows, 1 arrived"):
        carry_out(switch(store, run, if_exists="append"))
    assert look.rows("t") == []


def test_after_a_lost_reply_the_switch_is_looked_for(store, run, loaded):
    """It is found done after its COMMIT, and not done before it."""
    task = switch(store, run)
    with closing(task.tool()) as tool:
        assert not task.is_done(tool, "switch")
        carry_out(switch(store, run))
        assert task.is_done(tool, "switch")
    assert task.done


def test_a_job_that_was_taken_is_not_completed(store, run, loaded, look, taken):
    """Without a valid claim the target is not made: JobFenced."""
    taken()
    with pytest.raises(JobFenced):
        carry_out(switch(store, run))
    assert not look.exists("t")


# ---------------------------------------------------------------------- ranges of one file


def written(*settled):
    """A file that is written up to here."""
    return SimpleNamespace(settled=Settled(*settled), sync=lambda: None)


def ranges(store, run, file):
    """The task that writes ranges into one file."""
    return ExportRanges(
        store=store,
        run=run,
        copies=SimpleNamespace(of=lambda start, stop: None, learn=lambda size, rows: None),
        reader=None,
        compressor=lambda: compressor(Path("f.csv")),
        file=file,
        blocks=range(0, 100),
        saved=0,
        count_rows=False,
        keep_alive=lambda: None,
        check=lambda: None,
    )


def test_each_checkpoint_of_a_file_says_what_is_new(store, run):
    """Bytes and rows since the one before, the checksum of all, and the block that comes next."""
    task = ranges(store, run, written(100, 7, 10, 8))
    task.checkpoint()
    task._file.settled = Settled(150, 8, 25, 12)
    task.checkpoint()
    task.checkpoint()  # nothing is new
    assert ledger(store, run) == [Checkpoint(0, 100, 10, 7, 8), Checkpoint(100, 150, 15, 8, 12)]
    assert run.commits == 2


def test_a_checkpoint_whose_reply_was_lost_counts_once(store, run):
    """It is found committed, and not made again."""
    store.loses = True
    ranges(store, run, written(100, 7, 10, 8)).checkpoint()
    assert ledger(store, run) == [Checkpoint(0, 100, 10, 7, 8)]
    assert run.commits == 1


def test_a_file_of_a_job_that_was_taken_gets_no_checkpoint(store, run, taken):
    """Without a valid claim nothing is recorded, and the export learns of it: JobFenced."""
    taken()
    with pytest.raises(JobFenced):
        ranges(store, run, written(100, 7, 10, 8)).checkpoint()
    assert ledger(store, run) == []
    assert run.commits == 0


class Broken:
    """A reader that breaks off in the middle of what it is asked for first."""

    def __init__(self):
        self.breaks = True

    def read(self, copy):
        def pieces():
            yield b"1,x\n2,"
            if self.breaks:
                self.breaks = False
                raise ServerUnreachable("gone")
            yield b"y\n"
            return 2

        return Pieces(pieces())


def test_what_a_broken_range_has_sent_is_not_in_the_file(store, run, tmp_path):
    """A range that broke off and is read again stands in the file once."""
    path = tmp_path / "f.partial"
    file = OrderedFile(path, 0, 0, lambda: False)
    task, tool = ranges(store, run, file), Broken()
    batch = task.take()
    with closing(file):
        with pytest.raises(ServerUnreachable):
            task.carry(tool, batch)
        task.carry(tool, batch)
        task.checkpoint()
    assert path.read_bytes() == DATA
    assert ledger(store, run) == [Checkpoint(0, len(DATA), 2, zlib.crc32(DATA), batch.stop)]


def test_ranges_leave_no_block_out(store, run):
    """Together they are all blocks, each once, in order."""
    task = ranges(store, run, written(0, 0))
    found = list(iter(task.take, None))
    assert [block for one in found for block in range(one.start, one.stop)] == list(range(100))
    assert [one.number for one in found] == list(range(len(found)))


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
    assert (run.commits, run.meter.snapshot().rows) == (1, 10)
    assert task.take() is None


def test_a_part_whose_reply_was_lost_counts_once(store, run):
    """Its checkpoint is found committed, and not made again."""
    task = parts(store, run)
    store.loses = True
    task.carry(None, task.take())
    assert len(ledger(store, run)) == 1
    assert (run.commits, run.meter.snapshot().rows) == (1, 10)


def test_a_part_of_a_job_that_was_taken_does_not_count(store, run, taken):
    """Without a valid claim the part is not recorded: JobFenced."""
    task = parts(store, run)
    taken()
    with pytest.raises(JobFenced):
        task.carry(None, task.take())
    assert ledger(store, run) == []
    assert (run.commits, run.meter.snapshot().rows) == (0, 0)


# ---------------------------------------------------------------------- exports as a whole


class Export(Exporting):
    """An export of which only what all have in common is looked at."""

    def check(self):
        raise NotImplementedError

    clean_up = _written = _write = _check_whole = _publish = check


def test_a_job_that_was_taken_does_not_open_its_file(store, run, taken):
    """What is written is asked for under the claim, before a file is taken from its new owner."""
    export = Export(store, None, run.job_id, 1)
    assert export._ledger(run) == []
    taken()
    with pytest.raises(JobFenced):
        export._ledger(run)


@pytest.mark.parametrize("rows", [9, 11])
def test_another_number_of_rows_than_was_read_is_not_published(rows):
    """Fewer or more rows than stand in the table: TargetError."""
    Export._check_counts({"rows": 10, "rows_read": 10})
    with pytest.raises(TargetError, match=f"10 rows stand in the table, but {rows} came out"):
        Export._check_counts({"rows": rows, "rows_read": 10})
