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

import os
import signal
import sys
from typing import Any

__all__ = ["main"]

STOPPED = 130  # as in exits, which is not imported yet


def main() -> None:
    """The entry point that pyproject.toml names."""
    # While modules are imported, Ctrl-C is no reason for a traceback from the middle of one.
    before: Any = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(STOPPED))
    from taskwidgets.cli.app import app

    signal.signal(signal.SIGINT, before)
    try:
        app(prog_name="taskwidgets")
    except KeyboardInterrupt:
        sys.exit(STOPPED)
