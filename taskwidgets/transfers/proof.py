"""The proof that a new snapshot shows what was written under an older one, made beside the export.

It looks at each row of the table, which takes seconds for gigabytes; and all that depends on it is
whether the file may be published. So the export goes on meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from taskwidgets.runtime.control import Stopped, Wish
from taskwidgets.runtime.run import Run
from taskwidgets.runtime.threads import start_thread
from taskwidgets.transfers.crew import CANCEL_INTERVAL
from taskwidgets.transfers.snapshot import Snapshot

__all__ = ["Proof"]


class Proof:
    """Runs in the snapshot's session, which nothing else is to use until ``wait`` or ``end``."""

    def __init__(self, run: Run, snapshot: Snapshot, prove: Callable[[], None]) -> None:
        """Begin; ``prove`` raises SourceChanged where the two differ."""
        self._run = run
        self._snapshot = snapshot
        self._prove = prove
        self._done = threading.Event()
        self._fault: BaseException | None = None
        run.say("proving that the table is unchanged")
        self._thread = start_thread(self._act, name=f"job {run.job_id} proof")

    def _act(self) -> None:
        try:
            self._prove()
        except BaseException as fault:  # noqa: BLE001 - raised by check(), in the job's threads
            self._fault = fault
        finally:
            self._done.set()
            self._run.say("")
            self._run.control.wake()

    def check(self) -> None:
        """Raise what speaks against it, if that is known by now."""
        if self._done.is_set() and self._fault is not None:
            raise self._fault

    def wait(self) -> None:
        """Return when it is proven. Raises what speaks against it, and Stopped after a wish."""
        control = self._run.control
        control.wait_until(lambda: self._done.is_set() or control.wish is not Wish.NONE, 1e9)
        if not self._done.is_set():
            raise Stopped(control.wish)
        self.check()
        self._run.note("snapshot", "the snapshot was lost; what is written is proven unchanged")

    def end(self) -> None:
        """Break it off, if it still runs; idempotent."""
        while not self._done.wait(0):
            self._snapshot.cancel()
            self._done.wait(CANCEL_INTERVAL)
        self._thread.join()

    @property
    def is_running(self) -> bool:
        """Whether it still uses the session."""
        return not self._done.is_set()
