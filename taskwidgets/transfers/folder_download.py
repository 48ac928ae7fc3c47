"""Table or query to a folder of part files: one snapshot, a range of blocks a part, a manifest."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from sqlalchemy import text

from taskwidgets.cluster import Cluster
from taskwidgets.errors import OptionError
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.ranges import gaps
from taskwidgets.transfers.crew import Crew
from taskwidgets.transfers.disk_folder import DiskFolder
from taskwidgets.transfers.download_plan import DownloadPlan
from taskwidgets.transfers.export_parts import ExportParts, Hands, OwnHands, PartRange
from taskwidgets.transfers.exporting import Exporting
from taskwidgets.transfers.folders import Folder
from taskwidgets.transfers.lanes import MOST_LANES, Lanes, threads_of
from taskwidgets.transfers.manifest import Part, manifest
from taskwidgets.transfers.origins import materials
from taskwidgets.transfers.origins.remote import is_url
from taskwidgets.transfers.part_formats import PARQUET
from taskwidgets.transfers.parts import PartOrder
from taskwidgets.transfers.parts_elsewhere import ClusterHands
from taskwidgets.transfers.places import UrlPlace
from taskwidgets.transfers.recorded_download import check_part_name
from taskwidgets.transfers.snapshot import Written
from taskwidgets.transfers.url_folder import UrlFolder

__all__ = ["FolderDownload", "folder_of"]

# What a part takes in of a table, as it lies in the database. Large enough for a terabyte to be
# some ten thousand files; small enough for a worker that dies to lose little, and for a pause,
# after which parts in flight are written again, to cost a second at most. Smaller tables become
# this many parts, so that all workers have their share and progress is seen.
PART_BYTES = 64 << 20
FEWEST_PARTS = 16
SMALLEST_PART = 1 << 20  # bytes
RATED_SECONDS = 10  # that a part may take at a limited rate, so that a pause costs no more

# All of a relation, what lies outside of its blocks included.
SIZE = text("SELECT coalesce(pg_table_size(to_regclass(:name)), 0)::bigint")


def folder_of(plan: DownloadPlan, job_id: int, key: str) -> Folder:
    """The folder of an export; its secrets are those that the call of this ``key`` gave."""
    assert plan.folder is not None
    path = plan.options.path
    if is_url(path):
        place = materials.find(key) or UrlPlace(path, {})
        return UrlFolder(place, plan.folder["token"], replace=plan.is_replacing)
    return DiskFolder(Path(path), job_id, replace=plan.is_replacing)


class FolderDownload(Exporting):
    """The work of one download into a folder."""

    def __init__(
        self,
        store: PostgresJobStore,
        plan: DownloadPlan,
        job_id: int,
        workers: int,
        cluster: Cluster | None = None,
    ) -> None:
        super().__init__(store, plan, job_id, workers)
        self.cluster = cluster
        self._job_id = job_id
        self._key = plan.options.key()

    @property
    def _folder(self) -> Folder:
        return folder_of(self._plan, self._job_id, self._key)

    def check(self) -> None:
        """OptionError where this process has another source, or not the secrets of a URL."""
        super().check()
        self._check_secret()

    def _check_secret(self) -> None:
        folder = self._plan.folder
        assert folder is not None
        if folder["secret"] and materials.find(self._key) is None:
            raise OptionError(
                f"job {self._job_id} writes to {self._plan.options.path}, with secrets that are "
                "kept nowhere; call tw.download again as it was called, and it goes on"
            )

    def clean_up(self, run: Run) -> None:
        """Remove the parts and the staging table; an older folder stays as it is."""
        self._check_secret()
        self._forget(run)
        reach("before the file is removed")
        if not self._follows_from_call(run):
            return
        told = self._plan.published
        self._folder.undo(
            None if told is None else told["sha256"], over=told is not None and told["over"]
        )

    # ------------------------------------------------------------------ steps

    def _written(self, ledger: list[Checkpoint]) -> Written | None:
        if not ledger:
            return None
        stop = ledger[-1].stop
        missing = gaps(((entry.start, entry.stop) for entry in ledger), 0, stop)
        return Written(stop, sum(entry.rows for entry in ledger), tuple(missing))

    def _write(self, run: Run, ledger: list[Checkpoint], begin: list[str], blocks: int) -> None:
        """The parts that are missing; what the manifest is to be goes into the plan."""
        if not ledger:
            self._cut(run, blocks)
        plan, folder = self._plan, self._folder
        assert plan.folder is not None
        folder.begin(
            {
                check_part_name(self._job_id, one.file["name"]): one.file["bytes"]
                for one in ledger
                if one.file
            }
        )
        done = {one.start for one in ledger}
        end, count = max(blocks, 1), plan.folder["parts"]
        bounds = [end * number // count for number in range(count + 1)]
        ranges = [
            PartRange(number, start, stop)
            for number, (start, stop) in enumerate(pairwise(bounds))
            if start not in done
        ]
        rows = sum(one.rows for one in ledger)
        if plan.materialized is None:
            blocks_done = sum(one.stop - one.start for one in ledger)
            run.meter.set(blocks_done, rows, end, "blocks")
        else:
            run.meter.set(rows, rows, plan.materialized["rows"], "rows")
        copies = self._copies()
        kind = plan.options.format
        assert kind is not None
        whole = PartOrder(
            place=folder.place,
            stem="",
            format=kind,
            copy=copies.of(0, 0),
            header=b""
            if kind == PARQUET
            else self._kept.patiently(run, lambda: self._header(begin)),
            columns=tuple(plan.columns),
            types=tuple(plan.type_names),
        )
        token = plan.folder["token"]
        task = ExportParts(
            store=self._store,
            run=run,
            missing=ranges,
            order=lambda part: replace(
                whole,
                stem=f"part-{part.number:05}-{token}",
                copy=copies.of(part.start, part.stop),
            ),
            hands=self._hands(run, begin),
            learn=copies.learn,
            count_rows=plan.materialized is not None,
            keep_alive=self._snapshot.keep_alive,
            check=self._snapshot.check_proof,
        )
        try:
            with self._snapshot.counted_aside(run, may_count=self._may_count), task:
                Crew(self._read_from, run, task, self._at_once).work()
                self._snapshot.await_proof()
        finally:
            self._snapshot.end_proof()
        self._settle_manifest(run, folder)

    def _hands(self, run: Run, begin: list[str]) -> Hands[Any]:
        if self.cluster is None:
            return OwnHands(lambda: self._reader(begin), run)
        lanes = Lanes(self.cluster, self._read_from, run, self._at_once)
        return ClusterHands(lanes, run, begin, self._store.database)

    def _most(self, run: Run) -> int:
        if self.cluster is None:
            return self._workers
        return min(MOST_LANES, threads_of(self.cluster, self._store.database, run))

    def run(self, run: Run) -> Receipt:
        """As any export; the connection with a cluster ends with it."""
        try:
            return super().run(run)
        finally:
            if self.cluster is not None:
                self.cluster.close()

    def _cut(self, run: Run, blocks: int) -> None:
        """Decide how many parts there are to be."""
        sizes: list[int] = []
        (name,) = self._kept.spoken((self._plan.table or self._staging).identifier)

        def act() -> None:
            with self._read_from.begin() as connection:
                sizes.append(int(connection.scalar(SIZE, {"name": name}) or 0))

        self._kept.patiently(run, act)
        wanted = min(PART_BYTES, max(SMALLEST_PART, sizes[-1] // FEWEST_PARTS))
        if run.control.max_rate is not None:
            wanted = max(SMALLEST_PART, min(wanted, int(run.control.max_rate * RATED_SECONDS)))
        # Of an empty table there is one as well, with the header.
        count = max(1, min(blocks, -(-sizes[-1] // wanted)))
        assert self._plan.folder is not None
        self._kept.settle(run, folder={**self._plan.folder, "parts": count})

    def _settle_manifest(self, run: Run, folder: Folder) -> None:
        parts, _ = self._committed(run, folder)
        rows_read = rows = sum(part.rows for part in parts)
        if self._plan.materialized is not None:
            rows_read = self._plan.materialized["rows"]
        elif self._plan.seen is not None and self._plan.seen.rows is not None:
            rows_read = self._plan.seen.rows
        self._kept.settle(
            run,
            published={
                "size": sum(part.bytes for part in parts),
                "sha256": hashlib.sha256(self._manifest(parts)).hexdigest(),
                "rows": rows,
                "rows_read": rows_read,
                "over": folder.is_taken(),
            },
        )

    def _committed(self, run: Run, folder: Folder) -> tuple[list[Part], dict[str, str]]:
        """The parts that count, and their final names by those of the attempts."""
        parts, names = [], {}
        for number, entry in enumerate(self._kept.patiently(run, lambda: self._ledger(run))):
            file = entry.file
            assert file is not None
            check_part_name(self._job_id, file["name"])
            name = names[file["name"]] = folder.final_name(number, file["name"])
            parts.append(
                Part(name, entry.rows, file["bytes"], f"{entry.crc32:08x}", file["sha256"])
            )
        return parts, names

    def _manifest(self, parts: list[Part]) -> bytes:
        return manifest(self._job_id, self._plan, parts)

    def _check_whole(self, run: Run) -> None:
        """Nothing: the parts are looked at as the folder is published."""

    def _publish(self, run: Run) -> Receipt:
        told = self._plan.published
        assert told is not None
        self._check_counts(told)
        folder = self._folder
        parts, names = self._committed(run, folder)  # nobody has taken the job over
        reach("before the final switch")
        folder.publish(self._manifest(parts), names)
        return self._complete(run, told, "the folder is whole", folder.settle)
