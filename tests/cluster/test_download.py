"""A cluster's workers write the parts of a folder: killed, cancelled, resumed with and without."""

import os
import signal

import pytest
from fix_exports import EXPORTING, is_counted, pause
from fix_servers import plain, wait_until

from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, TargetError
from taskwidgets.transfers.places import DiskPlace


def writing(look):
    """The sessions of workers that write parts now."""
    return look(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE 'taskwidgets job % lane %' AND query LIKE 'COPY%'"
        " AND state = 'active'"
    )


@pytest.mark.sample(1)
@pytest.mark.parametrize("source", ["t", "SELECT * FROM t ORDER BY hash"])
@pytest.mark.parametrize("place", ["disk", "url"])
def test_the_folder_is_that_of_plain_workers(folders, many, cluster, source, place):
    """The same rows, in as many parts, and the same job when it is called without a cluster."""
    many()
    expected = folders.expected(source if " " in source else "SELECT * FROM t")
    target = f"{folders.path}/" if place == "disk" else f"file://{folders.path}/"
    job = folders.start(source, target, client=cluster.address, format="csv.gz")
    folders.check(job.wait(60), expected)
    assert len(folders.parts()) > 10
    again = folders.start(source, target, format="csv.gz")
    assert again.id == job.id
    assert again.remark.startswith("already exported")


def test_parquet_by_a_cluster(folders, many, cluster):
    """Types and rows are what one process would have written."""
    import pyarrow.parquet

    many()
    receipt = folders.start(client=cluster.address, format="parquet").wait(60)
    counts = [pyarrow.parquet.read_metadata(path).num_rows for path in folders.parts()]
    assert sum(counts) == receipt.rows_loaded == 60_000


def test_workers_are_killed_all_the_while(folders, look, many, cluster):
    """SIGKILL for one worker after the other: their parts are written by others, once each."""
    many()
    job = folders.start(client=cluster.address, max_rate=1e6)
    for parts in (1, 4, 8):
        wait_until(lambda parts=parts: look.ledger(job.id)[0] >= parts and cluster.workers())
        os.kill(cluster.workers()[0], signal.SIGKILL)
    job.max_rate = None
    folders.check(job.wait(100), folders.expected())


def test_paused_and_resumed_with_and_without(folders, look, many, cluster):
    """A pause leaves nothing under way; the job goes on here, and then there again."""
    many()
    job = folders.start(client=cluster.address, max_rate=1e6)
    wait_until(lambda: look.ledger(job.id)[0] >= 2)
    pause(job)
    assert writing(look) == []
    assert job.cluster is not None
    again = folders.exports.workspace.resume(job.id, client=cluster.address, max_rate=2e6)
    parts = look.ledger(job.id)[0]
    wait_until(lambda: look.ledger(job.id)[0] > parts)
    again.max_rate = None
    folders.check(again.wait(60), folders.expected())


@pytest.mark.sample(1)
@pytest.mark.parametrize("verb", ["pause", "terminate"])
def test_workers_that_hang_do_not_hold_the_job(folders, look, many, cluster, verb):
    """Frozen with parts under way, they are not waited for; awake again, they change nothing."""
    many()
    job = folders.start(client=cluster.address, max_rate=1e6)
    wait_until(lambda: look.ledger(job.id)[0] >= 2)
    frozen = cluster.workers()
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: job.cluster.facts().in_flight == 2)
    getattr(job, verb)()
    job.join(None)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: not writing(look), "for the workers' sessions")
    if verb == "pause":
        assert job.state == "paused"
        job.max_rate = None
        job.resume()
        folders.check(job.wait(60), folders.expected())
        return
    assert job.state == "terminated"
    wait_until(lambda: not look(EXPORTING), "for the sessions' end")
    assert folders.names() == []
    assert look.staging() == []


CELL = """
    import sys
    import taskwidgets as tw
    from taskwidgets.transfers import folder_download
    folder_download.SMALLEST_PART = folder_download.PART_BYTES = 200_000
    url, target, address = sys.argv[1:]
    tw.connect(url)
    job = tw.download("t", target, client=address, max_rate=1e6)
    print(job.id, flush=True)
    job.wait()
"""


def test_the_kernel_is_killed(folders, look, many, cluster, script, another_workspace):
    """The snapshot ends with it: workers write nothing more, and the next kernel goes on."""
    many()
    target = f"{folders.path}/"
    process = script(CELL, plain(look.url), target, cluster.address)
    job_id = int(process.line())
    wait_until(lambda: is_counted(look, job_id) and look.ledger(job_id)[0] >= 3)
    process.kill()
    counted = look("SELECT from_byte, file ->> 'name' FROM taskwidgets.checkpoints")
    wait_until(lambda: folders.exports.workspace._store.record(job_id).state == "interrupted")
    job = folders.start("t", target, client=cluster.address)
    assert job.id == job_id
    folders.check(job.wait(60), folders.expected())
    names = look("SELECT from_byte, file ->> 'name' FROM taskwidgets.checkpoints")
    assert set(counted) <= set(names)
    assert any("proven unchanged" in cause for cause in job.events().cause)


def test_a_folder_that_workers_do_not_see(folders, many, cluster, monkeypatch):
    """It is said what is wrong, and the job can go on without the cluster."""
    many(2000)
    monkeypatch.setattr(DiskPlace, "__reduce__", lambda self: (DiskPlace, ("/nowhere/at/all",)))
    job = folders.start(client=cluster.address)
    with pytest.raises(JobFailed, match="a file system that all of them share") as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, TargetError)


@pytest.mark.parametrize(
    ("target", "options", "fault"),
    [
        ("out.csv", {}, "end the path with a /"),
        ("memory://b/out/", {}, "not that of its workers"),
        ("out/", {"workers": 2}, "workers= are those of this process"),
        ("out/", {"client": 7}, "client must be"),
    ],
)
def test_options_that_make_no_sense(folders, look, many, target, options, fault):
    """They are refused at once, before any cluster is asked."""
    many(10)
    where = target if "://" in target else f"{folders.base}/{target}"
    with pytest.raises(OptionError, match=fault):
        folders.start("t", where, **{"client": "tcp://127.0.0.1:9", **options})
    assert look.untouched()


def test_no_password_is_seen(folders, many):
    """What Dask logs and shows of a part has neither the database's password nor the bucket's."""
    from sqlalchemy import make_url

    from taskwidgets.runtime.store import Claim
    from taskwidgets.transfers.parts import Entry, PartOrder
    from taskwidgets.transfers.places import UrlPlace
    from taskwidgets.transfers.reader import CopyOut

    url = make_url("postgresql://me:s3cr3t@host/db").set(password=None)
    entry = Entry(
        url, {"password": "s3cr3t"}, {"password": "s3cr3t"}, ("SET x TO 's3cr3t'",), Claim(1, 1)
    )
    place = UrlPlace("s3://me:s3cr3t@bucket/out/", {"secret": "s3cr3t"})
    order = PartOrder(place, "part", "csv", CopyOut("SELECT 1"))
    assert "s3cr3t" not in repr((order, entry))
