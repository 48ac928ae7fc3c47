"""The server's own workspace, and what the endpoints do with it; nothing here is on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from taskwidgets.dashboard import JobSource, checked_states
from taskwidgets.errors import (
    IllegalTransition,
    JobNotFound,
    JobOwned,
    ServerUnreachable,
    TaskwidgetsError,
)
from taskwidgets.http.answers import PATH_OF, events_body, job_body, progress_body
from taskwidgets.http.faults import Refused, Unavailable
from taskwidgets.http.files import Files
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.states import FINAL, OWNED
from taskwidgets.runtime.store import JobRecord
from taskwidgets.runtime.threads import LoopHandle
from taskwidgets.tabular.source import check_readable
from taskwidgets.transfers.origins.files import paths_of
from taskwidgets.workspace import URL_VARIABLE, Workspace

__all__ = ["Service"]

# Of the six connections for short statements, the jobs themselves need some.
THREADS = 4
# Requests that begin a job: one that waits for a table's lock, or for a slow disk, must not keep
# others from beginning. Each may take a connection while it plans, of the 100 that a server has by
# default; it waits for a lock for half a minute at most (LOCK_PATIENCE in workspace.py).
BEGIN_THREADS = 32
BEGIN_PATIENCE = 10.0  # seconds until a job that was begun is said to be what it is by then
AGREE_PATIENCE = 5.0  # seconds until a handle has heard what another process did with the job
CAUSE = "asked over HTTP"

AnswerT = TypeVar("AnswerT")


class Service:
    """One for each server. Its public methods block, but for ``answer`` and ``close``."""

    def __init__(self, database_url: str | None = None) -> None:
        self._url = database_url or None  # None: as the variables say, or the embedded one
        self._workspace: Workspace | None = None
        self._connecting = threading.Lock()
        self._is_away = False
        self._is_closed = False
        self._loop: LoopHandle | None = None
        self._looking = ThreadPoolExecutor(THREADS, "taskwidgets http")
        # To begin a job takes its time: those who only look must not wait behind it.
        self._beginning = ThreadPoolExecutor(BEGIN_THREADS, "taskwidgets http begin")

    async def answer(self, act: Callable[[], AnswerT], *, begins: bool) -> AnswerT:
        """What ``act`` gives, from a thread; jobs that it begins are on this very loop."""
        if self._loop is None:
            # In a context of its own: that of a request would be kept as long as the server runs.
            self._loop = contextvars.Context().run(LoopHandle)
        if self._is_closed:
            raise Unavailable("the server is being shut down")
        threads = self._beginning if begins else self._looking
        try:
            work = asyncio.get_running_loop().run_in_executor(threads, self._here, self._loop, act)
        except RuntimeError:  # closed a moment ago
            raise Unavailable("the server is being shut down") from None
        return await work

    def _here(self, loop: LoopHandle, act: Callable[[], AnswerT]) -> AnswerT:
        answers: list[AnswerT] = []
        try:
            loop.run_here(lambda: answers.append(act()))
        except ServerUnreachable:
            self._is_away = True
            raise
        except (IllegalTransition, JobOwned) as error:
            raise self._refused(error) from error
        return answers[0]

    def _refused(self, error: IllegalTransition | JobOwned) -> Refused:
        state = None
        if error.job_id is not None:
            with contextlib.suppress(TaskwidgetsError):
                state = self._record(error.job_id).state
        return Refused(error, state)

    async def close(self) -> None:
        """Pause the jobs that run here, durably, and close the connections."""
        self._is_closed = True
        for threads in (self._looking, self._beginning):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._workspace is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._workspace.close)

    @property
    def running(self) -> int:
        """How many jobs run here; asks nobody."""
        return 0 if self._workspace is None else self._workspace.running

    # ------------------------------------------------------------------ the workspace

    def workspace(self) -> Workspace:
        """The server's workspace, made when it is first needed."""
        with self._connecting:
            if self._workspace is None:
                self._workspace = Workspace(self._url, restricted=True)
            elif self._is_away and self._url is None and not os.environ.get(URL_VARIABLE):
                from taskwidgets.embedded import join

                join()  # nobody else may be there who would bring it up again
            self._is_away = False
            return self._workspace

    @property
    def _jobs(self) -> JobSource:
        return self.workspace().jobs().source

    def fingerprint(self) -> str:
        """What tells this database from all others."""
        return self.workspace().fingerprint

    # ------------------------------------------------------------------ looking

    def _record(self, job_id: int, kind: str | None = None) -> JobRecord:
        record = self._jobs.record(job_id)
        if kind is not None and record.spec.kind != kind:
            raise JobNotFound(
                f"there is no {kind} {job_id}; job {job_id} is of the kind {record.spec.kind}",
                job_id=job_id,
            )
        return record

    def job(self, job_id: int, files: Files) -> dict[str, Any]:
        """One job as it is now."""
        return self._body(self._record(job_id), files)

    def _body(self, record: JobRecord, files: Files) -> dict[str, Any]:
        here = self._jobs.is_mine(record) and record.state in OWNED
        if not here:
            return job_body(record, files, here=False)
        job = self._jobs.open(record.id)
        return job_body(record, files, here=True, live=job.progress, remark=job.remark)

    def progress(self, job_id: int, kind: str, files: Files) -> dict[str, Any]:
        """How far a job is, wherever it runs."""
        record = self._record(job_id, kind)
        error = (record.error or {}).get("message")
        progress = record.progress
        if record.state in OWNED:
            progress = self._jobs.open(job_id).progress  # knows the rate, and the latest batch
        body = progress_body(job_id, record.state, progress, error)
        return {**body, "error": None if error is None else files.scrubbed(error)}

    def jobs(
        self, files: Files, *, state: list[str] | None, search: str, limit: int, offset: int
    ) -> dict[str, Any]:
        """The newest jobs first."""
        found = self._jobs.newest(
            states=checked_states(state), search=search.strip(), limit=limit, offset=offset
        )
        return {"jobs": [self._body(record, files) for record in found]}

    def events(self, job_id: int, files: Files, *, limit: int) -> dict[str, Any]:
        """A job's last events, oldest first."""
        self._record(job_id)
        newest = self._jobs.newest_events(job_id, limit)
        return events_body(job_id, newest.iloc[::-1], files)

    # ------------------------------------------------------------------ acting

    def upload(self, files: Files, *, source: str, **options: Any) -> dict[str, Any]:
        """Begin to load a file, or go on with it."""
        # One file that is there: never a pattern, whose matches nobody would have looked at.
        path = check_readable(files.locate(source, "source"))
        return self._begun(self.workspace().upload(path, **options), files)

    def download(self, files: Files, *, path: str, **options: Any) -> dict[str, Any]:
        """Begin to export into a file, or go on with it."""
        # A path, and never a URL, which would be beyond the server's root.
        target = str(files.locate(path, "path")) + ("/" if path.endswith("/") else "")
        job = self.workspace().download(path=target, **options)
        return self._begun(job, files)

    def _begun(self, job: Job, files: Files) -> dict[str, Any]:
        """The job's body as soon as its driver has it."""
        deadline = time.monotonic() + BEGIN_PATIENCE
        while job.runs_here and job.state not in OWNED and time.monotonic() < deadline:
            time.sleep(0.01)
        body = self._body(self._record(job.id), files)
        return {**body, "remark": files.scrubbed(job.remark)}

    def resume(self, job_id: int, kind: str, files: Files, **options: Any) -> dict[str, Any]:
        """Go on with a job in this server."""
        self._check_path(self._record(job_id, kind), files)
        return self._begun(self.workspace().resume(job_id, **options), files)

    def pause(self, job_id: int, kind: str, files: Files) -> dict[str, Any]:
        """Ask a job to pause, wherever it runs."""
        job, _ = self._agreed(job_id, kind)
        job.pause(CAUSE)
        return self._body(self._record(job_id), files)

    def terminate(self, job_id: int, kind: str, files: Files) -> dict[str, Any]:
        """Terminate a job, wherever it runs; at rest, it is cleaned up by this server."""
        job, record = self._agreed(job_id, kind)
        if record.state not in OWNED | FINAL and PATH_OF[kind] == "target":
            self._check_path(record, files)  # its partial file is deleted
        job.terminate(CAUSE)
        return self._body(self._record(job_id), files)

    @staticmethod
    def _check_path(record: JobRecord, files: Files) -> None:
        spec = record.spec
        origin = spec.plan.get("origin")
        if origin is not None:  # several files, or one that is no delimited text, or none at all
            facts = origin["facts"]
            for path in _paths(facts):
                files.check(path)
        else:
            files.check(spec.source if PATH_OF[spec.kind] == "source" else spec.target)

    def _agreed(self, job_id: int, kind: str) -> tuple[Job, JobRecord]:
        """A job's handle, once it has heard what the database has.

        A handle of a job that runs elsewhere is some seconds late, and would ask a process that
        has left it.
        """
        deadline = time.monotonic() + AGREE_PATIENCE
        while True:
            record = self._record(job_id, kind)
            job = self._jobs.open(job_id)
            if job.runs_here or job.state is record.state or time.monotonic() > deadline:
                return job, record
            time.sleep(0.1)


def _paths(facts: Mapping[str, Any]) -> list[str]:
    """The files that a source is made of."""
    if "paths" in facts or "packed_paths" in facts:
        return paths_of(facts)
    return [facts["path"]] if "path" in facts else []
