"""Long jobs between files and Postgres, from a notebook cell, with a panel and checkpoints."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskwidgets.current import connect, download, jobs, resume, upload
    from taskwidgets.decorator import job
    from taskwidgets.errors import JobFailed, JobTerminated, TaskwidgetsError
    from taskwidgets.previews import preview
    from taskwidgets.runtime.job import Job
    from taskwidgets.runtime.progress import Progress
    from taskwidgets.runtime.receipt import Receipt
    from taskwidgets.workspace import Workspace

__all__ = [
    "Job",
    "JobFailed",
    "JobTerminated",
    "Progress",
    "Receipt",
    "TaskwidgetsError",
    "Workspace",
    "connect",
    "download",
    "job",
    "jobs",
    "preview",
    "resume",
    "upload",
]

# Where the names live. They are fetched when the first of them is asked for: pandas and SQLAlchemy
# take half a second to import, for which `taskwidgets --help` should not wait.
_HOMES = {
    "current": ["connect", "download", "jobs", "resume", "upload"],
    "decorator": ["job"],
    "errors": ["JobFailed", "JobTerminated", "TaskwidgetsError"],
    "previews": ["preview"],
    "runtime.job": ["Job"],
    "runtime.progress": ["Progress"],
    "runtime.receipt": ["Receipt"],
    "workspace": ["Workspace"],
}


def _fetch() -> None:
    """Import it all, and have jobs shown by widgets from now on."""
    from taskwidgets.runtime.viewer import set_viewer
    from taskwidgets.widgets import NotebookViewer

    homes = {home: import_module(f"taskwidgets.{home}") for home in _HOMES}
    set_viewer(NotebookViewer())
    found = {name: getattr(homes[home], name) for home, names in _HOMES.items() for name in names}
    globals().update(found)  # in one go: another thread sees all of them or none


if not TYPE_CHECKING:  # else a type checker would believe in any name

    def __getattr__(name: str) -> Any:
        if "connect" not in globals() and not name.startswith("__"):
            _fetch()
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """``%load_ext taskwidgets``: the magics %upload, %download, %jobs and %job."""
    from taskwidgets.magics import load

    _fetch()
    load(ipython)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """What Jupyter Server asks a package for."""
    from taskwidgets.http import extension_points

    return extension_points()
