"""An export into a folder is broken off at any moment, on a disk and at a URL, and goes on."""

import signal

import pytest
from fix_exports import EXPORTING, is_counted, is_materialized, pause
from fix_servers import plain, wait_until

from taskwidgets import JobFailed
from taskwidgets.errors import SourceChanged
from taskwidgets.transfers.manifest import MANIFEST

# Runs one export, in a process that kills itself at the nth time that it comes to a point.
EXPORTER = """
    import os, signal, sys
    import taskwidgets as tw
    from taskwidgets.transfers import (
        disk_folder, export_parts, exporting, folder_download, url_folder
    )
    url, source, target, point, times = sys.argv[1:]
    folder_download.SMALLEST_PART = folder_download.PART_BYTES = 200_000
    left = int(times)

    def reach(reached):
        global left
        if reached == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    for module in (disk_folder, export_parts, exporting, folder_download, url_folder):
        module.reach = reach
    tw.connect(url)
    job = tw.download(source, target, if_exists="replace", workers=2, max_rate=None if times == "0"
                      or point != "before the rows" else 2e6)
    print(job.id, flush=True)
    if point == "while terminating":
        while job.progress.done == 0:
            pass
        job.terminate()
        job.join(None)
    else:
        print(job.wait().sha256, flush=True)
"""
KILLS = [
    ("disk", "before the rows", 5),
    ("disk", "after the part", 5),  # the file is whole, the ledger does not know
    ("disk", "after the rows", 5),  # the COMMIT of the checkpoint
    ("disk", "after the checkpoint", 5),
    ("disk", "before the final switch", 1),
    ("disk", "between the two names", 1),
    ("disk", "at the final switch", 1),
    ("disk", "after the final switch", 1),
    ("url", "after the part", 5),
    ("url", "between the two names", 1),  # the copy of the older manifest, and the new one
    ("url", "at the final switch", 1),
]


@pytest.fixture
def exporter(script, look):
    """A factory of processes that export; ``point``, ``times``: where one kills itself."""

    def start(target, point="", times=0, source="t"):
        wait_until(  # the server has noticed that an earlier one is dead
            lambda: (
                not look(
                    "SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
                    " WHERE locktype = 'advisory' AND datname = current_database()"
                )
            )
        )
        return script(EXPORTER, plain(look.url), source, target, point, str(times))

    return start


@pytest.fixture
def targets(folders, many, old_folder):
    """Where the same folder is written: by its path, or by fsspec; over an older one."""
    many()
    return {"disk": f"{folders.path}/", "url": f"file://{folders.path}/"}


@pytest.mark.sample(4)
@pytest.mark.parametrize(("place", "point", "times"), KILLS)
def test_killed_and_called_again(folders, look, exporter, targets, place, point, times):
    """SIGKILL: the same call completes the same job, and no part that counted is written anew."""
    expected, target = folders.expected(), targets[place]
    before = (folders.path / MANIFEST).read_bytes()
    process = exporter(target, point, times)
    job_id = int(process.line())
    process.end()
    assert process.process.returncode == -signal.SIGKILL
    counted = look("SELECT from_byte, file ->> 'name' FROM taskwidgets.checkpoints")
    assert counted
    if point not in ("at the final switch", "after the final switch") and place == "url":
        assert (folders.path / MANIFEST).read_bytes() == before
    ended = point == "after the final switch"
    assert look.state(job_id) == ("completed" if ended else "running")
    second = exporter(target)
    assert int(second.line()) == job_id
    sha256 = second.line()
    second.end()
    assert set(counted) <= set(
        look("SELECT from_byte, file ->> 'name' FROM taskwidgets.checkpoints")
    )
    receipt = folders.exports.workspace._store.record(job_id).receipt
    assert receipt.sha256 == sha256
    folders.check(receipt, expected)
    assert folders.names() == ["out"]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("place", "point", "times"),
    [
        ("disk", "after the part", 5),
        ("disk", "between the two names", 1),
        ("disk", "at the final switch", 1),
        ("url", "between the two names", 1),
        ("url", "at the final switch", 1),
        ("url", "while terminating", 1),
    ],
)
def test_killed_and_terminated(folders, look, exporter, targets, place, point, times):
    """SIGKILL, and its user wants no more of it: the older folder is there, as it was."""
    before = {path.name: path.read_bytes() for path in folders.path.iterdir()}
    process = exporter(targets[place], point, times)
    job_id = int(process.line())
    process.end()
    assert process.process.returncode == -signal.SIGKILL
    wait_until(lambda: folders.exports.workspace._store.record(job_id).state == "interrupted")
    job = folders.exports.workspace.job(job_id)
    job.terminate()
    job.join(None)
    assert job.state == "terminated"
    assert {path.name: path.read_bytes() for path in folders.path.iterdir()} == before
    assert folders.names() == ["out"]
    assert look.staging() == []


@pytest.mark.parametrize("source", ["t", "SELECT * FROM t ORDER BY hash"])
def test_paused_in_one_process_resumed_in_another(folders, look, many, another_workspace, source):
    """The snapshot is gone with the process; what is written is proven, and the rest follows."""
    many()
    expected = folders.expected(source if " " in source else "SELECT * FROM t")
    job = folders.halfway(source=source, format="csv.gz")
    wait_until(lambda: is_materialized(look, job.id) if " " in source else is_counted(look, job.id))
    pause(job)
    parts = look.ledger(job.id)[0]
    folders.exports.workspace.close()
    folders.exports.workspace = another_workspace()
    again = folders.exports.workspace.resume(job.id, workers=1)
    assert again.remark.startswith(f"resuming job {job.id} at ")
    folders.check(again.wait(60), expected)
    assert look.ledger(job.id)[0] > parts
    notes = list(again.events().cause)
    assert any("proven unchanged" in note for note in notes) == (" " not in source)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("INSERT INTO t VALUES (0)", "1 rows were inserted or updated"),
        ("UPDATE t SET amount = 0 WHERE id = 60000", "1 rows were inserted or updated"),
        ("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)", "were deleted"),
        ("TRUNCATE t", "truncated"),
    ],
)
def test_a_table_that_changed_is_no_substitute(
    folders, look, many, another_workspace, change, fault
):
    """With the snapshot lost and the table changed, the job stops; nothing is published."""
    many()
    job = folders.halfway()
    wait_until(lambda: is_counted(look, job.id))
    pause(job)
    # Parts are taken in their order, so that the first ones are written.
    assert look.one("SELECT min(from_byte) FROM taskwidgets.checkpoints") == 0
    folders.exports.workspace.close()
    look(change)
    folders.exports.workspace = another_workspace()
    again = folders.exports.workspace.resume(job.id)
    with pytest.raises(JobFailed, match=fault) as caught:
        again.wait(60)
    assert isinstance(caught.value.__cause__, SourceChanged)
    assert not folders.path.exists()
    anew = folders.start(again=True)
    folders.check(anew.wait(60), folders.expected())


def test_a_row_deleted_from_a_part_in_the_middle(folders, look, many, another_workspace):
    """Parts are proven wherever they lie: also those behind a gap."""
    many()
    job = folders.halfway(parts=6)
    wait_until(lambda: is_counted(look, job.id))
    pause(job)
    first, last = look(
        "SELECT from_byte, to_byte FROM taskwidgets.checkpoints ORDER BY from_byte DESC LIMIT 1"
    )[0]
    look("DELETE FROM taskwidgets.checkpoints WHERE from_byte BETWEEN 1 AND %s", (first - 1,))
    folders.exports.workspace.close()
    kept = look("DELETE FROM t WHERE ctid = ANY (ARRAY(SELECT ctid FROM t WHERE ctid >="
                f" '({first},0)' AND ctid < '({last},0)' LIMIT 1)) RETURNING id")  # fmt: skip
    assert len(kept) == 1
    folders.exports.workspace = another_workspace()
    again = folders.exports.workspace.resume(job.id)
    with pytest.raises(JobFailed, match=r"1 of the .* rows written were deleted"):
        again.wait(60)


def test_sessions_that_are_ended_cost_a_proof(folders, look, many):
    """With all its sessions ended by the server, the export goes on in a snapshot proven equal."""
    many()
    job = folders.halfway()
    wait_until(lambda: is_counted(look, job.id))
    look("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
         f" WHERE pid IN ({EXPORTING})")  # fmt: skip
    job.max_rate = None
    folders.check(job.wait(60), folders.expected())
    assert any("proven unchanged" in cause for cause in job.events().cause)


def test_frozen_and_taken_over(folders, look, many, exporter, another_workspace):
    """A process that wakes up when another one has ended its job changes nothing any more."""
    many()
    expected = folders.expected()
    process = exporter(f"{folders.path}/", "before the rows", 10**6)
    job_id = int(process.line())
    wait_until(lambda: look.ledger(job_id)[0] >= 2)
    process.process.send_signal(signal.SIGSTOP)
    job = folders.exports.workspace.resume(job_id, take_over=True)
    receipt = job.wait(60)
    folders.check(receipt, expected)
    process.process.send_signal(signal.SIGCONT)
    _, complaint = process.end()
    assert "taken over" in complaint
    folders.check(receipt, expected)
    assert folders.names() == ["out"]


def test_many_pauses_lose_no_row(folders, many):
    """Paused and resumed ten times in a row, the folder holds the rows of one COPY."""
    many(100_000)
    job = folders.start(workers=2, max_rate=4e6, format="csv.zst")
    for _ in range(10):
        wait_until(lambda: job.state == "running")
        done = job.progress.done
        wait_until(lambda done=done: job.progress.done > done or job.state != "running")
        pause(job)
        job.resume()
    job.max_rate = None
    folders.check(job.wait(60), folders.expected())
    assert list(job.events().to_state).count("paused") == 10
