"""How a command ends: the exit codes, in one place."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["EXIT_CODES", "Exit"]


class Exit(IntEnum):
    """What the shell gets as ``$?``."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PAUSED = 3
    TERMINATED = 4
    STOPPED = 130  # 128 + SIGINT, as shells have it


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed: the job, or the database, the file or the table said no",
    Exit.USAGE: "wrong usage",
    Exit.PAUSED: "the job is paused, by Ctrl-C or from elsewhere; taskwidgets resume goes on",
    Exit.TERMINATED: "the job was terminated, and what it made is undone",
    Exit.STOPPED: "stopped by Ctrl-C before there was a job",
}

EXIT_CODES = "\b\nExit codes:\n" + "\n".join(
    f"  {code:<4}{meaning}" for code, meaning in MEANINGS.items()
)
