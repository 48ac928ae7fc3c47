"""Segments of a source in which records may be damaged: what is good is loaded, the rest is kept.

Cleaning comes first (`taskwidgets.tabular.cleaning`), then Postgres judges the values. Rows,
rejects and checkpoint commit in one transaction, so that read = loaded + rejected at any moment.
"""

from __future__ import annotations

from taskwidgets.errors import SourceError
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.run import Run
from taskwidgets.store.jobs import PostgresJobStore
from taskwidgets.tabular.pieces import Cutter, PiecedSegment
from taskwidgets.transfers.common import Common
from taskwidgets.transfers.loading import LenientLoader
from taskwidgets.transfers.names import TableName
from taskwidgets.transfers.segment_batches import Follower, Segments
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["LenientSegments", "check_share"]

ENOUGH_ROWS = 1000  # of which a share is told; before that, one bad row in three says nothing


class LenientSegments(Segments[PiecedSegment]):
    """A crew's task: one batch is one segment, its good rows and its rejects."""

    def __init__(
        self,
        run: Run,
        store: PostgresJobStore,
        plan: UploadPlan,
        staging: TableName,
        cutter: Cutter,
        digest: Follower,
        common: Common | None = None,
        part: int | None = None,
    ) -> None:
        self._cutter = cutter
        super().__init__(run, store, plan, staging, cutter, digest, common, part)

    def loader(self, plan: UploadPlan) -> LenientLoader:
        return LenientLoader(plan, self._staging, self._run.job_id, self._cutter.line_of)

    def is_in_file(self, batch: PiecedSegment) -> bool:
        return self._cutter.is_in_file

    def count(self, batch: PiecedSegment) -> None:
        super().count(batch)
        check_share(self._plan, self._run.meter.snapshot())


def check_share(plan: UploadPlan, progress: Progress, *, finished: bool = False) -> None:
    """SourceError when more rows were rejected than the caller takes for bearable.

    ``finished``: all of the source is read; before that, a share of few rows says nothing.
    """
    most = plan.max_rejects
    if most is None:
        return
    read = progress.rows + progress.rejected
    if isinstance(most, float):
        too_many = progress.rejected > most * read and (finished or read >= ENOUGH_ROWS)
        bound = f"{most:.3g} of all rows"
    else:
        too_many = progress.rejected > most
        bound = f"{most:,} rows"
    if too_many:
        raise SourceError(
            f"{plan.source}: {progress.rejected:,} of {read:,} rows were rejected, more than "
            f"max_rejects={most!r} ({bound}). job.rejects() shows them; the load is probably "
            "simply wrong: look at delimiter, encoding and types",
            path=plan.path if plan.origin is None else None,
        )
