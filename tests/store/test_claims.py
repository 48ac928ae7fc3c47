import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest
from fix_databases import end_store
from fix_servers import plain, wait_until
from fix_tiers import slow

from taskwidgets.errors import IllegalTransition, JobFenced, JobNotFound, JobOwned
from taskwidgets.runtime.control import Control, Wish
from taskwidgets.runtime.faults import UNDOING
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import checkpoints, requests
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.transitions import record_move

# Claims jobs as it is told, one a line, and answers with what came of it.
CLAIMER = """
    import json, sys
    from taskwidgets.errors import JobOwned, IllegalTransition
    from taskwidgets.runtime.control import Control
    from taskwidgets.runtime.states import State
    from taskwidgets.store.database import Database
    from taskwidgets.store.jobs import PostgresJobStore
    store = PostgresJobStore(Database(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        job_id = int(line)
        try:
            claim = store.claim(job_id, State.RUNNING, "race", Control())
            answer = {"epoch": claim.epoch}
        except JobOwned as error:
            answer = {"owned": str(error)}
        print(json.dumps(answer), flush=True)
"""

# The server's process that has a job's lock.
HELD = """
    SELECT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

# The server's process that waits for a row which another one has locked.
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'
"""


def spec(key):
    return JobSpec(key, "upload", f"job {key}", "s.csv", "public.t", {}, {})


@pytest.fixture
def make_store(database_url):
    """A factory of stores, each a session of its own as another process would be.

    ``is_pooled``: it takes the server for one behind a pooler, and holds no lock.
    """
    stores = []

    def make(is_pooled=False):
        database = Database(f"{database_url}&pgbouncer={'true' if is_pooled else 'false'}")
        stores.append(PostgresJobStore(database))
        return stores[-1]

    yield make
    for store in stores:
        end_store(store)


@pytest.fixture
def store(make_store):
    return make_store()


@pytest.fixture
def job(store):
    return store.create(spec("one"), lambda connection, job_id: None)


def write_checkpoint(store, claim, start=0):
    with store.in_transaction() as connection:
        return checkpoints.record(connection, claim, Checkpoint(start, start + 10, 1, 7))


def test_a_claim_raises_the_epoch_and_moves_the_job(store, job):
    """Each claim raises the epoch by one and puts the job into the state asked for."""
    for epoch in (1, 2, 3):
        claim = store.claim(job.id, State.RUNNING, "test", Control())
        record = store.record(job.id)
        assert (claim.epoch, record.epoch, record.state) == (epoch, epoch, State.RUNNING)
        store.move(claim, State.FAILED, "test")
        store.release(claim)


def test_the_owner_is_named_with_host_process_and_since(store, make_store, job):
    """JobOwned names the host, the process and since when; the job stays with its owner."""
    store.claim(job.id, State.RUNNING, "test", Control())
    with pytest.raises(JobOwned) as caught:
        make_store().claim(job.id, State.RUNNING, "test", Control())
    text = str(caught.value)
    since = store.record(job.id).owner.since
    assert f"process {os.getpid()} on {socket.gethostname()}" in text
    assert f"since {since:%Y-%m-%d %H:%M:%S} UTC" in text
    assert caught.value.job_id == job.id
    assert store.record(job.id).epoch == 1


def test_one_process_does_not_own_a_job_twice(store, job):
    """A second claim in the same process is refused, though the server would grant the lock."""
    store.claim(job.id, State.RUNNING, "test", Control())
    with pytest.raises(JobOwned, match="runs in this process already"):
        store.claim(job.id, State.RUNNING, "test", Control())


def test_a_claim_is_made_though_its_connection_breaks_again_and_again(store, job, look):
    """Its session is ended four times while it waits for the job's row; then it has the job."""
    claims = ThreadPoolExecutor(1)
    with psycopg2.connect(plain(look.url)) as other, other.cursor() as cursor:
        cursor.execute("SELECT FROM taskwidgets.jobs WHERE id = %s FOR UPDATE", (job.id,))
        claim = claims.submit(store.claim, job.id, State.RUNNING, "test", Control())
        for _ in range(4):
            wait_until(lambda: look(WAITING) or claim.done())
            look.one(f"SELECT pg_terminate_backend(({WAITING}), 5000)")
    assert claim.result(30).epoch == 1
    assert store.record(job.id).state is State.RUNNING


@pytest.mark.parametrize("races", [60, slow(600)])
def test_of_two_processes_in_the_same_instant_one_owns(store, database_url, script, races):
    """In many races of two processes, exactly one wins each, and the loser names the winner."""
    racers = [script(CLAIMER, database_url) for _ in range(2)]
    for racer in racers:
        assert racer.line() == "ready"
    for number in range(races):
        job = store.create(spec(f"race {number}"), lambda connection, job_id: None)
        for racer in racers:
            racer.say(str(job.id))
        answers = [json.loads(racer.line()) for racer in racers]
        winners = [index for index, answer in enumerate(answers) if "epoch" in answer]
        assert len(winners) == 1
        assert answers[winners[0]] == {"epoch": 1}
        text = answers[1 - winners[0]]["owned"]
        assert f"process {racers[winners[0]].process.pid} on {socket.gethostname()} since" in text


def test_a_killed_owner_is_seen_as_interrupted_at_once(store, database_url, script, job):
    """After SIGKILL of the owner, the first look sees interrupted, and a claim succeeds."""
    owner = script(CLAIMER, database_url)
    assert owner.line() == "ready"
    owner.say(str(job.id))
    assert json.loads(owner.line()) == {"epoch": 1}
    assert store.record(job.id).state is State.RUNNING
    owner.kill()
    wait_until(lambda: store.record(job.id).state is State.INTERRUPTED)
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    assert claim.rested_in is State.INTERRUPTED
    events = store.events(job.id)
    assert list(events.to_state) == ["pending", "running", "interrupted", "running"]
    assert f"process {owner.process.pid}" in events.cause[2]


def test_a_fenced_owner_writes_nothing(store, job, look):
    """With the epoch raised behind its back, an owner writes no checkpoint and no transition."""
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    assert write_checkpoint(store, claim, 0)
    look("UPDATE taskwidgets.jobs SET epoch = epoch + 1")
    assert not write_checkpoint(store, claim, 10)
    for state in (State.PAUSING, State.FAILED, State.COMPLETED, State.TERMINATING):
        with pytest.raises(JobFenced):
            store.move(claim, state, "too late")
    with pytest.raises(JobFenced), store.in_transaction() as connection:
        store.change_plan(connection, claim, {"other": 1})
    with pytest.raises(JobFenced), store.in_transaction() as connection:
        store.lock(connection, claim)
    assert look.ledger(job.id) == (1, 1)
    assert look.state(job.id) == "running"
    assert len(store.events(job.id)) == 2


@pytest.mark.parametrize(("epoch", "start"), [(2, State.RUNNING), (1, State.PAUSING)])
def test_a_move_from_another_epoch_or_state_is_not_made(store, job, epoch, start):
    """record_move() writes neither a state nor an event unless both are as it was told."""
    store.claim(job.id, State.RUNNING, "test", Control())
    with store.in_transaction() as connection:
        assert not record_move(connection, "me", job.id, epoch, start, State.FAILED, "too late")
    assert store.record(job.id).state is State.RUNNING
    assert len(store.events(job.id)) == 2


def test_a_claim_says_where_the_job_rested_last(store, job):
    """The newest of paused, failed and interrupted counts, a refused source left out."""

    def attempt(*states, error=None):
        claim = store.claim(job.id, State.RUNNING, "test", Control())
        for state in states:
            store.move(claim, state, "test", error=error)
        store.release(claim)
        return claim.rested_in

    assert attempt(State.FAILED, error={"type": "SourceError"}) is State.PENDING
    assert attempt(State.PAUSING, State.PAUSED) is State.FAILED
    assert attempt(State.FAILED, error={"type": "SourceChanged"}) is State.PAUSED
    assert attempt() is State.PAUSED


def test_a_job_whose_clean_up_failed_is_only_terminated(store, job):
    """Half of what it made may be gone: it does not run again, and its clean-up does."""
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    store.move(claim, State.TERMINATING, "test")
    store.move(claim, State.INTERRUPTED, "test", error={UNDOING: True})
    store.release(claim)
    with pytest.raises(IllegalTransition, match="was being terminated"):
        store.claim(job.id, State.RUNNING, "test", Control())
    store.claim(job.id, State.TERMINATING, "test", Control())
    assert store.record(job.id).state is State.TERMINATING


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_a_living_owner_keeps_its_job(make_store, first, second):
    """Behind a pooler or not, another process behind one or not does not get the job."""
    owner = make_store(is_pooled=first)
    job = owner.create(spec("one"), lambda connection, job_id: None)
    claim = owner.claim(job.id, State.RUNNING, "test", Control())
    with pytest.raises(JobOwned):
        make_store(is_pooled=second).claim(job.id, State.RUNNING, "test", Control())
    assert owner.record(job.id).epoch == claim.epoch
    assert write_checkpoint(owner, claim)


def test_a_takeover_within_the_process_is_refused(store, job, look):
    """take_over of a job that this process runs itself ends none of its sessions."""
    store.claim(job.id, State.RUNNING, "test", Control())
    (before,) = look("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")
    with pytest.raises(JobOwned, match="runs in this process already"):
        store.claim(job.id, State.RUNNING, "test", Control(), take_over=True)
    assert look("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted") == [before]


def test_a_takeover_ends_the_sessions_of_the_owner_only(store, make_store, look):
    """Of two other processes with jobs, the one whose job is taken loses its sessions."""
    owner, bystander = make_store(), make_store()
    sessions = {}
    for number, one in enumerate((owner, bystander)):
        made = one.create(spec(f"job {number}"), lambda connection, job_id: None)
        one.claim(made.id, State.RUNNING, "test", Control())
        sessions[one] = look(
            "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND objid = %s AND datname = current_database()",
            (made.id,),
        )
    store.claim(1, State.RUNNING, "test", Control(), take_over=True)
    alive = look("SELECT pid FROM pg_stat_activity")
    assert sessions[owner][0] not in alive
    assert sessions[bystander][0] in alive


def test_no_checkpoint_is_written_in_a_state_that_is_not_at_work(store, job, look):
    """Checkpoints are refused once the job is paused, failed or terminating."""
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    store.move(claim, State.PAUSING, "test")
    assert write_checkpoint(store, claim, 0)
    store.move(claim, State.PAUSED, "test")
    assert not write_checkpoint(store, claim, 10)
    assert look.ledger(job.id) == (1, 1)


def test_a_claim_waits_for_the_batch_that_commits_just_now(store, make_store, job, look):
    """A takeover cannot slip between an old owner's checkpoint and its commit."""
    import threading

    claim = store.claim(job.id, State.RUNNING, "test", Control())
    done = threading.Event()
    with store.in_transaction() as connection:
        assert checkpoints.record(connection, claim, Checkpoint(0, 10, 1, 7))
        look("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        other = make_store()
        taken = []

        def take():
            taken.append(other.claim(job.id, State.RUNNING, "takeover", Control()))
            done.set()

        thread = threading.Thread(target=take)
        wait_until(lambda: not look("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"))
        thread.start()
        wait_until(
            lambda: bool(
                look(
                    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND datname = current_database()"
                )
            )
        )
        assert not done.is_set()
    thread.join()
    assert taken[0].epoch == 2
    assert look.ledger(job.id) == (1, 1)
    assert not write_checkpoint(store, claim, 10)


def test_an_owner_whose_job_was_taken_is_told_to_yield(store, make_store, job, look, monkeypatch):
    """When the keeper finds another owner of its job, the work is to yield; the lock is free."""
    monkeypatch.setattr("taskwidgets.store.keeper.HEARTBEAT", 0.05)
    control = Control()
    store.claim(job.id, State.RUNNING, "test", control)
    look("UPDATE taskwidgets.jobs SET owner = jsonb_set(owner, '{session}', '\"other\"')")
    wait_until(lambda: control.wish is Wish.YIELD)
    assert look(HELD) == []  # so that the other one's own lock tells whether it is alive


def test_a_request_is_heard_by_the_owner_alone(make_store, job, look):
    """A process that does not know yet that it was fenced leaves it to the new owner."""
    fenced, owner = make_store(), make_store()
    fenced.claim(job.id, State.RUNNING, "test", Control())
    look(
        "UPDATE taskwidgets.jobs SET owner = jsonb_set(owner, '{session}', to_jsonb(%s::text))",
        (owner.database.session,),
    )
    owner.request(job.id, "pause", "test")
    with owner.in_transaction() as connection:
        assert requests.unanswered(connection, [job.id], fenced.database.session) == []
        (found,) = requests.unanswered(connection, [job.id], owner.database.session)
    assert (found.job_id, found.verb) == (job.id, "pause")


def test_a_keeper_that_lost_its_connection_takes_its_locks_again(
    store, make_store, job, look, monkeypatch
):
    """After its backend was terminated, the keeper holds the lock again and nobody took the job."""
    monkeypatch.setattr("taskwidgets.store.keeper.HEARTBEAT", 0.05)
    control = Control()
    store.claim(job.id, State.RUNNING, "test", control)
    for _ in range(3):
        (before,) = look(HELD)
        look("SELECT pg_terminate_backend(%s)", before)
        wait_until(lambda before=before: look(HELD) not in ([], [before]))
    assert control.wish is Wish.NONE
    with pytest.raises(JobOwned):
        make_store().claim(job.id, State.RUNNING, "test", Control())


def test_a_new_connection_locks_no_job_that_another_process_has_taken(
    store, make_store, job, look, monkeypatch
):
    """A process that comes back for another job keeps nobody from the one that it has lost."""
    monkeypatch.setattr("taskwidgets.store.keeper.HEARTBEAT", 1e6)
    second = store.create(spec("two"), lambda connection, job_id: None)
    store.claim(job.id, State.RUNNING, "test", Control())
    look("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    other = make_store()
    wait_until(lambda: other.record(job.id).state is State.INTERRUPTED)
    claim = other.claim(job.id, State.RUNNING, "test", Control())
    other.move(claim, State.FAILED, "test")
    other.release(claim)
    store.claim(second.id, State.RUNNING, "test", Control())
    assert make_store().claim(job.id, State.RUNNING, "test", Control()).epoch == 3


def test_illegal_moves_are_refused_with_the_state_in_the_text(store, job):
    """A claim or a move that the table forbids raises IllegalTransition and changes nothing."""
    with pytest.raises(IllegalTransition, match="pending and cannot become terminating"):
        store.claim(job.id, State.TERMINATING, "test", Control())
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    with pytest.raises(IllegalTransition, match="is running and cannot become paused"):
        store.move(claim, State.PAUSED, "test")
    assert store.record(job.id).state is State.RUNNING


def test_a_claim_that_failed_leaves_the_lock_free(store, make_store, job):
    """After an illegal claim, others can claim the job."""
    with pytest.raises(IllegalTransition):
        store.claim(job.id, State.TERMINATING, "test", Control())
    assert make_store().claim(job.id, State.RUNNING, "test", Control()).epoch == 1


def test_no_such_job_is_said(store):
    """Looking up and claiming a job that does not exist raise JobNotFound with its number."""
    with pytest.raises(JobNotFound, match="no job 4711") as caught:
        store.record(4711)
    assert caught.value.job_id == 4711
    with pytest.raises(JobNotFound, match="no job 4711"):
        store.claim(4711, State.RUNNING, "test", Control())


def test_every_transition_is_an_event_with_owner_and_cause(store, job):
    """The events hold each move with its states, time, owner and cause, in order."""
    claim = store.claim(job.id, State.RUNNING, "the call", Control())
    store.move(claim, State.PAUSING, "a click")
    store.move(claim, State.PAUSED, "a click")
    store.release(claim)
    claim = store.claim(job.id, State.RUNNING, "again", Control())
    store.move(claim, State.FAILED, "error", error={"message": "no good"})
    events = store.events(job.id)
    moves = zip(events.from_state.astype(object), events.to_state, events.cause, strict=True)
    assert [(start if isinstance(start, str) else None, *rest) for start, *rest in moves] == [
        (None, "pending", "created"),
        ("pending", "running", "the call"),
        ("running", "pausing", "a click"),
        ("pausing", "paused", "a click"),
        ("paused", "running", "again"),
        ("running", "failed", "error"),
    ]
    assert events["at"].is_monotonic_increasing
    assert set(events.owner) == {f"{os.getpid()}@{socket.gethostname()}"}
    assert events.details[5] == {"message": "no good"}


def test_a_failed_move_leaves_no_event(store, job):
    """Row and event are one transaction: a refused move leaves no event."""
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    with pytest.raises(IllegalTransition):
        store.move(claim, State.PAUSED, "test")
    assert len(store.events(job.id)) == 2


def test_a_job_is_not_created_when_its_staging_table_is_not(store, look):
    """What create() prepares and the job's row are one transaction."""

    def prepare(connection, job_id):
        raise RuntimeError("no room")

    with pytest.raises(RuntimeError, match="no room"):
        store.create(spec("two"), prepare)
    assert look.one("SELECT count(*) FROM taskwidgets.jobs") == 0


def test_of_one_key_only_one_job_is_active(store, job):
    """A second active job with the same key is refused; after the end a new one may be made."""
    with pytest.raises(JobOwned, match="same job"):
        store.create(spec("one"), lambda connection, job_id: None)
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    store.move(claim, State.COMPLETED, "test")
    store.release(claim)
    second = store.create(spec("one"), lambda connection, job_id: None)
    assert store.latest("one").id == second.id > job.id


def test_each_stretch_of_work_is_summed_up(store, job, look):
    """Before the transition that ends it, one event says what was committed since the claim."""
    first = store.claim(job.id, State.RUNNING, "test", Control())
    for start in (0, 10, 20):
        write_checkpoint(store, first, start)
    store.move(first, State.PAUSING, "test")
    store.move(first, State.PAUSED, "test")
    store.release(first)
    second = store.claim(job.id, State.RUNNING, "test", Control())
    store.move(second, State.FAILED, "test", error={"message": "nothing was done"})
    store.release(second)
    third = store.claim(job.id, State.RUNNING, "test", Control())
    write_checkpoint(store, third, 30)
    store.move(third, State.COMPLETED, "test")
    events = store.events(job.id)
    summed = events[events.kind == "checkpoint"]
    assert list(summed.cause) == [
        "3 checkpoints: 3 rows, 30 bytes",
        "1 checkpoint: 1 rows, 10 bytes",
    ]
    assert summed.details.iloc[0] == {"checkpoints": 3, "rows": 3, "bytes": 30}
    assert [events.to_state[index + 1] for index in summed.index] == ["paused", "completed"]


def test_the_owner_s_kernel_and_notebook_are_known(script, database_url, store, job):
    """As Jupyter starts a kernel: by the name of its connection file, and with a variable."""
    kernel = "0a1b2c3d-1111-2222-3333-444455556666"
    owner = script(
        CLAIMER,
        database_url,
        "-f",
        f"/run/jupyter/kernel-{kernel}.json",
        JPY_SESSION_NAME="work/flights.ipynb",
    )
    assert owner.line() == "ready"
    owner.say(str(job.id))
    assert json.loads(owner.line()) == {"epoch": 1}
    found = store.record(job.id).owner
    assert (found.kernel, found.notebook) == (kernel, "work/flights.ipynb")
    with pytest.raises(JobOwned, match=r"process \d+ on .* \(work/flights.ipynb\) since"):
        store.claim(job.id, State.RUNNING, "test", Control())
