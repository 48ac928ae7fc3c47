"""Places at which a test may hold a job, to do it harm just there.

Switched on by an environment variable that only tests set; it names a directory. A file there with
a point's name arms the point: the first thread that comes to it renames the file to
``<name>.reached``, by which the test hears of it, and waits until that file is gone. Off, a point
costs one look at a global.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["VARIABLE", "reach"]

VARIABLE = "TASKWIDGETS_FAILPOINTS"
LOOK = 0.002  # seconds between two looks whether a held thread may go on

_folder = os.environ.get(VARIABLE)


def reach(point: str) -> None:
    """Say that this point is reached; in a test that has armed it, wait to be let go."""
    if _folder is not None:
        _hold(Path(_folder), point)


def _hold(folder: Path, point: str) -> None:
    reached = folder / f"{point}.reached"
    try:
        (folder / point).rename(reached)  # of several threads, one
    except FileNotFoundError:
        return
    while reached.exists():
        time.sleep(LOOK)
