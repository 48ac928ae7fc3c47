"""Showing a job in a notebook's cell: the live panel, and beside it the line that stays true."""

from __future__ import annotations

import contextvars
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from taskwidgets.dashboard import Dashboard
from taskwidgets.forms import DownloadForm, UploadForm
from taskwidgets.previews import Preview
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.states import State
from taskwidgets.runtime.words import static_line

if TYPE_CHECKING:
    from taskwidgets.widgets.panel import Panel

__all__ = ["NotebookViewer"]


class NotebookViewer:
    """The viewer that ``import taskwidgets`` puts in place; it acts only inside IPython."""

    def __init__(self) -> None:
        self._panels: dict[Job, Panel] = {}

    def show(self, job: object) -> bool:
        """Display the panel and the static line; False in a terminal or a plain process."""
        assert isinstance(job, Job)
        if not _in_kernel():
            return False
        from IPython.display import display

        panel = self._panel(job)
        display(_with_plain_text(panel, repr(job)), raw=True)  # type: ignore[no-untyped-call]
        job.watch(_Snapshot(job).refresh)
        return True

    def _panel(self, job: Job) -> Panel:
        """The job's one panel, as of now."""
        panel = self._panels.get(job)
        if panel is None:
            from taskwidgets.widgets.panel import Panel

            panel = self._panels[job] = Panel(job)
            job.watch(panel.refresh)
        panel.refresh()
        return panel

    def show_form(self, form: object) -> bool:
        """Display a form, or the panel of the job that it has begun; False in a terminal."""
        assert isinstance(form, UploadForm | DownloadForm)
        if not _in_kernel():
            return False
        if form.job is not None:
            return self.show(form.job)
        from taskwidgets.widgets.form_view import show

        def follow(job: Job, display_id: str) -> Panel:
            """The job's panel; what stands still beside the form is the job's from now on."""
            panel = self._panel(job)
            job.watch(_Snapshot(job, display_id).refresh)
            return panel

        show(form, follow)
        return True

    def show_dashboard(self, dashboard: object) -> bool:
        """Display the live list and a still table of it; False in a terminal or plain process."""
        assert isinstance(dashboard, Dashboard)
        if not _in_kernel():
            return False
        from taskwidgets.widgets.dashboard import show

        show(dashboard)
        return True

    def preview_html(self, preview: object) -> str:
        """The decisions and the first rows, for a notebook's output."""
        assert isinstance(preview, Preview)
        from taskwidgets.widgets.preview_markup import preview_html

        return preview_html(preview)

    def show_before_await(self, job: object) -> None:
        """Show the panel unless a cell has it already."""
        assert isinstance(job, Job)
        if job not in self._panels:
            self.show(job)


class _Snapshot:
    """A cell's second output, renewed when state or receipt change: what a saved notebook shows."""

    def __init__(self, job: Job, display_id: str | None = None) -> None:
        self._job = job
        self._display_id = display_id or f"taskwidgets-{uuid.uuid4().hex}"
        self._shown: tuple[State, str | None, Receipt | None] | None = None
        self._context = contextvars.copy_context()
        self._publish(update=display_id is not None)

    def refresh(self) -> None:
        """Called by the job's loop on every change; acts when what it says is another."""
        if self._shown != (self._job.state, self._job.error, self._job.receipt):
            self._context.run(self._publish, update=True)

    def _publish(self, *, update: bool) -> None:
        from IPython.display import publish_display_data

        from taskwidgets.widgets.markup import static_html

        self._shown = (self._job.state, self._job.error, self._job.receipt)
        line = static_line(self._job, datetime.now(UTC))
        publish_display_data(  # type: ignore[no-untyped-call]
            {"text/html": static_html(line), "text/plain": line},
            transient={"display_id": self._display_id},
            update=update,
        )


def _in_kernel() -> bool:
    """Whether an IPython kernel with a front end runs us; a terminal IPython shows no widgets."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and getattr(shell, "kernel", None) is not None


def _with_plain_text(panel: Panel, line: str) -> dict[str, Any]:
    """The widget's output, its text/plain replaced by the status line."""
    bundle = panel.root._repr_mimebundle_()
    data: dict[str, Any] = dict(bundle[0] if isinstance(bundle, tuple) else bundle)
    data["text/plain"] = line
    return data
