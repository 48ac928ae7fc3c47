"""The simulation of the ledger agrees with the real one, and the page with the simulation.

Times are compared by hand. What makes the real ledger slow is counted: statements of a
transaction, rows that merging touches, locks that a segment holds while its rows are copied.
"""

import json
import random
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from fix_scripts import ROOT
from fix_servers import PATIENCE
from sqlalchemy import event, text

from taskwidgets.runtime.store import Claim
from taskwidgets.store import checkpoints
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.merging import MERGE_AFTER, Merger, merge
from taskwidgets.transfers.copy_in import Pieces
from taskwidgets.transfers.remote import Access, Errand, _load
from taskwidgets.transfers.segment_batches import Segments

sys.path.insert(0, str(ROOT / "benchmarks"))

import ledger_recording as real
import ledger_simulation as simulation
from ledger_simulation import Latencies, Ledger, Setting, simulate

WORKERS = 8
TOUCHED = text(
    """
    SELECT seq_tup_read + idx_tup_fetch AS read, n_tup_ins AS inserted, n_tup_del AS deleted
    FROM pg_stat_xact_user_tables WHERE relid = 'taskwidgets.checkpoints'::regclass
    """
)


@contextmanager
def statements(connection):
    """The statements that SQLAlchemy sends meanwhile, without their layout."""
    seen = []

    def note(_connection, _cursor, statement, *_):
        seen.append(" ".join(statement.split()))

    event.listen(connection, "before_cursor_execute", note)
    yield seen
    event.remove(connection, "before_cursor_execute", note)


@pytest.fixture
def as_on_a_cluster(monkeypatch):
    """Has segments loaded by what a cluster's worker calls; a list of each one's statements."""
    seen = []

    def load(segments, connection, segment):
        errand = Errand(
            Access("", ""), "recorded", segments._run.claim, segments._plan, segments._staging,
            segment, merges=len(seen) == 1,
        )  # fmt: skip
        with connection.begin(), statements(connection) as sent:
            segments._loaded[segment.start], _ = _load(connection, errand, segment)
        # That which looks up the columns' types is one for the rows.
        seen.append([one for one in sent if "pg_attribute" not in one])

    monkeypatch.setattr(Segments, "_carry_here", load)
    return seen


# ------------------------------------------------------------------ what is recorded, and counted


def test_what_is_recorded_are_the_statements_of_a_workers_transaction(
    workspace, many_rows, monkeypatch, as_on_a_cluster
):
    """Those of a segment without its rows, in their order; five, and four more that merge."""
    monkeypatch.setattr("taskwidgets.transfers.pace.LARGEST_BATCH", 100_000)
    workspace.upload(many_rows(8_000), "t", workers=1).wait()
    claim, recorded = real.claimed(workspace), []
    with workspace.engine.connect() as connection:
        for index in (0, MERGE_AFTER - 1):
            for before in range(index):  # so that there is something to merge
                real.transact(connection, claim, before)
            with statements(connection) as sent:
                assert real.transact(connection, claim, index) == (index > 0)
            recorded.append(sent)
    assert [len(sent) for sent in recorded] == [5, 9]
    assert len(as_on_a_cluster) > 3
    plain, merging, *others = as_on_a_cluster
    assert plain == recorded[0]
    assert merging == recorded[1]
    assert others == [recorded[0]] * len(others)


def test_the_real_ledger_has_the_simulated_ones_rows(workspace):
    """After each of 256 segments that end in any order: the same ranges, and merged with it."""
    claim, simulated, order, indexes = real.claimed(workspace), Ledger(), random.Random(7), []
    for first in range(0, 4 * MERGE_AFTER, MERGE_AFTER):
        last = first + MERGE_AFTER - 1  # with which the recorded transaction merges
        indexes += [*order.sample(range(first, last), MERGE_AFTER - 1), last]
    early, late = indexes.index(5), indexes.index(150)
    indexes[early], indexes[late] = 150, 5  # a gap, over two mergings
    with workspace.engine.connect() as connection:
        for index in indexes:
            is_due = simulated.is_due()
            assert real.transact(connection, claim, index) == is_due
            simulated.record(index)
            if is_due:
                simulated.merge()
            ledger = checkpoints.committed(connection, claim.job_id)
            connection.rollback()
            found = [(one.start // real.SEGMENT, one.stop // real.SEGMENT) for one in ledger]
            assert found == simulated._rows
    assert found == [(0, 4 * MERGE_AFTER)]
    assert simulated.most == MERGE_AFTER + 3


def test_the_real_ledger_is_merged_as_often_as_the_simulated_one():
    """In the long run; the real one merges with its first checkpoint, too."""
    merger, simulated, number = Merger(1), Ledger(), 100 * (MERGE_AFTER + 1)
    real_ones = sum(merger.is_due() for _ in range(number))
    simulated_ones = sum(simulated.is_due() for _ in range(number))
    assert real_ones == 100
    assert simulated_ones == 101


def pairs(connection, claim, size):
    """A ledger of so many rows, in pairs that follow each other."""
    connection.execute(
        text(
            "INSERT INTO taskwidgets.checkpoints (job_id, from_byte, to_byte, rows, crc32)"
            " SELECT :job_id, n + n / 2, n + n / 2 + 1, 1, 7"
            " FROM generate_series(0, CAST(:last AS bigint)) n"
        ),
        {"job_id": claim.job_id, "last": size - 1},
    )


def at_intervals(step):
    """A ledger of 64 rows that follow each other, and of others that do with a step of 1."""
    return lambda connection, claim, size: real.fill(
        connection, claim, size - 1, step * real.SEGMENT
    )


@pytest.mark.parametrize("size", [256, 2048])
@pytest.mark.parametrize(
    ("fill", "groups", "grouped"),
    [
        (at_intervals(1), lambda _: 1, lambda size: size),
        (at_intervals(2), lambda _: 1, lambda _: MERGE_AFTER),
        (pairs, lambda size: size // 2, lambda size: size),
    ],
    ids=["all", "64", "pairs"],
)
def test_merging_touches_rows_once(workspace, size, fill, groups, grouped):
    """However long the ledger is, each is read once, and once more to be deleted: no square of it.

    What follows nothing stays where it is.
    """
    claim = real.claimed(workspace)
    with workspace.engine.connect() as connection, connection.begin() as transaction:
        fill(connection, claim, size)
        before = connection.execute(TOUCHED).one()
        with statements(connection) as sent:
            merge(connection, claim.job_id)
        after = connection.execute(TOUCHED).one()
        transaction.rollback()
    read, inserted, deleted = (now - then for now, then in zip(after, before, strict=True))
    assert (inserted, deleted) == (groups(size), grouped(size))
    assert read <= size + deleted
    assert len(sent) <= 4 + groups(size) // 1000  # of rows that are put in, a thousand at once


def test_merging_takes_this_process_time_in_proportion(workspace):
    """For eight times as many rows, 5 to 6 times; the half of it more is no square yet."""
    claim = real.claimed(workspace)
    best = dict.fromkeys((256, 2048), float("inf"))
    for _ in range(3):
        for size in best:
            with workspace.engine.connect() as connection, connection.begin() as transaction:
                at_intervals(1)(connection, claim, size)
                began = time.thread_time()
                merge(connection, claim.job_id)
                best[size] = min(best[size], time.thread_time() - began)
                transaction.rollback()
    assert best[2048] < 1.5 * 8 * best[256]


@pytest.mark.parametrize("where", ["here", "on a cluster"])
def test_nobody_waits_for_the_ledger_while_rows_are_copied(
    where, workspace, look, many_rows, monkeypatch, request
):
    """The simulation lets workers copy all at once: a COPY holds no lock on the ledger or the job.

    Until it ends, the job's row can be changed, another segment recorded, and the ledger merged.
    """
    if where != "here":
        request.getfixturevalue("as_on_a_cluster")
    copying, go_on = threading.Event(), threading.Event()
    read = Pieces.read

    def held(pieces, size):
        copying.set()
        assert go_on.wait(PATIENCE)
        return read(pieces, size)

    monkeypatch.setattr(Pieces, "read", held)
    job = workspace.upload(many_rows(8_000), "t", workers=1)
    try:
        assert copying.wait(PATIENCE)
        epoch = look.one("SELECT epoch FROM taskwidgets.jobs WHERE id = %s", (job.id,))
        with workspace.engine.connect() as other:
            other.execute(text("SET LOCAL lock_timeout = '5s'"))
            assert other.execute(real.CHANGE, {"job_id": job.id}).rowcount == 1
            checkpoints.wait_for_others(other, job.id, 10**9)
            mark = Checkpoint(10**9, 10**9 + 1, 1, 1)
            assert checkpoints.record(other, Claim(job.id, epoch), mark)
            merge(other, job.id)
            assert checkpoints.is_committed(other, job.id, 10**9)
            other.rollback()
    finally:
        go_on.set()
    assert job.wait().rows_loaded == 8_000


# ------------------------------------------------------------------ the simulation by itself

FLAT = Latencies({1: [1.0, 1.0]}, {1: [2.0, 2.0]}, [(64, 1.0), (256, 1.0)], [(64, 1.0), (99, 1)])
# With eight at once, each takes three milliseconds more; to merge four rows more takes one more.
GROWING = Latencies(
    {1: [1.0, 1.0], 8: [4.0, 4.0]}, {1: [2.0, 2.0], 8: [5.0, 5.0]},
    [(64, 1.0), (68, 2.0)], [(64, 1.0), (99, 1)],
)  # fmt: skip


def test_what_is_simulated_adds_up():
    """One worker that waits for nothing takes what its parts take; a kernel bounds all of them."""
    one = simulate(Setting(1, 128, copy=0.1, jitter=0.0), FLAT)
    assert one.seconds == pytest.approx(128 * 0.1 + 126 * 0.001 + 2 * 0.002)
    assert one.rows == 1
    assert one.most_rows == 65
    assert one.ledger == pytest.approx(0.13 / one.seconds)
    # The last segment is cut after 5 s; its copying takes 0.1 +- 20 %.
    many = simulate(Setting(100, 500, copy=0.1, cut=0.01), FLAT)
    assert 5 + 0.08 + 0.001 <= many.seconds <= 5 + 0.12 + 0.002
    assert many.waiting == pytest.approx(1 - 50 / 100 / many.seconds, rel=0.01)
    # Ten at once, of a hundred workers: fifty rounds.
    bound = simulate(Setting(100, 500, copy=0.1, lanes=10, jitter=0.0), FLAT)
    assert bound.most_at_once == 10
    assert 50 * 0.101 <= bound.seconds <= 50 * 0.101 + 500 // MERGE_AFTER * 0.001 + 0.02


def test_what_is_simulated_grows_with_those_at_once():
    """Rounds of eight take what was recorded of eight at once; sixteen take twice as long."""
    assert simulate(Setting(8, 800, 0.01, jitter=0.0), GROWING).seconds == pytest.approx(
        100 * 0.014, rel=0.01
    )
    assert simulate(Setting(16, 800, 0.0, jitter=0.0), GROWING).seconds == pytest.approx(
        50 * 0.008, rel=0.01
    )
    chance = random.Random(7)
    drawn = [GROWING.draw(chance, *given) for given in [(1, None), (2, None), (16, None), (1, 68),
                                                       (8, 68)]]  # fmt: skip
    assert drawn == pytest.approx([0.001, 0.004, 0.008, 0.003, 0.009])


# ------------------------------------------------------------------ one beside the other


@pytest.mark.slow
@pytest.mark.parametrize("copy", [0.0, 0.01])
def test_eight_real_workers_and_eight_simulated_ones(copy, workspace):
    """The rows that they leave and have at the most, whether the ledger is all they do or not.

    Times depend on what else the machine does: ``benchmarks/ledger_simulation.py compare``.
    """
    told = real.record(workspace, WORKERS, 8 * MERGE_AFTER, think=copy, processes=False)
    played = simulate(Setting(WORKERS, 8 * MERGE_AFTER, copy, jitter=0.0), latencies(workspace))
    # One row of all, and those of seven others that were under way, with the gaps they leave.
    for rows in (told.rows, played.rows):
        assert 1 <= rows <= 1 + 2 * (WORKERS - 1)
    assert MERGE_AFTER < played.most_rows <= 2 * MERGE_AFTER + WORKERS


def latencies(workspace):
    """What this machine takes, now: few transactions of few workers."""
    rounds = {one: real.record(workspace, one, 260, processes=False) for one in (1, 2, 4, WORKERS)}
    return Latencies(
        {level: real.quantiles(one.plain) for level, one in rounds.items()},
        {level: real.quantiles(one.merging) for level, one in rounds.items()},
        real.merging_by_rows(workspace, (64, 256)),
        real.reading_by_rows(workspace, (64, 256)),
    )


def test_the_page_has_what_the_recorded_latencies_give():
    """docs/explanation/scale.md shows this very table."""
    told = json.loads(simulation.LATENCIES.read_text(encoding="utf-8"))
    table = simulation.as_markdown(simulation.table(Latencies.read(told)))
    page = simulation.PAGE.read_text(encoding="utf-8")
    assert table in page
    assert simulation.recorded(told) in page
    assert told["machine"] in page
    assert told["date"] in page
