"""Links through which the browser fetches a file from the notebook's server."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import quote

from taskwidgets.notebook_server import NotebookServer, find_server

__all__ = ["download_link", "server_folder"]


def download_link(path: Path) -> str | None:
    """The address of a file under the server's root; None elsewhere, or outside Jupyter."""
    server = _server()
    if server is None:
        return None
    try:
        relative = path.resolve().relative_to(server.root)
    except ValueError:
        return None
    if any(part.startswith(".") for part in relative.parts):
        return None  # the server hides such files
    return f"{server.base_url}files/{quote(relative.as_posix())}?download=1"


@cache
def _server() -> NotebookServer | None:
    return find_server()


def server_folder() -> tuple[str, Path] | None:
    """Base URL and root folder of the server that started this kernel; None without one."""
    server = _server()
    return None if server is None else (server.base_url, server.root)
