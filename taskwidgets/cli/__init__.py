"""The command line ``taskwidgets``: one module a noun.

app         the list of the commands
transfers   upload, download, preview
control     pause, resume, terminate
records     jobs, show, rejects, prune
lab  demo  doctor, which runs the checks
foreground  a job that a command runs: signals, and how it ends
views       what is seen of it: bar, lines, JSON
output      words, complaints, JSON
documents   jobs as JSON
parameters  arguments and options
aside       work in a thread, so that signals are heard
exits       the exit codes
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The entry point that pyproject.toml names."""
    try:
        from taskwidgets.cli.app import app  # here: Ctrl-C meanwhile is no reason for a traceback

        app(prog_name="taskwidgets")
    except KeyboardInterrupt:
        sys.exit(130)
