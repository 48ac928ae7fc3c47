"""``taskwidgets pause``, ``resume`` and ``terminate``: jobs, wherever they run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskwidgets.cli.documents import job_document
from taskwidgets.cli.exits import Exit
from taskwidgets.cli.foreground import in_foreground
from taskwidgets.cli.output import can_ask, complain, confirmed, guarded, print_json, say
from taskwidgets.cli.parameters import AsJson, DatabaseUrl, JobId, JsonLines, connected, takes
from taskwidgets.errors import JobError, JobTerminated, OptionError
from taskwidgets.options import RESUME, arguments
from taskwidgets.runtime.states import OWNED, State
from taskwidgets.runtime.words import status_line

if TYPE_CHECKING:
    from taskwidgets.runtime.job import Job

__all__ = ["pause", "resume", "terminate"]

TICK = 0.05  # seconds between two looks at a job that was asked something
SLOW = 5.0  # seconds after which a process that does not answer is worth a word


@guarded
def pause(job_id: JobId, database: DatabaseUrl = None, as_json: AsJson = False) -> Exit:
    """Pause a job, wherever it runs.

    The process that runs it is asked to, and waited for until the job is paused.
    """
    job = connected(database).job(job_id)
    if job.state is not State.PAUSED:
        job.pause("taskwidgets pause")
    patience = _Patience(job)
    while job.state in OWNED:
        patience.wait()
    if job.state is State.PAUSED:
        _report(job, f"job {job.id} is paused; to go on: taskwidgets resume {job.id}", as_json)
        return Exit.DONE
    _report(job, status_line(job), as_json)
    return Exit.DONE if job.state is State.COMPLETED else Exit.FAILED


@guarded
@takes(RESUME)
def resume(
    job_id: JobId,
    given: Mapping[str, Any],
    database: DatabaseUrl = None,
    as_json: AsJson = False,
    json_lines: JsonLines = False,
) -> Exit:
    """Go on with a job from its last checkpoint, here."""
    chosen: Any = arguments(RESUME, given)
    return in_foreground(
        database,
        lambda workspace: workspace.resume(job_id, **chosen),
        as_json=as_json,
        json_lines=json_lines,
    )


@guarded
def terminate(
    job_id: JobId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database: DatabaseUrl = None,
    as_json: AsJson = False,
) -> Exit:
    """Stop a job, wherever it runs, and undo what it made.

    Asks before, unless --yes is given.
    """
    if not yes and not can_ask():
        raise OptionError("nobody is there to be asked; --yes terminates without asking")
    job = connected(database).job(job_id)
    question = f"Terminate {status_line(job)} - and undo all that it has made?"
    if job.state is not State.TERMINATED and not yes and not confirmed(question):
        _report(job, f"job {job.id} stays as it is", as_json)
        return Exit.DONE
    job.terminate("taskwidgets terminate")
    code = _wait_for_the_end(job)
    _report(job, status_line(job), as_json)
    return code


def _wait_for_the_end(job: Job) -> Exit:
    """Until it is terminated; where its process dies meanwhile, it is done here."""
    patience = _Patience(job)
    was_here = job.runs_here
    while True:
        try:
            job.wait(0)
        except JobTerminated:
            return Exit.DONE
        except JobError as error:
            if was_here:
                complain(str(error))
                return Exit.FAILED
        except TimeoutError:
            pass
        else:
            complain(f"job {job.id} was completed before it heard of this")
            return Exit.FAILED
        if not was_here and job.state in (State.INTERRUPTED, State.FAILED, State.PAUSED):
            job.terminate("taskwidgets terminate")
            was_here = True
        patience.wait()


class _Patience:
    """The time for which another process is waited for."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._slow_at = time.monotonic() + SLOW
        self._told = False

    def wait(self) -> None:
        """A moment; JobError when the request was not sent."""
        job = self._job
        if not job.runs_here and job.state in OWNED and job.error:
            raise JobError(job.error, job_id=job.id)
        if not self._told and not job.runs_here and time.monotonic() > self._slow_at:
            complain(
                f"{job.owner} has not answered yet. It is asked, and Ctrl-C does not take that "
                f"back; if it hangs: taskwidgets resume {job.id} --take-over"
            )
            self._told = True
        time.sleep(TICK)


def _report(job: Job, words: str, as_json: bool) -> None:
    if as_json:
        print_json(job_document(job))
    else:
        say(words)
