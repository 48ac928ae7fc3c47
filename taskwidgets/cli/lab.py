"""``taskwidgets lab``: JupyterLab on the quickstart."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from taskwidgets.cli.exits import Exit
from taskwidgets.cli.output import complain, guarded
from taskwidgets.cli.parameters import DatabaseUrl

__all__ = ["lab"]

QUICKSTART = Path("notebooks/01_quickstart.ipynb")


@guarded
def lab(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARGUMENT]...",
            help="A notebook or folder, and options of JupyterLab behind -- "
            "[default: the quickstart, where it is there].",
            show_default=False,
        ),
    ] = None,
    database: DatabaseUrl = None,
) -> Exit:
    """Open JupyterLab, with this database for its notebooks."""
    if find_spec("jupyterlab") is None:
        complain("JupyterLab is not installed: pip install 'taskwidgets[lab]'")
        return Exit.FAILED
    if database:
        os.environ["TASKWIDGETS_DATABASE_URL"] = database
    given = list(arguments or [])
    if not any(not one.startswith("-") for one in given) and QUICKSTART.exists():
        given.append(str(QUICKSTART))
    root = ["--allow-root"] if os.geteuid() == 0 else []
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *root, *given])
    return Exit.FAILED  # execv does not come back
