"""The Jupyter Server that started this kernel: where it is, and how it is asked."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from taskwidgets import errors
from taskwidgets.errors import JobError, NotebookServerError, TaskwidgetsError

__all__ = ["NotebookServer", "error_code", "find_server"]

PATIENCE = 120.0  # seconds; the server looks at a whole file before it answers


@dataclass(frozen=True)
class NotebookServer:
    """A running server; the ``token`` is in no repr."""

    url: str  # with its base, and a slash at the end
    base_url: str
    root: Path
    pid: int
    _token: str

    def __repr__(self) -> str:
        return f"<NotebookServer {self.url} pid={self.pid}>"

    def request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """What the extension answers; its errors are raised as the ones of our tree that they are.

        NotebookServerError where no answer of the extension comes. Blocks.
        """
        address = urlsplit(self.url)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"token {self._token}"
        connection = _connection(self.url)
        try:
            connection.request(
                method,
                f"{quote(unquote(address.path))}taskwidgets/{path}",
                None if body is None else json.dumps(body),
                headers,
            )
            reply = connection.getresponse()
            status, text = reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotebookServerError(
                f"the Jupyter server at {self.url} does not answer: {error}"
            ) from None
        finally:
            connection.close()
        return self._understood(status, text)

    def _understood(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict):
            return answer
        error = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(error, dict):
            if status == 403 and error.get("code") == "forbidden":
                raise NotebookServerError(
                    f"the Jupyter server at {self.url} does not let this kernel in; it needs a "
                    "token (c.IdentityProvider.token), which a server with a password only has not"
                )
            raise _error_of(error, status)
        if status in (404, 405):
            raise NotebookServerError(
                f"the Jupyter server at {self.url} does not have the extension taskwidgets; "
                "install taskwidgets in the server's environment as well (see it with: jupyter "
                "server extension list), and restart the server"
            )
        raise NotebookServerError(f"the Jupyter server at {self.url} answers with {status}")


def find_server() -> NotebookServer | None:
    """The server that started this kernel: its parent process; None outside of Jupyter."""
    try:
        from jupyter_core.paths import jupyter_runtime_dir
    except ImportError:
        return None
    # The launcher tells its own number, which also holds where another program is in between.
    for parent in (str(os.getppid()), os.environ.get("JPY_PARENT_PID", "")):
        # Where a server says what it is. To import the server and have it look takes seconds.
        told = Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json"
        try:
            server = json.loads(told.read_bytes())
            # Under JupyterHub it is the Hub that lets in, by the token that the server has of it.
            token = server.get("token") or os.environ.get("JUPYTERHUB_API_TOKEN", "")
            return NotebookServer(
                url=str(server["url"]),
                base_url=str(server["base_url"]),
                root=Path(server["root_dir"]).resolve(),
                pid=int(server["pid"]),
                _token=str(token),
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is no server, or none any more
    return None


def _connection(url: str) -> http.client.HTTPConnection:
    """A connection of its own kind: no proxy, no redirect, so that the token goes nowhere else."""
    address = urlsplit(url)
    if address.scheme == "http+unix":
        return _UnixConnection(unquote(address.netloc))
    host, port = address.hostname or "localhost", address.port
    if address.scheme == "https":
        return http.client.HTTPSConnection(
            host, port, timeout=PATIENCE, context=ssl.create_default_context()
        )
    return http.client.HTTPConnection(host, port, timeout=PATIENCE)


class _UnixConnection(http.client.HTTPConnection):
    """Over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


# ---------------------------------------------------------------------- errors over HTTP


def error_code(kind: type[TaskwidgetsError]) -> str:
    """The name of a class of errors as HTTP has it: TargetExists is target_exists."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).lower()


CLASSES: dict[str, type[TaskwidgetsError]] = {
    error_code(getattr(errors, name)): getattr(errors, name) for name in errors.__all__
}


def _error_of(error: dict[str, Any], status: int) -> TaskwidgetsError:
    message = str(error.get("message", status))
    kind = CLASSES.get(str(error.get("code")))
    if kind is None:
        # A field that is not what it must be is an argument that makes no sense.
        kind = errors.OptionError if status in (400, 422) else NotebookServerError
    if issubclass(kind, JobError):
        return kind(message, job_id=error.get("job_id"))
    return kind(message)
