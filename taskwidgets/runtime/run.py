"""One attempt at a job, and what a kind of job does with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from taskwidgets.runtime.control import Control, Wish
from taskwidgets.runtime.progress import Meter
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State
from taskwidgets.runtime.store import Claim, JobStore
from taskwidgets.runtime.threads import LoopHandle

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "Work"]


class Work(Protocol):
    """What a kind of job does; every method blocks, in the job's own thread."""

    def check(self) -> None:
        """Raise, at once, what keeps this process from running the job; nothing has begun yet."""

    def run(self, run: Run) -> Receipt:
        """Do what is left to do, record the completion, return the receipt.

        Raises Stopped at a safe point after a wish; any other exception fails the job, whose
        committed part stands.
        """

    def replay(self, job_id: int, mended: pd.DataFrame) -> Receipt:
        """Load mended rejects of a completed job; the receipt, counted anew."""

    def clean_up(self, run: Run) -> None:
        """Undo all that the job has made; called once per claim when it is terminated."""


class Run:
    """One attempt at a job, as its work sees it.

    ``checkpointed()``: something was committed just now. ``say(text)``: a word for the views on
    what is going on, such as "database away, retrying"; "" when it is over.
    """

    def __init__(
        self,
        job_id: int,
        claim: Claim,
        store: JobStore,
        control: Control,
        meter: Meter,
        loop: LoopHandle,
        *,
        moved: Callable[[State], None],
        checkpointed: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.job_id = job_id
        self.claim = claim
        self.control = control
        self.meter = meter
        self.loop = loop
        self.checkpointed = checkpointed
        self.say = say
        self._store = store
        self._moved = moved
        self._pausing = False

    def acknowledge(self) -> None:
        """Record that a wish has been heard, once: the state becomes pausing."""
        if self.control.wish is Wish.PAUSE and not self._pausing:
            self._pausing = True
            self._store.move(self.claim, State.PAUSING, self.control.cause)
            self._moved(State.PAUSING)

    def note(self, kind: str, text: str, details: dict[str, Any] | None = None) -> None:
        """Record an event."""
        self._store.note(self.job_id, kind, text, details)
