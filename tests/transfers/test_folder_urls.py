"""Folders at a URL, through fsspec: a store that has no renaming, and secrets that nobody keeps."""

import hashlib
import json

import fsspec
import pytest
from fix_exports import pause
from fix_folders import Folders
from fix_servers import wait_until

from taskwidgets import JobFailed
from taskwidgets.errors import OptionError, TargetError, TargetExists
from taskwidgets.transfers.manifest import MANIFEST


class Store:
    """A folder of fsspec's store in memory, which all of this process share."""

    url = "memory://bucket/out/"

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.system = fsspec.filesystem("memory")

    def start(self, source="t", **options):
        return self.folders.start(source, self.url, **options)

    def names(self):
        try:
            found = self.system.ls("/bucket/out", detail=False)
        except FileNotFoundError:
            return set()
        return {name.rpartition("/")[2] for name in found}

    def read(self, name):
        return self.system.cat_file(f"/bucket/out/{name}")

    def check(self, receipt, expected):
        """What the manifest names is there, and nothing else; together it is what COPY gives."""
        data = self.read(MANIFEST)
        told = json.loads(data)
        names = [part["name"] for part in told["parts"]]
        assert self.names() == {MANIFEST, *names}
        parts = [self.read(name) for name in names]
        assert b"".join(part.partition(b"\n")[2] for part in parts) == expected
        assert [part["sha256"] for part in told["parts"]] == [
            hashlib.sha256(part).hexdigest() for part in parts
        ]
        assert receipt.sha256 == hashlib.sha256(data).hexdigest()
        assert receipt.bytes == sum(map(len, parts))
        assert receipt.target == self.url


@pytest.fixture
def store(folders):
    """An empty one."""
    made = Store(folders)
    made.system.store.clear()
    made.system.pseudo_dirs[:] = [""]
    yield made
    made.system.store.clear()


@pytest.mark.parametrize("source", ["t", "SELECT * FROM t"])
def test_the_parts_together_are_one_copy(store, folders, many, source):
    """A table and a query, in parts of names that tell their order."""
    many()
    job = store.start(source, workers=2)
    store.check(job.wait(60), folders.expected())
    again = store.start(source)
    assert again.id == job.id
    assert again.remark.startswith(f"already exported: job {job.id}")


def test_an_older_folder_stands_until_the_manifest_is_written(store, folders, look, many):
    """Under "replace", what the manifest names is there at any moment; then the older parts go."""
    many()
    look("CREATE TABLE old AS SELECT n FROM generate_series(1, 9) AS n")
    store.start("old").wait(60)
    older = store.names()
    with pytest.raises(TargetExists, match="exists already, with files in it"):
        store.start()
    job = store.start(if_exists="replace", workers=2, max_rate=2e6)
    wait_until(lambda: look.ledger(job.id)[0] >= 2)
    assert older < store.names()
    assert json.loads(store.read(MANIFEST))["source"] == "old"
    job.max_rate = None
    store.check(job.wait(60), folders.expected())


def test_what_is_no_export_is_not_replaced(store, look, many):
    """A folder with files that no manifest of ours names is refused, and stays."""
    many(10)
    store.system.pipe_file("/bucket/out/mine.txt", b"mine")
    with pytest.raises(TargetError, match="not replaced"):
        store.start(if_exists="replace")
    assert look.untouched()
    assert store.names() == {"mine.txt"}


@pytest.mark.parametrize("state", ["running", "paused"])
def test_terminate_leaves_nothing(store, look, many, state):
    """What was written is removed; what others have there stays."""
    many()
    job = store.start(workers=2, max_rate=1e6)
    wait_until(lambda: look.ledger(job.id)[0] >= 2)
    store.system.pipe_file("/bucket/out/mine.txt", b"mine")
    if state == "paused":
        pause(job)
    job.terminate()
    job.join(None)
    assert job.state == "terminated"
    assert store.names() == {"mine.txt"}


def test_somebody_was_first(store, folders, look, many):
    """Files that came there meanwhile are no part of the export: it fails, and can go on."""
    many()
    job = store.start(workers=2, max_rate=2e6)
    wait_until(lambda: look.ledger(job.id)[0] >= 2)
    store.system.pipe_file("/bucket/out/mine.txt", b"mine")
    job.max_rate = None
    with pytest.raises(JobFailed, match="has got other files meanwhile"):
        job.wait(60)
    assert MANIFEST not in store.names()
    store.system.rm_file("/bucket/out/mine.txt")
    job.resume()
    store.check(job.wait(60), folders.expected())


def test_a_store_that_fails_fails_the_job_which_goes_on(store, folders, look, many, monkeypatch):
    """An error of the store's own library is told without secrets, and the job can be resumed."""
    many()
    opened = type(store.system).open

    def fail(self, path, *arguments, **options):
        if "part-00005" in path:
            raise OSError("the bucket of user s3cr3t is away")
        return opened(self, path, *arguments, **options)

    monkeypatch.setattr(type(store.system), "open", fail)
    options = {"storage_options": {"auto_mkdir": "s3cr3t"}}
    job = store.start(workers=1, **options)
    with pytest.raises(JobFailed, match=r"the bucket of user \*\*\* is away") as caught:
        job.wait(60)
    assert isinstance(caught.value.__cause__, TargetError)
    assert look.ledger(job.id)[0] == 5
    monkeypatch.undo()
    again = store.start(workers=1, **options)
    assert again.id == job.id
    store.check(again.wait(60), folders.expected())


def test_secrets_are_kept_nowhere(store, look, many, another_workspace):
    """They are in no table and no repr; another process needs the call to have them again."""
    many()
    options = {"storage_options": {"auto_mkdir": "s3cr3t"}, "workers": 1, "max_rate": 1e6}
    job = store.start(**options)
    wait_until(lambda: look.ledger(job.id)[0] >= 1)
    pause(job)
    for table in ("jobs", "events", "checkpoints"):
        assert "s3cr3t" not in str(look(f"SELECT t::text FROM taskwidgets.{table} AS t"))
    assert "s3cr3t" not in repr(job._work._folder.place)
    store.folders.exports.workspace.close()
    store.folders.exports.workspace = another_workspace()
    from taskwidgets.transfers.origins import materials

    materials.forget(job._work._key)  # as in another process
    with pytest.raises(OptionError, match="kept nowhere"):
        store.folders.exports.workspace.resume(job.id)
    again = store.start(**{**options, "max_rate": None})
    assert again.id == job.id
    store.check(again.wait(60), store.folders.expected())


def test_a_place_that_takes_nothing(folders, look, many):
    """Where fsspec cannot write, the job fails with its words, and none of ours are lost."""
    many(10)
    with pytest.raises(TargetError, match=r"^zip://inside/out/ cannot be written: "):
        folders.start("t", "zip://inside/out/").wait(60)
