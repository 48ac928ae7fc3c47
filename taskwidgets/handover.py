"""Jobs that a kernel hands to its Jupyter server, where they outlive it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from taskwidgets.errors import NotebookServerError, OptionError
from taskwidgets.notebook_server import NotebookServer, find_server
from taskwidgets.runtime.job import Job
from taskwidgets.transfers.origins.files import is_pattern
from taskwidgets.transfers.origins.given import Source
from taskwidgets.transfers.origins.remote import is_url
from taskwidgets.workspace import Workspace

__all__ = ["Where", "starter"]

Where = Literal["kernel", "server"]
KINDS = frozenset(
    {"upload", "download"}
)  # of jobs that a server can run: all they need is recorded


class Starter(Protocol):
    """What begins transfers, and goes on with them."""

    @property
    def upload(self) -> Callable[..., Job]: ...
    @property
    def download(self) -> Callable[..., Job]: ...
    @property
    def resume(self) -> Callable[..., Job]: ...


def starter(workspace: Workspace, where: str) -> Starter:
    """What begins jobs ``where`` they are to run; OptionError for any other place."""
    if where == "kernel":
        return workspace
    if where == "server":
        return Handover(workspace)
    raise OptionError(f'where must be "kernel" or "server", not {where!r}')


class Handover:
    """Begins jobs in the server that started this kernel; they are followed from here.

    Raises NotebookServerError where there is no such server, or one without the extension, or one
    that is on another database.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def upload(self, source: Source, table: str, **options: Any) -> Job:
        """Load a file that lies below the server's root."""
        if not isinstance(source, str | Path) or is_url(source) or is_pattern(source):
            raise OptionError(
                'where="server" loads one file below the server\'s root; leave where out for other '
                "sources"
            )
        _check(options)
        server = self._server()
        return self._begin(
            server, "upload", {**options, "source": _relative(server, source), "table": table}
        )

    def download(self, source: str, path: str | Path, **options: Any) -> Job:
        """Export into a file or a folder below the server's root."""
        if is_url(path) or options.get("storage_options") is not None:
            raise OptionError(
                'where="server" writes below the server\'s root; leave where out for a URL'
            )
        _check(options)
        server = self._server()
        target = _relative(server, path) + ("/" if str(path).endswith("/") else "")
        return self._begin(server, "download", {**options, "source": source, "path": target})

    def resume(self, job_id: int, **options: Any) -> Job:
        """Go on with an upload or a download in the server."""
        _check(options)
        server = self._server()
        job = self._workspace.job(job_id)
        if job.kind not in KINDS:
            raise OptionError(
                f"job {job_id} is of the kind {job.kind}, whose function only a kernel has; leave "
                "where out"
            )
        given = {name: value for name, value in options.items() if value is not None}
        answer = server.request("POST", f"{job.kind}/resume", {**given, "job_id": job_id})
        return self._handed(server, job.kind, answer)

    def _server(self) -> NotebookServer:
        server = find_server()
        if server is None:
            raise NotebookServerError(
                'where="server" hands the job to the Jupyter server that started this kernel, and '
                "no running server has started this process; leave where out to run the job here"
            )
        status = server.request("GET", "status")
        if status.get("database") != self._workspace.fingerprint:
            raise NotebookServerError(
                f"this kernel is on {self._workspace!r}, and the Jupyter server at {server.url} "
                "on another database, where the job could not be followed from here; give both the "
                "same TASKWIDGETS_DATABASE_URL (the server when it is started), or connect this "
                "kernel to the server's database"
            )
        return server

    def _begin(self, server: NotebookServer, kind: str, options: dict[str, Any]) -> Job:
        given = {name: _plain(value) for name, value in options.items() if value is not None}
        try:
            json.dumps(given)
        except (TypeError, ValueError) as error:
            raise OptionError(
                f"what is handed to the server must be plain values: {error}"
            ) from None
        return self._handed(server, kind, server.request("POST", f"{kind}/start", given))

    def _handed(self, server: NotebookServer, kind: str, answer: dict[str, Any]) -> Job:
        """The handle of a job that the server has begun."""
        job = self._workspace.job(int(answer["id"]))
        # Its driver is the server's: begun again from here, it goes on there.
        job.resumed_by(partial(server.request, "POST", f"{kind}/resume", {"job_id": job.id}))
        if answer["remark"]:
            job.remark = str(answer["remark"])
        return job


def _check(options: dict[str, Any]) -> None:
    """OptionError for what only this process has."""
    if options.pop("client", None) is not None:
        raise OptionError('client= is for jobs of this kernel; leave where="server" out')


def _relative(server: NotebookServer, path: str | Path) -> str:
    """The path as the server knows it; OptionError where the server may not go."""
    whole = Path(path).expanduser().absolute()
    try:
        # Links are followed, as the server does: it judges a file by where it lies.
        return whole.resolve().relative_to(server.root).as_posix()
    except ValueError:
        raise OptionError(
            f'{whole} is not below the Jupyter server\'s root {server.root}; with where="server", '
            "only files there can be read or made"
        ) from None


def _plain(value: object) -> object:
    """The value as JSON has it."""
    return list(value) if isinstance(value, tuple | set | frozenset) else value
