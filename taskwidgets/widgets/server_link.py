"""Links through which the browser fetches a file from the notebook's server."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from urllib.parse import quote

__all__ = ["download_link", "server_folder"]


def download_link(path: Path) -> str | None:
    """The address of a file under the server's root; None elsewhere, or outside Jupyter."""
    root = _server_root()
    if root is None:
        return None
    base, folder = root
    try:
        relative = path.resolve().relative_to(folder)
    except ValueError:
        return None
    if any(part.startswith(".") for part in relative.parts):
        return None  # the server hides such files
    return f"{base}files/{quote(relative.as_posix())}?download=1"


@cache
def _server_root() -> tuple[str, Path] | None:
    """Base URL and root folder of the server that started this kernel: its parent process.

    Read from the file in which the server says so: to import the server itself takes seconds.
    """
    try:
        from jupyter_core.paths import jupyter_runtime_dir
    except ImportError:
        return None
    try:
        told = json.loads(
            (Path(jupyter_runtime_dir()) / f"jpserver-{os.getppid()}.json").read_bytes()
        )
        return str(told["base_url"]), Path(told["root_dir"]).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        return None


def server_folder() -> tuple[str, Path] | None:
    """Base URL and root folder of the server that started this kernel; None without one."""
    return _server_root()
