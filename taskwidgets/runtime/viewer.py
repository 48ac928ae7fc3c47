"""Where a job meets whatever shows it; the widgets put themselves in here when imported on top."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Viewer", "set_viewer", "viewer"]


class Viewer(Protocol):
    """Shows jobs to people."""

    def show(self, job: object) -> bool:
        """Show the job's panel in the current cell; False where nobody could see it."""

    def show_dashboard(self, dashboard: object) -> bool:
        """Show the list of jobs in the current cell; False where nobody could see it."""

    def show_form(self, form: object) -> bool:
        """Show a form in the current cell; False where nobody could see it."""

    def preview_html(self, preview: object) -> str:
        """A file's preview as HTML."""

    def show_before_await(self, job: object) -> None:
        """Called when a job is awaited: a panel that was not shown yet is shown first."""


_viewer: Viewer | None = None


def set_viewer(viewer: Viewer) -> None:
    """From now on jobs are shown by this one."""
    global _viewer
    _viewer = viewer


def viewer() -> Viewer | None:
    """The one in use; None in a process without a front end."""
    return _viewer
