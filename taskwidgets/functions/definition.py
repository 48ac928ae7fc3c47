"""Where a function is defined, and a hash of its code."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["code_hash", "defined_in"]

# The path of the notebook of this kernel. Jupyter Server sets the first one
# (https://github.com/jupyter-server/jupyter_server/pull/679); it keeps the path with which the
# kernel began where the notebook is renamed. VS Code defines the second in the user's namespace.
NOTEBOOK_VARIABLE = "JPY_SESSION_NAME"
VSCODE_NAME = "__vsc_ipynb_file__"


def defined_in(call: Callable[..., Any]) -> str:
    """The path of the notebook, script or module that defines a function.

    "" where no path identifies it: an installed package is known by its name, and a terminal, a
    notebook that is run without a server and ``python -c`` have no path.
    """
    if call.__module__ == "__main__":
        main = sys.modules["__main__"]
        path = (
            os.environ.get(NOTEBOOK_VARIABLE)
            or getattr(main, VSCODE_NAME, None)
            or getattr(main, "__file__", None)
        )
        return "" if not path or _in_ipykernel(main, path) else str(Path(path).absolute())
    try:
        file = Path(inspect.getfile(call)).absolute()
    except (TypeError, OSError):
        return ""
    if not file.is_file():  # compiled from a text, as by exec()
        return ""
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib")}
    return "" if any(file.is_relative_to(folder) for folder in installed if folder) else str(file)


def _in_ipykernel(main: Any, path: str) -> bool:
    """Whether the path is the kernel's launcher, not the user's code."""
    return path == getattr(main, "__file__", None) and hasattr(main, "get_ipython")


def code_hash(call: Callable[..., Any]) -> str | None:
    """A hash of a function's syntax tree: comments and layout do not count. None: no source.

    It begins with Python's version, as the trees of two versions differ.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(call)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    dumped = ast.dump(tree, include_attributes=False)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"{version}:{hashlib.sha256(dumped.encode()).hexdigest()}"
