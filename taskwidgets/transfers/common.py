"""What the tasks that load one job's files share: the plan, the pace, buffers, a gate."""

from __future__ import annotations

import threading
from typing import Protocol

from taskwidgets.runtime.run import Run
from taskwidgets.store.merging import Merger
from taskwidgets.transfers.gate import Gate
from taskwidgets.transfers.pace import Pace
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["Common"]


class Follows(Protocol):
    """A task that loads by the plan."""

    def follow(self, plan: UploadPlan) -> None:
        """Load by this plan from now on; called while no batch is open."""


class Common:
    """One for a crew.

    ``plan`` is the whole job's, as the store has it. ``is_unsure``: a transaction that changes it
    is under way; should its COMMIT be lost, only the store knows what holds.
    """

    def __init__(self, run: Run, plan: UploadPlan) -> None:
        self.pace = Pace(run.control)
        self.merger = Merger(run.job_id)
        self.buffers = threading.local()
        self.gate = Gate(run.control)
        self.is_unsure = False
        self._plan = plan
        self._lock = threading.Lock()
        self._tasks: list[Follows] = []

    @property
    def plan(self) -> UploadPlan:
        return self._plan

    def join(self, task: Follows) -> None:
        """Have the task follow the plan, from now on."""
        with self._lock:
            self._tasks.append(task)
            task.follow(self._plan)

    def leave(self, task: Follows) -> None:
        """The task has no more to load."""
        with self._lock:
            self._tasks.remove(task)

    def adopt(self, plan: UploadPlan) -> None:
        """Load by this plan from now on; called while no batch is open."""
        with self._lock:
            self._plan = plan
            for task in self._tasks:
                task.follow(plan)
        self.is_unsure = False
