"""Table or query to CSV file: one snapshot, ranges of blocks, written in order, published whole."""

from __future__ import annotations

from pathlib import Path

from taskwidgets.errors import SourceChanged, TargetError, TaskwidgetsError
from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.failpoints import reach
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.run import Run
from taskwidgets.store.checkpoints import Checkpoint
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.transfers.compression import compressor, is_plain
from taskwidgets.transfers.crew import Crew
from taskwidgets.transfers.digest import FileDigest, file_sha256
from taskwidgets.transfers.download_plan import DownloadPlan
from taskwidgets.transfers.export_ranges import ExportRanges
from taskwidgets.transfers.exporting import Exporting
from taskwidgets.transfers.partial_file import (
    OrderedFile,
    copy_path,
    has_name,
    older_path,
    partial_path,
    publish,
)
from taskwidgets.transfers.snapshot import Written

__all__ = ["Download"]

QUOTE = ord('"')  # of every export; COPY's own default


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with a file's contents; None when there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


class Download(Exporting):
    """The work of one download into a file."""

    def __init__(
        self, store: PostgresJobStore, plan: DownloadPlan, job_id: int, workers: int
    ) -> None:
        super().__init__(store, plan, job_id, workers)
        self._partial = partial_path(plan.path, job_id)
        self._digest = self._new_digest(verify=False)
        self._stamp: tuple[int, ...] | None = None  # the partial file as it was last closed

    def clean_up(self, run: Run) -> None:
        """Remove the partial file and the staging table; an older file stays as it is."""
        self._forget(run)
        reach("before the file is removed")
        if not self._follows_from_call(run):
            return
        try:
            older = older_path(self._partial)
            if older.exists():  # cut off between its name and its record
                if not self._partial.exists() and self._is_published():
                    older.rename(self._plan.path)
            elif has_name(self._partial, self._plan.path) or (
                not self._plan.is_replacing and not self._partial.exists() and self._is_published()
            ):
                self._plan.path.unlink()
            for path in (self._partial, copy_path(self._partial), older):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise TargetError(f"{self._partial} cannot be removed: {error.strerror}") from error

    def _is_published(self) -> bool:
        """Whether the file of this very export stands under its name."""
        told, path = self._plan.published, self._plan.path
        return (
            told is not None
            and path.is_file()
            and path.stat().st_size == told["size"]
            and file_sha256(path) == told["sha256"]
        )

    # ------------------------------------------------------------------ steps

    def _written(self, ledger: list[Checkpoint]) -> Written | None:
        if not ledger:
            return None
        return Written(ledger[-1].to_block or 0, sum(entry.rows for entry in ledger))

    def _write(self, run: Run, ledger: list[Checkpoint], begin: list[str], blocks: int) -> None:
        """The ranges that are missing, then the hash; what the file is goes into the plan."""
        plan = self._plan
        last = ledger[-1] if ledger else Checkpoint(0, 0, 0, 0, 0)
        first_block, rows_before = last.to_block or 0, sum(entry.rows for entry in ledger)
        # Hashed anew when it is not as the last attempt left it, or is cut back behind its end.
        if self._stamp != _stamp(self._partial) or self._digest.position > last.stop:
            self._digest = self._new_digest(verify=last.stop > 0)
        file = OrderedFile(
            self._partial, last.stop, last.crc32, lambda: crew.stopping, self._digest
        )
        task = ExportRanges(
            store=self._store,
            run=run,
            copies=self._copies(),
            reader=lambda: self._reader(begin),
            compressor=lambda: compressor(plan.path),
            file=file,
            blocks=range(first_block, blocks),
            saved=last.stop,
            count_rows=plan.materialized is not None,
            keep_alive=self._snapshot.keep_alive,
            check=self._snapshot.check_proof,
        )
        crew = Crew(self._read_from, run, task, self._at_once)
        if plan.materialized is None:
            run.meter.set(first_block, rows_before, blocks, "blocks")
        else:
            run.meter.set(rows_before, rows_before, plan.materialized["rows"], "rows")
        self._digest.start(last.stop)
        try:
            with self._snapshot.counted_aside(run, may_count=self._may_count):
                if last.stop == 0:
                    file.begin_with(self._kept.patiently(run, lambda: self._beginning(begin)))
                try:
                    with task:
                        crew.work()
                except (Stopped, TaskwidgetsError):
                    if run.control.wish <= Wish.PAUSE:
                        task.checkpoint()  # what is written is kept, whatever stopped the rest
                    raise
                task.checkpoint()
                self._snapshot.await_proof()
                size = file.settled.size
                sha256 = self._digest.result(size, run.control)
        finally:
            self._snapshot.end_proof()
            self._digest.stop()
            file.close()
            self._stamp = _stamp(self._partial)
        if sha256 is None:
            raise Stopped(run.control.wish)
        if self._digest.with_crc32 and self._digest.crc32 != file.settled.crc32:
            raise SourceChanged(
                f"{self._partial} was changed by somebody else while the export was under way; "
                "start over with again=True"
            )
        rows_read = rows = rows_before + task.rows
        if self._digest.with_records:
            rows = self._digest.records - plan.options.header
        self._kept.settle(
            run, published={"size": size, "sha256": sha256, "rows": rows, "rows_read": rows_read}
        )

    def _new_digest(self, *, verify: bool) -> FileDigest:
        """``verify``: part of the file is there already, and may be somebody else's by now."""
        plain = is_plain(self._plan.path)
        return FileDigest(self._partial, crc32=verify, quote=QUOTE if plain else None)

    def _beginning(self, begin: list[str]) -> bytes:
        """The file's first bytes, its header; in a compressed one a member of its own."""
        squeeze = compressor(self._plan.path)
        # Also where there is none, so that an empty export is a valid member, too.
        return bytes(squeeze.compress(self._header(begin))) + squeeze.flush()

    def _check_whole(self, run: Run) -> None:
        """Before a file that an earlier attempt finished gets its name: it still is that file."""
        told = self._plan.published
        assert told is not None
        path = self._partial if self._partial.exists() else self._plan.path
        sha256: str | None = ""
        if path.is_file() and path.stat().st_size == told["size"]:
            digest = FileDigest(path)
            digest.start()
            try:
                sha256 = digest.result(told["size"], run.control)
            finally:
                digest.stop()
        if sha256 is None:
            raise Stopped(run.control.wish)
        if sha256 != told["sha256"]:
            raise SourceChanged(
                f"{path} is not the file any more that this export finished; start over with "
                "again=True",
                path=path,
            )

    def _publish(self, run: Run) -> Receipt:
        """Give the file its name; done again after a crash, it finds what is done already."""
        plan = self._plan
        told = plan.published
        assert told is not None
        self._check_counts(told)
        self._kept.patiently(run, lambda: self._ledger(run))  # nobody has taken job and file over
        reach("before the final switch")
        if self._partial.exists():
            publish(self._partial, plan.path, replace=plan.is_replacing)
        elif not plan.path.exists() or plan.path.stat().st_size != told["size"]:
            raise SourceChanged(
                f"{self._partial}, which held the whole export, is gone; start over with again=True"
            )
        published = {**told, "mtime_ns": plan.path.stat().st_mtime_ns}
        return self._complete(
            run, published, "the file is whole",
            # No way back from here.
            lambda: older_path(self._partial).unlink(missing_ok=True),
        )  # fmt: skip
