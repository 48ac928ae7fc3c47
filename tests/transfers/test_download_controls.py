"""Pause, terminate, max_rate, a full disk, the file's name and rights: what an export leaves."""

import os
import threading
import time

import psutil
import pytest
from fix_exports import EXPORTING, copied, is_materialized, pause
from fix_servers import children, wait_until

from taskwidgets import JobFailed, JobTerminated
from taskwidgets.errors import TargetError, TargetExists
from taskwidgets.transfers import exporting

SLOW = 5e5  # bytes per second: the usual table then takes many seconds


def nothing_left(exports, look):
    """No process, no connection, no snapshot, no staging table, no partial file."""
    wait_until(lambda: not look(EXPORTING), "for the sessions' end")
    assert children() == []
    assert look.staging() == []
    assert exports.partials() == []


@pytest.fixture
def start(exports, look, many):
    """A factory: an export in the middle of its file, over an older file."""
    many()
    (exports.folder / "out.csv").write_text("old")

    def make(source="t", **options):
        job = exports.start(source, if_exists="replace", workers=2, max_rate=SLOW, **options)
        wait_until(lambda: job.progress.done > 0)
        return job

    return make


@pytest.mark.parametrize("source", ["t", "SELECT * FROM t"])
@pytest.mark.parametrize("state", ["running", "paused", "failed"])
def test_terminate_leaves_nothing(exports, look, start, state, source):
    """Terminated while it runs, is paused, or has failed: all is as before, the older file too."""
    job = start(source)
    if state == "paused":
        pause(job)
    if state == "failed":
        target = exports.folder / "out.csv"
        target.unlink()
        target.mkdir()
        job.max_rate = None
        with pytest.raises(JobFailed, match="cannot be named"):
            job.wait(60)
        target.rmdir()
        target.write_text("old")
    assert job.state == state
    job.terminate()
    job.join(None)
    with pytest.raises(JobTerminated):
        job.wait(60)
    assert (exports.folder / "out.csv").read_text() == "old"
    assert look.ledger(job.id) == (0, 0)
    nothing_left(exports, look)


def test_terminate_right_after_the_call_leaves_nothing(exports, look, many):
    """download() and terminate() in a row end terminated, whatever had begun."""
    many(2000)
    states = set()
    for number in range(8):
        job = exports.start("t" if number % 2 else "SELECT * FROM t", f"{number}.csv")
        time.sleep(0.015 * number)
        if job.state != "completed":
            job.terminate()
        job.join(None)
        assert job.state in ("terminated", "completed"), job.error
        if job.state == "terminated":
            assert not (exports.folder / f"{number}.csv").exists()
        states.add(job.state)
    assert "terminated" in states
    nothing_left(exports, look)


@pytest.mark.parametrize("how", ["pause", "terminate"])
def test_a_query_that_sends_nothing_is_cancelled(exports, look, how):
    """A query that would compute for minutes is cancelled on the server within a second."""
    job = exports.start("SELECT pg_sleep(600)")
    wait_until(lambda: bool(look(EXPORTING.replace("(query", "(query ~ 'pg_sleep' AND query"))))
    wait_until(lambda: job.remark == "running the query")
    began = time.monotonic()
    getattr(job, how)()
    job.join(None)
    assert time.monotonic() - began < 1
    assert job.state == {"pause": "paused", "terminate": "terminated"}[how]
    wait_until(lambda: not look("SELECT FROM pg_stat_activity WHERE query ~ '^COPY .*pg_sleep'"))
    nothing_left(exports, look)


def test_a_pause_is_prompt(exports, many):
    """Ten pauses, at full speed and held up by max_rate: half of them within 250 ms, all soon."""
    many(200_000)
    job = exports.start("t", max_rate=2e6)
    took = []
    for number in range(10):
        job.max_rate = 2e6 if number % 2 else 1e4
        wait_until(lambda: job.state == "running")
        time.sleep(0.3)
        began = time.monotonic()
        job.pause()
        wait_until(lambda: job.state != "running" and job.state != "pausing")
        took.append(time.monotonic() - began)
        assert job.state == "paused", job.error
        job.resume()
    job.terminate()
    job.join(None)
    assert sorted(took)[5] < 0.25
    assert max(took) < 2


def test_max_rate_is_kept_roughly(exports, look, many):
    """At max_rate an export takes about as long as its bytes at that rate; set free, it is done."""
    many(60_000)
    size = len(copied(look.url, "SELECT * FROM t"))
    began = time.monotonic()
    exports.start("t", "slow.csv", workers=2, max_rate=size / 1.5).wait(60)
    assert 0.9 < time.monotonic() - began < 4
    job = exports.start("t", workers=2, max_rate=size / 100)
    wait_until(lambda: job.progress.done > 0)
    job.max_rate = None
    began = time.monotonic()
    exports.check(job.wait(60))
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("source", ["t", "SELECT * FROM t"])
def test_a_full_disk_fails_the_job_and_room_completes_it(exports, look, many, small_disk, source):
    """The disk fills up: the job fails and says so, its checkpoint stands; with room made, the
    same call completes it, with the bytes of COPY."""
    many()
    expected = copied(look.url, "SELECT * FROM t")
    exports.folder = small_disk.folder
    job = exports.start(source, workers=2)
    with pytest.raises(JobFailed) as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, TargetError)
    assert ("disk is full" if small_disk.mounted else "may not have more than") in job.error
    assert "resume" in job.error
    job.join(None)
    assert children() == []
    segments, rows = look.ledger(job.id)
    assert segments > 0
    assert rows > 0
    assert not (exports.folder / "out.csv").exists()
    job.resume()  # still full
    with pytest.raises(JobFailed):
        job.wait(60)
    small_disk.make_room()
    again = exports.start(source, workers=2)
    assert again.id == job.id
    assert "resuming" in again.remark
    exports.check(again.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == expected
    assert look.ledger(job.id)[1] == 60_000


def test_a_full_disk_terminated_has_its_room_again(exports, look, many, small_disk):
    """An export that failed on a full disk leaves nothing on it once it is terminated."""
    many()
    exports.folder = small_disk.folder
    job = exports.start("t", workers=3)
    with pytest.raises(JobFailed):
        job.wait(60)
    job.terminate()
    job.join(None)
    assert list(small_disk.folder.iterdir()) == []
    nothing_left(exports, look)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_file_has_the_rights_of_any_new_file(exports, many, umask, mode):
    """The finished file is 0666 less the user's umask."""
    many(10)
    before = os.umask(umask)
    try:
        exports.run("t")
    finally:
        os.umask(before)
    assert (exports.folder / "out.csv").stat().st_mode & 0o777 == mode


def test_the_older_file_stands_until_the_new_one_is_whole(exports, look, start):
    """Under "replace", whoever reads finds the old file or the whole new one, at any moment."""
    expected = copied(look.url, "SELECT * FROM t")
    path, seen, stop = exports.folder / "out.csv", set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    job = start()
    pause(job)
    assert path.read_text() == "old"
    job.max_rate = None
    job.resume()
    exports.check(job.wait(60))
    stop.set()
    reader.join()
    assert seen - {expected} == {b"old"}
    assert path.read_bytes() == expected


def test_a_file_that_came_meanwhile_is_not_replaced(exports, look, many):
    """Under "fail", a file that came into being during the export stays as it is; once it is
    moved away, the job completes without reading the table again."""
    many()
    expected = copied(look.url, "SELECT * FROM t")
    path = exports.folder / "out.csv"
    job = exports.start("t", workers=2, max_rate=3e6)
    wait_until(lambda: job.progress.done > 0)
    path.write_text("theirs")
    job.max_rate = None
    with pytest.raises(JobFailed, match="meanwhile") as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, TargetExists)
    assert path.read_text() == "theirs"
    path.rename(exports.folder / "theirs.csv")
    look("UPDATE t SET note = 'changed since'")
    job.resume()
    exports.check(job.wait(60))
    assert path.read_bytes() == expected


def test_a_folder_that_went_away_is_told(exports, many):
    """The folder removed while the job is paused: it fails with a reason; starting over works."""
    many()
    folder = exports.folder / "sub"
    folder.mkdir()
    job = exports.start("t", "sub/out.csv", workers=2, max_rate=2e6)
    wait_until(lambda: job.progress.done > 0)
    pause(job)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    job.max_rate = None
    job.resume()
    with pytest.raises(JobFailed, match="again=True"):
        job.wait(60)
    folder.mkdir()
    exports.start("t", "sub/out.csv", again=True).wait(60)


def held():
    process = psutil.Process()
    return process.num_threads(), len(children()), process.num_fds()


def test_ten_exports_leave_no_more_than_one(exports, look, many):
    """After ten more exports the process has no more threads, children or open files."""
    many(3000)

    def export(number):
        for source in ("t", "SELECT * FROM t"):
            exports.run(source, f"{number}{len(source)}.csv.gz", workers=3)
        job = exports.start("t", f"{number}.csv", max_rate=1e5)
        wait_until(lambda: job.progress.done > 0)
        job.terminate()
        job.join(None)

    export(0)
    wait_until(lambda: not look(EXPORTING))
    before = held()
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'taskwidgets%'"
    open_before = look.one(sessions)
    for number in range(1, 6):
        export(number)
    wait_until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))
    assert look.one(sessions) <= open_before


def test_a_closed_workspace_leaves_nothing_open(exports, look, halfway, many):
    """Closing the workspace lets go of the snapshots of paused jobs as well."""
    many()
    halfway("t", "one.csv")
    halfway("t", "two.csv")
    assert look(EXPORTING)
    exports.workspace.close()
    wait_until(lambda: not look(
        "SELECT FROM pg_stat_activity"
        " WHERE application_name LIKE 'taskwidgets%' AND datname = current_database()"
    ))  # fmt: skip


def test_a_paused_query_keeps_its_rows(exports, look, many):
    """Paused while its file is written, a query is not run again when it goes on."""
    many()
    look("CREATE SEQUENCE runs")
    job = exports.start("SELECT *, clock_timestamp() AS at FROM t", workers=2, max_rate=2e6)
    wait_until(lambda: is_materialized(look, job.id) and job.progress.done > 0)
    pause(job)
    (staging,) = look.staging()
    before = look.contents("taskwidgets", staging)
    look("UPDATE t SET note = 'changed since'")
    job.resume()
    wait_until(lambda: job.state == "running")
    assert look.contents("taskwidgets", staging) == before
    job.max_rate = None
    receipt = job.wait(60)
    exports.check(receipt)
    assert receipt.rows_loaded == 60_000
    assert b"changed since" not in (exports.folder / "out.csv").read_bytes()


def test_two_exports_of_one_table_go_side_by_side(exports, look, many):
    """Four exports at once, of the same table into different files, all are right."""
    many(30_000)
    expected = copied(look.url, "SELECT * FROM t")
    jobs = [exports.start("t", f"{number}.csv", workers=2) for number in range(4)]
    for number, job in enumerate(jobs):
        job.wait(60)
        assert (exports.folder / f"{number}.csv").read_bytes() == expected
    nothing_left(exports, look)


def in_transaction(look):
    """How many sessions besides this one have a transaction open."""
    return look.one(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
        " AND datname = current_database()"
    )


def test_a_failed_export_whose_file_is_whole_holds_nothing(exports, look, start):
    """It failed when it was to be published: a resume needs no snapshot, so there is none."""
    job = start()
    target = exports.folder / "out.csv"
    target.unlink()
    target.mkdir()
    job.max_rate = None
    with pytest.raises(JobFailed, match="cannot be named"):
        job.wait(60)
    job.join(60)
    assert in_transaction(look) == 0
    target.rmdir()
    job.resume()
    assert job.wait(60).rows_loaded > 0
    assert target.read_bytes() == copied(look.url, "SELECT * FROM t")


@pytest.mark.parametrize("resumed", [False, True])
def test_a_failed_export_lets_its_snapshot_go_in_a_while(
    exports, look, many, small_disk, monkeypatch, resumed
):
    """Its transaction ends, unless the job is resumed before; it can be resumed afterwards, too."""
    monkeypatch.setattr(exporting, "FAILED_HOLD", 60.0 if resumed else 0.3)
    many()
    exports.folder = small_disk.folder
    job = exports.start("t", workers=2)
    with pytest.raises(JobFailed):
        job.wait(60)
    if not resumed:
        wait_until(lambda: in_transaction(look) == 0)
    else:
        assert in_transaction(look) == 1
    small_disk.make_room()
    job.resume()
    exports.check(job.wait(60))
    assert (exports.folder / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
    wait_until(lambda: in_transaction(look) == 0)


def test_a_file_is_private_until_it_is_published(exports, look, start):
    """Under its partial name only the user can open it; then it has the older file's mode."""
    target = exports.folder / "out.csv"
    umask = os.umask(0)
    try:
        job = start()
        target.chmod(0o640)
        partial = exports.folder / exports.partials()[0]
        assert partial.stat().st_mode & 0o777 == 0o600
        job.max_rate = None
        job.wait(60)
    finally:
        os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.read_bytes() == copied(look.url, "SELECT * FROM t")


def test_a_link_at_the_partial_name_is_refused(exports, look, start):
    """A job that goes on does not write through a link; what it points to is as it was."""
    job = start()
    pause(job)
    partial = exports.folder / exports.partials()[0]
    victim = exports.folder / "victim"
    partial.rename(victim)
    partial.symlink_to(victim)
    before = victim.read_bytes()
    job.max_rate = None
    job.resume()
    with pytest.raises(JobFailed, match="it is a link, or of another user"):
        job.wait(60)
    assert victim.read_bytes() == before
    again = exports.start("t", if_exists="replace", again=True)
    again.wait(60)
    assert victim.read_bytes() == before
    assert (exports.folder / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")
