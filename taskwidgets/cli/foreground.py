"""A job run by a command, which ends with it: Ctrl-C pauses it, so that nothing is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from taskwidgets.cli.aside import TICK, aside
from taskwidgets.cli.documents import job_document
from taskwidgets.cli.exits import Exit
from taskwidgets.cli.output import can_ask, complain, confirmed, in_terminal, print_json
from taskwidgets.cli.parameters import connected
from taskwidgets.cli.views import JobView, view_for
from taskwidgets.errors import IllegalTransition, JobError, JobTerminated
from taskwidgets.runtime.states import State
from taskwidgets.runtime.words import bytes_text, count, duration, percentage

if TYPE_CHECKING:
    from taskwidgets.runtime.job import Job
    from taskwidgets.workspace import Workspace

__all__ = ["Signals", "follow", "in_foreground"]

SECOND_PRESS = 2.0  # seconds after the pause in which another Ctrl-C asks whether to terminate
ENOUGH = 3  # so many Ctrl-C leave, whatever has not answered yet


class Signals:
    """Counts what asks the process to stop, instead of stopping it anywhere."""

    def __init__(self) -> None:
        self.presses = 0  # of Ctrl-C
        self.ends = 0  # SIGTERM, or SIGHUP: the terminal was closed
        self.raises = False  # while a person is asked: then the answer is no
        self._before: dict[int, Any] = {}

    @property
    def count(self) -> int:
        """All that came."""
        return self.presses + self.ends

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What whoever started us wants ignored stays ignored: nohup, or & in a script.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """From now on nothing is heard: the command is over, and its exit code stands."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.presses += 1
        else:
            self.ends += 1
        if self.raises:
            raise KeyboardInterrupt

    def asked(self, question: str) -> bool:
        """Ask a person; a signal is a no."""
        self.raises = True
        try:
            return confirmed(question)
        except KeyboardInterrupt:
            return False
        finally:
            self.raises = False


def in_foreground(
    database: str | None,
    make: Callable[[Workspace], Job],
    *,
    as_json: bool,
    json_lines: bool,
) -> Exit:
    """Connect, make the job, and show it until it ends or rests; how that went."""
    view = view_for(as_json=as_json, json_lines=json_lines)
    with Signals() as signals:
        workspace = connected(database, partial(_stop, signals))
        job = aside(lambda: make(workspace), _Recording(signals).look)
        try:
            code = follow(job, signals, view)
        finally:
            view.close()
            signals.ignore()
        if as_json or json_lines:
            document = {**job_document(job), "exit_code": int(code)}
            print_json(document, indent=None if json_lines else 2)
        return code


def _stop(signals: Signals) -> None:
    if signals.count:
        raise KeyboardInterrupt


class _Recording:
    """While a job is recorded, which takes a moment, the first signal has to wait.

    Left behind, it would be there, not begun, and nobody would know its number.
    """

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._told = False

    def look(self) -> None:
        if self._signals.count > 1:
            raise KeyboardInterrupt
        if self._signals.count and not self._told:
            complain("pausing as soon as the job is recorded; Ctrl-C again leaves at once")
            self._told = True


def follow(job: Job, signals: Signals, view: JobView) -> Exit:
    """Show the job until it is over, or rests; a signal pauses it."""
    if job.remark:
        view.say(job.remark)
    asked = terminating = False
    while True:
        view.look(job)
        if signals.count and not asked:
            asked = True
            view.say(f"pausing job {job.id}")
            _pause(job)
        if signals.count >= ENOUGH and not terminating:
            complain(
                f"left before job {job.id} could rest; "
                f"to go on from its last checkpoint: taskwidgets resume {job.id}"
            )
            return Exit.PAUSED
        try:
            job.wait(TICK)
        except TimeoutError:
            if job.state is not State.PAUSED or job.runs_here:
                continue
        except JobTerminated:
            view.look(job)
            view.say(f"job {job.id} ({job.name}) was terminated; what it made is undone")
            return Exit.TERMINATED
        except JobError as error:
            view.close()
            _complain_of(job, error)
            return Exit.FAILED
        else:
            view.look(job)
            view.close()
            view.say(finished_words(job))
            return Exit.DONE
        if signals.presses and not terminating and _wants_the_end(job, signals, view):
            terminating = True
            job.terminate("Ctrl-C, twice")
            continue
        view.look(job)
        view.close()
        view.say(paused_words(job))
        return Exit.PAUSED


def _pause(job: Job) -> None:
    try:
        job.pause("the command was asked to stop")
    except IllegalTransition:  # it is about to end anyway
        return


def _wants_the_end(job: Job, signals: Signals, view: JobView) -> bool:
    """Whether Ctrl-C came twice, and the person means it. By now the job is paused, durably."""
    if not can_ask():
        return False
    view.look(job)
    view.close()
    view.say(f"job {job.id} is paused; Ctrl-C once more, now, to terminate it instead")
    deadline = time.monotonic() + SECOND_PRESS
    while signals.presses < 2 and not signals.ends and time.monotonic() < deadline:
        time.sleep(TICK / 2)
    if signals.presses < 2 or signals.ends:
        return False
    return signals.asked(f"Terminate job {job.id} ({job.name}) and undo all that it has made?")


def _complain_of(job: Job, error: JobError) -> None:
    text = in_terminal(str(error))
    if job.state in (State.FAILED, State.INTERRUPTED):
        text += f"\nto go on from the last checkpoint: taskwidgets resume {job.id}"
    complain(text)


def finished_words(job: Job) -> str:
    """What a completed job did."""
    receipt = job.receipt
    if receipt is None or not receipt.sha256:  # a function of the user's own
        return repr(job)
    words = [f"job {job.id} ({job.name}): {count(receipt.rows_loaded)} rows"]
    if receipt.rows_rejected:
        words.append(f"{count(receipt.rows_rejected)} rejected (taskwidgets rejects {job.id})")
    words.append(f"{bytes_text(receipt.bytes)} in {duration(receipt.seconds)}")
    words.append(f"sha256 {receipt.sha256[:12]}…")
    return "\n".join([", ".join(words), *receipt.notes])


def paused_words(job: Job) -> str:
    """That it rests, and how to go on."""
    progress = job.progress
    done = [percentage(progress), f"{count(progress.rows)} rows committed"]
    words = ", ".join(word for word in done if word)
    return f"job {job.id} is paused: {words}; to go on: taskwidgets resume {job.id}"
