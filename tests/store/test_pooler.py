"""Behind PgBouncer in transaction mode: all works, more slowly; nothing is left in a session."""

from __future__ import annotations

import json
import os
import resource
import signal
from contextlib import ExitStack, closing

import psycopg2
import pytest
from fix_databases import end_store
from fix_exports import copied
from fix_servers import plain, wait_until
from sqlalchemy.exc import OperationalError

from taskwidgets import JobFailed, JobTerminated, Workspace
from taskwidgets import job as job_decorator
from taskwidgets.errors import JobOwned, OptionError
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import JobSpec
from taskwidgets.store import checkpoints, keeper
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.database import Database, application_name
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.store.pooler import MARK_CLASS, mark_number
from taskwidgets.transfers.psql import PsqlReader

ROWS = 60_000

# What somebody has set in a session and left there. The name, the pooler itself sets for each
# client; the transaction is that of the look.
LEFT = """
    SELECT name, setting FROM pg_settings
    WHERE source = 'session' AND name <> 'application_name' AND name NOT LIKE 'transaction%'
    UNION ALL SELECT 'LISTEN', pg_listening_channels()
"""

# Loads a file slowly; its lease, if it is behind a pooler, is as long as it is told.
OWNER = """
    import sys
    import taskwidgets as tw
    from taskwidgets.store import keeper
    keeper.LEASE = float(sys.argv[3])
    keeper.HEARTBEAT = keeper.LEASE / 3
    tw.connect(sys.argv[1])
    job = tw.upload(sys.argv[2], "target", types={"id": "bigint"}, max_rate=3e5)
    print(job.id, flush=True)
    for line in sys.stdin:
        order = line.strip()
        if order == "hurry":
            job.max_rate = None
        elif order == "state":
            print(job.state, flush=True)
        elif order == "wait":
            try:
                job.wait()
                print("completed", flush=True)
            except tw.TaskwidgetsError as error:
                print(type(error).__name__, error, flush=True)
"""

# A function of one's own that inserts a row, and stays in the transaction.
HOLDER = """
    import sys, threading
    import taskwidgets as tw
    from taskwidgets.store import keeper
    keeper.LEASE = float(sys.argv[2])
    keeper.HEARTBEAT = keeper.LEASE / 3
    tw.connect(sys.argv[1])

    @tw.job
    def fill(run):
        with run.transaction() as connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO only_one VALUES (1)")
            print(run.job_id, flush=True)
            threading.Event().wait()

    fill()
    threading.Event().wait()
"""

EXPORTER = """
    import sys
    import taskwidgets as tw
    from taskwidgets.store import keeper
    keeper.LEASE, keeper.HEARTBEAT = 2.0, 0.6
    tw.connect(sys.argv[1])
    job = tw.download(sys.argv[2], sys.argv[3], max_rate=1e6)
    print(job.id, flush=True)
    sys.stdin.read()
"""

CLAIMER = """
    import json, sys
    from taskwidgets.errors import JobOwned
    from taskwidgets.runtime.control import Control
    from taskwidgets.runtime.states import State
    from taskwidgets.store.database import Database
    from taskwidgets.store.jobs import PostgresJobStore
    store = PostgresJobStore(Database(sys.argv[1]))
    print(store.database.is_pooled, flush=True)
    for line in sys.stdin:
        job_id = int(line)
        try:
            claim = store.claim(job_id, State.RUNNING, "race", Control())
            answer = {"epoch": claim.epoch}
        except JobOwned as error:
            answer = {"owned": str(error)}
        print(json.dumps(answer), flush=True)
"""


@pytest.fixture
def make_workspace():
    """A factory of workspaces by a URL, closed with the test."""
    made = []

    def make(url):
        made.append(Workspace(url))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pooled(pooler, make_workspace):
    """A workspace behind the pooler."""
    return make_workspace(pooler.url)


@pytest.fixture
def urls(pooler, database_url):
    """The ways to the database, by their names."""
    return {"pooled": pooler.url, "direct": plain(database_url)}


@pytest.fixture
def source(csv_file):
    """A file of 60,000 rows, 1.1 MB."""
    return csv_file("id,a", *(f"{n},{n:09}" for n in range(ROWS)))


@pytest.fixture
def owner(script, source, look):
    """A process that loads the file slowly, and the job's number there."""

    def start(url, lease=15.0):
        process = script(OWNER, url, str(source), str(lease))
        number = int(process.line())
        wait_until(lambda: look.ledger(number)[1] > 0)
        return process, number

    return start


@pytest.fixture
def make_store():
    """A factory of stores by a URL, each a session of its own as another process would be."""
    stores = []

    def make(url):
        stores.append(PostgresJobStore(Database(url)))
        return stores[-1]

    yield make
    for store in stores:
        end_store(store)


def is_loaded(look):
    return look("SELECT count(*), count(DISTINCT id), sum(id) FROM target") == [
        (ROWS, ROWS, ROWS * (ROWS - 1) // 2)
    ]


def spec(key):
    return JobSpec(key, "upload", f"job {key}", "s.csv", "public.t", {}, {})


def marked(look):
    """The server's processes that are in a transaction of ours."""
    return look(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())",
        (MARK_CLASS,),
    )


# ------------------------------------------------------------------- what it is, and what is said


def test_a_pooler_is_noticed(urls, make_pooler):
    """Transactions that may have another session each are found out; and a URL may say so."""
    found = {
        urls["pooled"]: True,
        urls["direct"]: False,
        f"{urls['direct']}&pgbouncer=true": True,
        f"{urls['pooled']}&pgbouncer=false": False,
        make_pooler(mode="session").url: True,  # which cannot be told from outside
    }
    for url, is_pooled in found.items():
        database = Database(url)
        assert database.is_pooled is is_pooled
        database.prepare()
        assert database.is_pooled is is_pooled
        assert "pgbouncer" not in database.url.query
        database.dispose()


def test_what_a_url_says_of_a_pooler_is_checked(urls):
    """pgbouncer=true and pgbouncer=false; any other word is refused."""
    with pytest.raises(OptionError, match="pgbouncer=true says"):
        Database(f"{urls['direct']}&pgbouncer=maybe")


def test_the_marks_of_two_processes_are_two():
    """Sessions that differ in one of their first digits have marks of their own."""
    sessions = {f"{1 << bit:08x}{'0' * 24}" for bit in range(31)}
    assert len({mark_number(session) for session in sessions}) == 31


def test_sessions_of_ones_own_are_used_where_the_url_says_so(
    make_pooler, make_workspace, source, look
):
    """Behind a pooler in session mode, pgbouncer=false has the locks of a direct connection."""
    workspace = make_workspace(f"{make_pooler(mode='session').url}&pgbouncer=false")
    job = workspace.upload(source, "target", types={"id": "bigint"}, max_rate=3e5)
    wait_until(lambda: look.ledger(job.id)[1] > 0)
    assert look("SELECT owner -> 'lease' FROM taskwidgets.jobs") == [(None,)]
    job.max_rate = None
    assert job.wait().rows_loaded == ROWS
    assert is_loaded(look)


def test_the_schema_is_made_through_a_pooler(empty_url, account, script):
    """Of three processes that connect at once to an empty database, all are served."""
    from fix_poolers import Pooler

    code = """
        import sys
        import taskwidgets as tw
        print(len(tw.connect(sys.argv[1]).jobs().to_dataframe()), flush=True)
    """
    between = Pooler(plain(empty_url), account)
    try:
        assert [one.line() for one in [script(code, between.url) for _ in range(3)]] == ["0"] * 3
        assert between.locks() == []
    finally:
        between.stop()


# ------------------------------------------------------------------------------ all kinds of jobs


def test_every_kind_of_job_leaves_nothing_in_the_sessions(
    pooled, pooler, source, look, tmp_path, urls
):
    """Files equal COPY's; no setting, no lock and no LISTEN is left to the pool's other clients."""
    look("CREATE TABLE numbers (n integer)")

    @job_decorator
    def fill(run, count):
        for number in run.track(range(count), save_every=5):
            with run.transaction() as connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO numbers VALUES (%s)", (number,))

    assert pooled.upload(source, "target", types={"id": "bigint"}).wait().rows_loaded == ROWS
    assert is_loaded(look)
    # At once: an export ends by closing its sessions, and with them what was left there.
    assert pooler.in_each_session(LEFT) == []
    query = "SELECT id, a, id * interval '1 minute' AS i FROM target WHERE id % 3 = 0 ORDER BY id"
    for selected, path in (("target", tmp_path / "t.csv"), (query, tmp_path / "q.csv")):
        pooled.download(selected, path).wait()
        select = query if selected is query else "SELECT * FROM target"
        assert path.read_bytes() == copied(urls["direct"], select)
    fill.using(pooled)(20).wait()
    assert look("SELECT n FROM numbers ORDER BY n") == [(n,) for n in range(20)]
    assert pooled.jobs().to_dataframe().state.tolist() == ["completed"] * 4
    assert PsqlReader.serves(pooled._database.connect_arguments)
    assert pooler.in_each_session(LEFT) == []
    assert pooler.locks() == []
    wait_until(lambda: marked(look) == [])


def test_the_settings_of_an_export_are_not_the_pools(pooled, pooler, look, tmp_path):
    """Paused with its sessions open, an export keeps what it set to its own transactions."""
    look("CREATE TABLE t AS SELECT n, n * interval '1 hour' AS i FROM generate_series(1, 300000) n")
    job = pooled.download("t", tmp_path / "t.csv", max_rate=1e6)
    wait_until(lambda: job.progress.rows > 0)
    assert pooler.in_each_session(LEFT) == []
    job.pause()
    wait_until(lambda: job.state == "paused")
    assert pooler.in_each_session(LEFT) == []
    job.max_rate = None
    job.resume()
    assert job.wait().rows_loaded == 300_000
    assert (tmp_path / "t.csv").read_bytes() == copied(look.url, "SELECT * FROM t")


@pytest.mark.sample(2)
@pytest.mark.parametrize("way", [("pooled", "pooled"), ("pooled", "direct"), ("direct", "pooled")])
def test_another_process_pauses_and_terminates(way, urls, owner, make_workspace, look):
    """Whichever of the two is behind the pooler: seen, paused, taken up, and terminated."""
    process, number = owner(urls[way[0]])
    workspace = make_workspace(urls[way[1]])
    job = workspace.job(number)
    wait_until(lambda: job.state == "running" and job.progress.rows > 0)
    with pytest.raises(JobOwned, match=f"process {process.process.pid} on "):
        workspace.resume(number)
    job.pause()
    wait_until(lambda: job.state == "paused")
    assert 0 < look.ledger(number)[1] < ROWS
    workspace.resume(number, max_rate=3e5)
    wait_until(lambda: job.state == "running")
    process.say("state")
    assert process.line() in ("running", "paused")  # it has heard of it, or will
    job.terminate()
    with pytest.raises(JobTerminated):
        job.wait()
    assert look.staging() == []


def test_a_job_behind_a_pooler_is_terminated_from_outside(urls, owner, make_workspace, look):
    """The owner, behind the pooler, hears it and cleans up."""
    process, number = owner(urls["pooled"])
    make_workspace(urls["direct"]).job(number).terminate()
    process.say("wait")
    assert process.line().startswith("JobTerminated")
    assert look.staging() == []


def test_a_pool_that_is_too_small_is_said(
    make_pooler, make_workspace, source, look, tmp_path, monkeypatch
):
    """With one session for all, nothing waits for ever: the job fails and says what it needs."""
    monkeypatch.setattr("taskwidgets.store.pooler.NEEDED_PATIENCE", 1.0)
    workspace = make_workspace(make_pooler(size=1).url)
    with pytest.raises(
        JobFailed, match=r"has 1 of its connections .* needs 2 at once; .*default_pool_size"
    ):
        workspace.upload(source, "target", types={"id": "bigint"}).wait()
    look("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n")
    for selected in ("t", "SELECT n FROM t"):
        path = tmp_path / f"{selected[0]}.csv"
        with pytest.raises(JobFailed, match=r"has 1 of its connections .* needs 3 at once"):
            workspace.download(selected, path).wait()


@pytest.mark.slow
def test_a_small_pool_is_shared_out(make_pooler, make_workspace, source, look, tmp_path):
    """With three sessions, an upload and both kinds of export end well, with fewer workers."""
    workspace = make_workspace(make_pooler(size=3).url)
    job = workspace.upload(source, "target", types={"id": "bigint"}, workers=8)
    assert job.wait().rows_loaded == ROWS
    assert is_loaded(look)
    query = "SELECT id + 1 AS next FROM target ORDER BY id"
    for selected, path in (("target", tmp_path / "t.csv"), (query, tmp_path / "q.csv")):
        workspace.download(selected, path, workers=8).wait()
        select = query if selected is query else "SELECT * FROM target"
        assert path.read_bytes() == copied(look.url, select)


# ---------------------------------------------------------------------------------- who is alive


WAYS = [("pooled", "pooled"), ("pooled", "direct"), ("direct", "pooled")]


@pytest.mark.sample(1)
@pytest.mark.parametrize("way", WAYS)
def test_a_killed_owner_is_seen_and_followed(way, urls, owner, make_workspace, look):
    """Killed in the middle, it is interrupted, for a lock at once, for a lease when that is over.

    Whoever looks judges by the owner's way. What is resumed is loaded once, whole.
    """
    process, number = owner(urls[way[0]], lease=2.0)
    workspace = make_workspace(urls[way[1]])
    assert workspace.jobs("running").to_dataframe().id.tolist() == [number]
    process.kill()
    wait_until(lambda: workspace.job(number).state == "interrupted")
    assert workspace.jobs("interrupted").to_dataframe().id.tolist() == [number]
    assert workspace.resume(number).wait().rows_loaded == ROWS
    assert is_loaded(look)
    causes = look("SELECT cause FROM taskwidgets.events WHERE to_state = 'interrupted'")
    assert [cause.split(" on ")[0] for (cause,) in causes] == [
        f"its owner is gone: process {process.process.pid}"
    ]


@pytest.mark.sample(1)
@pytest.mark.parametrize("selected", ["t", "SELECT n, i FROM t WHERE n % 2 = 0 ORDER BY n"])
def test_an_export_goes_on_after_a_kill(
    selected, urls, pooler, script, make_workspace, look, tmp_path
):
    """Killed in the middle, with its snapshot and its readers: the file is COPY's in the end."""
    look("CREATE TABLE t AS SELECT n, n * interval '1 hour' AS i FROM generate_series(1, 300000) n")
    process = script(EXPORTER, urls["pooled"], selected, str(tmp_path / "t.csv"))
    number = int(process.line())
    wait_until(lambda: look.ledger(number)[1] > 0)
    process.kill()
    workspace = make_workspace(urls["pooled"])
    wait_until(lambda: workspace.job(number).state == "interrupted")
    workspace.resume(number).wait()
    select = "SELECT * FROM t" if selected == "t" else selected
    assert (tmp_path / "t.csv").read_bytes() == copied(look.url, select)
    assert look.staging() == []
    wait_until(lambda: marked(look) == [])
    assert pooler.in_each_session(LEFT) == []


def test_within_its_lease_a_killed_owner_keeps_the_job(urls, owner, make_workspace):
    """Behind a pooler nobody can tell yet that it is gone: JobOwned, from either side."""
    process, number = owner(urls["pooled"], lease=1000.0)
    process.kill()
    for url in urls.values():
        workspace = make_workspace(url)
        assert workspace.job(number).state == "running"
        with pytest.raises(JobOwned, match=f"process {process.process.pid} on "):
            workspace.resume(number)


@pytest.mark.sample(1)
@pytest.mark.parametrize("onlooker", ["pooled", "direct"])
def test_an_owner_frozen_for_longer_than_its_lease_is_fenced(
    onlooker, urls, owner, make_workspace, look
):
    """Others go on with the job; thawed, it writes nothing and says that it was taken over."""
    process, number = owner(urls["pooled"], lease=2.0)
    workspace = make_workspace(urls[onlooker])
    os.kill(process.process.pid, signal.SIGSTOP)
    wait_until(lambda: workspace.job(number).state == "interrupted")
    assert workspace.resume(number).wait().rows_loaded == ROWS
    before = look("SELECT id, epoch, state, owner FROM taskwidgets.jobs")
    os.kill(process.process.pid, signal.SIGCONT)
    process.say("wait")
    told = process.line()
    assert told.startswith(("JobFenced", "completed")), told
    assert is_loaded(look)
    assert look("SELECT id, epoch, state, owner FROM taskwidgets.jobs") == before
    assert look.staging() == []


@pytest.mark.slow
def test_an_owner_that_was_only_late_goes_on(urls, owner, make_workspace, look):
    """Frozen for longer than its lease, and nobody took the job: thawed, it is running again."""
    process, number = owner(urls["pooled"], lease=1.0)
    job = make_workspace(urls["pooled"]).job(number)
    os.kill(process.process.pid, signal.SIGSTOP)
    wait_until(lambda: job.state == "interrupted")
    os.kill(process.process.pid, signal.SIGCONT)
    wait_until(lambda: job.state == "running")
    process.say("hurry")
    wait_until(lambda: job.state == "completed")
    assert is_loaded(look)


@pytest.mark.sample(2)
@pytest.mark.parametrize("lease", [1.0, 1000.0])
@pytest.mark.parametrize("onlooker", ["pooled", "direct"])
def test_what_a_frozen_owner_holds_is_taken_from_it(
    onlooker, lease, pooler, urls, script, make_store, look
):
    """Frozen within a transaction, it loses what it locked, and nobody else loses theirs.

    With the lease over the job is resumed, before that it is taken over.
    """
    look("CREATE TABLE only_one (n integer PRIMARY KEY)")
    look("CREATE TABLE others (n integer)")
    process = script(HOLDER, urls["pooled"], str(lease), "hold")
    number = int(process.line())
    os.kill(process.process.pid, signal.SIGSTOP)
    with ExitStack() as stack:
        # Others, whose sessions bear the owner's name: some that give none inherit one.
        name = application_name(look.one("SELECT owner ->> 'session' FROM taskwidgets.jobs"))
        innocents = []
        for _ in range(3):
            innocent = psycopg2.connect(pooler.url, application_name=name)
            innocents.append(stack.enter_context(closing(innocent)))
            with innocent.cursor() as cursor:
                cursor.execute("INSERT INTO others VALUES (1)")
        store = make_store(urls[onlooker])
        if lease < 10:
            wait_until(lambda: store.record(number).state is State.INTERRUPTED)
        take_over = lease > 10
        claim = store.claim(number, State.RUNNING, "test", Control(), take_over=take_over)
        look("SET lock_timeout = '5s'; INSERT INTO only_one VALUES (1)")
        store.move(claim, State.FAILED, "test")
        store.release(claim)
        for innocent in innocents:
            innocent.commit()
        assert look.one("SELECT count(*) FROM others") == len(innocents)
    process.kill()
    assert look.one("SELECT count(*) FROM only_one") == 1


@pytest.mark.sample(1)
@pytest.mark.parametrize("onlooker", ["pooled", "direct"])
def test_a_frozen_owner_that_has_the_jobs_row_locked_is_ended(onlooker, urls, make_store, look):
    """Stopped between a checkpoint and its commit, it keeps no next owner from the claim."""
    store = make_store(urls["pooled"])
    job = store.create(spec("one"), lambda connection, job_id: None)
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    with closing(store.database.connect()) as connection:
        assert checkpoints.record(connection, claim, Checkpoint(0, 10, 1, 7))
        other = make_store(urls[onlooker])
        assert other.claim(job.id, State.RUNNING, "test", Control(), take_over=True).epoch == 2
        with pytest.raises(OperationalError):
            connection.commit()
    assert look.ledger(job.id) == (0, 0)
    told = str(store.fenced(claim))
    assert f"was taken over by process {os.getpid()} on" in told


@pytest.mark.sample(2)
@pytest.mark.parametrize("has_lock", [True, False])
@pytest.mark.parametrize("onlooker", ["pooled", "direct"])
def test_a_frozen_owner_with_sessions_of_its_own_is_ended_by_a_takeover(
    onlooker, has_lock, urls, make_store, look
):
    """Stopped between a checkpoint and its commit, with or without its lock, it is ended."""
    store = make_store(urls["direct"])
    job = store.create(spec("one"), lambda connection, job_id: None)
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    with closing(store.database.connect()) as connection:
        assert checkpoints.record(connection, claim, Checkpoint(0, 10, 1, 7))
        if not has_lock:
            look("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        other = make_store(urls[onlooker])
        assert other.claim(job.id, State.RUNNING, "test", Control(), take_over=True).epoch == 2
        with pytest.raises(OperationalError):
            connection.commit()
    assert look.ledger(job.id) == (0, 0)


def test_a_living_owner_yields_to_who_takes_over(urls, owner, make_workspace, look):
    """Taken over through the pooler, it stops and says so; loaded once."""
    process, number = owner(urls["pooled"], lease=3.0)
    workspace = make_workspace(urls["pooled"])
    job = workspace.resume(number, take_over=True, max_rate=3e5)
    wait_until(lambda: job.runs_here and job.state == "running")
    process.say("wait")
    told = process.line()
    assert told.startswith("JobFenced"), told
    assert f"process {os.getpid()} on" in told
    job.max_rate = None
    assert job.wait().rows_loaded == ROWS
    assert is_loaded(look)


def test_a_living_owner_with_a_lock_yields_to_one_behind_a_pooler(
    urls, owner, make_workspace, look
):
    """Its sessions are its own, and are ended by their name."""
    process, number = owner(urls["direct"])
    job = make_workspace(urls["pooled"]).resume(number, take_over=True)
    assert job.wait().rows_loaded == ROWS
    process.say("wait")
    told = process.line()
    assert told.startswith(("JobFenced", "completed")), told
    assert is_loaded(look)


@pytest.mark.sample(1)
@pytest.mark.parametrize("ways", [("pooled", "pooled"), ("pooled", "direct")])
def test_of_two_claims_in_the_same_instant_one_wins(ways, urls, make_store, script):
    """In 50 races for a new job, and 50 for an interrupted one, one wins and is named."""
    store = make_store(urls["direct"])
    racers = [script(CLAIMER, urls[way]) for way in ways]
    assert [racer.line() for racer in racers] == [str(way == "pooled") for way in ways]
    for number in range(100):
        job = store.create(spec(f"race {number}"), lambda connection, job_id: None)
        epoch = 1
        if number >= 50:  # its owner was one behind the pooler whose lease is over
            gone = {"host": "h", "pid": 1, "session": "0" * 32, "lease": 0.0}
            with store.in_transaction() as connection:
                connection.exec_driver_sql(
                    "UPDATE taskwidgets.jobs SET state = 'running', epoch = 1, owner = %s,"
                    " heartbeat_at = clock_timestamp() WHERE id = %s",
                    (json.dumps(gone), job.id),
                )
            epoch = 2
        for racer in racers:
            racer.say(str(job.id))
        answers = [json.loads(racer.line()) for racer in racers]
        winners = [index for index, answer in enumerate(answers) if "epoch" in answer]
        assert len(winners) == 1, answers
        assert answers[winners[0]] == {"epoch": epoch}
        assert f"process {racers[winners[0]].process.pid} on" in answers[1 - winners[0]]["owned"]


def test_a_claim_that_is_given_up_is_interrupted_at_once(urls, make_store):
    """A driver that ended without recording it leaves no job that seems to run for a lease."""
    store, other = make_store(urls["pooled"]), make_store(urls["direct"])
    job = store.create(spec("one"), lambda connection, job_id: None)
    claim = store.claim(job.id, State.RUNNING, "test", Control())
    assert other.record(job.id).state is State.RUNNING
    store.release(claim)
    assert other.record(job.id).state is State.INTERRUPTED
    assert other.claim(job.id, State.RUNNING, "test", Control()).epoch == 2


def test_a_heartbeat_keeps_the_job(urls, make_store, monkeypatch):
    """As long as it beats, a job is its owner's, for several leases; no lock is held for it."""
    monkeypatch.setattr(keeper, "LEASE", 1.0)
    monkeypatch.setattr(keeper, "HEARTBEAT", 0.2)
    store, other = make_store(urls["pooled"]), make_store(urls["direct"])
    job = store.create(spec("one"), lambda connection, job_id: None)
    store.claim(job.id, State.RUNNING, "test", Control())
    since = store.record(job.id).owner.since
    wait_until(lambda: (other.record(job.id).owner.seen - since).total_seconds() > 3)
    assert other.record(job.id).state is State.RUNNING
    with pytest.raises(JobOwned):
        other.claim(job.id, State.RUNNING, "test", Control())


def test_a_process_with_many_open_files(pooled, source):
    """Descriptors beyond 1,023, which select() does not know, are no matter."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with ExitStack() as files:
        for _ in range(1100):
            files.enter_context(open(os.devnull, "rb"))  # noqa: PTH123 - as cheap as can be
        assert pooled.upload(source, "target").wait(60).rows_loaded == ROWS
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
