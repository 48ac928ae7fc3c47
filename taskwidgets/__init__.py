"""Long jobs between files and Postgres, from a notebook cell, with a panel and checkpoints."""

from taskwidgets.current import connect, download, jobs, resume, upload
from taskwidgets.decorator import job
from taskwidgets.errors import JobFailed, JobTerminated, TaskwidgetsError
from taskwidgets.http import extension_points as _jupyter_server_extension_points  # noqa: F401
from taskwidgets.previews import preview
from taskwidgets.runtime.job import Job
from taskwidgets.runtime.progress import Progress
from taskwidgets.runtime.receipt import Receipt
from taskwidgets.runtime.viewer import set_viewer
from taskwidgets.widgets import NotebookViewer
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

set_viewer(NotebookViewer())
