"""What the runtime asks of a store: a protocol, so that no SQL is known here."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from taskwidgets.errors import JobFenced
from taskwidgets.runtime.control import Control
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State

KERNEL_FILE = re.compile(r"kernel-([0-9a-fA-F-]{8,})\.json$")

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Claim", "JobRecord", "JobSpec", "JobStore", "Owner"]


@dataclass(frozen=True)
class Owner:
    """The process that runs a job: who has it, where, since when."""

    host: str
    pid: int
    session: str  # random, tells two processes apart that had the same pid one after the other
    since: datetime | None = None
    seen: datetime | None = None  # the last sign of life, by the database's clock
    kernel: str = ""  # the Jupyter kernel's id; "" in a script
    notebook: str = ""  # the path of the notebook that the kernel was started for, where known
    lease: float | None = None  # seconds for which one counts; None: its session tells at once

    @property
    def short(self) -> str:
        """Which process, as events and requests name it."""
        return f"{self.pid}@{self.host}"

    def __str__(self) -> str:
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        notebook = f" ({self.notebook})" if self.notebook else ""
        return f"process {self.pid} on {self.host}{notebook}{since}"

    @classmethod
    def this_process(cls, session: str) -> Owner:
        """This very process, as others will see it."""
        # A Jupyter server starts a kernel as "... -f .../kernel-<id>.json", and says for which
        # notebook in an environment variable (jupyter_server.services.sessions).
        kernel = next((match[1] for text in sys.argv if (match := KERNEL_FILE.search(text))), "")
        return cls(
            socket.gethostname(),
            os.getpid(),
            session,
            kernel=kernel,
            notebook=os.environ.get("JPY_SESSION_NAME", "") if kernel else "",
        )


@dataclass(frozen=True)
class JobSpec:
    """What makes a job, before it has a number.

    ``key`` says which calls mean the same job; ``options`` are the caller's, ``plan`` is what was
    decided from the source and the target before anything began (types, offsets, names), and
    ``total`` how much there is to do, in ``unit``, where that is known.
    """

    key: str
    kind: str
    name: str
    source: str
    target: str
    options: dict[str, Any]
    plan: dict[str, Any]
    total: int | None = None
    unit: str = "bytes"


@dataclass(frozen=True)
class JobRecord:
    """A job as the store has it; ``state`` is the true one: interrupted when the owner is gone.

    ``undoing``: its clean-up has begun, and is not finished. What it made may be gone in part, so
    it cannot go on any more. ``role``: the database role that made it, None where an earlier
    release recorded it without. ``is_of_this_role``: whether that is the role of this process.
    """

    id: int
    spec: JobSpec
    state: State
    epoch: int
    progress: Progress
    owner: Owner | None = None
    error: dict[str, Any] | None = None
    receipt: Receipt | None = None
    updated_at: datetime | None = None
    checkpoint_at: datetime | None = None  # when the last segment was committed
    created_at: datetime | None = None
    undoing: bool = False
    role: str | None = None
    is_of_this_role: bool = True


@dataclass(frozen=True)
class Claim:
    """The right to write for a job: valid as long as the job's epoch is this one.

    ``rested_in``: the state in which the job last came to rest, paused, interrupted or failed;
    attempts that were refused since, as the source had changed, do not count.
    """

    job_id: int
    epoch: int
    rested_in: State = field(default=State.PENDING)
    owner: Owner | None = None


class JobStore(Protocol):
    """Where jobs are kept. Every method blocks, and raises errors of our own tree."""

    def record(self, job_id: int) -> JobRecord:
        """The job; JobNotFound when there is none."""

    def claim(
        self, job_id: int, to: State, cause: str, control: Control, *, take_over: bool = False
    ) -> Claim:
        """Become the one owner and move the job to ``to`` (running or terminating).

        The epoch rises by one, which fences every earlier owner. JobOwned while somebody else is
        alive on it; IllegalTransition when its state forbids it, as it forbids to run what is
        being undone; JobOfOtherRole when another role made the job. From then on the store asks
        ``control`` to yield if the job is taken over, and passes on what other processes request.
        ``take_over``: from an owner who is alive, or frozen, as well; their sessions are ended.
        And from another role: the job is this role's from then on.
        """

    def move(
        self,
        claim: Claim,
        to: State,
        cause: str,
        *,
        progress: Progress | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        """Record a transition, and its event; JobFenced when the claim is not valid any more."""

    def note(
        self, job_id: int, kind: str, text: str, details: dict[str, Any] | None = None
    ) -> None:
        """Record an event that is no transition."""

    def release(self, claim: Claim) -> None:
        """Give up the ownership; never raises."""

    def fenced(self, claim: Claim) -> JobFenced:
        """The error for a claim that is not valid any more, naming who has the job now."""

    def request(self, job_id: int, verb: str, cause: str) -> None:
        """Ask whoever runs the job to ``pause`` or ``terminate`` it."""

    def follow(self, job_id: int, hear: Callable[[JobRecord | None], None]) -> None:
        """Have ``hear`` called about twice a second with the job's record, in some thread.

        None: there is no such job any more.
        """

    def unfollow(self, job_id: int) -> None:
        """Stop following the job."""

    def rejects(self, job_id: int) -> pd.DataFrame:
        """The records that an upload did not load, in the order of the file."""

    def waiting_rejects(
        self, job_id: int, limit: int, offset: int, ids: Sequence[int] | None, longest: int
    ) -> tuple[pd.DataFrame, int]:
        """Some of those that are not loaded yet (id, line, column, message, raw), and how many.

        ``ids``: only of these. ``longest``: characters of ``raw``; one more shows that it is cut.
        """

    def events(self, job_id: int) -> pd.DataFrame:
        """The job's events, oldest first."""
