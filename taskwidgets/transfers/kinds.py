"""The kinds of transfer: how a recorded job becomes work again, and when a finished one stands."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from taskwidgets.cluster import Cluster
from taskwidgets.errors import SourceError, TaskwidgetsError
from taskwidgets.runtime.run import Work
from taskwidgets.runtime.store import JobRecord
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.source import Fingerprint
from taskwidgets.transfers import download_plan, tables, upload_options
from taskwidgets.transfers.digest import file_sha256, joined_sha256
from taskwidgets.transfers.download import Download
from taskwidgets.transfers.download_plan import DownloadPlan
from taskwidgets.transfers.folder_download import FolderDownload, folder_of
from taskwidgets.transfers.many import sizes
from taskwidgets.transfers.origins import materials
from taskwidgets.transfers.origins.files import matching, paths_of
from taskwidgets.transfers.origins.origin import FILES, Origin
from taskwidgets.transfers.origins.remote import REMOTE, Address, Remote, look_soon
from taskwidgets.transfers.origins.spool import Spool
from taskwidgets.transfers.origins.tabular_files import TABULAR, is_same_file
from taskwidgets.transfers.prepared import PreparedUpload, is_prepared
from taskwidgets.transfers.recorded_download import checked_values
from taskwidgets.transfers.recorded_upload import checked_upload
from taskwidgets.transfers.snapshot import Snapshot, Written, compare, verify
from taskwidgets.transfers.sources import find_relation
from taskwidgets.transfers.upload import Upload
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["KINDS", "Kind"]


class Kind(Protocol):
    """One kind of transfer."""

    def work(
        self, store: PostgresJobStore, record: JobRecord, workers: int, cluster: Cluster | None
    ) -> Work:
        """The work of a recorded job, from its plan."""

    def standing(self, store: PostgresJobStore, record: JobRecord) -> str | None:
        """What to say of a completed job whose source and target are as it left them; else None."""


class _Upload:
    def work(
        self, store: PostgresJobStore, record: JobRecord, workers: int, cluster: Cluster | None
    ) -> Work:
        if is_prepared(record):
            return PreparedUpload(store, record, workers, cluster)
        plan = UploadPlan.from_json(record.spec.plan)
        return Upload(store, plan, record.id, workers, cluster)

    def standing(self, store: PostgresJobStore, record: JobRecord) -> str | None:
        with store.in_transaction() as connection:
            plan = checked_upload(connection, record.spec, record.id)
        assert record.receipt is not None
        if not self._is_same_source(plan, record.receipt.sha256, record.spec.key):
            return None
        assert plan.landed is not None
        rows = record.receipt.rows_loaded
        with store.database.begin_apart() as connection:  # the count may take long
            untouched = tables.untouched(
                connection, plan.target, plan.landed, rows, appended=plan.if_exists == "append"
            )
        if untouched is None:
            raise TaskwidgetsError(
                f'job {record.id} appended these {rows:,} rows to "{plan.target}" already, and '
                "since then all of them were changed or deleted; again=True appends them once more"
            )
        return f"already loaded: job {record.id}" if untouched else None

    @staticmethod
    def _is_same_source(plan: UploadPlan, sha256: str, key: str) -> bool:
        if plan.origin is not None:
            return _is_same_origin(plan, sha256, key)
        now = Fingerprint.of(plan.path)
        # A cell that makes the file makes it anew each time; the hash tells whether it is another.
        return now == plan.fingerprint or (
            now.size == plan.size and file_sha256(plan.path) == sha256
        )


def _is_same_remote(origin: Origin, key: str) -> bool:
    """Whether the server has the same file; where it cannot be asked, it is taken for the same."""
    address = materials.find(key) or Address(origin.facts["url"], {})
    try:
        return look_soon(Remote(address)) in (None, origin.facts["tags"])
    except SourceError:
        return True


def _is_same_origin(plan: UploadPlan, sha256: str, key: str) -> bool:
    """Whether what a source that was made ready was made of is still the same."""
    assert plan.origin is not None
    origin = Origin.from_json(plan.origin)
    if origin.spool:
        Spool(origin.spool).remove()  # that a crash may have left
    if origin.kind == FILES:
        pattern = origin.facts.get("pattern")
        if pattern and matching(pattern) != paths_of(origin.facts):
            return False
        made_of = plan.parts.made_of
        if not all(is_same_file(Path(one["path"]), one) for one in made_of.values()):
            return False
        is_same = True
        for number, part in enumerate(plan.parts):
            if number in made_of:
                continue
            now = Fingerprint.of(part.path)
            if now.size != part.fingerprint.size:
                return False
            is_same = is_same and now == part.fingerprint
        # The receipt's hash is of the spools, too.
        return is_same or (not made_of and joined_sha256(sizes(plan)) == sha256)
    if origin.kind in TABULAR:
        return is_same_file(Path(origin.facts["path"]), origin.facts)
    if origin.kind == REMOTE:
        return _is_same_remote(origin, key)
    return True  # the key says what a data frame holds


class _Download:
    def work(
        self, store: PostgresJobStore, record: JobRecord, workers: int, cluster: Cluster | None
    ) -> Work:
        plan = DownloadPlan.from_json(record.spec.plan)
        if plan.options.is_folder:
            return FolderDownload(store, plan, record.id, workers, cluster)
        return Download(store, plan, record.id, workers)

    def standing(self, store: PostgresJobStore, record: JobRecord) -> str | None:
        plan = checked_values(record.spec, record.id)
        if not self._target_stands(plan, record):
            return None
        done = f"already exported: job {record.id}"
        if plan.table is None or plan.oid is None:
            # Whether a query would give the same today, only running it tells. Where the file may
            # not be replaced there is nothing else to do; where it may, the query is run again.
            return None if plan.is_replacing else f"{done}; the query was not run again"
        with store.source.begin() as connection:
            name = find_relation(connection, plan.options.source).name
        return done if name == plan.table and self._table_unchanged(store, plan) else None

    @staticmethod
    def _target_stands(plan: DownloadPlan, record: JobRecord) -> bool:
        """Whether the file, or the folder, is as the job left it."""
        told = plan.published
        assert told is not None
        if plan.options.is_folder:
            return folder_of(plan, record.id, record.spec.key).stands(told["sha256"])
        try:
            facts = plan.path.stat()
        except OSError:
            return False
        return (facts.st_size, facts.st_mtime_ns) == (told["size"], told["mtime_ns"])

    @staticmethod
    def _table_unchanged(store: PostgresJobStore, plan: DownloadPlan) -> bool:
        assert plan.table is not None
        assert plan.oid is not None
        then = plan.seen
        if then is None or plan.published is None:
            return False
        snapshot = Snapshot(store.source)
        try:
            now = snapshot.witness(plan.table, plan.oid)
            written = Written(max(then.blocks, now.blocks), plan.published["rows"])
            compare(plan.table, then, now)
            verify(snapshot, plan.table, then, written)
        except SourceError:
            return False
        finally:
            snapshot.close()
        return True


KINDS: dict[str, Kind] = {upload_options.KIND: _Upload(), download_plan.KIND: _Download()}
