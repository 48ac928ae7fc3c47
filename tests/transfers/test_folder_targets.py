"""What stands under a folder's name: before, while the export runs, after it, and after its end."""

import json
import os
import threading
from pathlib import Path

import pytest
from fix_exports import EXPORTING, pause
from fix_servers import children, wait_until

from taskwidgets import JobFailed
from taskwidgets.errors import SourceChanged, TargetError, TargetExists
from taskwidgets.transfers.manifest import MANIFEST


def test_a_folder_with_files_is_left_alone(folders, look, many):
    """Without "replace" nothing is begun where there is something; an empty folder is no thing."""
    many(10)
    folders.path.mkdir()
    (folders.path / "mine.txt").write_text("mine")
    with pytest.raises(TargetExists, match="exists already, with files in it"):
        folders.start()
    assert look.untouched()
    assert folders.names() == ["out"]
    (folders.path / "mine.txt").unlink()
    folders.check(folders.start().wait(60), folders.expected())


@pytest.mark.parametrize("what", ["no manifest", "another's manifest", "one file more"])
def test_what_is_no_export_is_not_replaced(folders, look, many, old_folder, what):
    """Under "replace", a folder with anything that no manifest of ours names is refused."""
    many(10)
    if what == "no manifest":
        (folders.path / MANIFEST).unlink()
    elif what == "another's manifest":
        (folders.path / MANIFEST).write_text(json.dumps({"parts": []}))
    else:
        (folders.path / "mine.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folders.path.iterdir()}
    with pytest.raises(TargetError, match="not replaced"):
        folders.start(if_exists="replace")
    assert {path.name: path.read_bytes() for path in folders.path.iterdir()} == before
    assert folders.names() == ["out"]


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: path.write_text("a file"), "is a file"),
        (lambda path: path.symlink_to("elsewhere"), "is a link"),
        (lambda path: path.parent.joinpath("deep").mkdir(), None),
    ],
)
def test_what_is_no_folder(folders, many, make, fault):
    """A file or a link of that name is refused, with or without "replace"."""
    many(10)
    make(folders.path)
    if fault is None:
        with pytest.raises(TargetError, match="create it first"):
            folders.start("t", f"{folders.base}/deep/deeper/out/")
        return
    for mode in ("fail", "replace"):
        with pytest.raises(TargetError, match=fault):
            folders.start(if_exists=mode)


def test_the_older_folder_stands_until_the_new_one_is_whole(folders, many, old_folder):
    """Whoever opens it has the old folder, or the whole new one; nothing but the blink between."""
    many()
    old, expected = old_folder(), folders.expected()
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            try:
                # By its name, the manifest of one could be read, and then a part of the other.
                opened = os.open(folders.path, os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            try:
                seen.add(folders.rows(Path(f"/proc/self/fd/{opened}")))
            except FileNotFoundError:  # it was replaced, and removed, while it was read
                continue
            finally:
                os.close(opened)

    watching = threading.Thread(target=watch)
    watching.start()
    receipt = folders.start(if_exists="replace", workers=2, max_rate=5e6).wait(60)
    wait_until(lambda: expected in seen)
    stop.set()
    watching.join()
    assert seen == {old, expected}
    folders.check(receipt, expected)
    assert folders.names() == ["out"]


@pytest.mark.sample(2)
@pytest.mark.parametrize("source", ["t", "SELECT * FROM t"])
@pytest.mark.parametrize("state", ["running", "paused", "failed"])
def test_terminate_leaves_nothing(folders, look, many, old_folder, state, source):
    """Terminated while it runs, is paused, or has failed: the older folder is all that is there."""
    many()
    old = old_folder()
    job = folders.halfway(source=source, if_exists="replace", max_rate=1e6)
    if state == "paused":
        pause(job)
    elif state == "failed":
        (folders.path / "mine.txt").write_text("mine")
        job.max_rate = None
        with pytest.raises(JobFailed, match="not replaced"):
            job.wait(60)
        (folders.path / "mine.txt").unlink()
    assert job.state == state
    job.terminate()
    job.join(None)
    assert job.state == "terminated"
    assert folders.rows() == old
    assert folders.names() == ["out"]
    assert look.staging() == []
    assert look.ledger(job.id) == (0, 0)
    wait_until(lambda: not look(EXPORTING), "for the sessions' end")
    assert children() == []


def test_somebody_was_first(folders, many):
    """A folder that comes into being meanwhile is not touched; moved away, the job completes."""
    many()
    job = folders.halfway()
    folders.path.mkdir()
    (folders.path / "mine.txt").write_text("mine")
    job.max_rate = None
    with pytest.raises(JobFailed, match="come into being meanwhile"):
        job.wait(60)
    assert [path.name for path in folders.path.iterdir()] == ["mine.txt"]
    folders.path.rename(folders.base / "theirs")
    job.resume()
    folders.check(job.wait(60), folders.expected())


def test_run_all_does_not_write_it_again(folders, look, many):
    """Table and folder unchanged: already exported; else it is written anew, or refused."""
    many(2000)
    job = folders.start(if_exists="replace")
    job.wait(60)
    again = folders.start(if_exists="replace")
    assert again.id == job.id
    assert again.remark == f"already exported: job {job.id}"
    look("UPDATE t SET note = 'new' WHERE id = 7")
    changed = folders.start(if_exists="replace")
    assert changed.id != job.id
    folders.check(changed.wait(60), folders.expected())
    folders.parts()[0].write_bytes(b"")
    torn = folders.start(if_exists="replace")
    assert torn.id not in (job.id, changed.id)
    folders.check(torn.wait(60), folders.expected())
    query = folders.start("SELECT 1", f"{folders.base}/query/")
    query.wait(60)
    same = folders.start("SELECT 1", f"{folders.base}/query/")
    assert same.remark == f"already exported: job {query.id}; the query was not run again"
    other = folders.start(if_exists="replace", format="csv.gz")
    assert other.id not in (job.id, changed.id, torn.id)


def test_a_part_that_was_changed_is_noticed(folders, many):
    """While the job is paused, somebody cuts a part: it is refused, and starts over when asked."""
    many()
    job = folders.halfway()
    pause(job)
    (partial,) = folders.base.glob(".*.partial")
    kept = {name for (name,) in folders.look("SELECT file ->> 'name' FROM taskwidgets.checkpoints")}
    victim = partial / sorted(kept)[0]
    victim.write_bytes(victim.read_bytes()[:-1])
    job.resume()
    with pytest.raises(JobFailed, match=r"the part .* has [\d,]+ bytes") as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, SourceChanged)
    anew = folders.start(again=True)
    assert anew.id != job.id
    folders.check(anew.wait(60), folders.expected())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_full_disk_fails_the_job_and_room_completes_it(folders, look, many, small_disk, kind):
    """The disk fills up: the job fails and says so, its parts stand; with room made, the same
    call completes it."""
    many(120_000)
    folders.base = small_disk.folder
    target = f"{small_disk.folder}/out/"
    if not small_disk.mounted:  # the limit is on a file, so that one part has to be above it
        pytest.fail("this test mounts a small disk; run it as root")
    job = folders.start("t", target, workers=2, format=kind)
    with pytest.raises(JobFailed, match=r"the disk is full.*resume") as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, TargetError)
    assert look.ledger(job.id)[0] > 0
    assert not (small_disk.folder / "out").exists()
    small_disk.make_room()
    again = folders.start("t", target, workers=2, format=kind)
    assert again.id == job.id
    assert "resuming" in again.remark
    assert again.wait(60).rows_loaded == 120_000
    if kind == "csv":
        assert folders.rows(small_disk.folder / "out") == folders.expected()


def test_max_rate_holds_for_all_parts_together(folders, many):
    """Two workers share one limit of bytes of CSV per second."""
    many(20_000)
    size = len(folders.expected())
    job = folders.start(workers=2, max_rate=size / 2)
    assert job.wait(60).seconds > 1.5
