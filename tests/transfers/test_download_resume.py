"""An export is broken off at any moment, in any way, and goes on to the same bytes."""

import os
import random
import signal
import time

import pandas as pd
import psutil
import pytest
from fix_databases import Look
from fix_exports import EXPORTING, Exports, copied, hash_of, is_counted, pause
from fix_servers import plain, wait_until
from fix_tiers import slow

from taskwidgets import JobFailed, Workspace
from taskwidgets.errors import SourceChanged
from taskwidgets.transfers.partial_file import OrderedFile

EXPORTER = """
    import os, signal, sys, time
    import taskwidgets as tw
    from taskwidgets.transfers import download, export_ranges, partial_file
    export_ranges.CHECKPOINT_SECONDS = 0.02
    url, source, path, rate, before = sys.argv[1:]
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    exec(before)
    tw.connect(url)
    options = {"if_exists": "replace"} if path.endswith("old.csv") else {}
    job = tw.download(source, path, workers=2, max_rate=float(rate) or None, **options)
    print(job.id, flush=True)
    print(job.wait().sha256, flush=True)
"""


@pytest.fixture
def exporter(script, look):
    """A factory of processes that export; ``before``: code that is run in them first."""

    def start(source, path, rate=0, before=""):
        wait_until(  # the server has noticed that an earlier one is dead
            lambda: (
                not look(
                    "SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                    " WHERE locktype = 'advisory' AND datname = current_database()"
                )
            )
        )
        return script(EXPORTER, plain(look.url), source, str(path), str(rate), before)

    return start


@pytest.mark.sample(1)
@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.csv.zst"])
def test_twenty_pauses_change_no_byte(exports, look, many, name):
    """Paused and resumed twenty times in a row, the file is that of one COPY."""
    many(100_000)
    job = exports.start("t", name, workers=2, max_rate=3e6)
    for _ in range(20):
        wait_until(lambda: job.state == "running")
        done = job.progress.done
        wait_until(lambda done=done: job.progress.done > done or job.state != "running")
        pause(job)
        job.resume()
    job.max_rate = None
    exports.check(job.wait(60))
    assert list(job.events().to_state).count("paused") == 20
    path = exports.folder / name
    if name == "out.csv":
        assert path.read_bytes() == copied(look.url, "SELECT * FROM t")
    else:
        assert pd.read_csv(path).id.tolist() == list(range(1, 100_001))


@pytest.mark.sample(1)
@pytest.mark.parametrize("source", ["t", "SELECT * FROM t ORDER BY hash"])
def test_paused_in_one_process_resumed_in_another(exports, look, halfway, many, source, run_script):
    """After a pause, tw.resume() in another process completes the file, ordered as it began."""
    many()
    select = source if " " in source else "SELECT * FROM t"
    expected = copied(look.url, select)
    job = halfway(source)
    exports.workspace.close()
    out, _ = run_script(
        "import sys, taskwidgets as tw\n"
        "tw.connect(sys.argv[1])\n"
        "job = tw.resume(int(sys.argv[2]))\n"
        "print(job.remark); print(job.wait(60).sha256)",
        plain(look.url),
        str(job.id),
    )
    remark, sha256 = out.splitlines()
    assert remark.startswith(f"resuming job {job.id} at ")
    path = exports.folder / "out.csv"
    assert path.read_bytes() == expected
    assert sha256 == hash_of(path)
    assert exports.partials() == [] == look.staging()


@pytest.mark.sample(1)
@pytest.mark.parametrize("source", ["t", "SELECT *, pg_sleep(0.5) IS NULL AS slow FROM few"])
def test_the_notation_stays_as_it_began(exports, look, many, another_workspace, source):
    """With another style of intervals set since, a resumed export keeps the first."""
    many()
    look("ALTER TABLE t ADD COLUMN span interval DEFAULT '1 day'")
    look("CREATE TABLE few AS SELECT * FROM t LIMIT 3")
    expected = copied(look.url, source if " " in source else "SELECT * FROM t")
    job = exports.start(source, workers=2, max_rate=2e6)
    if " " in source:
        wait_until(lambda: job.remark == "running the query")
    else:
        wait_until(lambda: is_counted(look, job.id) and job.progress.done > 0)
    pause(job)
    assert job.state == "paused"
    exports.workspace.close()
    look(f"ALTER DATABASE {look.one('SELECT current_database()')} SET IntervalStyle TO 'iso_8601'")
    exports.workspace = another_workspace()
    exports.check(exports.workspace.resume(job.id).wait(60))
    assert (exports.folder / "out.csv").read_bytes() == expected
    assert b"1 day" in expected


@pytest.mark.slow
def test_the_digits_of_a_query_stay_as_they_began(exports, look, halfway, another_workspace):
    """With fewer digits of floats set since, a resumed export of a query writes as many."""
    query = (
        "SELECT n, n / 3::float8 AS third, (n + 1234567)::real AS short"
        " FROM generate_series(1, 30000) AS n ORDER BY n"
    )
    expected = copied(look.url, query)
    assert b",1.234568e+06\n" in expected
    job = halfway(query, max_rate=3e5)
    exports.workspace.close()
    look(f"ALTER DATABASE {look.one('SELECT current_database()')} SET extra_float_digits TO -3")
    exports.workspace = another_workspace()
    exports.check(exports.workspace.resume(job.id).wait(60))
    assert (exports.folder / "out.csv").read_bytes() == expected != copied(look.url, query)


@pytest.mark.parametrize("kills", [5, slow(100)])
def test_killed_at_random_moments_the_bytes_are_the_same(
    exports, look, many, exporter, chance, kills
):
    """SIGKILL at random moments of one export, each time taken up by a new process."""
    many(60_000 if kills < 20 else 400_000)
    expected = copied(look.url, "SELECT * FROM t")
    path = exports.folder / "out.csv"
    ledgers, jobs = [0], set()
    for _ in range(kills):
        process = exporter("t", path, rate=500_000)
        job_id = int(process.line())
        further = ledgers[-1] + 1 + chance.randrange(2)
        wait_until(
            lambda job_id=job_id, further=further: (
                is_counted(look, job_id) and look.ledger(job_id)[0] >= further
            )
        )
        time.sleep(chance.random() * 0.1)
        process.kill()
        jobs.add(job_id)
        ledgers.append(look.ledger(job_id)[0])
    assert not path.exists()
    process = exporter("t", path)
    assert int(process.line()) in jobs
    assert process.line() == hash_of(path)
    process.end()
    assert path.read_bytes() == expected
    assert len(jobs) == 1
    assert ledgers[-1] >= kills  # each came further than the one before
    assert exports.partials() == []


# What is run in the process beforehand: it kills itself at the moment named.
WHOLE = "download.publish = lambda *a, **k: die()"
LINKED = "link = os.link; os.link = lambda a, b: (link(a, b), die())"
RENAMED = "P = partial_file.Path; old = P.rename; P.rename = lambda a, b: (old(a, b), die())"
NAMED = "publish = download.publish; download.publish = lambda *a, **k: (publish(*a, **k), die())"


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("out.csv", WHOLE),
        ("out.csv", LINKED),
        ("out.csv", NAMED),
        ("old.csv", WHOLE),
        ("old.csv", RENAMED),
    ],
)
def test_killed_while_the_file_gets_its_name(exports, look, many, exporter, name, before):
    """SIGKILL around the renaming: the same call completes the same job, no byte written anew."""
    many(5000)
    expected = copied(look.url, "SELECT * FROM t")
    path = exports.folder / name
    if name == "old.csv":
        path.write_text("old")
    process = exporter("t", path, before=before)
    job_id = int(process.line())
    process.end()
    assert process.process.returncode == -signal.SIGKILL
    assert look.state(job_id) == "running"
    begun = look.ledger(job_id)
    if before == WHOLE:
        assert not path.exists() or path.read_text() == "old"
    second = exporter("t", path)
    assert int(second.line()) == job_id
    assert second.line() == hash_of(path)
    second.end()
    assert path.read_bytes() == expected
    assert look.state(job_id) == "completed"
    assert look.ledger(job_id) == begun
    assert exports.partials() == []


def test_terminated_between_link_and_completion_nothing_is_left(exports, look, many, exporter):
    """Killed between link and unlink and then terminated, the folder is as before the job."""
    many(5000)
    process = exporter("t", exports.folder / "out.csv", before=LINKED)
    job_id = int(process.line())
    process.end()
    assert len(list(exports.folder.iterdir())) == 2
    wait_until(lambda: exports.workspace._store.record(job_id).state == "interrupted")
    job = exports.workspace.job(job_id)
    job.terminate()
    job.join(None)
    assert job.state == "terminated"
    assert list(exports.folder.iterdir()) == []


def shorten(path):
    os.truncate(path, path.stat().st_size - 10)


def change(path):
    with path.open("r+b") as file:
        file.seek(20)
        byte = file.read(1)
        file.seek(20)
        file.write(bytes([byte[0] ^ 1]))


def change_unseen(path):
    """Change it, and set its time back."""
    facts = path.stat()
    change(path)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def delete(path):
    path.unlink()


def lengthen(path):
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.sample(3)
@pytest.mark.parametrize("process", ["same", "new"])
@pytest.mark.parametrize("deed", [shorten, change, change_unseen, delete, lengthen])
def test_a_partial_file_that_others_touched(
    exports, look, halfway, many, another_workspace, deed, process
):
    """Shortened, changed or deleted, the partial file is refused; lengthened, it is cut back."""
    many()
    expected = copied(look.url, "SELECT * FROM t")
    job = halfway()
    for _ in range(2):  # so that its hash has been begun, too
        done = job.progress.done
        job.resume()
        wait_until(lambda done=done: job.progress.done > done)
        pause(job)
    (partial,) = exports.partials()
    deed(exports.folder / partial)
    if process == "new":
        exports.workspace.close()
        exports.workspace = another_workspace()
    job = exports.workspace.resume(job.id)
    job.max_rate = None
    path = exports.folder / "out.csv"
    if deed is not lengthen:
        with pytest.raises(JobFailed) as caught:
            job.wait(60)
        assert isinstance(caught.value.__cause__, SourceChanged)
        assert "again=True" in job.error
        assert not path.exists()
        job = exports.start("t", workers=2, max_rate=2e6, again=True)
        job.max_rate = None
    exports.check(job.wait(60))
    assert path.read_bytes() == expected


@pytest.mark.parametrize("deed", [shorten, change, delete])
def test_a_whole_file_that_others_touched_gets_no_name(exports, many, exporter, deed):
    """Changed after it was whole and before it got its name, the partial file is not published."""
    many(5000)
    path = exports.folder / "out.csv"
    process = exporter("t", path, before=WHOLE)
    job_id = int(process.line())
    process.end()
    (partial,) = exports.partials()
    deed(exports.folder / partial)
    wait_until(lambda: exports.workspace._store.record(job_id).state == "interrupted")
    job = exports.start("t")
    assert job.id == job_id
    with pytest.raises(JobFailed, match="again=True"):
        job.wait(60)
    assert not path.exists()
    exports.check(exports.start("t", again=True).wait(60))


def test_a_process_that_was_frozen_cannot_spoil_the_file(exports, look, many, exporter):
    """Taken over from a frozen process, which thaws: the bytes are right, and stay so."""
    many(60_000)
    expected = copied(look.url, "SELECT * FROM t")
    process = exporter("t", exports.folder / "out.csv", rate=1_000_000)
    job_id = int(process.line())
    wait_until(lambda: look.ledger(job_id)[0] > 2 and is_counted(look, job_id))
    os.kill(process.process.pid, signal.SIGSTOP)
    job = exports.workspace.resume(job_id, take_over=True, max_rate=1_000_000)
    wait_until(lambda: look.one("SELECT epoch FROM taskwidgets.jobs") == 2)
    os.kill(process.process.pid, signal.SIGCONT)
    _, err = process.end()
    assert "JobFenced" in err
    job.max_rate = None
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == expected
    assert [path.name for path in exports.folder.iterdir()] == ["out.csv"]


def test_a_file_that_another_process_has_open_is_left_to_it(tmp_path):
    """Opened a second time, the file is a copy of what counts; the first one writes elsewhere."""
    path = tmp_path / "file.partial"
    frozen = OrderedFile(path, 0, 0, lambda: False)
    frozen.begin_with(b"head\n")
    taken = OrderedFile(path, 5, frozen.settled.crc32, lambda: False)
    frozen.put(0, b"of the zombie\n")
    taken.put(0, b"row\n")
    for file in (frozen, taken):
        file.close()
    assert path.read_bytes() == b"head\nrow\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_lost_connections_change_no_byte(exports, look, many):
    """Backends of ours, the snapshot's too, terminated at random throughout: the same bytes."""
    many(60_000)
    expected = copied(look.url, "SELECT * FROM t")
    chance = random.Random(3)
    job = exports.start("t", workers=3, max_rate=1.2e6)
    wait_until(lambda: is_counted(look, job.id))
    killed = 0
    while job.state == "running" and killed < 25:
        victims = look(EXPORTING) or [(0,)]
        killed += look.one("SELECT pg_terminate_backend(%s)", chance.choice(victims))
        time.sleep(0.06)
    assert killed > 10
    job.max_rate = None
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == expected


def test_the_snapshots_connection_lost_the_table_is_proven_unchanged(exports, look, many):
    """With the snapshot's own backend terminated alone, the export goes on by the proof."""
    many(60_000)
    job = exports.start("t", workers=2, max_rate=1e6)
    wait_until(lambda: is_counted(look, job.id) and job.progress.done > 0)
    look(EXPORTING.replace("SELECT pid", "SELECT pg_terminate_backend(pid)", 1))
    job.max_rate = None
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
    assert "proven unchanged" in " ".join(job.events().cause)


def test_lost_connections_while_a_query_runs(exports, look, many):
    """Backends terminated while a query is materialized: it is run again, each row is in once."""
    many(20_000)
    query = "SELECT * FROM t CROSS JOIN (SELECT pg_sleep(1.5) IS NULL AS slow) AS s"
    job = exports.start(query)
    for _ in range(3):
        running = EXPORTING.replace("(query", "(query LIKE '%pg_sleep%' OR query")
        wait_until(lambda running=running: job.receipt is not None or job.error or look(running))
        assert (job.error, job.receipt) == (None, None)
        look(running.replace("SELECT pid", "SELECT pg_terminate_backend(pid)", 1))
    exports.check(job.wait(60))
    expected = copied(look.url, query.replace("1.5", "0"))
    assert (exports.folder / "out.csv").read_bytes() == expected


@pytest.fixture
def on_private_server(private_server, tmp_path):
    """Exports on a server that may be ill-treated."""
    workspace = Workspace(private_server.url())
    yield Exports(workspace, Look(private_server.url()), tmp_path)
    workspace.close()


def make_table(look, rows=60_000):
    look(f"CREATE TABLE t AS SELECT n AS id, md5(n::text) AS a, md5(n::text) AS b,"
         f" 5 AS amount FROM generate_series(1, {rows}) AS n")  # fmt: skip


@pytest.mark.sample(1)
@pytest.mark.parametrize("source", ["t", "SELECT * FROM t ORDER BY a"])
def test_a_server_that_crashes_in_the_middle(on_private_server, private_server, source):
    """Restarted at once with -m immediate, the job waits, and completes with the same bytes."""
    exports, look = on_private_server, on_private_server.look
    make_table(look)
    job = exports.start(source, workers=2, max_rate=2e6)
    wait_until(lambda: job.progress.done > 0 and job.progress.unit != "bytes")
    if source == "t":
        wait_until(lambda: is_counted(look, job.id))
    private_server.restart("immediate")
    job.max_rate = None
    exports.check(job.wait(100))
    select = source if " " in source else "SELECT * FROM t"
    assert (exports.folder / "out.csv").read_bytes() == copied(look.url, select)


@pytest.mark.slow
def test_a_table_that_changed_in_the_crash_is_told(on_private_server, private_server):
    """The server restarted and the table changed before we are back: refused, never a mixture."""
    exports, look = on_private_server, on_private_server.look
    make_table(look)
    job = exports.start("t", workers=2, max_rate=1e6)
    wait_until(lambda: job.progress.done > 0 and is_counted(look, job.id))
    pause(job)
    private_server.restart("immediate")
    look("UPDATE t SET amount = 6 WHERE id = 3")
    job.resume()
    with pytest.raises(JobFailed, match="inserted or updated"):
        job.wait(60)
    assert not (exports.folder / "out.csv").exists()


def test_the_death_of_a_kernel_ends_its_helpers_and_its_statements(exports, look, many, exporter):
    """SIGKILL of the exporting process ends its copier processes, if it has any, at once, and the
    server stops what had been asked for, also a query that has sent nothing yet."""
    many(1000)
    for source, rate in (("t", 20_000), ("SELECT pg_sleep(600)", 0)):
        process = exporter(source, exports.folder / "out.csv", rate=rate)
        process.line()
        wait_until(lambda: bool(look(EXPORTING)))
        exporting = psutil.Process(process.process.pid)
        if source != "t":
            wait_until(lambda exporting=exporting: bool(exporting.children()))
        helpers = exporting.children()
        process.kill()
        began = time.monotonic()
        psutil.wait_procs(helpers, timeout=30)
        assert not any(helper.is_running() for helper in helpers)
        wait_until(lambda: not look(EXPORTING))
        assert time.monotonic() - began < 5
        (exports.folder / "out.csv").unlink(missing_ok=True)


def test_an_interrupted_export_tells_how_far_it_is(exports, look, many, exporter):
    """Of a killed export, the record counts blocks, not bytes: never more than the whole."""
    many(60_000)
    process = exporter("t", exports.folder / "out.csv", rate=1_000_000)
    job_id = int(process.line())
    wait_until(lambda: is_counted(look, job_id))
    process.kill()
    wait_until(lambda: exports.workspace._store.record(job_id).state == "interrupted")
    job = exports.workspace.resume(job_id, max_rate=2e6)
    wait_until(lambda: job.progress.done > 5)
    pause(job)  # the progress as such is written with the transitions
    exports.workspace.close()
    process = exporter("t", exports.folder / "out.csv", rate=1_000_000)
    assert int(process.line()) == job_id
    segments = look.ledger(job_id)[0]
    wait_until(lambda: look.ledger(job_id)[0] > segments)
    process.kill()
    fresh = Workspace(look.url)
    try:
        wait_until(lambda: fresh._store.record(job_id).state == "interrupted")
        progress = fresh._store.record(job_id).progress
        blocks = look.one("SELECT pg_relation_size('t') / 8192")
        assert (progress.unit, progress.total) == ("blocks", blocks)
        assert 0 < progress.done < blocks
    finally:
        fresh.close()
