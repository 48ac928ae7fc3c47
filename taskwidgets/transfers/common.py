"""What the tasks that load one job's files share: the plan, the pace, buffers, a gate."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection

from taskwidgets.runtime.run import Run
from taskwidgets.store.database import Database
from taskwidgets.store.merging import Merger
from taskwidgets.transfers.crew import Session, Tool
from taskwidgets.transfers.gate import Gate
from taskwidgets.transfers.lanes import Lanes
from taskwidgets.transfers.pace import Pace
from taskwidgets.transfers.upload_plan import UploadPlan

__all__ = ["Common", "Hand"]


class Hand(Tool, Protocol):
    """What does a crew's work: a connection from here, or a lane to a cluster."""

    def here(self) -> AbstractContextManager[Connection]:
        """A connection of this process."""


class Follows(Protocol):
    """A task that loads by the plan."""

    def follow(self, plan: UploadPlan) -> None:
        """Load by this plan from now on; called while no batch is open."""


class Common:
    """One for a crew.

    ``plan`` is the whole job's, as the store has it. ``is_unsure``: a transaction that changes it
    is under way; should its COMMIT be lost, only the store knows what holds. With ``lanes``, a
    cluster's workers do the loading.
    """

    def __init__(self, run: Run, plan: UploadPlan, lanes: Lanes | None = None) -> None:
        self.pace = Pace(run.control) if lanes is None else lanes.pace(run.control)
        self.lanes = lanes
        self.merger = Merger(run.job_id)
        self.buffers = threading.local()
        self.gate = Gate(run.control)
        self.is_unsure = False
        self._plan = plan
        self._lock = threading.Lock()
        self._tasks: list[Follows] = []

    def tool(self, database: Database) -> Hand:
        """What a worker of the crew works with."""
        return Session(database) if self.lanes is None else self.lanes.lane()

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
